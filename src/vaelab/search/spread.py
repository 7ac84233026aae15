"""How much two trainings of one network differ: standard deviations by family of networks.

`measured` pools them from records: from several seeds of a network, and for a family without
such, from the scatter of networks that differ in one width only around a line in its logarithm.
The package's own table, spread.csv, holds what `modern`'s records give (`vaelab spread` computes
it anew), and a few assumed values where nothing is on record. It serves presets with one seed.
"""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from statistics import fmean, variance
from typing import Any, NamedTuple

import numpy as np

from vaelab.results.records import SPLITS, Measures, Metrics
from vaelab.search.algorithm import Architecture
from vaelab.util.io import read_json

# Quantities whose standard deviation is stated as a share of the mean, or of that of a coin with
# the same mean.
SHARES = {"label_agreement", "knn_accuracy", "z_to_label_accuracy"}
RELATIVE = {"mse", "embedding", "fid", "sharpness", "entropy", "pixel_variance", "aggregate_kl"}
LOSSES = ("recon", "kl", "neg_elbo", "objective", "mse")
COLUMNS = ("family", "quantity", "sd", "df", "source")
# Fewest networks for a line, and the widest range of widths over which it is one.
LINE, RANGE = 4, 2.0
# A hidden layer of at most so many units makes a network narrow, or starves it.
NARROW, STARVED = 32, 5
DEEP = 3


@dataclass(frozen=True)
class Spread:
    """Standard deviation of a quantity over trainings of one network.

    Attributes:
        sd: in the quantity's unit, or relative to `scale`.
        df: degrees of freedom behind it.
        source: where it comes from, in words.
    """

    sd: float
    df: float
    source: str


# What the data alone determine.
EXACT = {"majority_accuracy": Spread(0.0, math.inf, "")}
Spreads = dict[tuple[str, str], Spread]


def of_architecture(architecture: Architecture) -> str:
    """The family of networks of the digits within which trainings scatter alike."""
    *hidden, latent = architecture
    if len(hidden) >= DEEP:
        return "deep"
    narrowest = min(hidden, default=NARROW + latent)
    return "starved" if narrowest <= STARVED else "narrow" if narrowest <= NARROW else "wide"


def family(spec: Mapping[str, object]) -> str:
    """The same of any run, from its specification."""
    hidden, dataset = spec.get("hidden"), spec.get("dataset", "mnist")
    if not isinstance(hidden, list) or not hidden:
        return str(spec.get("model"))
    return str(dataset) if dataset != "mnist" else of_architecture((*hidden, 1))


def scale(quantity: str, value: float) -> float:
    """What a standard deviation of this quantity is multiplied by, at a value."""
    if quantity in SHARES:
        return math.sqrt(max(value * (1.0 - value), 0.0))
    return abs(value) if quantity.rsplit(" ", 1)[-1] in RELATIVE else 1.0


def loss_values(metrics: Metrics) -> dict[str, float]:
    """The losses of one training: "train recon", "test recon", "gap recon" and so on."""
    found = {
        f"{split} {loss}": metrics[split][loss]  # type: ignore[literal-required]
        for split in SPLITS
        for loss in LOSSES
        if loss in metrics[split]
    }
    for loss in LOSSES:
        if f"train {loss}" in found and f"test {loss}" in found:
            found[f"gap {loss}"] = found[f"test {loss}"] - found[f"train {loss}"]
    return found


def measured(
    runs: Mapping[str, Sequence[Metrics]], measures: Mapping[str, Sequence[Mapping[str, float]]]
) -> Spreads:
    """Pooled standard deviations of all families and quantities that the records allow.

    Args:
        runs: metrics.json of every seed, by run.
        measures: the numbers of measures.json of every seed, by run.
    """
    values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for name, seeds in runs.items():
        kind = family(seeds[0]["spec"])
        for numbers in (*map(loss_values, seeds), *measures.get(name, ())):
            for quantity, value in numbers.items():
                if quantity not in EXACT and not quantity.endswith(("_se", "_uniform", "mmd")):
                    values[kind, quantity][name].append(value)
    found: Spreads = {}
    for (kind, quantity), by_run in values.items():
        spread = _over_seeds(quantity, by_run) or _around_lines(quantity, by_run, runs)
        if spread is not None:
            found[kind, quantity] = spread
    return found


