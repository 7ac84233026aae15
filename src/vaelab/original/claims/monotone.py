"""Whether values on partly ordered networks could be monotone: one test of all pairs at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import nnls

from vaelab.original.claims.judgement import Estimate, redrawn
from vaelab.search.algorithm import Architecture

Pair = tuple[Architecture, Architecture]
REPEATS = 1000


def covering(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with no network between them; the other ones follow from these."""
    known = set(pairs)
    middles = {a for a, _ in pairs} & {b for _, b in pairs}
    return [
        (a, b) for a, b in pairs if not any((a, m) in known and (m, b) in known for m in middles)
    ]


def chance_of_violations(
    values: Mapping[Architecture, Estimate], steps: Sequence[Pair], repeats: int = REPEATS
) -> float:
    """p-value of "the values rise along all steps", (1 + exceedances) / (1 + repeats).

    The statistic is the weighted squared distance from the nearest monotone values. Its
    distribution is that of draws around these, in which the standard deviation is as uncertain as
    its degrees of freedom say.

    Args:
        values: estimates with standard errors above 0, by architecture.
        steps: pairs (a, b) along which the values should rise.
        repeats: draws.
    """
    order = {a: i for i, a in enumerate(values)}
    means, errors = np.array([(v.mean, v.se) for v in values.values()]).T
    # In units of the errors the nearest point of the cone G u >= 0 is v + G' l, l >= 0.
    steps_matrix = np.zeros((len(steps), len(values)))
    for row, (a, b) in enumerate(steps):
        steps_matrix[row, order[b]], steps_matrix[row, order[a]] = (
            errors[order[b]],
            -errors[order[a]],
        )

    def correction(v: np.ndarray) -> np.ndarray:
        multipliers, _ = nnls(steps_matrix.T, -v)
        found: np.ndarray = steps_matrix.T @ multipliers
        return found

    v = means / errors
    change = correction(v)
    statistic, fit = change @ change, v + change
    if statistic < 1e-9:
        return 1.0
    around = [replace(e, mean=m * e.se) for e, m in zip(values.values(), fit, strict=True)]
    again = np.array([correction(draw / errors) for draw in redrawn(around, repeats)])
    return float((1 + (np.square(again).sum(1) >= statistic).sum()) / (1 + repeats))
