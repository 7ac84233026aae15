"""The search as files: what each step measured, what it asks to be trained next, the answer.

`search/step_<n>.json` holds the architectures measured so far, the probes to train next and,
in the last step, the answer. A step is a function of the step before and of the metrics of
the probes that it asked for, so the steps can be repeated, interrupted and resumed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vaelab.results.reader import Results
from vaelab.search.algorithm import (
    Architecture,
    Measurement,
    brackets,
    decision_log,
    next_step,
    run_name,
)
from vaelab.search.noise import search_summary
from vaelab.settings.config import Config
from vaelab.settings.runs import Runs
from vaelab.settings.spec import RunSpec, VaePart
from vaelab.util.errors import VaelabError
from vaelab.util.io import read_json, write_json

logger = logging.getLogger(__name__)


def step_path(config: Config, step: int) -> Path:
    """File of a step, counted from 0."""
    return config.folder / "search" / f"step_{step}.json"


def measurements(
    config: Config, runs: Runs, architectures: Iterable[Architecture], *, recorded: bool = False
) -> dict[Architecture, Measurement]:
    """Recon and kl of evaluated architectures, on the data that the thresholds apply to.

    Args:
        config: the settings.
        runs: the table of runs.
        architectures: which.
        recorded: with further seeds of the same trainings that are on record.

    Raises:
        VaelabError: one of them has not been evaluated; the message names the file.
    """
    results = Results(config.folder, runs.alias)
    read = results.recorded if recorded else results.metrics
    return {
        a: Measurement.from_metrics(read(run_name(a)), config.search.metric) for a in architectures
    }


def write_step(config: Config, runs: Runs, step: int) -> None:
    """Take in the probes that the step before asked for, and decide what comes next."""
    measured: list[Architecture] = []
    if step:
        before = read_json(step_path(config, step - 1))
        measured = [tuple(a) for a in before["measured"] + before["probes"]]
    known = measurements(config, runs, measured)
    following = next_step(config.search, known)
    _tell(config, known)
    answer = following.answer and asdict(following.answer)
    probes = ", ".join(map(brackets, following.probes))
    logger.info(f"answer: {answer}" if answer else f"next: {probes}")
    content = {"measured": measured, "probes": following.probes, "answer": answer}
    write_json(step_path(config, step), content)


def write_summary(config: Config, runs: Runs) -> None:
    """Write decisions.json: the search from its first probe to its answer, with its noise.

    Raises:
        VaelabError: the search has not ended.
    """
    last = _last_step(config)
    if last is None or last["answer"] is None:
        raise VaelabError("the search has not ended; run `snakemake --cores 2 table_2`")
    measured = [tuple(a) for a in last["measured"]]
    # Runs of the table that are the search's networks but for their widths.
    shared = {
        run.spec.model.architecture
        for run in runs.by_id.values()
        if isinstance(run.spec.model, VaePart) and run.spec == _probe(runs, run.spec.model)
    }
    summary = search_summary(
        config.search,
        measurements(config, runs, measured),
        shared,
        measurements(config, runs, measured, recorded=True),
    )
    write_json(config.folder / "search" / "decisions.json", summary)
    logger.info(f"answer: {summary['answer']}")


def _probe(runs: Runs, model: VaePart) -> RunSpec | None:
    """The search's specification with the widths of a model."""
    widths = {"hidden": model.hidden, "latent_dim": model.latent_dim}
    return runs.probe and runs.probe.changed(**widths)


def print_decisions(config: Config, runs: Runs) -> None:
    """Print the decisions that the finished steps allow."""
    last = _last_step(config)
    if last is None:
        raise VaelabError("no step of the search is there; run `snakemake --cores 2 table_2`")
    known = measurements(config, runs, [tuple(a) for a in last["measured"]])
    _tell(config, known)
    logger.info(f"answer: {last['answer']}" if last["answer"] else f"next: {last['probes']}")


def _tell(config: Config, known: Mapping[Architecture, Measurement]) -> None:
    for decision in decision_log(config.search, known):
        probe = brackets(tuple(decision["architecture"]))
        logger.info(f"{decision['step']:3d}  {probe}: {decision['reason']}")


def _last_step(config: Config) -> dict[str, Any] | None:
    """The last step on disk, or None."""
    step, content = 0, None
    while (path := step_path(config, step)).is_file():
        content = read_json(path)
        step += 1
    return content
