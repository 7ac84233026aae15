"""The values of the curves that `plots` defines: our own, over seeds, and the points of the report.

Both drawings of a figure, the printed and the interactive one, read their values here, and so does
the table of the differences between the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from vaelab.original import numbers
from vaelab.original.smoothing import smoothing
from vaelab.output.plots import Series
from vaelab.results.reader import Results
from vaelab.results.records import SPLITS
from vaelab.util.errors import VaelabError

# Points of a smoothed curve, evenly spaced on a logarithmic axis.
SMOOTHED_POINTS = 120

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """One curve of ours.

    Attributes:
        series: what it shows.
        split: train or test.
        samples: training samples seen.
        values: one a sample count, the mean over seeds.
        spread: standard deviation over seeds; None with one seed.
    """

    series: Series
    split: str
    samples: Values
    values: Values
    spread: Values | None = None


@dataclass(frozen=True)
class Marks:
    """Points read off the report's curve.

    Attributes:
        series: the series that they belong to.
        split: train, test, or both where one reading stands for the two.
        samples: training samples seen.
        values: one a sample count.
        errors: half-widths within which the values were read.
        bound: whether the true value is at most the one given.
    """

    series: Series
    split: str
    samples: Values
    values: Values
    errors: Values
    bound: npt.NDArray[np.bool_]


def lines(results: Results, series: Series) -> list[Line]:
    """Train and test curve of a series; none for an optional run that was not trained.

    Raises:
        VaelabError: a file that is needed is missing, or lacks an estimator.
    """
    if series.optional and not results.has(series.run):
        return []
    return [_line(series, split, curves(results, series, split)) for split in SPLITS]


def curves(results: Results, series: Series, split: str) -> list[pd.Series]:
    """Values of a series by samples, one for each seed; `both` is the mean of the splits."""
    splits = SPLITS if split == "both" else (split,)
    if not series.estimated:
        columns = [f"{part}_{series.column}" for part in splits]
        frames = [frame.set_index("samples")[columns] for frame in results.history(series.run)]
        return [series.sign * frame.mean(axis=1) for frame in frames]
    found = []
    for frame in results.likelihood(series.run):
        chosen = frame[(frame["estimator"] == series.column) & frame["split"].isin(splits)]
        if chosen.empty:
            raise VaelabError(
                f"likelihood.csv of {series.run} has no {split} values by {series.column!r}"
            )
        found.append(chosen.groupby("samples")["nats"].mean())
    return found


def smoothed(target: str, results: Results, series: Series) -> list[Line]:
    """The curves of a series as the report would have drawn them.

    None where it smooths nothing, has no such curve, or evaluates less than twice in our budget.
    """
    smooth = smoothing(int(target.removeprefix("figure_")), series.run) if series.reported else None
    if smooth is None:
        return []
    found = []
    for split in SPLITS:
        seeds = curves(results, series, split)
        end = min(curve.index.max() for curve in seeds)
        if end < 2 * smooth.every:
            return []
        steps = np.geomspace(1, end // smooth.every, SMOOTHED_POINTS).round()
        at = np.unique(steps) * smooth.every
        values = [smooth.at(at, curve.index.to_numpy(float), curve.to_numpy()) for curve in seeds]
        mean = np.mean(values, axis=0)
        reached = ~np.isnan(mean)
        found.append(Line(series, split, at[reached], mean[reached]))
    return found


def _line(series: Series, split: str, seeds: Sequence[pd.Series]) -> Line:
    by_samples = pd.concat(list(seeds)).groupby(level=0)
    mean = by_samples.mean()
    spread = by_samples.std().to_numpy(float) if len(seeds) > 1 else None
    return Line(series, split, mean.index.to_numpy(), mean.to_numpy(float), spread)


def marks(target: str, series: Series) -> Iterator[Marks]:
    """What was read off the report's curve of a series, a split at a time."""
    if not series.reported:
        return
    points = numbers.curves(int(target.removeprefix("figure_")))
    points = points[(points["series"] == series.run) & (points["quantity"] == series.reported)]
    for split, part in points.groupby("split", sort=False):
        samples, values, errors = (part[name].to_numpy() for name in ("samples", "value", "error"))
        bound = (part["bound"] == "upper").to_numpy()
        yield Marks(series, str(split), samples, values, errors, bound)
