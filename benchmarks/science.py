"""`vaelab bench science`: do bf16 and fp32 train [500, 500, 3] to the same loss?"""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.networks import COMPARED
from vaelab.data import load
from vaelab.settings.config import Config
from vaelab.settings.runs import resolve
from vaelab.training.device import configure_process, resolve_compute
from vaelab.training.trainer import Trainer
from vaelab.util.io import atomic_write, write_rows

logger = logging.getLogger(__name__)

IMAGES = 10_000  # behind a final number: all test images


def bench_science(config: Config, folder: Path, *, seeds: Sequence[int], samples: int) -> str:
    """Train by the preset's recipe in both, with the same seeds; write same_science.csv, .md."""
    runs = resolve(config)
    spec = runs.run(runs.ids([COMPARED])[0]).spec.changed(
        samples=samples, history_points=2, history_images=IMAGES, snapshots=0
    )
    dataset = load(spec.data.dataset, Path(config.data.root))
    configure_process(1)
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        for precision in ("bf16", "fp32"):
            trainer = Trainer("bench", spec, seed, dataset, resolve_compute("cpu", precision))
            with tempfile.TemporaryDirectory() as scratch:
                last = trainer.run(resume=Path(scratch) / "state.safetensors").history[-1]
            rows.append({"precision": precision, "seed": seed, "samples": samples})
            rows[-1] |= {key: last[key] for key in ("test_neg_elbo", "test_recon", "test_kl")}
            logger.info(f"{precision}, seed {seed}: {last['test_neg_elbo']:.2f} nats (test)")
    write_rows(folder / "same_science.csv", rows)
    values = {
        precision: [row["test_neg_elbo"] for row in rows if row["precision"] == precision]
        for precision in ("bf16", "fp32")
    }
    text = science_table(values, seeds, samples)
    with atomic_write(folder / "same_science.md") as stream:
        stream.write(text)
    return text


def science_table(values: Mapping[str, Sequence[float]], seeds: Sequence[int], samples: int) -> str:
    """Final test neg_elbo (nats per image) by precision and seed; difference beside spread."""
    heads = " | ".join(f"seed {seed}" for seed in seeds)
    lines = [
        f"| test -ELBO after {samples:,} samples | {heads} | mean | sd |".replace(",", " "),
        "| --- |" + " ---: |" * (len(seeds) + 2),
    ]
    for precision, found in values.items():
        cells = " | ".join(f"{value:.2f}" for value in found)
        lines.append(f"| {precision} | {cells} | {_mean_sd(found)} |")
    differences = [a - b for a, b in zip(values["bf16"], values["fp32"], strict=True)]
    cells = " | ".join(f"{value:+.2f}" for value in differences)
    lines.append(f"| bf16 - fp32 | {cells} | {_mean_sd(differences, '+.2f')} |")
    spread = max(max(found) - min(found) for found in values.values())
    mean = statistics.fmean(differences)
    verdict = "within" if abs(mean) <= spread else "NOT within"
    lines += [
        "",
        f"The mean difference is {mean:+.2f} nats, the seeds of one precision lie {spread:.2f} "
        f"nats apart: {verdict} the spread.",
    ]
    return "\n".join(lines) + "\n"


def _mean_sd(values: Sequence[float], form: str = ".2f") -> str:
    return f"{statistics.fmean(values):{form}} | {statistics.stdev(values):.2f}"
