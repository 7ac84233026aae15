"""Our curves at the points that were read off the report's, smoothed as the report smooths.

The report's curves are trailing means over noisy evaluations; ours are evaluated on fixed images
and not smoothed. At 1e6 samples that alone is a difference of several nats, so each point has both.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from vaelab.original import numbers
from vaelab.original.smoothing import Smoothing, smoothing
from vaelab.output.catalogue import CATALOGUE
from vaelab.output.tables import titled
from vaelab.results.reader import Results

Values: TypeAlias = npt.NDArray[np.float64]

COLUMNS = ("figure", "series", "quantity", "split", "samples", "report_value", "report_error")
OURS = ("smoothed", "smoothed_spread", "unsmoothed", "diff_smoothed")


def table_curves(results: Results) -> pd.DataFrame:
    """Every digitised point that our trainings reach, with our values there.

    Columns: figure; series (the run); quantity and split as read; samples; report_value with its
    reading error; smoothed (ours, mean over seeds, smoothed as the report smooths), its spread over
    seeds; unsmoothed (ours on fixed images); diff_smoothed (smoothed minus the report's).
    """
    rows = []
    points = numbers.curves()
    names = CATALOGUE["table_curves"].among(results.alias)
    keys = ["figure", "series", "quantity", "split"]
    for key, group in points.groupby(keys, sort=False):
        figure, (series, quantity, split) = int(str(key[0])), map(str, key[1:])
        if series not in names:
            continue
        at = group["samples"].to_numpy(float)
        smooth = smoothing(figure, series)
        seeds = _curves(results, figure, series, quantity, split)
        smoothed = np.array([_at(smooth, at, *curve) for curve in seeds])
        unsmoothed = np.mean([_at(None, at, *curve) for curve in seeds], axis=0)
        spread = smoothed.std(0, ddof=1) if len(seeds) > 1 else np.full(len(at), np.nan)
        for i, (_, point) in enumerate(group.iterrows()):
            ours = float(smoothed[:, i].mean())
            if np.isnan(ours):
                continue
            known = (f"Figure {figure}", series, quantity, split, int(at[i]))
            theirs = (float(point["value"]), float(point["error"]))
            mine = (ours, float(spread[i]), float(unsmoothed[i]), ours - theirs[0])
            rows.append(dict(zip((*COLUMNS, *OURS), (*known, *theirs, *mine), strict=True)))
    return titled(
        pd.DataFrame(rows, columns=[*COLUMNS, *OURS]),
        "table_curves",
        results,
        names,
        "Smoothed is ours as the report would have drawn it: trailing means over 50 to 500 of its "
        "evaluations. Unsmoothed is ours on fixed images.",
    )


def _curves(
    results: Results, figure: int, run: str, quantity: str, split: str
) -> list[tuple[Values, Values]]:
    """Samples and values of our curve, one pair for each seed; `both` is the mean of the splits."""
    splits = ("train", "test") if split == "both" else (split,)
    if figure == 3:
        curves = []
        for frame in results.likelihood(run):
            # The report's Figure 3 shows what its notebook computes.
            chosen = frame[frame["estimator"] == "notebook"]
            parts = [chosen[chosen["split"] == s].sort_values("samples") for s in splits]
            values = np.mean([part["nats"].to_numpy(float) for part in parts], axis=0)
            curves.append((parts[0]["samples"].to_numpy(float), values))
        return curves
    sign, column = (-1.0, "neg_elbo") if quantity == "elbo" else (1.0, quantity)
    return [
        (
            frame["samples"].to_numpy(float),
            sign * frame[[f"{s}_{column}" for s in splits]].to_numpy(float).mean(1),
        )
        for frame in results.history(run)
    ]


def _at(smooth: Smoothing | None, at: Values, samples: Values, values: Values) -> Values:
    """A curve at some points; NaN where it does not reach."""
    if smooth is not None:
        return smooth.at(at, samples, values)
    return np.asarray(np.interp(at, samples, values, left=np.nan, right=np.nan))
