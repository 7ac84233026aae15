"""Reads what the results page shows from results/<preset> and hands it to the renderer."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from vaelab.output.page.page import page_context, render
from vaelab.output.page.tabulating import read_claims
from vaelab.results.reader import Results
from vaelab.settings.config import Config
from vaelab.util.io import atomic_write

# The page's own cost is not known before it is written; a second build must not differ.
OWN_STEP = "page"


def write_page(config: Config, results: Results) -> Path:
    """Build results/<preset>/index.html from what lies beside it; returns its path.

    Raises:
        VaelabError: the claims have not been judged, or a file cannot be read.
    """
    folder = results.folder
    context = page_context(
        results,
        claims=read_claims(folder),
        benchmarks=read_benchmarks(folder / "benchmarks"),
        config=config.model_dump(mode="json"),
        others={path.parent.name: path.parent for path in config.judged_elsewhere},
    )
    out = folder / "index.html"
    with atomic_write(out) as stream:
        stream.write(render(context))
    return out


def read_benchmarks(folder: Path) -> pd.DataFrame:
    """What Snakemake measured, one row a job.

    Returns:
        Columns: step (the first part of the file's path), job (the file's name), ended (Unix
        time), s, cpu_time (seconds), max_rss (MB); what a job was too short to measure is NaN.
    """
    rows = []
    for path in sorted(folder.rglob("*.jsonl")):
        step = path.relative_to(folder).parts[0].removesuffix(".jsonl")
        if step != OWN_STEP:
            lines = path.read_text(encoding="utf-8").splitlines()
            job = {"step": step, "job": path.stem, "ended": path.stat().st_mtime}
            rows += [job | json.loads(line) for line in lines]
    columns = ["s", "cpu_time", "max_rss"]
    frame = pd.DataFrame(rows, columns=["step", "job", "ended", *columns])
    frame[columns] = frame[columns].apply(pd.to_numeric, errors="coerce")
    return frame
