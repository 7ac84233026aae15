"""Figures made of training curves; `plots` defines the curves.

Everywhere train is a solid line and test a dashed one; values read off the report's own plots
are open markers. With several seeds a line is the mean and its band one standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from vaelab.output.figures.style import (
    LINES,
    WIDTH,
    corner_note,
    decade_below,
    footer,
    millions_axis,
    new_figure,
    samples_axis,
)
from vaelab.output.lines import Line, lines, marks
from vaelab.output.plots import INK, PLOTS, Panel, Series
from vaelab.results.reader import Results, seed_mean

MARKERS = {"train": "o", "test": "s", "both": "D"}
UPPER_BOUND = "v"
MARKER_STYLE: dict[str, Any] = {
    "linestyle": "none",
    "markerfacecolor": "none",
    "markeredgewidth": 1.0,
}
REPORT = "_report"  # the underscore keeps it out of automatic legends
MARKER_TEXTS = {
    "o": "report, train (digitised)",
    "s": "report, test (digitised)",
    "D": "report, train and test (digitised)",
    UPPER_BOUND: "report, at most (digitised)",
}


def figure_01(results: Results) -> Figure:
    """MNIST: ELBO against samples for d = 3, 5, 10, 20, 200 (report, section 2.1).

    The first five panels keep the report's axis, which hides where d = 20 and d = 200 end; the
    last row shows those two whole, and the test curves of all d together.
    """
    plot = PLOTS["figure_01"]
    figure = new_figure(WIDTH, 7.0)
    grid = figure.subplots(3, 3)
    clipped, whole, together = [*grid[0], *grid[1][:2]], grid[2][:2], grid[2][2]
    drawn = _draw_panels(results, "figure_01", clipped)
    for axes, panel in zip(clipped, plot.panels, strict=True):
        _frame_y(axes, *panel.values, extend_up=False)
    for axes, panel in zip(whole, plot.panels[3:], strict=True):
        _draw(axes, results, "figure_01", replace(panel, title=f"{panel.title}, unclipped"))
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(plot.panels)))
    for panel, shade in zip(plot.panels, shades, strict=True):
        (line,) = (x for x in lines(results, panel.series[0]) if x.split == "test")
        _curve(together, line, shade, panel.title)
    together.set_title("all d, test")
    low, _ = _samples_range(results, drawn, plot.samples)
    for axes in (*clipped, *whole, together):
        samples_axis(axes, low, plot.samples[1])
    for axes in (*whole, together):
        _fit_y(axes)
    for axes in grid[:, 0]:
        axes.set_ylabel(plot.panels[0].unit)
    cell = grid[1][2]
    _legend_panel(cell, clipped, loc="upper left", labelspacing=0.25)
    cell.add_artist(cell.get_legend())
    cell.legend(
        handles=together.lines,
        title=together.get_title(loc="left"),
        loc="lower left",
        ncols=2,
        labelspacing=0.25,
        alignment="left",
    )
    footer(figure, results, drawn, _band_note(results))
    return figure


def figure_02(results: Results) -> Figure:
    """Frey Face: ELBO against samples for d = 2, 5, 10, 20 (report, section 2.1).

    The report's curves come from Adam, as its code has it, although its text says Adagrad;
    where the Adagrad runs of Kingma & Welling's three learning rates exist, the best is drawn.
    """
    plot = PLOTS["figure_02"]
    required = [s.run for panel in plot.panels for s in panel.series if not s.optional]
    faces = "Synthetic faces" if results.synthetic(required) else "Frey Face"
    figure = new_figure(WIDTH, 5.9)
    grid = figure.subplots(2, 2)
    drawn = _draw_panels(results, "figure_02", grid.flat)
    for axes, panel in zip(grid.flat, plot.panels, strict=True):
        axes.set_title(f"{faces}, {panel.title}")
        _frame_y(axes, *panel.values)
    low, high = _samples_range(results, drawn, plot.samples)
    for axes in grid.flat:
        samples_axis(axes, low, high)
    for axes in grid[:, 0]:
        axes.set_ylabel(plot.panels[0].unit)
    legend = _legend(figure, list(grid.flat), columns=4)
    footer(figure, results, drawn, _band_note(results), legend)
    return figure


def figure_03(results: Results) -> Figure:
    """Estimated log p(x) against samples for N = 1000 and 50 000 (report, section 2.2).

    The notebook's estimator is what the report plots; it samples from q(z|x) where the true
    posterior is needed and has a sign wrong. Importance sampling is a valid lower bound in
    expectation, and tight with many samples.
    """
    plot = PLOTS["figure_03"]
    figure = new_figure(WIDTH, 4.0)
    panels = figure.subplots(1, 2)
    drawn = _draw_panels(results, "figure_03", panels)
    for axes, panel in zip(panels, plot.panels, strict=True):
        _frame_y(axes, *panel.values)
    # On the report's linear axis a short run would be a stroke at the left edge.
    ends = results.samples(drawn)
    starts = [line.get_xdata()[0] for axes in panels for line in axes.lines]
    for axes in panels:
        if ends[-1] >= plot.samples[1] / 3:
            millions_axis(axes, max(plot.samples[1], ends[-1]))
        else:
            samples_axis(axes, decade_below(min(starts)), 1e8)
    panels[0].set_ylabel(plot.panels[0].unit)
    legend = _legend(figure, panels, columns=2)
    footer(figure, results, drawn, _band_note(results), legend)
    return figure


def figure_06(results: Results) -> Figure:
    """KL and recon against samples for beta = 1, 2, 5, 50 (report, section 3.1)."""
    plot = PLOTS["figure_06"]
    figure = new_figure(WIDTH, 4.1)
    panels = figure.subplots(1, 2)
    drawn = _draw_panels(results, "figure_06", panels)
    low, high = _samples_range(results, drawn, plot.samples)
    for axes, panel in zip(panels, plot.panels, strict=True):
        samples_axis(axes, low, high)
        axes.set_ylabel(panel.unit)
        if panel.log:
            axes.set_yscale("log")
            axes.set_ylim(*panel.values)
        else:
            _frame_y(axes, *panel.values)
    legend = _legend(figure, [panels[0]], columns=5)
    footer(figure, results, drawn, _band_note(results), legend)
    return figure


def figure_14(results: Results) -> Figure:
    """Objective and its two parts against samples, for every model (report, section 4.4).

    The VQ-VAE's losses are mean squared errors, of its pixels and of the numbers in its codes; the
    report logs a hundredth of them.
    """
    plot = PLOTS["figure_14"]
    figure = new_figure(WIDTH, 5.6)
    grid = figure.subplots(2, 3)
    *cells, last = grid.flat
    drawn = _draw_panels(results, "figure_14", cells)
    low, high = _samples_range(results, drawn, plot.samples)
    for axes, panel in zip(cells, plot.panels, strict=True):
        corner_note(axes, panel.note)
        samples_axis(axes, low, high)
        _frame_y(axes, *panel.values)
        # Units once a row, and where they change.
        if axes in grid[:, 0] or panel.unit != plot.panels[0].unit:
            axes.set_ylabel(panel.unit)
    _legend_panel(last, cells)
    footer(figure, results, drawn, _band_note(results))
    return figure


def _draw_panels(results: Results, target: str, cells: Iterable[Axes]) -> list[str]:
    """Draw every panel of a figure; returns the names of the runs that were drawn."""
    drawn: dict[str, None] = {}
    for axes, panel in zip(cells, PLOTS[target].panels, strict=True):
        drawn |= dict.fromkeys(_draw(axes, results, target, panel))
    return list(drawn)


def _draw(axes: Axes, results: Results, target: str, panel: Panel) -> list[str]:
    """Draw one panel, our curves and the report's points; returns the runs that were drawn."""
    shown = [*_chosen(axes, results, panel)]
    for series in shown:
        for line in lines(results, series):
            colour = getattr(series.colours, line.split)
            _curve(axes, line, colour, f"{series.legend or series.label}, {line.split}")
    for series in shown:
        _reported(axes, target, series)
    axes.set_title(panel.title)
    return [series.run for series in shown]


