"""The values of the curves that `plots` defines: our own, over seeds, and the points of the report.

Both drawings of a figure, the printed and the interactive one, read their values here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from vaelab.original import numbers
from vaelab.output.plots import Series
from vaelab.results.reader import Results
from vaelab.results.records import SPLITS, Split
from vaelab.util.errors import VaelabError

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
    split: Split
    samples: Values
    values: Values
    spread: Values | None


@dataclass(frozen=True)
class Marks:
    """Points read off the report's curve.

    Attributes:
        series: the series that they belong to.
        split: train, test, or both where one reading stands for the two.
        samples: training samples seen.
        values: one a sample count.
        bound: whether the true value is at most the one given.
    """

    series: Series
    split: str
    samples: Values
    values: Values
    bound: npt.NDArray[np.bool_]


def lines(results: Results, series: Series) -> list[Line]:
    """Train and test curve of a series; none for an optional run that was not trained.

    Raises:
        VaelabError: a file that is needed is missing, or lacks an estimator.
    """
    if series.optional and not results.has(series.run):
        return []
    return [_line(series, split, _frames(results, series, split)) for split in SPLITS]


def _frames(results: Results, series: Series, split: Split) -> list[pd.DataFrame]:
    """Columns samples and value, a frame a seed."""
    if not series.estimated:
        column = f"{split}_{series.column}"
        return [
            frame[["samples", column]].rename(columns={column: "value"})
            for frame in results.history(series.run)
        ]
    frames = [
        frame[(frame["split"] == split) & (frame["estimator"] == series.column)]
        for frame in results.likelihood(series.run)
    ]
    if any(frame.empty for frame in frames):
        raise VaelabError(
            f"likelihood.csv of {series.run} has no {split} values by {series.column!r}"
        )
    return [frame[["samples", "nats"]].rename(columns={"nats": "value"}) for frame in frames]


def _line(series: Series, split: Split, frames: Sequence[pd.DataFrame]) -> Line:
    by_samples = pd.concat(frames).groupby("samples")["value"]
    mean = series.sign * by_samples.mean()
    spread: Values | None = None
    if len(frames) > 1:
        spread = np.asarray(by_samples.std(), dtype=np.float64)
    return Line(series, split, mean.index.to_numpy(), mean.to_numpy(float), spread)


def marks(target: str, series: Series) -> Iterator[Marks]:
    """What was read off the report's curve of a series, a split at a time."""
    points = numbers.curves(int(target.removeprefix("figure_")))
    points = points[
        (points["series"] == series.run) & (points["quantity"] == (series.reported or None))
    ]
    for split, part in points.groupby("split", sort=False):
        yield Marks(
            series,
            str(split),
            part["samples"].to_numpy(),
            part["value"].to_numpy(),
            (part["bound"] == "upper").to_numpy(),
        )