def _over_seeds(quantity: str, by_run: Mapping[str, Sequence[float]]) -> Spread | None:
    several = {name: values for name, values in by_run.items() if len(values) > 1}
    if not several:
        return None
    squares = [(len(v) - 1, variance(v) / scale(quantity, fmean(v)) ** 2) for v in several.values()]
    df = sum(n for n, _ in squares)
    sd = math.sqrt(sum(n * square for n, square in squares) / df)
    return Spread(sd, df, f"seeds of {len(several)} network{'s' if len(several) > 1 else ''}")


class Line(NamedTuple):
    """A straight line through losses against the logarithm of a width, by least squares.

    Attributes:
        centre: mean logarithm of the widths.
        mean: the line there.
        slope: per unit of the logarithm.
        square: sum of the squared distances of the logarithms from `centre`.
        residual: sum of the squared distances of the losses from the line.
        df: degrees of freedom of these.
    """

    centre: float
    mean: float
    slope: float
    square: float
    residual: float
    df: int

    @classmethod
    def through(cls, points: Sequence[tuple[int, float]]) -> Line:
        """Through widths and losses, of two widths at least."""
        x, y = np.log([width for width, _ in points]), np.array([loss for _, loss in points])
        centre, mean = float(x.mean()), float(y.mean())
        square = float(np.square(x - centre).sum())
        slope = float((x - centre) @ (y - mean)) / square
        residual = float(np.square(y - mean - slope * (x - centre)).sum())
        return cls(centre, mean, slope, square, residual, len(x) - 2)


def layers(architecture: Architecture) -> Iterator[tuple[Architecture, int]]:
    """For each hidden layer the widths of the others, with 0 in its place, and its own width."""
    for i, width in enumerate(architecture[:-1]):
        yield (*architecture[:i], 0, *architecture[i + 1 :]), width


def _around_lines(
    quantity: str,
    by_run: Mapping[str, Sequence[float]],
    runs: Mapping[str, Sequence[Metrics]],
) -> Spread | None:
    """Residuals of lines through networks that differ in one layer, by at most a factor of 2."""
    groups: dict[tuple[str, Architecture], list[tuple[int, float]]] = defaultdict(list)
    for name, values in by_run.items():
        spec: dict[str, Any] = dict(runs[name][0]["spec"])
        hidden, latent = spec.pop("hidden", ()), spec.get("latent_dim", 0)
        for others, width in layers((*hidden, latent)):
            groups[json.dumps(spec), others].append((width, fmean(values)))
    squares = df = count = 0.0
    for points in groups.values():
        near = [(w, v) for w, v in points if w * RANGE >= max(points)[0]]
        if len(near) < LINE:
            continue
        line = Line.through(near)
        squares += line.residual / scale(quantity, line.mean) ** 2
        df += line.df
        count += len(near)
    if not df:
        return None
    return Spread(math.sqrt(squares / df), df, f"scatter of {count:.0f} neighbouring networks")


@cache
def table() -> Spreads:
    """The package's table: what `modern` gives, and assumed values, named so."""
    with (files("vaelab.search") / "spread.csv").open(encoding="utf-8") as stream:
        return {
            (row["family"], row["quantity"]): Spread(
                float(row["sd"]), float(row["df"]), row["source"]
            )
            for row in csv.DictReader(stream)
        }


def rows(spreads: Spreads, source: str) -> Iterable[tuple[str, str, str, str, str]]:
    """Lines of the table: family, quantity, sd, df, source; assumed ones are kept."""
    named = {key: replace(s, source=f"{s.source} ({source})") for key, s in spreads.items()}
    kept = {key: s for key, s in table().items() if s.source.startswith("assumed")}
    for (kind, quantity), s in sorted((kept | named).items()):
        yield kind, quantity, f"{s.sd:.4g}", f"{s.df:.0f}", s.source


def recorded(folder: Path, measures: Measures, other_recipes: Collection[str] = ()) -> Spreads:
    """What the records of a preset give: every seed of every run under results/<preset>/runs.

    Args:
        folder: results/<preset>.
        measures: its measures.json.
        other_recipes: names of runs that are trained by another recipe than the preset's.
    """
    runs: dict[str, list[Metrics]] = defaultdict(list)
    for path in sorted((folder / "runs").glob("*/metrics.json")):
        metrics: Metrics = read_json(path)
        if metrics["name"] not in other_recipes:
            runs[metrics["name"]].append(metrics)
    return measured(runs, measures.get("runs", {}))
