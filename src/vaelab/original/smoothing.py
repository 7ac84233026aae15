"""How the report smooths its curves, applied to ours, so that like is compared with like.

The report evaluates its models once per epoch and draws trailing means (protocol 1.3): the value
at an epoch is the mean over the last W evaluations, or over all of them where there are fewer.
Early in a training, where the loss falls fast, such a mean lies well above the loss itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Values: TypeAlias = npt.NDArray[np.float64]

MNIST_EPOCH = 60_000
# The report's curves start after one of 2000 epochs; ours start after the same share.
FIRST_EPOCH = 1 / 2000


@dataclass(frozen=True)
class Curve:
    """A quantity over training: `samples` ascending, both (T,)."""

    samples: Values
    values: Values

    @classmethod
    def of(cls, frame: pd.DataFrame, column: str) -> Curve:
        """A column of a table with a column `samples`."""
        return cls(frame["samples"].to_numpy(float), frame[column].to_numpy(float))

    def at(self, share: float) -> float:
        """The value after a share of the training: linear between points, constant outside."""
        return float(np.interp(share * self.samples[-1], self.samples, self.values))

    @property
    def first(self) -> float:
        """Where the report's curve would start in this budget."""
        return self.at(FIRST_EPOCH)

    @property
    def last(self) -> float:
        """The last value."""
        return float(self.values[-1])

    @property
    def later(self) -> Values:
        """The values from the first one that the report would have on."""
        kept = self.values[self.samples > FIRST_EPOCH * self.samples[-1]]
        return np.array([self.first, *kept])

    def smoothed(self, share: float) -> Curve:
        """Trailing means over a share of the training."""
        after = self.samples - share * self.samples[-1]
        starts = np.searchsorted(self.samples, after, side="right")
        means = [self.values[a : i + 1].mean() for i, a in enumerate(starts)]
        return Curve(self.samples, np.array(means))


@dataclass(frozen=True)
class Smoothing:
    """Evaluations of one of the report's curves and the window that they are averaged over.

    Attributes:
        every: training samples between two evaluations; the first is after as many.
        window: evaluations in a trailing mean.
    """

    every: int
    window: int

    def at(self, points: Values, samples: Values, values: Values) -> Values:
        """A curve of ours as the report would have drawn it.

        Args:
            points: training samples (n,) at which the report's curve is wanted.
            samples: training samples (m,) at which ours was evaluated, ascending.
            values: ours (m,).

        Returns:
            Means (n,) over the report's evaluations in the window, of ours interpolated linearly;
            NaN where ours does not reach.
        """
        return np.array([self._mean(point, samples, values) for point in points])

    def _mean(self, point: float, samples: Values, values: Values) -> float:
        last = int(point) // self.every
        evaluations = self.every * np.arange(max(1, last - self.window + 1), last + 1)
        if len(evaluations) == 0 or evaluations[-1] > samples[-1] or evaluations[0] < samples[0]:
            return float("nan")
        return float(np.interp(evaluations, samples, values).mean())


# Windows in epochs, read off the kinks of the curves (Figure 1) or taken from the notebooks.
_FIGURE_1 = {"mnist_d3": 500, "mnist_d5": 100}
_FIGURE_3 = {"ml_n1000": Smoothing(100_000, 20), "ml_n50000": Smoothing(50_000, 50)}
_EPOCHS = 50


def smoothing(figure: int, series: str) -> Smoothing | None:
    """The smoothing of a digitised curve; None for Figure 2, whose window moves no point visibly.

    Args:
        figure: 1, 2, 3, 6 or 14.
        series: name of the run.
    """
    if figure == 2:
        return None
    if figure == 3:
        return _FIGURE_3[series]
    return Smoothing(MNIST_EPOCH, _FIGURE_1.get(series, _EPOCHS) if figure == 1 else _EPOCHS)
