"""Tables of our own studies: small networks against the search's answer, the recipe taken apart.

Their runs are trained by name alone. A row has every seed that is on record.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from vaelab.output.catalogue import CATALOGUE
from vaelab.output.tables import measured, titled
from vaelab.results.reader import Results
from vaelab.results.records import Loss, Metrics
from vaelab.search.algorithm import Measurement, brackets, judge
from vaelab.settings.config import SearchSettings
from vaelab.util.errors import VaelabError

LOSSES: tuple[Loss, ...] = ("recon", "kl", "neg_elbo")
LEVELS = {"normal": "N(0, 0.01)", "default": "fan-in", "adagrad": "Adagrad", "adam": "Adam"}
# The report's level of each factor, the modern one, and the change in words.
FACTORS: dict[str, tuple[object, object, str]] = {
    "init": ("normal", "default", "fan-in weights"),
    "optimizer": ("adagrad", "adam", "Adam"),
    "output_bias": (False, True, "an output bias"),
}


def table_front(results: Results) -> pd.DataFrame:
    """Networks that were trained, by budget and size, and which of them no other beats.

    Further columns: good (definition 5.1, by the means); front (of the networks of the same budget
    whose mean KL is allowed, none has at most as many parameters and a lower mean train recon).
    """
    settings, probes = SearchSettings(), dict[str, None]()
    if (search := results.decisions) is not None:
        settings = SearchSettings.model_validate(search["settings"])
        probes = dict.fromkeys([*(p["run"] for p in search["probes"]), *search["wasted"]])
    names = _trained(results, [*CATALOGUE["table_front"].runs, *probes])
    rows = []
    for name in names:
        metrics = results.recorded(name)
        measurement = Measurement.from_metrics(metrics, settings.metric)
        good = judge(measurement, settings).good
        rows.append({"run": name, **_network(metrics), **measured(metrics, LOSSES), "good": good})
    frame = pd.DataFrame(rows).sort_values(["samples", "parameters"], ignore_index=True)
    # A larger latent dimension lowers recon and raises KL, on which the definition sets a limit.
    recon = frame["train_recon"].where(frame["train_kl"] <= settings.kl)
    frame["front"] = recon <= recon.groupby(frame["samples"]).cummin()
    return titled(frame, "table_front", results, names)


def table_recipe(results: Results) -> pd.DataFrame:
    """Initial weights x optimiser x output bias on two networks, and what each factor changes."""
    names = _trained(results, CATALOGUE["table_recipe"].runs)
    rows = []
    for name in names:
        metrics = results.recorded(name)
        spec = metrics[0]["spec"]
        factors = {factor: spec[factor] for factor in FACTORS}  # type: ignore[literal-required]
        rows.append({"run": name, **_network(metrics), **factors, **measured(metrics, LOSSES)})
    frame = pd.DataFrame(rows)
    notes = [_effects(str(h), part) for h, part in frame.groupby("architecture", sort=False)]
    for factor in ("init", "optimizer"):
        frame[factor] = frame[factor].map(LEVELS)
    return titled(frame, "table_recipe", results, names, *notes)


def _trained(results: Results, names: Iterable[str]) -> list[str]:
    """Those that are on record; a rule makes all of them first."""
    names = list(dict.fromkeys(names))
    if not (found := [name for name in names if results.has(name)]):
        raise VaelabError(
            f"{results.folder} has none of these runs with all of its seeds: {', '.join(names)}"
        )
    return found


def _network(metrics: list[Metrics]) -> dict[str, Any]:
    spec = metrics[0]["spec"]
    return {
        "architecture": brackets((*spec["hidden"], spec["latent_dim"])),
        "samples": metrics[0]["samples"],
        "parameters": metrics[0]["parameters"],
    }


def _effects(network: str, cells: pd.DataFrame) -> str:
    """What each factor changes in train -ELBO, averaged over the other two, with its error.

    The error is pooled from the seeds of all cells; a factor without both levels is left out.
    """
    several = cells[cells["seeds"] > 1]
    df = (several["seeds"] - 1).sum()
    squares = (several["seeds"] - 1) * several["train_neg_elbo_spread"] ** 2
    sd = float(np.sqrt(squares.sum() / df)) if df else float("nan")
    parts = []
    for factor, (report, modern, words) in FACTORS.items():
        sides = [cells[cells[factor] == level] for level in (report, modern)]
        if any(side.empty for side in sides):
            continue
        before, after = (side["train_neg_elbo"].mean() for side in sides)
        error = sd * np.sqrt(sum((1 / side["seeds"]).sum() / len(side) ** 2 for side in sides))
        parts.append(f"{words} {after - before:+.1f}" + (f" ± {error:.1f}" if df else ""))
    return f"{network}, change of train −ELBO (mean of the other factors): {'; '.join(parts)}."
