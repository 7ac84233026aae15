"""The interactive twins of the figures of `plots`, as Plotly figures.

Python prepares data and layout, the page's copy of Plotly draws them. Every trace carries tags (its
split, where it comes from, what it shows). The page has one switch for each tag, and a trace is
visible while all of its tags are switched on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaelab.output import plots
from vaelab.output.figures.style import decade_below
from vaelab.output.lines import Line, Marks, Values, lines, marks, smoothed
from vaelab.output.plots import SMOOTHED
from vaelab.results.reader import Results
from vaelab.results.records import SPLITS

REPORT = "The report"
# Readable on both backgrounds, where the printed figures use black.
NEUTRAL = "#838a96"
DASHES = {"train": "solid", "test": "dash"}
SYMBOLS = {"train": "circle-open", "test": "square-open", "both": "diamond-open"}


@dataclass(frozen=True)
class Panel:
    """A panel of `plots`: our curves, the same as the report smooths, and the report's points."""

    definition: plots.Panel
    lines: tuple[Line, ...]
    smoothed: tuple[Line, ...]
    marks: tuple[Marks, ...]


@dataclass(frozen=True)
class Chart:
    """The panels of one figure, and its switches with their colours ("" for none)."""

    panels: tuple[Panel, ...]
    switches: Mapping[str, str]


def charts(results: Results) -> dict[str, Chart]:
    """The interactive figures whose runs exist, by target."""
    found = {target: chart(results, target, plot.panels) for target, plot in plots.PLOTS.items()}
    return {target: drawn for target, drawn in found.items() if drawn is not None}


def chart(results: Results, target: str, definitions: Iterable[plots.Panel]) -> Chart | None:
    """The panels with the runs that exist; None where there is nothing to draw."""
    panels = []
    for panel in definitions:
        shown = [series for series in panel.series if results.has(series.run)]
        ours = tuple(line for series in shown for line in lines(results, series))
        thin = tuple(line for one in shown for line in smoothed(target, results, one))
        points = tuple(part for series in shown for part in marks(target, series))
        if ours:
            panels.append(Panel(panel, ours, thin, points))
    return Chart(tuple(panels), _switches(panels)) if panels else None


def _switches(panels: Iterable[Panel]) -> dict[str, str]:
    """Switches in order of appearance, splits first, the report last.

    Each has the colour of its curves where they share one. What every curve carries needs no
    switch.
    """
    series = [line.series for panel in panels for line in panel.lines]
    switches: dict[str, str] = dict.fromkeys(SPLITS, "")
    for name in dict.fromkeys(one.name for one in series):
        colours = {_colour(one.colours.train) for one in series if one.name == name}
        if any(one.name != name for one in series):
            switches[name] = colours.pop() if len(colours) == 1 else ""
    switches |= {SMOOTHED: ""} if any(panel.smoothed for panel in panels) else {}
    return switches | ({REPORT: ""} if any(panel.marks for panel in panels) else {})


def _colour(colour: str) -> str:
    return NEUTRAL if colour == plots.INK else colour


def as_plotly(panel: Panel) -> dict[str, Any]:
    """A panel as the data and layout that Plotly takes; colours of the theme are left out."""
    traces: list[dict[str, Any]] = []
    for line in panel.lines:
        if line.spread is not None:
            traces.append(_band(line, line.spread))
        traces.append(_curve(line))
    traces += [_curve(line, thin=True) for line in panel.smoothed]
    traces += [_points(part) for part in panel.marks]
    low, high = _samples_range(panel)
    log = panel.definition.log
    ends = [float(line.values[-1]) for line in panel.lines]
    values = panel.definition.frame([*ends, *(v for part in panel.marks for v in part.values)])
    layout = {
        "xaxis": {
            "type": "log",
            "title": {"text": "samples seen"},
            "range": [float(np.log10(low)), float(np.log10(high))],
            "dtick": 1,
            "exponentformat": "power",
        },
        "yaxis": {
            "title": {"text": panel.definition.unit, "standoff": 6},
            "type": "log" if log else "linear",
            "range": [float(np.log10(value)) if log else float(value) for value in values],
            **({"dtick": 1, "exponentformat": "power"} if log else {}),
        },
        "margin": {"l": 64, "r": 12, "t": 30, "b": 44},
        "hovermode": "closest",
        "showlegend": False,
    }
    return {"data": traces, "layout": layout}


def _significant(values: Values) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _trace(part: Line | Marks, name: str, tags: list[str]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": [int(value) for value in part.samples],
        "y": _significant(part.values),
        "name": name,
        "meta": {"tags": tags},
        "hovertemplate": "%{fullData.name}<br>%{y:.4g} at %{x:.3s} samples<extra></extra>",
    }


def _curve(line: Line, thin: bool = False) -> dict[str, Any]:
    colour, width = _colour(line.series.colours.train), 1 if thin else 2
    style = {"color": colour, "dash": DASHES[line.split], "width": width}
    name = f"{line.series.name}, {line.split}" + ", smoothed" * thin
    trace = _trace(line, name, [line.split, line.series.name] + [SMOOTHED] * thin)
    return trace | {"mode": "lines", "line": style}


def _points(part: Marks) -> dict[str, Any]:
    tags = [REPORT, part.series.name] + [part.split] * (part.split != "both")
    style = {
        "color": _colour(part.series.report_colour),
        "symbol": SYMBOLS[part.split],
        "size": 8,
        "line": {"width": 1.5},
    }
    trace = _trace(part, f"{REPORT}, {part.series.name}, {part.split}", tags)
    return trace | {"mode": "markers", "marker": style}


def _band(line: Line, spread: Values) -> dict[str, Any]:
    """Mean plus and minus one standard deviation as a filled outline."""
    return {
        "type": "scatter",
        "x": [int(value) for value in (*line.samples, *line.samples[::-1])],
        "y": _significant(np.concatenate([line.values + spread, (line.values - spread)[::-1]])),
        "mode": "lines",
        "line": {"width": 0, "color": _colour(line.series.colours.train)},
        "fill": "toself",
        "opacity": 0.2,
        "hoverinfo": "skip",
        "meta": {"tags": [line.split, line.series.name]},
    }


def _samples_range(panel: Panel) -> tuple[float, float]:
    """From the last decades of our shortest run to the end of the longest, with all marks."""
    ours = [float(line.samples[-1]) for line in panel.lines]
    ends = [*ours, *(float(part.samples[-1]) for part in panel.marks)]
    starts = [0.8 * float(part.samples[0]) for part in panel.marks]
    return min([decade_below(min(ours) / 30), *starts]), 1.3 * max(ends)
