"""Figures made of training curves; `plots` defines the curves.

Everywhere train is a solid line and test a dashed one; thin lines are ours smoothed as the report
smooths, and values read off the report's own plots are open markers. With several seeds a line is
the mean and its band one standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vaelab.original.smoothing import smoothing
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
from vaelab.output.lines import Line, lines, marks, smoothed
from vaelab.output.plots import INK, PLOTS, SMOOTHED, Panel, Plot, Series
from vaelab.results.reader import Results, seed_mean

MARKERS = {"train": "o", "test": "s", "both": "D"}
UPPER_BOUND = "v"
MARKER_STYLE: dict[str, Any] = {
    "linestyle": "none",
    "markerfacecolor": "none",
    "markeredgewidth": 1.0,
}
# The underscore keeps them out of automatic legends.
REPORT, SMOOTH = "_report", "_smoothed"
THIN = 0.7
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
        axes.set_ylim(panel.frame(_ends(axes))[0], panel.values[1])
    for axes, panel in zip(whole, plot.panels[3:], strict=True):
        _draw(axes, results, "figure_01", replace(panel, title=f"{panel.title}, unclipped"))
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(plot.panels)))
    for panel, shade in zip(plot.panels, shades, strict=True):
        (line,) = (x for x in lines(results, panel.series[0]) if x.split == "test")
        _curve(together, line, shade, panel.title)
    together.set_title("all d, test")
    low, _ = _samples_range(results, drawn, plot)
    for axes in (*clipped, *whole, together):
        samples_axis(axes, low, plot.samples[1])
    for axes in (*whole, together):
        _fit_y(axes)
    for axes in grid[:, 0]:
        axes.set_ylabel(plot.panels[0].unit)
    cell = grid[1][2]
    cell.set_axis_off()
    cell.add_artist(cell.legend(*_entries(clipped), loc="upper left", labelspacing=0.25))
    cell.legend(
        handles=together.lines,
        title=together.get_title(loc="left"),
        loc="lower left",
        ncols=2,
        labelspacing=0.25,
        alignment="left",
    )
    footer(figure, results, drawn, _note(results, "figure_01", clipped))
    return figure


def figure_02(results: Results) -> Figure:
    """Frey Face: ELBO against samples for d = 2, 5, 10, 20 (report, section 2.1).

    The report's curves come from Adam, as its code has it, although its text says Adagrad;
    where the Adagrad runs of Kingma & Welling's three learning rates exist, the best is drawn.
    """
    series = [s for panel in PLOTS["figure_02"].panels for s in panel.series]
    synthetic = results.synthetic([s.run for s in series if not s.optional])
    faces = "Synthetic faces" if synthetic else "Frey Face"
    figure = _figure(results, "figure_02", 5.9, (2, 2), legend=4)
    for axes in figure.axes:
        axes.set_title(f"{faces}, {axes.get_title(loc='left')}")
    return figure


def figure_03(results: Results) -> Figure:
    """Estimated log p(x) against samples for N = 1000 and 50 000 (report, section 2.2).

    The notebook's estimator is what the report plots; it samples from q(z|x) where the true
    posterior is needed and has a sign wrong. Importance sampling is a valid lower bound in
    expectation, and tight with many samples.
    """
    return _figure(results, "figure_03", 4.0, (1, 2), legend=2)


def figure_06(results: Results) -> Figure:
    """KL and recon against samples for beta = 1, 2, 5, 50 (report, section 3.1)."""
    return _figure(results, "figure_06", 4.1, (1, 2), legend=4)


def figure_14(results: Results) -> Figure:
    """Objective and its two parts against samples, for every model (report, section 4.4).

    The VQ-VAE's losses are mean squared errors, of its pixels and of the numbers in its codes; the
    report logs a hundredth of them.
    """
    return _figure(results, "figure_14", 5.6, (2, 3))


def _figure(
    results: Results, target: str, height: float, shape: tuple[int, int], legend: int = 0
) -> Figure:
    """All panels of a figure in a grid, with its legend and footer.

    Args:
        results: the runs.
        target: the figure.
        height: inches.
        shape: rows and columns of the grid.
        legend: columns of the legend below the panels; 0 puts it into the last cell of the grid.
    """
    plot = PLOTS[target]
    figure = new_figure(WIDTH, height)
    grid = figure.subplots(*shape, squeeze=False)
    cells = list(grid.flat)[: len(plot.panels)]
    drawn = _draw_panels(results, target, cells)
    _samples_axes(results, plot, cells, drawn)
    for axes, panel in zip(cells, plot.panels, strict=True):
        if panel.note:
            corner_note(axes, panel.note)
        # Units once a row, and where they change.
        if axes in grid[:, 0] or panel.unit != plot.panels[0].unit:
            axes.set_ylabel(panel.unit)
        axes.set_yscale("log" if panel.log else "linear")
        axes.set_ylim(*panel.frame(_ends(axes)))
    entries = _entries(cells)
    below = None
    if legend:
        below = figure.legend(*entries, ncols=legend, columnspacing=1.4, handlelength=2.0)
    else:
        grid.flat[-1].set_axis_off()
        grid.flat[-1].legend(*entries, loc="center", labelspacing=0.7)
    footer(figure, results, drawn, _note(results, target, cells), below)
    return figure


def _samples_axes(
    results: Results, plot: Plot, cells: Sequence[Axes], drawn: Sequence[str]
) -> None:
    """The report's axis of samples, widened to the last decades of our shortest run."""
    low, high = _samples_range(results, drawn, plot)
    for axes in cells:
        if not plot.linear:
            samples_axis(axes, low, high)
        elif results.samples(drawn)[-1] >= plot.samples[1] / 3:
            millions_axis(axes, high)
        else:
            # On the report's linear axis a short run would be a stroke at the left edge.
            starts = [np.min(line.get_xdata()) for axes in cells for line in axes.lines]
            samples_axis(axes, decade_below(float(min(starts))), 1e8)


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
        for line in smoothed(target, results, series):
            colour = getattr(series.colours, line.split)
            _curve(axes, line, colour, SMOOTH, THIN)
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


