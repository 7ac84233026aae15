"""The interactive twins of Figures 1, 2, 3, 6 and 14, and of the search, as Plotly figures.

Python prepares the data and the layout, the page's copy of Plotly draws them. Every trace
carries tags (its split, where it comes from, what it shows); the page has one switch a tag,
and a trace is visible while all of its tags are switched on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from vaelab.original import numbers
from vaelab.output.figures.curves import (
    BENCHMARKS,
    BETA_COLOURS,
    FIGURE_1_DIMENSIONS,
    FREY_DIMENSIONS,
    QUANTITIES,
    SUBSETS,
)
from vaelab.output.figures.style import (
    ADAGRAD,
    AEVB,
    INK,
    MCEM,
    NOTEBOOK,
    SPLITS,
    WAKE_SLEEP,
    decade_below,
)
from vaelab.results.reader import Results

REPORT = "The report"
# Readable on both backgrounds, where the printed figures use black.
NEUTRAL = "#838a96"
DASHES = {"train": "solid", "test": "dash"}
END_COLUMNS = ("train", "test", "samples", "report_train", "report_test", "report_samples")
SYMBOLS = {"train": "circle-open", "test": "square-open", "both": "diamond-open"}


@dataclass(frozen=True)
class Line:
    """One curve of ours, mean over seeds, or points read off the report's plot.

    Attributes:
        name: what the reader sees in the hover box, without the split.
        split: train, test, or both.
        tags: further switches that the curve obeys.
        colour: of line and markers.
        samples: training images seen.
        values: one a sample count.
        spread: standard deviation over seeds; None with one seed.
    """

    name: str
    split: str
    tags: tuple[str, ...]
    colour: str
    samples: np.ndarray
    values: np.ndarray
    spread: np.ndarray | None = None

    @property
    def reported(self) -> bool:
        """Whether these are the report's points."""
        return REPORT in self.tags


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    log_y: bool = False


@dataclass(frozen=True)
class CurveFigure:
    """The panels of one figure, and its switches with their colours ("" for none)."""

    number: int
    panels: tuple[Panel, ...]
    switches: Mapping[str, str] = field(default_factory=dict)

    def end_points(self) -> Iterator[dict[str, Any]]:
        """Where each curve of ours ends, beside the last point read off the report's."""
        for panel in self.panels:
            ours = [line for line in panel.lines if not line.reported]
            for name in dict.fromkeys(line.name for line in ours):
                row: dict[str, Any] = dict.fromkeys(END_COLUMNS)
                row |= {"panel": panel.title, "curve": name}
                for line in ours:
                    if line.name == name:
                        row[line.split] = float(line.values[-1])
                        row["samples"] = int(line.samples[-1])
                for line in panel.lines:
                    if line.reported and line.name == name:
                        splits = SPLITS if line.split == "both" else (line.split,)
                        for split in splits:
                            row[f"report_{split}"] = float(line.values[-1])
                        row["report_samples"] = int(line.samples[-1])
                yield row


def curve_figures(results: Results) -> dict[int, CurveFigure]:
    """The interactive figures whose runs exist, by number."""
    builders: dict[int, Callable[[Results], tuple[Panel, ...]]] = {
        1: _figure_1,
        2: _figure_2,
        3: _figure_3,
        6: _figure_6,
        14: _figure_14,
    }
    figures = {}
    for number, build in builders.items():
        panels = tuple(panel for panel in build(results) if panel.lines)
        if panels:
            figures[number] = CurveFigure(number, panels, _switches(panels))
    return figures


def _switches(panels: Iterable[Panel]) -> dict[str, str]:
    """Switches in order of appearance, splits first, the report last.

    Each has the colour of its curves where they share one. What every curve carries needs no
    switch.
    """
    lines = [line for panel in panels for line in panel.lines]
    ours = [line for line in lines if not line.reported]
    tags = dict.fromkeys([*SPLITS, *(tag for line in ours for tag in line.tags)])
    switches = {}
    for tag in tags:
        tagged = [line for line in ours if tag in line.tags]
        if tag in SPLITS:
            switches[tag] = ""
        elif len(tagged) < len(ours):
            colours = {line.colour for line in tagged}
            switches[tag] = colours.pop() if len(colours) == 1 else ""
    return switches | ({REPORT: ""} if any(line.reported for line in lines) else {})


