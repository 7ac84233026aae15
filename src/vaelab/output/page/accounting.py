"""What the runs cost and where they came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import yaml

from vaelab.original import numbers
from vaelab.results.reader import Results
from vaelab.results.records import DatasetRecord, Provenance

# Settings of this machine rather than of the science: they stay out of the page.
LOCAL_SETTINGS = ("data",)


class RunRecord(Provenance):
    """Provenance of a run, extended by the run names whose results it holds."""

    names: list[str]
    parameters: int


def all_provenance(results: Results, probes: Iterable[str]) -> dict[str, RunRecord]:
    """Provenance by run id: of every run that has been evaluated, probes of the search too."""
    records: dict[str, RunRecord] = {}
    for name in (*results.alias, *sorted(set(probes) - set(results.alias))):
        if not results.has(name):
            continue
        for record, metrics in zip(results.provenance(name), results.metrics(name), strict=True):
            new = RunRecord(**record, names=[], parameters=metrics["parameters"])
            records.setdefault(record["run"], new)["names"].append(name)
    return records


def cost(records: Mapping[str, RunRecord], benchmarks: pd.DataFrame | None) -> dict[str, Any]:
    """Totals, steps of the workflow and one row a training."""
    runs: list[dict[str, Any]] = [
        {
            "run": run,
            "parameters": record["parameters"],
            "samples": record["samples"],
            "rate": record["samples"] / record["train_seconds"],
            "minutes": record["train_seconds"] / 60,
            "core_minutes": record["core_seconds"] / 60,
            "device": record["device"],
            "precision": record["precision"],
        }
        for run, record in records.items()
    ]
    return {
        "runs": runs,
        "trainings": len(runs),
        "samples": sum(run["samples"] for run in runs),
        "core_hours": sum(run["core_minutes"] for run in runs) / 60,
        "longest": max(runs, key=lambda run: run["minutes"], default=None),
        "report_minutes": ", ".join(f"{row.minutes:g}" for row in numbers.TABLE_1),
        "steps": _steps(benchmarks),
    }


def _steps(benchmarks: pd.DataFrame | None) -> list[dict[str, Any]]:
    if benchmarks is None or benchmarks.empty:
        return []
    steps = []
    for name, jobs in benchmarks.groupby("step", sort=False):
        steps.append(
            {
                "name": name,
                "jobs": len(jobs),
                "wall_minutes": float(jobs["s"].sum()) / 60,
                "cpu_minutes": float(jobs["cpu_time"].sum()) / 60,
                "peak_mb": float(jobs["max_rss"].max()),
            }
        )
    return steps


def provenance(records: Mapping[str, RunRecord], config: Mapping[str, Any]) -> dict[str, Any]:
    """What all runs share, and the identity of each."""
    facts = [
        ("Code revision", _distinct(_revision(record) for record in records.values())),
        *(
            (title, _distinct(record["versions"].get(key) for record in records.values()))
            for key, title in (("vaelab", "vaelab"), ("python", "Python"), ("torch", "PyTorch"))
        ),
        ("Device", _distinct(record["device"] for record in records.values())),
        ("Precision", _distinct(record["precision"] for record in records.values())),
        ("Data, SHA-256", _distinct(_dataset(record["dataset"]) for record in records.values())),
    ]
    shown = {key: value for key, value in config.items() if key not in LOCAL_SETTINGS}
    return {
        "facts": [(label, values) for label, values in facts if values],
        "runs": [
            {
                "run": run,
                "names": record["names"],
                "fingerprint": record["fingerprint"][:16],
                "checkpoint": record["checkpoint_sha256"][:16],
                "revision": _revision(record) or "",
            }
            for run, record in records.items()
        ],
        "config": yaml.safe_dump(shown, sort_keys=False, allow_unicode=True),
    }


def _revision(record: Provenance) -> str | None:
    revision = record["git"]["revision"]
    if not revision:
        return None
    return revision[:12] + (" with uncommitted changes" if record["git"]["dirty"] else "")


def _dataset(dataset: DatasetRecord) -> str:
    name = f"{dataset['name']}, synthetic" if dataset["synthetic"] else dataset["name"]
    return f"{name} {dataset['sha256'][:16]}"


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value is not None))
