"""Made-up results folders, for tests of code that only reads results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vaelab.results.reader import Results
from vaelab.util.io import write_csv, write_json, write_npz

SHAPES = {"mnist": (28, 28), "frey": (28, 20)}


def losses(recon: float, kl: float, beta: float = 1.0, **more: float) -> dict[str, float]:
    """One consistent split of metrics.json."""
    return {
        "recon": recon,
        "recon_se": 0.3,
        "kl": kl,
        "neg_elbo": recon + kl,
        "neg_elbo_se": 0.4,
        "objective": recon + beta * kl,
        "mse": recon / 10_000,
        **more,
    }


def history(
    samples: Sequence[int],
    train: Mapping[str, Sequence[float]],
    test: Mapping[str, Sequence[float]],
) -> pd.DataFrame:
    """history.csv from its columns without the prefix of the split."""
    columns: dict[str, Sequence[float]] = {"samples": samples, "seconds": np.arange(len(samples))}
    for split, values in (("train", train), ("test", test)):
        columns |= {f"{split}_{quantity}": value for quantity, value in values.items()}
    return pd.DataFrame(columns)


def curve(name: str) -> pd.DataFrame:
    """A history that depends on the name: its final train recon is 100 + len(name)."""
    samples = [100, 10_000, 300_000]
    if name == "vqvae":
        parts = {"objective": [0.1, 0.04, 0.02], "mse": [0.08, 0.02, 0.006]}
        parts["embedding"] = [0.02, 0.02, 0.014]
        return history(samples, parts, parts)
    sign = -10.0 if "frey" in name else 1.0
    recon = sign * np.array([150.0, 125.0, 100.0]) + len(name)
    kl = np.array([1e-6, 5.0, 9.0])
    parts = {"recon": recon, "kl": kl, "neg_elbo": recon + kl, "objective": recon + 2 * kl}
    return history(samples, parts, {key: value + 3 for key, value in parts.items()})


def images(dataset: str, count: int, first: int = 0) -> np.ndarray:
    """(count, P) uint8; image i is uniformly grey with value first + i modulo 256."""
    height, width = SHAPES[dataset]
    values = (first + np.arange(count)) % 256
    return np.repeat(values.astype(np.uint8)[:, None], height * width, axis=1)


def arrays(name: str, dataset: str) -> dict[str, np.ndarray]:
    """Every array that some figure reads; the grids of different arrays differ."""
    labels = (np.arange(1000) % 10).astype(np.uint8)
    return {
        "originals": images(dataset, 100),
        "reconstructions": images(dataset, 100, 1),
        "random_originals": images(dataset, 100, 2),
        "random_reconstructions": images(dataset, 100, 3),
        "prior_samples": images(dataset, 100, 4),
        "uniform_samples": images(dataset, 100, 5),
        "conditional_samples": images(dataset, 160, 6).reshape(10, 16, -1),
        "manifold": images(dataset, 400).reshape(20, 20, -1),
        "train_codes": np.stack([labels, np.arange(1000) / 1000], axis=1).astype(np.float32),
        "train_labels": labels,
    }


def likelihood(name: str) -> pd.DataFrame:
    """likelihood.csv: elbo -151, importance -150, notebook -149, one nat lower on the test set."""
    rows = [
        {
            "samples": samples,
            "split": split,
            "estimator": estimator,
            "nats": nats - (split == "test"),
            "z_samples": 50,
        }
        for samples in (100_000, 3_000_000)
        for split in ("train", "test")
        for estimator, nats in zip(
            ("elbo", "importance", "notebook", "report"),
            (-151.0, -150.0, -149.0, -155.0),
            strict=True,
        )
    ]
    return pd.DataFrame(rows)


def write_run(
    folder: Path,
    name: str,
    seed: int = 0,
    *,
    train: Mapping[str, float] | None = None,
    test: Mapping[str, float] | None = None,
    samples: int = 300_000,
    dataset: str | None = None,
    synthetic: bool = False,
    spec: Mapping[str, Any] | None = None,
    **metrics: Any,
) -> Path:
    """Write one evaluated run and return its folder; what is not given is made up."""
    dataset = dataset or ("frey" if "frey" in name else "mnist")
    run = folder / "runs" / f"{name}-s{seed}"
    nll = {"nll": 120.0, "nll_se": 0.9, "nll_images": 1000, "nll_z_samples": 100}
    write_json(
        run / "metrics.json",
        {
            "run": run.name,
            "name": name,
            "seed": seed,
            "preset": folder.name,
            "spec": {"model": "vae", "beta": 1.0, "dataset": dataset} | dict(spec or {}),
            "parameters": 1_043_266,
            "image_shape": list(SHAPES[dataset]),
            "train": dict(train or losses(110.0, 9.0)),
            "test": dict(test or losses(115.0, 9.0, **nll)),
            "samples": samples,
            **metrics,
        },
    )
    write_json(run / "provenance.json", {"dataset": {"name": dataset, "synthetic": synthetic}})
    write_csv(run / "history.csv", curve(name))
    write_npz(run / "arrays.npz", arrays(name, dataset))
    if name.startswith(("ml_", "mcem_", "wakesleep_n")):
        write_csv(run / "likelihood.csv", likelihood(name))
    return run


def alias(names: Sequence[str], seeds: Sequence[int] = (0,)) -> dict[str, list[str]]:
    """The run ids of names, if no two names share a run."""
    return {name: [f"{name}-s{seed}" for seed in seeds] for name in names}


def write_runs(folder: Path, names: Sequence[str], seeds: Sequence[int] = (0,)) -> Results:
    """Write made-up runs of all names and seeds, and read them."""
    for name in names:
        for seed in seeds:
            write_run(folder, name, seed)
    return Results(folder, alias(names, seeds))
