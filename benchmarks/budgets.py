"""Trainings that are timed or compared by what they reach, not by their speed alone."""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, in_words
from benchmarks.networks import COMPARED, specs
from vaelab.data import load
from vaelab.settings.config import Config
from vaelab.settings.runs import resolve
from vaelab.settings.spec import RunSpec
from vaelab.training.device import configure_process, resolve_compute
from vaelab.training.trainer import Trainer
from vaelab.util.io import atomic_write, write_json, write_rows

logger = logging.getLogger(__name__)

# Train -ELBO of the report's [500, 500, 3], nats per image (its Table 3: 115.5 + 9.1).
QUALITY = 124.6

IMAGES = 10_000  # behind a final number: all test images
POINTS = 100  # of a history in which the moment of reaching the quality is looked up
PROBED = 1000  # images at each of these points; their seconds count as training


def recipe(config: Config) -> RunSpec:
    """[500, 500, 3] by the recipe of the preset."""
    runs = resolve(config)
    return runs.run(runs.ids([COMPARED])[0]).spec


def _train(config: Config, spec: RunSpec, seed: int, precision: str) -> list[dict[str, float]]:
    """The history of a training on one core, whose weights are thrown away."""
    configure_process(1)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            f"{precision}-s{seed}",
            spec,
            seed,
            load(spec.data.dataset, Path(config.data.root)),
            resolve_compute("cpu", precision),
        )
        return trainer.run(resume=Path(folder) / "state.safetensors").history


def bench_science(
    config: Config,
    folder: Path,
    *,
    seeds: Sequence[int],
    samples: int,
) -> str:
    """Train in bf16 and in fp32 with the same seeds; write same_science.csv and .md."""
    changes = {"samples": samples, "history_points": 2, "history_images": IMAGES, "snapshots": 0}
    spec = recipe(config).changed(**changes)
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        for precision in ("bf16", "fp32"):
            last = _train(config, spec, seed, precision)[-1]
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


def reached(history: Sequence[Mapping[str, float]], quality: float) -> Mapping[str, float] | None:
    """The first point of a history whose train -ELBO is at most `quality`."""
    return next((row for row in history if row["train_neg_elbo"] <= quality), None)


def bench_quality(
    config: Config,
    folder: Path,
    *,
    samples: int,
    minutes: float,
    quality: float,
) -> str:
    """Wall-clock to the report's quality: the preset's recipe and the report's, on one core.

    A recipe whose rate decays gets the budget `samples`; the report's, whose rate is constant,
    as many samples as fit into `minutes`. The quality is looked up in histories over the same
    random training images. Writes quality.json and quality.md.
    """
    probes = {"history_points": POINTS, "history_images": PROBED, "snapshots": 0}
    report = specs(Path(config.runs), (COMPARED,))[COMPARED]
    trial = report.changed(samples=5000, history_points=2, history_images=1)
    _train(config, trial, 0, config.precision)
    rate = trial.budget.samples / _train(config, trial, 0, config.precision)[-1]["seconds"]
    capped = max(report.recipe.batch_size, min(report.budget.samples, round(rate * minutes * 60)))
    wanted = {f"{config.preset} recipe": (recipe(config), samples), "report's": (report, capped)}
    rows = []
    for name, (spec, budget) in wanted.items():
        started = time.monotonic()
        history = _train(config, spec.changed(samples=budget, **probes), 0, config.precision)
        logger.info(f"{name}: {budget} samples in {time.monotonic() - started:.0f} s")
        rows.append(quality_row(name, history, quality))
    machine = describe()
    write_json(folder / "quality.json", {"machine": machine, "quality": quality, "rows": rows})
    text = quality_table(rows, quality) + f"\nOne core of {in_words(machine)}.\n"
    with atomic_write(folder / "quality.md") as stream:
        stream.write(text)
    return text


def quality_row(
    name: str, history: Sequence[Mapping[str, float]], quality: float
) -> dict[str, Any]:
    """When a training reached the quality, and where it ended."""
    first, last = reached(history, quality), history[-1]
    return {
        "recipe": name,
        "reached_seconds": first and first["seconds"],
        "reached_samples": first and first["samples"],
        "seconds": last["seconds"],
        "samples": last["samples"],
        "train_neg_elbo": last["train_neg_elbo"],
    }


def quality_table(rows: Sequence[Mapping[str, Any]], quality: float) -> str:
    """One line a recipe; one that ran out of budget says where it stood."""
    lines = [
        f"| recipe | train -ELBO <= {quality:g} after | at the end: samples | minutes | -ELBO |",
        "| --- | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        when = "not within its budget"
        if row["reached_seconds"] is not None:
            when = f"{row['reached_seconds'] / 60:.1f} min, {row['reached_samples']:.3g} samples"
        lines.append(
            f"| {row['recipe']} | {when} | {row['samples']:.3g} | {row['seconds'] / 60:.1f} | "
            f"{row['train_neg_elbo']:.1f} |"
        )
    return "\n".join(lines) + "\n"
