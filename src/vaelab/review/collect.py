"""Reads what the results page shows from results/<preset> and hands it to the renderer."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from vaelab.config import Config
from vaelab.errata import ERRATA
from vaelab.io import read_json
from vaelab.results import Results
from vaelab.review.page import build_page


def write_page(config: Config, results: Results) -> Path:
    """Write results/<preset>/index.html from the files beside it; returns its path."""
    folder = config.folder
    out = folder / "index.html"
    build_page(
        results,
        figures_dir=folder / "figures",
        tables_dir=folder / "tables",
        claims=pd.read_csv(folder / "claims.csv", keep_default_na=False),
        errata=ERRATA,
        measures=read_json(folder / "measures.json"),
        search=results.decisions,
        benchmarks=read_benchmarks(folder / "benchmarks"),
        config=config.model_dump(mode="json"),
        out=out,
        other_claims=_other_claims(config),
    )
    return out


def read_benchmarks(folder: Path) -> pd.DataFrame | None:
    """One row per job that Snakemake timed; None where there is none (restored results)."""
    frames = [pd.read_json(path, lines=True) for path in sorted(folder.rglob("*.jsonl"))]
    return pd.concat(frames, ignore_index=True) if frames else None


def _other_claims(config: Config) -> dict[str, pd.DataFrame]:
    """Verdicts of other presets, whose recipe may change them; smoke's mean nothing."""
    paths = sorted(Path(config.results).glob("*/claims.csv"))
    return {
        path.parent.name: pd.read_csv(path, keep_default_na=False)
        for path in paths
        if path.parent.name not in (config.preset, "smoke")
    }
