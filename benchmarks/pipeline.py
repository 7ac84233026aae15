"""`vaelab bench pipeline`: where the time of a finished preset went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vaelab.output.page.collect import read_benchmarks
from vaelab.results.records import Provenance
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
    records: dict[str, Provenance] = {
        path.parent.name: read_json(path)
        for path in sorted((config.folder / "runs").glob("*/provenance.json"))
    }
    parts = core_time(records, jobs, cores)
    write_json(folder / "pipeline.json", {"preset": config.preset, "cores": cores, "parts": parts})
    text = pipeline_table(parts, config.preset, cores)
    with atomic_write(folder / "pipeline.md") as stream:
        stream.write(text)
    return text


def core_time(
    records: Mapping[str, Provenance], benchmarks: pd.DataFrame, cores: int
) -> list[dict[str, Any]]:
    """What the cores did between the start of the first job and the end of the last.

    A run whose training took longer than its job was reused; its job counts as start-up.

    Args:
        records: provenance by run id.
        benchmarks: jobs, one a row: step, job, ended, s (`collect.read_benchmarks`).
        cores: how many the workflow had.

    Returns:
        Rows of part, jobs, core_seconds and share; shares add up to 1.
    """
    trained = benchmarks[benchmarks["step"] == "train"]
    fresh = [
        records[job]
        for job, seconds in zip(trained["job"], trained["s"], strict=True)
        if job in records and records[job]["wall_seconds"] <= seconds
    ]
    training = sum(record["wall_seconds"] for record in fresh)
    evaluation = sum(record.get("evaluate_seconds", 0.0) for record in fresh)
    judging = benchmarks[benchmarks["step"].isin(("classifier", "measures"))]
    drawing = benchmarks[~benchmarks["step"].isin(("train", "classifier", "measures"))]
    whole = cores * float(benchmarks["ended"].max() - (benchmarks["ended"] - benchmarks["s"]).min())
    parts = [
        ("training", len(fresh), training),
        ("evaluation of runs", len(fresh), evaluation),
        ("classifier and measures", len(judging), float(judging["s"].sum())),
        ("start-up of the runs' jobs", len(trained), trained["s"].sum() - training - evaluation),
        ("figures, tables, claims, page", len(drawing), float(drawing["s"].sum())),
    ]
    parts.append(("DAG, search, idle cores", 0, whole - float(benchmarks["s"].sum())))
    return [
        {"part": part, "jobs": jobs, "core_seconds": float(seconds), "share": seconds / whole}
        for part, jobs, seconds in parts
    ]


def pipeline_table(parts: Sequence[Mapping[str, Any]], preset: str, cores: int) -> str:
    """The parts, and the share that is neither training nor evaluation."""
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
    return "\n".join(lines) + "\n"
