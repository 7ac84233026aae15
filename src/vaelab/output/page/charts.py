"""The interactive twins of the figures of `plots`, as Plotly figures.

Python prepares data and layout, the page's copy of Plotly draws them. Every trace carries tags (its
split, where it comes from, what it shows). The page has one switch for each tag, and a trace is
visible while all of its tags are switched on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vaelab.output import plots
from vaelab.output.figures.style import decade_below
from vaelab.output.lines import Line, Marks, Values, lines, marks
from vaelab.results.reader import Results
from vaelab.results.records import SPLITS

REPORT = "The report"
# Readable on both backgrounds, where the printed figures use black.
NEUTRAL = "#838a96"
DASHES = {"train": "solid", "test": "dash"}
END_COLUMNS = ("train", "test", "samples", "report_train", "report_test", "report_samples")
SYMBOLS = {"train": "circle-open", "test": "square-open", "both": "diamond-open"}


@dataclass(frozen=True)
class Panel:
    """A panel of `plots`, with our curves and the report's points."""

    definition: plots.Panel
    lines: tuple[Line, ...]
    marks: tuple[Marks, ...]


@dataclass(frozen=True)
class Chart:
    """The panels of one figure, and its switches with their colours ("" for none)."""

    panels: tuple[Panel, ...]
    switches: Mapping[str, str]

    def end_points(self) -> Iterator[dict[str, Any]]:
        """Where each curve of ours ends, beside the last point read off the report's."""
        for panel in self.panels:
            for name in dict.fromkeys(line.series.name for line in panel.lines):
                row: dict[str, Any] = dict.fromkeys(END_COLUMNS)
                row |= {"panel": panel.definition.title, "curve": name}
                for line in panel.lines:
                    if line.series.name == name:
                        row[line.split] = float(line.values[-1])
                        row["samples"] = int(line.samples[-1])
                for part in panel.marks:
                    if part.series.name == name:
                        for split in SPLITS if part.split == "both" else (part.split,):
                            row[f"report_{split}"] = float(part.values[-1])
                        row["report_samples"] = int(part.samples[-1])
                yield row


def charts(results: Results) -> dict[str, Chart]:
    """The interactive figures whose runs exist, by target."""
    found = {}
    for target, plot in plots.PLOTS.items():
        panels = []
        for panel in plot.panels:
            shown = [series for series in panel.series if results.has(series.run)]
            ours = tuple(line for series in shown for line in lines(results, series))
            points = tuple(part for series in shown for part in marks(target, series))
            if ours:
                panels.append(Panel(panel, ours, points))
        if panels:
            found[target] = Chart(tuple(panels), _switches(panels))
    return found


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
    traces += [_points(part) for part in panel.marks]
    low, high = _samples_range(panel)
    log = panel.definition.log
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
            "range": _value_range(panel, low, high),
            **({"dtick": 1, "exponentformat": "power"} if log else {}),
        },
        "margin": {"l": 64, "r": 12, "t": 30, "b": 44},
        "hovermode": "closest",
        "showlegend": False,
    }
    return {"data": traces, "layout": layout}


def _significant(values: Values, digits: int = 5) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in values]


def _trace(part: Line | Marks, name: str, tags: list[str]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "x": [int(value) for value in part.samples],
        "y": _significant(part.values),
        "name": name,
        "meta": {"tags": tags},
        "hovertemplate": "%{fullData.name}<br>%{y:.4g} at %{x:.3s} samples<extra></extra>",
    }


def _tags(line: Line) -> list[str]:
    return [line.split, line.series.name]


def _curve(line: Line) -> dict[str, Any]:
    style = {"color": _colour(line.series.colours.train), "dash": DASHES[line.split], "width": 2}
    trace = _trace(line, f"{line.series.name}, {line.split}", _tags(line))
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
        "meta": {"tags": _tags(line)},
    }


def _samples_range(panel: Panel) -> tuple[float, float]:
    """From the last decades of our shortest run to the end of the longest, or the report's."""
    ours = [float(line.samples[-1]) for line in panel.lines]
    ends = [*ours, *(float(part.samples[-1]) for part in panel.marks)]
    return decade_below(min(ours) / 30), 1.3 * max(ends)


def _value_range(panel: Panel, low: float, high: float) -> list[float]:
    """What is visible between `low` and `high` samples, with a margin; log10 on a log axis."""
    parts: list[Line | Marks] = [*panel.lines, *panel.marks]
    values = np.concatenate(
        [part.values[(part.samples >= low) & (part.samples <= high)] for part in parts]
    )
    values = values[np.isfinite(values)]
    if panel.definition.log:
        values = np.log10(values[values > 0])
    margin = 0.05 * float(np.ptp(values)) or 1.0
    return [float(values.min()) - margin, float(values.max()) + margin]