def _chosen(axes: Axes, results: Results, panel: Panel) -> Iterator[Series]:
    """The series that are there; of several learning rates the one of the best train ELBO."""
    rates = []
    for series in panel.series:
        if series.optional and not results.has(series.run):
            continue
        if series.rate:
            rates.append(series)
        else:
            yield series
    if rates:
        best = min(rates, key=lambda s: seed_mean(results.metrics(s.run), "train", "neg_elbo"))
        corner_note(axes, f"Adagrad at rate {best.rate}, the best of {len(rates)}")
        yield best


def _curve(axes: Axes, line: Line, colour: object, label: str) -> None:
    """Draw a curve and, with several seeds, its band."""
    axes.plot(line.samples, line.values, color=colour, linestyle=LINES[line.split], label=label)
    if line.spread is not None:
        low, high = line.values - line.spread, line.values + line.spread
        axes.fill_between(line.samples, low, high, color=colour, alpha=0.18, linewidth=0)


def _reported(axes: Axes, target: str, series: Series) -> None:
    """Draw what was read off the report's curve; a bound points to where the value lies."""
    for part in marks(target, series):
        for rows, marker in ((~part.bound, MARKERS[part.split]), (part.bound, UPPER_BOUND)):
            if rows.any():
                axes.plot(
                    part.samples[rows],
                    part.values[rows],
                    color=series.report_colour,
                    marker=marker,
                    label=REPORT,
                    clip_on=False,
                    zorder=4,
                    **MARKER_STYLE,
                )