def _figure_1(results: Results) -> Iterator[Panel]:
    for d in FIGURE_1_DIMENSIONS:
        name = f"mnist_d{d}"
        lines = [
            *_elbo(results, name, "AEVB", AEVB.train),
            *_elbo(results, f"wakesleep_{name}", "wake-sleep", WAKE_SLEEP.train),
            *_reported(1, name, "elbo", "AEVB"),
        ]
        yield Panel(f"d = {d}", "ELBO, nats per image", _if_any(lines))


def _figure_2(results: Results) -> Iterator[Panel]:
    for d in FREY_DIMENSIONS:
        name = f"frey_d{d}"
        lines = [
            *_elbo(results, name, "AEVB, Adam", AEVB.train),
            *_elbo(results, f"wakesleep_{name}", "wake-sleep", WAKE_SLEEP.train),
        ]
        for key, rate in (("001", "0.01"), ("002", "0.02"), ("01", "0.1")):
            lines += _elbo(results, f"frey_adagrad{key}_d{d}", f"Adagrad {rate}", ADAGRAD.train)
        lines += _reported(2, name, "elbo", "AEVB, Adam")
        yield Panel(f"d = {d}", "ELBO, nats per image", _if_any(lines))


def _figure_3(results: Results) -> Iterator[Panel]:
    importance, notebook = "importance sampling", "the notebook's estimator"
    for subset in SUBSETS:
        name = f"ml_n{subset}"
        lines = [
            *_likelihood(results, name, "importance", importance, AEVB.train),
            *_likelihood(results, name, "notebook", notebook, NOTEBOOK.train),
            *_likelihood(
                results, f"wakesleep_n{subset}", "importance", "wake-sleep", WAKE_SLEEP.train
            ),
            *_likelihood(results, f"mcem_n{subset}", "importance", "MCEM", MCEM.train),
            *_reported(3, name, "log_likelihood", notebook, NOTEBOOK.train),
        ]
        title = f"N = {subset}"
        yield Panel(title, "log p(x), nats per image", _if_any(lines))


def _figure_6(results: Results) -> Iterator[Panel]:
    for quantity, title, log_y in (("kl", "KL", True), ("recon", "Reconstruction loss", False)):
        lines: list[Line] = []
        for beta, colour in BETA_COLOURS.items():
            label = f"β = {beta}"
            lines += _history(results, f"beta{beta}", quantity, label, colour)
            lines += _reported(6, f"beta{beta}", quantity, label, colour)
        yield Panel(title, "nats per image", _if_any(lines), log_y)


def _figure_14(results: Results) -> Iterator[Panel]:
    for title, name in BENCHMARKS:
        quantized = name == "vqvae"
        lines: list[Line] = []
        for quantity in ("objective", *(("mse", "embedding") if quantized else ("recon", "kl"))):
            label, colour = QUANTITIES[quantity]
            colour = NEUTRAL if colour == INK else colour
            lines += _history(results, name, quantity, label, colour)
            lines += _reported(14, name, quantity, label, colour)
        yield Panel(title, "loss per pixel" if quantized else "nats per image", _if_any(lines))


