"""`vaelab bench preset`: how long all trainings of a preset would take on this machine."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import cores, describe, in_words
from vaelab.pipeline.runner import work_on_runs
from vaelab.settings.config import Config
from vaelab.settings.runs import Run, resolve
from vaelab.training.lease import device_in_words, places
from vaelab.util.errors import VaelabError
from vaelab.util.io import atomic_write, write_json

logger = logging.getLogger(__name__)

# The larger of the two shares by the smaller.
LARGER = 3
# Samples of the smaller one by default: some two minutes of a core for both.
ENOUGH = 500_000


def cut(runs: Sequence[Run], share: float) -> list[Run]:
    """The runs with so small a share of their budgets, a batch at least, and two logged points."""
    changes = {"snapshots": 0, "history_points": 2, "history_images": 100}
    return [
        Run(
            run.name,
            run.seed,
            run.spec.changed(
                samples=max(run.spec.recipe.batch_size, round(share * run.spec.budget.samples)),
                **changes,
            ),
        )
        for run in runs
    ]


def extrapolated(points: Sequence[tuple[int, float]], samples: int) -> tuple[float, float]:
    """Samples/s and the seconds that so many samples take.

    Args:
        points: (samples, seconds) of a small and of a larger part. What a training takes however
            small its budget, to read data or to capture graphs, is in both and counts once.
        samples: the whole.

    Raises:
        VaelabError: the larger part took no longer.
    """
    (few, short), (many, long) = points
    if long <= short or many <= few:
        raise VaelabError(
            f"{many} samples took {long:.1f} s and {few} took {short:.1f} s: too few to extrapolate"
            " from; give a larger --share"
        )
    rate = (many - few) / (long - short)
    return rate, short + (samples - few) / rate


def bench_preset(config: Config, folder: Path, *, share: float | None) -> str:
    """Train every run of the preset on two small shares of its budget, and extrapolate.

    On CPUs by one core, one run after the other; on GPUs as many runs at once as they have places.
    Nothing of what is trained is kept. Writes preset_<name>.json and .md.

    Args:
        config: names the preset and the device.
        folder: where the files go.
        share: the smaller share; by default that of `ENOUGH` samples.
    """
    runs = list(resolve(config).by_id.values())
    samples = sum(run.spec.budget.samples for run in runs)
    share = share or min(0.1, ENOUGH / samples)
    # Loads libraries and data, and compiles.
    _seconds(config, cut(runs[:1], 0.0))
    points = []
    for factor in (1, LARGER):
        part = cut(runs, share * factor)
        points.append((sum(run.spec.budget.samples for run in part), _seconds(config, part)))
        logger.info(f"{points[-1][0]} of {samples} samples in {points[-1][1]:.1f} s")
    rate, whole = extrapolated(points, samples)
    machine = describe()
    row = {
        "preset": config.preset,
        "runs": len(runs),
        "samples": samples,
        "device": device_in_words(config),
        "at_once": places(config),
        "measured": [{"samples": n, "seconds": round(s, 2)} for n, s in points],
        "samples_per_second": rate,
        "hours": whole / 3600.0,
    }
    write_json(folder / f"preset_{config.preset}.json", {"machine": machine, **row})
    text = preset_table(row, cores()) + f"\n{in_words(machine)}.\n"
    with atomic_write(folder / f"preset_{config.preset}.md") as stream:
        stream.write(text)
    return text


def _seconds(config: Config, runs: Sequence[Run]) -> float:
    """Wall-clock of training the runs."""
    with tempfile.TemporaryDirectory() as scratch:
        elsewhere = config.model_copy(update={"results": scratch})
        started = time.monotonic()
        work_on_runs(elsewhere, runs, evaluation=False)
        return time.monotonic() - started


def preset_table(row: dict[str, Any], cores: int) -> str:
    """What was measured, and what follows from it."""
    hours = row["hours"]
    share = row["measured"][-1]["samples"] / row["samples"]
    lines = [
        "| preset | trainings | samples | on | at once | samples/s | all trainings, hours |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: |",
        f"| {row['preset']} | {row['runs']} | {row['samples']:.3g} | {row['device']} | "
        f"{row['at_once']} | {row['samples_per_second']:,.0f} | {hours:.3g} |".replace(",", " "),
        "",
        f"Extrapolated from {share:.2g} of every training's samples. The search's own trainings, "
        "evaluation and figures come on top.",
    ]
    if row["device"] == "one CPU core" and cores > 1:
        lines[-1] += f" {cores} cores take {hours / cores:.3g} hours at best."
    return "\n".join(lines) + "\n"