def _samples_range(
    results: Results, names: Iterable[str], report: tuple[float, float]
) -> tuple[float, float]:
    """The report's range of samples, widened to the last decades of our shortest run."""
    ends = results.samples(names)
    return min(report[0], decade_below(ends[0] / 30)), max(report[1], ends[-1])


def _frame_y(axes: Axes, low: float, high: float, extend_up: bool = True) -> None:
    """Set the report's y range, extended so that no line of ours ends outside it."""
    ends = [
        float(np.asarray(line.get_ydata())[-1]) for line in axes.lines if line.get_label() != REPORT
    ]
    margin = 0.04 * (high - low)
    if min(ends) < low:
        low = min(ends) - margin
    if extend_up and max(ends) > high:
        high = max(ends) + margin
    axes.set_ylim(low, high)


def _fit_y(axes: Axes) -> None:
    """Fit the y axis to what lies inside the x axis."""
    low, high = axes.get_xlim()
    values = np.concatenate(
        [
            np.asarray(line.get_ydata(), float)[
                (np.asarray(line.get_xdata()) >= low) & (np.asarray(line.get_xdata()) <= high)
            ]
            for line in axes.lines
        ]
    )
    margin = 0.06 * np.ptp(values)
    axes.set_ylim(values.min() - margin, values.max() + margin)


def _entries(panels: Iterable[Axes]) -> dict[str, Artist]:
    """Legend entries of several panels, each label once, then one for the report's markers."""
    entries: dict[str, Artist] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    return entries


def _report_entries(panels: Iterable[Axes]) -> dict[str, Artist]:
    """Legend entries for the report's markers, in their colour where all have the same."""
    lines = [line for axes in panels for line in axes.lines if line.get_label() == REPORT]
    colours = {line.get_markeredgecolor() for line in lines}
    colour = colours.pop() if len(colours) == 1 else INK
    used = {line.get_marker() for line in lines}
    return {
        text: Line2D([], [], color=colour, marker=marker, **MARKER_STYLE)
        for marker, text in MARKER_TEXTS.items()
        if marker in used
    }


def _legend_panel(
    axes: Axes,
    panels: Sequence[Axes],
    loc: Literal["center", "upper left"] = "center",
    labelspacing: float = 0.7,
) -> None:
    """Use an empty cell of the figure for the legend of its panels."""
    entries = _entries(panels) | _report_entries(panels)
    axes.set_axis_off()
    axes.legend(list(entries.values()), list(entries), loc=loc, labelspacing=labelspacing)


def _legend(figure: Figure, panels: Sequence[Axes], columns: int) -> Legend:
    """One legend for all panels of a figure; `footer` puts it in its place."""
    entries = _entries(panels) | _report_entries(panels)
    return figure.legend(
        list(entries.values()), list(entries), ncols=columns, columnspacing=1.4, handlelength=2.0
    )


def _band_note(results: Results) -> str:
    return "line: mean, band: ± 1 sd over seeds" if len(results.seeds) > 1 else ""