def _if_any(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Nothing where there is no curve of ours to set beside the report's."""
    return tuple(lines) if any(not line.reported for line in lines) else ()


def _elbo(results: Results, name: str, label: str, colour: str) -> list[Line]:
    return _history(results, name, "neg_elbo", label, colour, sign=-1.0)


def _history(
    results: Results, name: str, quantity: str, label: str, colour: str, sign: float = 1.0
) -> list[Line]:
    if not results.has(name):
        return []
    frames = results.history(name)
    return [_mean(frames, f"{split}_{quantity}", label, split, colour, sign) for split in SPLITS]


def _likelihood(results: Results, name: str, estimator: str, label: str, colour: str) -> list[Line]:
    if not results.has(name):
        return []
    frames = results.likelihood(name)
    lines = []
    for split in SPLITS:
        parts = [f[(f["split"] == split) & (f["estimator"] == estimator)] for f in frames]
        if all(len(part) for part in parts):
            lines.append(_mean(parts, "nats", label, split, colour))
    return lines


def _mean(
    frames: Sequence[pd.DataFrame],
    column: str,
    label: str,
    split: str,
    colour: str,
    sign: float = 1.0,
) -> Line:
    by_samples = pd.concat(frames).groupby("samples")[column]
    mean = sign * by_samples.mean()
    spread = by_samples.std().to_numpy() if len(frames) > 1 else None
    samples = mean.index.to_numpy()
    return Line(label, split, (split, label), colour, samples, mean.to_numpy(), spread)


def _reported(
    figure: int, series: str, quantity: str, label: str, colour: str = NEUTRAL
) -> list[Line]:
    points = numbers.curves(figure)
    points = points[(points["series"] == series) & (points["quantity"] == quantity)]
    lines = []
    for split, part in points.groupby("split", sort=False):
        tags = (REPORT, label) if split == "both" else (REPORT, label, split)
        samples, values = part["samples"].to_numpy(), part["value"].to_numpy()
        lines.append(Line(label, split, tags, colour, samples, values))
    return lines


def as_plotly(panel: Panel) -> dict[str, Any]:
    """A panel as the data and layout that Plotly takes; colours of the theme are left out."""
    traces: list[dict[str, Any]] = []
    for line in panel.lines:
        if line.spread is not None:
            traces.append(_band(line))
        traces.append(_trace(line))
    low, high = _samples_range(panel)
    layout = {
        "xaxis": {
            "type": "log",
            "title": {"text": "samples seen"},
            "range": [float(np.log10(low)), float(np.log10(high))],
            "dtick": 1,
            "exponentformat": "power",
        },
        "yaxis": {
            "title": {"text": panel.unit, "standoff": 6},
            "type": "log" if panel.log_y else "linear",
            "range": _value_range(panel, low, high),
            **({"dtick": 1, "exponentformat": "power"} if panel.log_y else {}),
        },
        "margin": {"l": 64, "r": 12, "t": 30, "b": 44},
        "hovermode": "closest",
        "showlegend": False,
    }
    return {"data": traces, "layout": layout}


def _significant(values: np.ndarray, digits: int = 5) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in values]


def _trace(line: Line) -> dict[str, Any]:
    owner = f"{REPORT}, " if line.reported else ""
    trace: dict[str, Any] = {
        "type": "scatter",
        "x": [int(value) for value in line.samples],
        "y": _significant(line.values),
        "name": f"{owner}{line.name}, {line.split}",
        "meta": {"tags": list(line.tags)},
        "hovertemplate": "%{fullData.name}<br>%{y:.4g} at %{x:.3s} samples<extra></extra>",
    }
    if line.reported:
        trace["mode"] = "markers"
        trace["marker"] = {
            "color": line.colour,
            "symbol": SYMBOLS[line.split],
            "size": 8,
            "line": {"width": 1.5},
        }
    else:
        trace["mode"] = "lines"
        trace["line"] = {"color": line.colour, "dash": DASHES[line.split], "width": 2}
    return trace


def _band(line: Line) -> dict[str, Any]:
    """Mean plus and minus one standard deviation as a filled outline."""
    return {
        "type": "scatter",
        "x": [int(value) for value in (*line.samples, *line.samples[::-1])],
        "y": _significant(
            np.concatenate([line.values + line.spread, (line.values - line.spread)[::-1]])
        ),
        "mode": "lines",
        "line": {"width": 0, "color": line.colour},
        "fill": "toself",
        "opacity": 0.2,
        "hoverinfo": "skip",
        "meta": {"tags": list(line.tags)},
    }


def _samples_range(panel: Panel) -> tuple[float, float]:
    """From the last decades of our shortest run to the end of the longest, or the report's."""
    ours = [float(line.samples[-1]) for line in panel.lines if not line.reported]
    ends = [float(line.samples[-1]) for line in panel.lines]
    return decade_below(min(ours) / 30), 1.3 * max(ends)


def _value_range(panel: Panel, low: float, high: float) -> list[float]:
    """What is visible between `low` and `high` samples, with a margin; log10 on a log axis."""
    values = np.concatenate(
        [
            line.values[(line.samples >= low) & (line.samples <= high)]
            for line in panel.lines
            if len(line.values)
        ]
    )
    values = values[np.isfinite(values)]
    if panel.log_y:
        values = np.log10(values[values > 0])
    margin = 0.05 * float(np.ptp(values)) or 1.0
    return [float(values.min()) - margin, float(values.max()) + margin]
