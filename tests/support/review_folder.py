"""A made-up results folder with everything that the results page reads, and the page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from safetensors.numpy import save_file

from result_folders import alias, arrays, likelihood, losses, write_run
from vaelab.original import numbers
from vaelab.output.page.page import page_context, render
from vaelab.output.tables import table_likelihood, write_table
from vaelab.results.reader import Results
from vaelab.search.algorithm import Measurement
from vaelab.search.noise import search_summary
from vaelab.settings.config import SearchSettings
from vaelab.util.io import write_csv, write_json, write_npz

CURVES = ("mnist_d3", "frey_d2", "beta1", "beta50", "wakesleep_mnist_d3")
LIKELIHOOD = "ml_n1000"
TABLE_1 = ("vae", "bvae_beta2", "cvae_onehot")
EXPLORED = {"vae_d2": 0, "bvae_beta2_d2": 0, "cvae_onehot_d2": 10}
NAMES = (*CURVES, LIKELIHOOD, *TABLE_1, *EXPLORED)
HIDDEN = (24, 40)
# Text that breaks a page that does not escape it, in an attribute, an element or a script.
HOSTILE = "</script><script>alert('1')</script><img src=x onerror=alert(1)> & \"quotes\""


def provenance(name: str, *, synthetic: bool = False) -> dict[str, Any]:
    """provenance.json of a run; wall-clock time and cores differ between runs."""
    return {
        "run": f"{name}-s0",
        "fingerprint": f"{len(name):x}" * 64,
        "checkpoint_sha256": "c" * 64,
        "dataset": {
            "name": "frey" if "frey" in name else "mnist",
            "sha256": "d" * 64,
            "synthetic": synthetic,
        },
        "git": {"revision": "0123456789abcdef" * 2, "dirty": False},
        "versions": {"python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6", "vaelab": "0.1.0"},
        "device": "cpu",
        "precision": "fp32",
        "samples": 300_000,
        "train_seconds": 30.0,
        "wall_seconds": 40.0,
        "core_seconds": 36.0,
    }


def decoder_weights(
    labels: int, seed: int, hidden: tuple[int, ...] = HIDDEN, pixels: int = 784
) -> dict[str, np.ndarray]:
    """Random decoder weights, named as in a checkpoint, whose pictures have contrast."""
    rng = np.random.default_rng(seed)
    widths = [2 + labels, *hidden, pixels]
    tensors = {}
    for i, (width, out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        scale = 2.0 / np.sqrt(width)
        name = f"decoder.layers.{i}"
        tensors[f"{name}.weight"] = rng.normal(0, scale, (out, width)).astype(np.float32)
        tensors[f"{name}.bias"] = rng.normal(0, 0.5, out).astype(np.float32)
    return tensors


def decode(weights: Mapping[str, np.ndarray], inputs: Sequence[float]) -> np.ndarray:
    """Pixel means of a code, followed by a one-hot label where there is one, in float64."""
    x = np.array(inputs)
    last = len(weights) // 2 - 1
    for i in range(last + 1):
        x = weights[f"decoder.layers.{i}.weight"].astype(float) @ x
        x += weights[f"decoder.layers.{i}.bias"]
        if i < last:
            x = np.where(x > 0, x, 0)
    return 1 / (1 + np.exp(-x))


def write_explored(folder: Path, name: str, labels: int, seed: int) -> None:
    """Checkpoint and codes of a two-dimensional model; digits lie on a circle."""
    checkpoint = folder / "checkpoints" / f"{name}-s0.safetensors"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    save_file(decoder_weights(labels, seed), checkpoint)
    rng = np.random.default_rng(seed)
    digits = (np.arange(1000) % 10).astype(np.uint8)
    angle = 2 * np.pi * digits / 10
    codes = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1) + rng.normal(0, 0.3, (1000, 2))
    stored = arrays(name, "mnist")
    write_npz(
        folder / "runs" / f"{name}-s0" / "arrays.npz",
        {
            "originals": stored["originals"],
            "test_mean": codes.astype(np.float32),
            "test_labels": digits,
        },
    )


def write_folder(folder: Path, *, synthetic: bool = False) -> Results:
    """All runs, pictures and tables; the folder's name is the preset."""
    for name in NAMES:
        beta = 2.0 if "beta2" in name else 1.0
        offset = float(NAMES.index(name))
        write_run(
            folder,
            name,
            train=losses(100.0 + offset, 9.0, beta),
            test=losses(105.0 + offset, 9.0, beta),
        )
        is_synthetic = synthetic and "frey" in name
        write_json(
            folder / "runs" / f"{name}-s0" / "provenance.json",
            provenance(name, synthetic=is_synthetic),
        )
    final = likelihood(LIKELIHOOD)[["split", "estimator", "nats"]].drop_duplicates()
    final = final.assign(se=0.5, images=100, z_samples=500, diagnostic="ESS 12 of 100")
    write_csv(folder / "runs" / f"{LIKELIHOOD}-s0" / "likelihood_final.csv", final)
    for seed, (name, labels) in enumerate(EXPLORED.items()):
        write_explored(folder, name, labels, seed)
    (folder / "figures").mkdir()
    (folder / "tables").mkdir()
    for number in range(1, 15):  # Figure 15 is missing
        shade = Image.new("L", (60, 40), 10 * number)
        shade.save(folder / "figures" / f"figure_{number:02d}.png")
    write_csv(folder / "tables" / "table_1.csv", table_1())
    results = Results(folder, alias(NAMES))
    tables = folder / "tables"
    write_table(table_likelihood(results), tables / "likelihood.csv", tables / "likelihood.md")
    return results


