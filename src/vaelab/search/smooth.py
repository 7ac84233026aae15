"""Recon and kl as smooth functions of the widths, fitted to everything measured, with the noise.

The search compares single trainings with fixed thresholds, and two trainings of one network differ.
How much, depends on the family of the network; the fit tells what new trainings would give.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from statistics import NormalDist, variance
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from vaelab.results.records import AnswerLine, Split
from vaelab.search.algorithm import Architecture, Measurement, Verdict
from vaelab.search.spread import RANGE, Line, layers, of_architecture, table
from vaelab.settings.config import SearchSettings

Quantity = Literal["recon", "kl"]
Values: TypeAlias = npt.NDArray[np.float64]

# Fewest degrees of freedom with which measured seeds replace the package's table.
OWN_DF = 2
# Level of all intervals.
LEVEL = 0.9


class Noise(NamedTuple):
    """Standard deviation of one training's losses over seeds, nats."""

    recon: float
    kl: float


Spreads: TypeAlias = Mapping[str, Noise]

FAMILIES = ("wide", "narrow", "starved", "deep")
# The report's runs: two of one network differ in recon by 1.3 to 1.8, its Table 2 scatters in kl.
REPORT: Spreads = dict.fromkeys(FAMILIES, Noise(1.1, 0.1))


@cache
def published(split: Split) -> Spreads:
    """The noise of each family by the package's table, for presets of one seed."""
    return {
        name: Noise(table()[name, f"{split} recon"].sd, table()[name, f"{split} kl"].sd)
        for name in FAMILIES
    }


def pooled(measurements: Mapping[Architecture, Measurement], split: Split) -> Spreads:
    """The noise of each family: over seeds where enough were measured, else `published`."""
    squares: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    for a, m in measurements.items():
        if (df := len(m.recon_values) - 1) > 0:
            recon, kl = variance(m.recon_values), variance(m.kl_values)
            squares[of_architecture(a)].append((df, df * recon, df * kl))
    found = dict(published(split))
    for name, rows in squares.items():
        df, recon, kl = map(sum, zip(*rows, strict=True))
        if df >= OWN_DF:
            found[name] = Noise(math.sqrt(recon / df), math.sqrt(kl / df))
    return found


def standard_error(
    architecture: Architecture, measurement: Measurement, quantity: Quantity, spreads: Spreads
) -> float:
    """Standard error of a mean over seeds, nats."""
    sd: float = getattr(spreads[of_architecture(architecture)], quantity)
    return sd / math.sqrt(len(measurement.recon_values))


class _Smooth:
    """One loss of one depth: constant + g_1(log h_1) + ... + g_n(log h_n), by Bayesian regression.

    Every g is a line plus bumps of one octave, whose priors say how far the loss may bend. If the
    measurements scatter more around the fit than their noise, the noise grows accordingly.

    Args:
        architectures: what was measured, all of one depth.
        values: their losses (N,), nats.
        errors: standard errors of these (N,), nats.
    """

    # Prior standard deviations, nats: of the constant, of a slope per octave, of a bump.
    _CONSTANT, _SLOPE, _BUMP = 1e3, 20.0, 2.0
    # Smallest error, nats: none at all would make the equations singular.
    _FLOOR = 1e-3
    # Degrees of freedom of the errors, and rounds of reweighting.
    _TAIL, _ROUNDS = 4.0, 20

    def __init__(
        self, architectures: Iterable[Architecture], values: Values, errors: Values
    ) -> None:
        networks = list(architectures)
        self._measured = [set(layer) for layer in zip(*networks, strict=True)]
        self._centres = np.arange(math.log2(max(map(max, networks))) + 1.0)
        varied = sum(len(widths) > 1 for widths in self._measured)
        bend = np.full(len(self._centres), self._BUMP)
        prior = np.concatenate([[self._CONSTANT], *varied * [[self._SLOPE], bend]])
        design = np.array([self.features(a) for a in networks])
        errors, weight = np.maximum(errors, self._FLOOR), np.ones(len(networks))
        for _ in range(self._ROUNDS):
            scale = np.sqrt(weight) / errors
            u, s, vt = np.linalg.svd(design * scale[:, None] * prior)
            s, u = np.pad(s, (0, len(prior) - len(s))), u[:, : len(prior)]
            projected = np.pad(u.T @ (values * scale), (0, len(prior) - u.shape[1]))
            self.mean = prior * (vt.T @ (s * projected / (1.0 + s**2)))
            residual = np.abs(values - design @ self.mean) / errors
            # A training that is stuck does not lie on a smooth curve: the tails of Student's t.
            weight = np.minimum(1.0, (self._TAIL + 1.0) / (self._TAIL + residual**2))
        df = len(values) - float(np.sum(s**2 / (1.0 + s**2)))
        # The median residual of a normal distribution is 0.67 standard deviations.
        typical = float(np.median(residual)) / 0.6745 * math.sqrt(len(values) / max(df, 1.0))
        self.stretch = max(1.0, typical) if df >= OWN_DF else 1.0
        self.root = self.stretch * prior[:, None] * vt.T / np.sqrt(1.0 + s**2)

    def features(self, architecture: Architecture) -> Values | None:
        """The regressors of an architecture; None if a layer was measured at one other width."""
        parts: list[Values] = [np.ones(1)]
        for width, measured in zip(architecture, self._measured, strict=True):
            if len(measured) == 1:
                if width not in measured:
                    return None
                continue
            octave = math.log2(width)
            parts += [np.array([octave]), np.exp(-0.5 * (octave - self._centres) ** 2)]
        return np.concatenate(parts)


