"""`vaelab bench planning`: how long Snakemake plans, by the size of the run table."""

from __future__ import annotations

import logging
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, in_words
from benchmarks.networks import COMPARED
from vaelab.settings.config import Config
from vaelab.util.errors import VaelabError
from vaelab.util.io import atomic_write, write_json

logger = logging.getLogger(__name__)


def enlarged(table: str, rows: int) -> str:
    """A run table of so many rows: the given one, then copies of one run with other budgets.

    Distinct budgets keep the copies from being one training.
    """
    header, *lines = table.splitlines()
    columns = header.split("\t")
    model = next(line for line in lines if line.startswith(f"{COMPARED}\t"))
    cells = dict(zip(columns, model.split("\t"), strict=True))
    for number in range(rows - len(lines)):
        extra = {"run": f"extra_{number}", "samples": str(1_000_000 + number)}
        lines.append("\t".join((cells | extra).values()))
    return "\n".join([header, *lines]) + "\n"


def plan(table: Path, results: Path, preset: str) -> dict[str, Any]:
    """Dry-run the whole workflow on a run table, with no results there.

    Returns:
        jobs, wall_seconds and cpu_seconds (the processes' own, whatever else runs).

    Raises:
        VaelabError: the dry run failed.
    """
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    settings = [f"preset={preset}", f"runs={table}", f"results={results}"]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules", "--cores", "1"]
        + ["all", "--config", *settings],
        env={
            key: value for key, value in os.environ.items() if not key.startswith("VAELAB_CONFIG")
        },
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    counts = re.findall(r"^total\s+(\d+)", done.stdout + done.stderr, re.MULTILINE)
    if done.returncode or not counts:
        raise VaelabError(f"the dry run failed:\n{(done.stdout + done.stderr)[-1500:]}")
    return {
        "jobs": int(counts[-1]),
        "wall_seconds": round(time.monotonic() - started, 2),
        "cpu_seconds": round(
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2
        ),
    }


def bench_planning(config: Config, folder: Path, *, sizes: Sequence[int]) -> str:
    """Plan tables of the given numbers of rows; write planning.json and planning.md."""
    table = Path(config.runs).read_text(encoding="utf-8")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            path = Path(scratch) / f"runs_{size}.tsv"
            path.write_text(enlarged(table, size), encoding="utf-8")
            rows.append({"rows": size, **plan(path, Path(scratch) / "results", config.preset)})
            logger.info(f"{size} rows: {rows[-1]['cpu_seconds']} s of CPU time")
    machine = describe()
    write_json(folder / "planning.json", {"machine": machine, "rows": rows})
    text = planning_table(rows) + f"\nOne core of {in_words(machine)}.\n"
    with atomic_write(folder / "planning.md") as stream:
        stream.write(text)
    return text


def planning_table(rows: Sequence[dict[str, Any]]) -> str:
    """One line a table; the last column is what the rows beyond the line before cost."""
    lines = [
        "| rows of the run table | jobs | CPU time, s | wall-clock, s | ms per further row |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    before: dict[str, Any] | None = None
    for row in rows:
        further = "–"
        if before is not None and row["rows"] > before["rows"]:
            seconds = row["cpu_seconds"] - before["cpu_seconds"]
            further = f"{1000 * seconds / (row['rows'] - before['rows']):.1f}"
        lines.append(
            f"| {row['rows']} | {row['jobs']} | {row['cpu_seconds']:.1f} | "
            f"{row['wall_seconds']:.1f} | {further} |"
        )
        before = row
    return "\n".join(lines) + "\n"
