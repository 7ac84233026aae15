"""Our curves at the points that were read off the report's, smoothed as the report smooths.

The report's curves are trailing means over noisy evaluations; ours are evaluated on fixed images
and not smoothed. At 1e6 samples that alone is a difference of several nats, so each point has both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vaelab.original.smoothing import smoothing
from vaelab.output.catalogue import CATALOGUE
from vaelab.output.lines import curves, marks
from vaelab.output.plots import PLOTS
from vaelab.output.tables import titled
from vaelab.results.reader import Results

COLUMNS = ("figure", "series", "quantity", "split", "samples", "report_value", "report_error")
OURS = ("smoothed", "smoothed_spread", "unsmoothed", "diff_smoothed")


def table_curves(results: Results) -> pd.DataFrame:
    """Every digitised point that our trainings reach, with our values there.

    Columns: figure; series (the run); quantity and split as read; samples; report_value with its
    reading error; smoothed (ours, mean over seeds, smoothed as the report smooths), its spread over
    seeds; unsmoothed (ours on fixed images); diff_smoothed (smoothed minus the report's).
    """
    names = CATALOGUE["table_curves"].among(results.alias)
    parts = [
        (int(target.removeprefix("figure_")), part)
        for target, plot in PLOTS.items()
        for panel in plot.panels
        for series in panel.series
        if series.run in names
        for part in marks(target, series)
    ]
    rows = []
    for figure, part in parts:
        series, at = part.series, part.samples
        smooth = smoothing(figure, series.run)
        seeds = [
            (curve.index.to_numpy(float), curve.to_numpy(float))
            for curve in curves(results, series, part.split)
        ]
        plain = np.array([np.interp(at, *curve, left=np.nan, right=np.nan) for curve in seeds])
        smoothed = np.array([smooth.at(at, *curve) for curve in seeds]) if smooth else plain
        spread = smoothed.std(0, ddof=1) if len(seeds) > 1 else np.full(len(at), np.nan)
        ours, unsmoothed = smoothed.mean(0), plain.mean(0)
        for i in np.flatnonzero(~np.isnan(ours)):
            known = (f"Figure {figure}", series.run, series.reported, part.split, int(at[i]))
            theirs = (float(part.values[i]), float(part.errors[i]))
            mine = (ours[i], spread[i], unsmoothed[i], ours[i] - theirs[0])
            rows.append((*known, *theirs, *map(float, mine)))
    return titled(
        pd.DataFrame(rows, columns=[*COLUMNS, *OURS]),
        "table_curves",
        results,
        names,
        "Smoothed is ours as the report would have drawn it: trailing means over 50 to 500 of its "
        "evaluations. Unsmoothed is ours on fixed images.",
    )


def differences(target: str, points: pd.DataFrame) -> list[dict[str, Any]]:
    """How far our curves are from the report's at its digitised points, a row a panel.

    Means of absolute differences over the points of `table_curves`: on fixed images, smoothed,
    and of the two from each other, which is what smoothing does; the noise of a run is the
    mean standard deviation over seeds, NaN with one seed.
    """
    rows = []
    for panel in PLOTS[target].panels:
        curves = {(series.run, series.reported) for series in panel.series if series.reported}
        keys = zip(points["series"], points["quantity"], strict=True)
        mine = np.array([key in curves for key in keys], dtype=bool)
        own = points[mine & (points["figure"] == CATALOGUE[target].label)]
        if own.empty:
            continue
        distances = {
            "unsmoothed": own["unsmoothed"] - own["report_value"],
            "smoothed": own["diff_smoothed"],
            "smoothing": own["unsmoothed"] - own["smoothed"],
            "reading": own["report_error"],
            "noise": own["smoothed_spread"],
        }
        means = {name: float(values.abs().mean()) for name, values in distances.items()}
        rows.append({"panel": panel.title, "points": len(own), **means})
    return rows
