"""`vaelab bench pipeline`: where the time of a finished preset went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vaelab.output.page.accounting import core_time
from vaelab.output.page.collect import read_benchmarks
from vaelab.settings.config import Config
from vaelab.util.errors import VaelabError
from vaelab.util.io import atomic_write, read_json, write_json

# The parts that do the work itself.
PURPOSE = ("training", "evaluation of runs", "classifier and measures")


def bench_pipeline(config: Config, folder: Path, *, cores: int) -> str:
    """Sum up results/<preset>; write pipeline.json and pipeline.md.

    Raises:
        VaelabError: there are no benchmarks of trainings in the results.
    """
    jobs = read_benchmarks(config.folder / "benchmarks")
    trained = jobs[jobs["step"] == "train"]
    if trained.empty:
        raise VaelabError(f"{config.folder}/benchmarks holds no training; make the preset first")
    records = {
        path.parent.name: read_json(path)
        for path in sorted((config.folder / "runs").glob("*/provenance.json"))
    }
    parts = core_time(records, jobs, cores)
    memory = {
        row.job: row.max_rss
        for row in trained.itertuples()
        if row.job in records and row.max_rss == row.max_rss  # NaN: too short to measure
    }
    largest = {
        name: max(
            (mb for run, mb in memory.items() if _trains_on(records[run], name)), default=None
        )
        for name in ("mnist", "frey")
    }
    # A run of an older version has no seconds of its evaluation.
    silent = sum("evaluate_seconds" not in record for record in records.values())
    write_json(
        folder / "pipeline.json",
        {"preset": config.preset, "cores": cores, "parts": parts, "peak_mb": largest},
    )
    text = pipeline_table(parts, config.preset, cores, largest, silent)
    with atomic_write(folder / "pipeline.md") as stream:
        stream.write(text)
    return text


def _trains_on(record: Mapping[str, Any], dataset: str) -> bool:
    return record["dataset"]["name"] == dataset


def pipeline_table(
    parts: Sequence[Mapping[str, Any]],
    preset: str,
    cores: int,
    peak_mb: Mapping[str, float | None],
    silent: int = 0,
) -> str:
    """The parts, the share that is neither training nor evaluation, and the memory."""
    whole = sum(part["core_seconds"] for part in parts)
    lines = [
        f"| `{preset}`, {cores} cores, {whole / cores / 60:.1f} minutes | jobs | core-s | share |",
        "| --- | ---: | ---: | ---: |",
    ]
    for part in parts:
        lines.append(
            f"| {part['part']} | {part['jobs'] or ''} | {part['core_seconds']:.0f} | "
            f"{100 * part['share']:.1f} % |"
        )
    other = sum(part["share"] for part in parts if part["part"] not in PURPOSE)
    lines += ["", f"Neither training nor evaluation: {100 * other:.1f} % of the cores' time."]
    if silent:
        lines.append(f"{silent} runs have no record of their evaluation; it counts as start-up.")
    lines += [
        f"Peak memory of a training job on {name}: {mb:.0f} MB."
        for name, mb in peak_mb.items()
        if mb is not None
    ]
    return "\n".join(lines) + "\n"