class Fit:
    """Recon and kl as smooth functions of the widths, depth by depth, and the noise around them.

    Args:
        measurements: everything measured, every seed.
        spreads: noise of one training, by family.
    """

    def __init__(self, measurements: Mapping[Architecture, Measurement], spreads: Spreads) -> None:
        self._spreads = spreads
        self._depths: dict[int, tuple[_Smooth, _Smooth]] = {}
        for depth in sorted({len(a) for a in measurements}):
            same = {a: m for a, m in measurements.items() if len(a) == depth}

            def smooth(quantity: Quantity, same: Mapping[Architecture, Measurement]) -> _Smooth:
                values = [getattr(m, quantity) for m in same.values()]
                errors = [standard_error(a, m, quantity, spreads) for a, m in same.items()]
                return _Smooth(same, np.array(values), np.array(errors))

            self._depths[depth] = smooth("recon", same), smooth("kl", same)
        self._known: dict[Architecture, list[tuple[_Smooth, Values, float]] | None] = {}

    def _parts(self, architecture: Architecture) -> list[tuple[_Smooth, Values, float]] | None:
        """For both losses the fit, the regressors and the noise of one training."""
        if architecture not in self._known:
            spreads = self._spreads[of_architecture(architecture)]
            pair = self._depths.get(len(architecture), ())
            parts = [
                (smooth, features, smooth.stretch * sd)
                for smooth, sd in zip(pair, spreads, strict=False)
                if (features := smooth.features(architecture)) is not None
            ]
            self._known[architecture] = parts or None
        return self._known[architecture]

    def predictive(self, architecture: Architecture, seeds: int = 1) -> list[NormalDist] | None:
        """Recon and kl that new trainings would give, as a mean over seeds; None if unknown.

        From one measurement alone its standard deviation is sqrt(2) times a training's.
        """
        if (parts := self._parts(architecture)) is None:
            return None
        return [
            NormalDist(
                float(features @ smooth.mean),
                math.hypot(float(np.linalg.norm(features @ smooth.root)), sd / math.sqrt(seeds)),
            )
            for smooth, features, sd in parts
        ]

    def redrawn(
        self, generator: np.random.Generator, settings: SearchSettings, seeds: int
    ) -> Callable[[Architecture], Verdict | None]:
        """Verdicts of a search that trains anew: smooth functions drawn once, then noise."""
        coefficients = {
            smooth: smooth.mean + smooth.root @ generator.standard_normal(len(smooth.mean))
            for pair in self._depths.values()
            for smooth in pair
        }
        known: dict[Architecture, Verdict | None] = {}
        limits = settings.recon, settings.kl

        def passes(part: tuple[_Smooth, Values, float], limit: float) -> bool:
            smooth, features, sd = part
            noise = sd / math.sqrt(seeds) * generator.standard_normal()
            return bool(features @ coefficients[smooth] + noise <= limit)

        def verdict(architecture: Architecture) -> Verdict | None:
            if architecture not in known:
                parts = self._parts(architecture)
                known[architecture] = (
                    None if parts is None else Verdict(*map(passes, parts, limits))
                )
            return known[architecture]

        return verdict


def answer_line(
    answer: Architecture, measurements: Mapping[Architecture, Measurement], threshold: float
) -> AnswerLine | None:
    """Recon against the logarithm of one width of the answer, and where it meets the threshold.

    A straight line through all trainings of networks that differ from the answer in one layer, by
    at most a factor of two; the layer with the most such networks.

    Returns:
        The line with its bands at the level `LEVEL`; None with fewer than three widths.
    """
    groups: dict[Architecture, dict[int, Measurement]] = defaultdict(dict)
    for a, m in measurements.items():
        for others, width in layers(a):
            groups[others][width] = m
    near = [
        {w: m for w, m in groups[others].items() if width / RANGE <= w <= width * RANGE}
        for others, width in layers(answer)
    ]
    layer = max(range(len(near)), key=lambda i: len(near[i]), default=0)
    if not near or len(near[layer]) < 3:
        return None
    points = sorted((w, recon) for w, m in near[layer].items() for recon in m.recon_values)
    line = Line.through(points)
    sd = math.sqrt(line.residual / line.df)
    quantile = float(stdtrit(line.df, 0.5 + LEVEL / 2.0))
    widths = np.arange(points[0][0] // 2, points[-1][0] * 2 + 1)
    offset = np.log(np.maximum(widths, 1)) - line.centre
    mean = line.mean + line.slope * offset
    error = sd * np.sqrt(1.0 / len(points) + offset**2 / line.square)
    possible = widths[np.abs(mean - threshold) <= quantile * error]
    crossing = line.centre + (threshold - line.mean) / line.slope if line.slope < 0 else None
    band = quantile * np.hypot(error, sd)
    shown = (widths >= points[0][0]) & (widths <= points[-1][0])
    return {
        "layer": layer + 1,
        "networks": [*answer[:layer], None, *answer[layer + 1 :]],
        "points": [[width, recon] for width, recon in points],
        "sd": sd,
        "df": line.df,
        "level": LEVEL,
        "crossing": None if crossing is None else math.exp(crossing),
        # A band that meets the threshold at the end of what was looked at is open there.
        "low": int(possible[0]) if len(possible) and possible[0] > widths[0] else None,
        "high": int(possible[-1]) if len(possible) and possible[-1] < widths[-1] else None,
        "band": [
            [int(w), float(m), float(m - b), float(m + b)]
            for w, m, b in zip(widths[shown], mean[shown], band[shown], strict=True)
        ][:: max(1, int(shown.sum()) // 40)],
    }
