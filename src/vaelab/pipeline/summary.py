"""metrics.json: every headline number of a preset in one file, keyed by stable run names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vaelab.results.reader import Results
from vaelab.settings.config import Config
from vaelab.settings.runs import Runs
from vaelab.util.io import read_json, write_json

# What identifies a run or describes it, as opposed to a number that a revision may change.
_DESCRIPTIVE = ("run", "name", "seed", "preset", "spec", "image_shape", "evaluation")


def headline(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of one run's metrics.json."""
    return {key: value for key, value in metrics.items() if key not in _DESCRIPTIVE}


def write_summary(config: Config, runs: Runs) -> None:
    """Collect the runs, the measures and the search; with several seeds, keyed by seed."""
    results = Results(config.folder, runs.alias)
    collected = {
        name: {f"seed_{m['seed']}": headline(m) for m in results.metrics(name)}
        for name in runs.alias
    }
    search = read_json(config.folder / "search" / "decisions.json")
    write_json(
        config.folder / "metrics.json",
        {
            "preset": config.preset,
            "runs": collected,
            "measures": read_json(config.folder / "measures.json"),
            "search": {key: search[key] for key in ("answer", "needed", "wasted")},
        },
    )