def _curve(axes: Axes, line: Line, colour: Any, label: str, width: float | None = None) -> None:
    """Draw a curve and, with several seeds, its band."""
    style: dict[str, Any] = {"color": colour, "linestyle": LINES[line.split], "linewidth": width}
    axes.plot(line.samples, line.values, label=label, **style)
    if line.spread is not None:
        low, high = line.values - line.spread, line.values + line.spread
        axes.fill_between(line.samples, low, high, color=colour, alpha=0.18, linewidth=0)


def _reported(axes: Axes, target: str, series: Series) -> None:
    """Draw what was read off the report's curve; a bound points to where the value lies."""
    for part in marks(target, series):
        for rows, marker in ((~part.bound, MARKERS[part.split]), (part.bound, UPPER_BOUND)):
            if rows.any():
                points = part.samples[rows], part.values[rows]
                style = {"color": series.report_colour, "marker": marker} | MARKER_STYLE
                axes.plot(*points, label=REPORT, clip_on=False, zorder=4, **style)


def _samples_range(results: Results, names: Iterable[str], plot: Plot) -> tuple[float, float]:
    """The report's range of samples, widened to the last decades of our shortest run."""
    ends = results.samples(names)
    return min(plot.samples[0], decade_below(ends[0] / 30)), max(plot.samples[1], ends[-1])


def _ends(axes: Axes) -> list[float]:
    """Where our curves end."""
    ours = (line for line in axes.lines if line.get_label() not in (REPORT, SMOOTH))
    return [float(np.asarray(line.get_ydata())[-1]) for line in ours]


def _fit_y(axes: Axes) -> None:
    """Fit the y axis to what lies inside the x axis."""
    low, high = axes.get_xlim()
    points = np.concatenate([line.get_xydata() for line in axes.lines])
    values = points[(points[:, 0] >= low) & (points[:, 0] <= high), 1]
    margin = 0.06 * np.ptp(values)
    axes.set_ylim(values.min() - margin, values.max() + margin)


Entries = tuple[list[Artist], list[str]]


def _entries(panels: Sequence[Axes]) -> Entries:
    """Legend entries of several panels, each label once, then one for the report's markers.

    The report's have their colour where all have the same.
    """
    entries: dict[str, Artist] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    lines = [line for axes in panels for line in axes.lines if line.get_label() == REPORT]
    colours = {line.get_markeredgecolor() for line in lines}
    colour = colours.pop() if len(colours) == 1 else INK
    used = {line.get_marker() for line in lines}
    if any(line.get_label() == SMOOTH for axes in panels for line in axes.lines):
        entries[SMOOTHED] = Line2D([], [], color=INK, linewidth=THIN)
    entries |= {
        text: Line2D([], [], color=colour, marker=marker, **MARKER_STYLE)
        for marker, text in MARKER_TEXTS.items()
        if marker in used
    }
    return list(entries.values()), list(entries)


def _note(results: Results, target: str, cells: Iterable[Axes]) -> str:
    """What the footer adds: what a band is, and why nothing is smoothed where the report does."""
    notes = ["line: mean, band: ± 1 sd over seeds"] if len(results.seeds) > 1 else []
    series = (one for panel in PLOTS[target].panels for one in panel.series if one.reported)
    windows = [smoothing(int(target[-2:]), one.run) for one in series]
    thin = any(line.get_label() == SMOOTH for axes in cells for line in axes.lines)
    if any(windows) and not thin:
        notes.append("too short to be smoothed as the report's curves are")
    return " · ".join(notes)