def table_1() -> pd.DataFrame:
    """Three rows of Table 1, in the columns that vaelab.output.tables writes."""
    rows = [
        ("VAE", 114.6, 115.1, 9.14, 9.1, 0.0061, ""),
        ("BVAE, β = 2", 117.25, 116.1, 7.6, 7.8, 0.0063, "implied"),
        ("VQ-VAE", np.nan, np.nan, np.nan, np.nan, 0.0059, HOSTILE),
    ]
    return pd.DataFrame(
        [
            {
                "model": model,
                "run": "vae",
                "train_recon": recon,
                "train_recon_spread": 0.25,
                "report_recon": report_recon,
                "diff_recon": recon - report_recon,
                "train_kl": kl,
                "report_kl": report_kl,
                "diff_kl": kl - report_kl,
                "test_mse": mse,
                "note": note,
            }
            for model, recon, report_recon, kl, report_kl, mse, note in rows
        ]
    )


def claims() -> pd.DataFrame:
    """Four claims, one of them hostile, in the columns that vaelab.original.claims writes."""
    rows = [
        ("C1", "ELBO rises with d", "holds", {"d = 3": -121.5}, "Figure 1", 1.25, "figure_01"),
        ("C2", "Frey Face too", "fails", {}, "Figure 2", -3.5, "figure_02"),
        ("C10", HOSTILE, "not evaluated", {}, "text", np.nan, ""),
        ("C34", "equal times", "fails", {"minutes": [2.5, 0.25]}, "Table 1", -0.1, "table_1"),
    ]
    return pd.DataFrame(
        [
            {
                "id": id,
                "statement": statement,
                "verdict": verdict,
                "numbers": json.dumps(numbers),
                "where": where,
                "margin": margin,
                "tag": "ours" if id == "C2" else "report",
                "same_as": "",
                "uncertainty": "SE 0.5 nats" if verdict == "holds" else np.nan,
                "threshold": "each step above 2 SE",
                "reason": f"Decided by {id}.",
                "section": "2.1",
                "item": item,
            }
            for id, statement, verdict, numbers, where, margin, item in rows
        ]
    )


def search() -> dict[str, Any]:
    """decisions.json of a search that measured the report's numbers, with a hostile reason."""
    measured = {
        architecture: Measurement((row.recon,), (row.kl,))
        for architecture, row in numbers.architecture_rows().items()
    }
    summary = search_summary(SearchSettings(), measured, repeats=20)
    summary = json.loads(json.dumps(summary))
    summary["decisions"][4]["reason"] = HOSTILE
    return summary


def make_page(folder: Path, **changes: Any) -> Path:
    """Build the page of a made-up folder; `changes` replace arguments of page_context.

    Args:
        folder: where; it is made unless `results` of it are given.
        changes: also `search`, the content of decisions.json; None for no search.
    """
    results = changes.pop("results", None) or write_folder(folder)
    if decisions := changes.pop("search", search()):
        write_json(folder / "search" / "decisions.json", decisions)
    arguments: dict[str, Any] = {
        "claims": claims(),
        "benchmarks": pd.DataFrame(
            [("train", 90.0, 60.0, 700.0), ("train", 30.0, 30.0, 900.0), ("page", 6.0, 6.0, 1.0)],
            columns=["step", "s", "cpu_time", "max_rss"],
        ),
        "config": {"preset": folder.name, "seeds": [0], "data": {"mirror": "/secret/mirror"}},
        "others": {},
    }
    out = folder / "index.html"
    out.write_text(render(page_context(results, **(arguments | changes))), encoding="utf-8")
    return out
