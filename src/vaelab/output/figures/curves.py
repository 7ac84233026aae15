"""Figures made of training curves (report, Figures 1, 2, 3, 6 and 14).

Everywhere train is a solid line and test a dashed one; values read off the report's own plots
are open markers. With several seeds a line is the mean and its band one standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from vaelab.original import numbers
from vaelab.output.figures.style import (
    ADAGRAD,
    AEVB,
    BLUE,
    GREEN,
    INK,
    LINES,
    MCEM,
    NOTEBOOK,
    PURPLE,
    RUN_NOTES,
    SPLITS,
    VERMILION,
    WAKE_SLEEP,
    WIDTH,
    Pair,
    corner_note,
    decade_below,
    footer,
    millions_axis,
    new_figure,
    samples_axis,
)
from vaelab.results.reader import Results, grouped
from vaelab.util.errors import VaelabError

FIGURE_1_DIMENSIONS = (3, 5, 10, 20, 200)
FREY_DIMENSIONS = (2, 5, 10, 20)
ADAGRAD_RATES = {"001": "0.01", "002": "0.02", "01": "0.1"}
BETA_COLOURS = {1: VERMILION, 2: GREEN, 5: BLUE, 50: PURPLE}
SUBSETS = {1000: (-200, -100), 50_000: (-160, -130)}  # of training images; the report's y range
BENCHMARKS = (
    ("VAE", "vae"),
    ("BVAE, β = 2", "bvae_beta2"),
    ("BVAE, β = 5", "bvae_beta5"),
    ("CVAE", "cvae_onehot"),
    ("VQ-VAE", "vqvae"),
)
QUANTITIES = {
    "objective": ("objective, with β", INK),
    "recon": ("recon", BLUE),
    "mse": ("squared error", BLUE),
    "kl": ("KL", VERMILION),
    "embedding": ("embedding loss", VERMILION),
}
LOSSES = ("objective", "recon", "kl")
VQ_LOSSES = ("objective", "mse", "embedding")
MARKERS = {"train": "o", "test": "s", "both": "D"}
UPPER_BOUND = "v"
MARKER_STYLE = {"linestyle": "none", "markerfacecolor": "none", "markeredgewidth": 1.0}
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
    names = [f"mnist_d{d}" for d in FIGURE_1_DIMENSIONS]
    figure = new_figure(WIDTH, 7.0)
    grid = figure.subplots(3, 3)
    clipped, whole, together = [*grid[0], *grid[1][:2]], grid[2][:2], grid[2][2]
    drawn = list(names)
    for axes, name, d in zip(clipped, names, FIGURE_1_DIMENSIONS, strict=True):
        drawn += _elbo_panel(axes, results, name)
        _reported(axes, 1, name, "elbo", INK)
        axes.set_title(f"d = {d}")
        _frame_y(axes, -150, -100, extend_up=False)
    for axes, d in zip(whole, (20, 200), strict=True):
        _elbo_panel(axes, results, f"mnist_d{d}")
        _reported(axes, 1, f"mnist_d{d}", "elbo", INK)
        axes.set_title(f"d = {d}, unclipped")
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(names)))
    for name, d, shade in zip(names, FIGURE_1_DIMENSIONS, shades, strict=True):
        _trace(together, results, name, "neg_elbo", "test", shade, f"d = {d}", sign=-1)
    together.set_title("all d, test")
    # The report cuts its 1.2e8 samples here.
    low, _ = _samples_range(results, drawn, 1e5, 1e8)
    for axes in (*clipped, *whole, together):
        samples_axis(axes, low, 1e8)
    for axes in (*whole, together):
        _fit_y(axes)
    for axes in grid[:, 0]:
        axes.set_ylabel("ELBO, nats per image")
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
    names = [f"frey_d{d}" for d in FREY_DIMENSIONS]
    faces = "Synthetic faces" if results.synthetic(names) else "Frey Face"
    figure = new_figure(WIDTH, 5.9)
    grid = figure.subplots(2, 2)
    panels = list(grid.flat)
    drawn = list(names)
    for axes, name, d in zip(panels, names, FREY_DIMENSIONS, strict=True):
        drawn += _elbo_panel(axes, results, name, label="AEVB, Adam")
        drawn += _best_adagrad(axes, results, d)
        _reported(axes, 2, name, "elbo", INK)
        axes.set_title(f"{faces}, d = {d}")
        _frame_y(axes, 0, 1600)
    low, high = _samples_range(results, drawn, 1e3, 1.7e6)
    for axes in panels:
        samples_axis(axes, low, high)
    for axes in grid[:, 0]:
        axes.set_ylabel("ELBO, nats per image")
    legend = _legend(figure, panels, columns=4)
    footer(figure, results, drawn, _band_note(results), legend)
    return figure


def figure_03(results: Results) -> Figure:
    """Estimated log p(x) against samples for N = 1000 and 50 000 (report, section 2.2).

    The notebook's estimator is what the report plots; it samples from q(z|x) where the true
    posterior is needed and has a sign wrong. Importance sampling is a valid lower bound in
    expectation, and tight with many samples.
    """
    figure = new_figure(WIDTH, 4.0)
    panels = figure.subplots(1, 2)
    drawn: list[str] = []
    for axes, (subset, limits) in zip(panels, SUBSETS.items(), strict=True):
        name = f"ml_n{subset}"
        drawn.append(name)
        for estimator, label, colours in (
            ("importance", "importance sampling", AEVB),
            ("notebook", "report's notebook", NOTEBOOK),
        ):
            _likelihood(axes, results, name, estimator, colours, f"AEVB, {label}")
        for other, label, colours in (
            (f"{name}_lr002", "AEVB, rate 0.02", ADAGRAD),
            (f"wakesleep_n{subset}", "wake-sleep", WAKE_SLEEP),
            (f"mcem_n{subset}", "MCEM", MCEM),
        ):
            if results.has(other):
                drawn.append(other)
                text = f"{label}, importance sampling"
                _likelihood(axes, results, other, "importance", colours, text)
        _reported(axes, 3, name, "log_likelihood", NOTEBOOK.train)
        axes.set_title(f"N = {grouped(subset)}")
        _frame_y(axes, *limits)
    # On the report's linear axis a short run would be a stroke at the left edge.
    ends = results.samples(drawn)
    starts = [line.get_xdata()[0] for axes in panels for line in axes.lines]
    for axes in panels:
        if ends[-1] >= 2e7:
            millions_axis(axes, max(6e7, ends[-1]))
        else:
            samples_axis(axes, decade_below(min(starts)), 1e8)
    panels[0].set_ylabel("log p(x), nats per image")
    legend = _legend(figure, panels, columns=2)
    footer(figure, results, drawn, _band_note(results), legend)
    return figure


def figure_06(results: Results) -> Figure:
    """KL and recon against samples for beta = 1, 2, 5, 50 (report, section 3.1)."""
    figure = new_figure(WIDTH, 4.1)
    left, right = figure.subplots(1, 2)
    names = [f"beta{beta}" for beta in BETA_COLOURS]
    for name, (beta, colour) in zip(names, BETA_COLOURS.items(), strict=True):
        for axes, quantity in ((left, "kl"), (right, "recon")):
            for split in SPLITS:
                _trace(axes, results, name, quantity, split, colour, f"β = {beta}, {split}")
            _reported(axes, 6, name, quantity, colour)
    low, high = _samples_range(results, names, 6e4, 1.6e8)
    for axes in (left, right):
        samples_axis(axes, low, high)
    left.set_yscale("log")
    left.set_ylim(1e-5, 60)
    left.set_title("KL")
    left.set_ylabel("KL, nats per image")
    right.set_title("Reconstruction loss")
    right.set_ylabel("recon, nats per image")
    _frame_y(right, 68, 216)
    legend = _legend(figure, [left], columns=5)
    footer(figure, results, names, _band_note(results), legend)
    return figure


def figure_14(results: Results) -> Figure:
    """Objective and its two parts against samples, for every model (report, section 4.4).

    The VQ-VAE's losses are mean squared errors, of its pixels and of the numbers in its codes; the
    report logs a hundredth of them.
    """
    figure = new_figure(WIDTH, 5.6)
    grid = figure.subplots(2, 3)
    names = [name for _, name in BENCHMARKS]
    low, high = _samples_range(results, names, 6e4, 1.6e8)
    for axes, (title, name) in zip(grid.flat, BENCHMARKS, strict=False):
        losses = VQ_LOSSES if name == "vqvae" else LOSSES
        for quantity, shared in zip(losses, _shared_labels(), strict=True):
            colour = QUANTITIES[quantity][1]
            for split in SPLITS:
                _trace(axes, results, name, quantity, split, colour, f"{shared}, {split}")
            _reported(axes, 14, name, quantity, colour)
        axes.set_title(title)
        corner_note(axes, RUN_NOTES.get(name, ""))
        samples_axis(axes, low, high)
        _frame_y(axes, 0, 0.045 if name == "vqvae" else 230)
    for axes in grid[:, 0]:
        axes.set_ylabel("nats per image")
    grid[1][1].set_ylabel("mean squared error")
    _legend_panel(grid[1][2], grid.flat[:5])
    footer(figure, results, names, _band_note(results))
    return figure


def _shared_labels() -> list[str]:
    """Legend labels of the losses; the VQ-VAE's share the colours of those they stand for."""
    labels = []
    for loss, vq_loss in zip(LOSSES, VQ_LOSSES, strict=True):
        label, vq_label = QUANTITIES[loss][0], QUANTITIES[vq_loss][0]
        labels.append(label if label == vq_label else f"{label} (VQ-VAE: {vq_label})")
    return labels


def _trace(
    axes: Axes,
    results: Results,
    name: str,
    quantity: str,
    split: str,
    colour: object,
    label: str,
    sign: int = 1,
) -> None:
    """Draw one column of a run's history, mean and band over its seeds."""
    _mean_and_band(axes, results.history(name), f"{split}_{quantity}", split, colour, label, sign)


def _mean_and_band(
    axes: Axes,
    frames: Sequence[pd.DataFrame],
    column: str,
    split: str,
    colour: object,
    label: str,
    sign: int = 1,
) -> None:
    by_samples = pd.concat(frames).groupby("samples")[column]
    mean = sign * by_samples.mean()
    axes.plot(mean.index, mean, color=colour, linestyle=LINES[split], label=label)
    if len(frames) > 1:
        spread = by_samples.std()
        axes.fill_between(
            mean.index, mean - spread, mean + spread, color=colour, alpha=0.18, linewidth=0
        )


def _elbo_panel(axes: Axes, results: Results, name: str, label: str = "AEVB") -> list[str]:
    """Draw a run's ELBO, and wake-sleep's on the same network if it ran; returns its name."""
    baseline = f"wakesleep_{name}"
    for split in SPLITS:
        colour = getattr(AEVB, split)
        _trace(axes, results, name, "neg_elbo", split, colour, f"{label}, {split}", sign=-1)
    if not results.has(baseline):
        return []
    for split in SPLITS:
        colour = getattr(WAKE_SLEEP, split)
        _trace(axes, results, baseline, "neg_elbo", split, colour, f"wake-sleep, {split}", sign=-1)
    return [baseline]


def _best_adagrad(axes: Axes, results: Results, d: int) -> list[str]:
    """Draw the Adagrad run of the best final train ELBO and say its rate; returns its name."""
    rates = {f"frey_adagrad{key}_d{d}": rate for key, rate in ADAGRAD_RATES.items()}
    tried = [name for name in rates if results.has(name)]
    if not tried:
        return []
    best = min(
        tried,
        key=lambda name: np.mean([run["train"]["neg_elbo"] for run in results.metrics(name)]),
    )
    for split in SPLITS:
        colour = getattr(ADAGRAD, split)
        label = f"AEVB, Adagrad, {split}"
        _trace(axes, results, best, "neg_elbo", split, colour, label, sign=-1)
    corner_note(axes, f"Adagrad at rate {rates[best]}, the best of {len(tried)}")
    return [best]


def _likelihood(
    axes: Axes, results: Results, name: str, estimator: str, colours: Pair, label: str
) -> None:
    """Draw one estimator's train and test curves."""
    for split in SPLITS:
        frames = [
            frame[(frame["split"] == split) & (frame["estimator"] == estimator)]
            for frame in results.likelihood(name)
        ]
        if any(frame.empty for frame in frames):
            raise VaelabError(f"likelihood.csv of {name} has no {split} values by {estimator!r}")
        _mean_and_band(axes, frames, "nats", split, getattr(colours, split), f"{label}, {split}")


def _reported(axes: Axes, figure: int, series: str, quantity: str, colour: object) -> None:
    """Draw what was read off the report's curve; a bound points to where the value lies."""
    points = numbers.curves(figure)
    points = points[(points["series"] == series) & (points["quantity"] == quantity)]
    for split, part in points.groupby("split", sort=False):
        bound = part["bound"] == "upper"
        for rows, marker in ((part[~bound], MARKERS[split]), (part[bound], UPPER_BOUND)):
            if rows.empty:
                continue
            axes.plot(
                rows["samples"],
                rows["value"],
                color=colour,
                marker=marker,
                label=REPORT,
                clip_on=False,
                zorder=4,
                **MARKER_STYLE,
            )


def _samples_range(
    results: Results, names: Iterable[str], low: float, high: float
) -> tuple[float, float]:
    """The report's range of samples, widened to the last decades of our shortest run."""
    ends = results.samples(names)
    return min(low, decade_below(ends[0] / 30)), max(high, ends[-1])


def _frame_y(axes: Axes, low: float, high: float, extend_up: bool = True) -> None:
    """Set the report's y range, extended so that no line of ours ends outside it."""
    ends = [float(line.get_ydata()[-1]) for line in axes.lines if line.get_label() != REPORT]
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


def _entries(panels: Iterable[Axes]) -> dict[str, object]:
    """Legend entries of several panels, each label once, then one for the report's markers."""
    entries: dict[str, object] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    return entries


def _report_entries(panels: Iterable[Axes]) -> dict[str, object]:
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
    axes: Axes, panels: Sequence[Axes], loc: str = "center", labelspacing: float = 0.7
) -> None:
    """Use an empty cell of the figure for the legend of its panels."""
    entries = _entries(panels) | _report_entries(panels)
    axes.set_axis_off()
    axes.legend(entries.values(), entries.keys(), loc=loc, labelspacing=labelspacing)


def _legend(figure: Figure, panels: Sequence[Axes], columns: int) -> Legend:
    """One legend for all panels of a figure; `footer` puts it in its place."""
    entries = _entries(panels) | _report_entries(panels)
    return figure.legend(
        entries.values(), entries.keys(), ncols=columns, columnspacing=1.4, handlelength=2.0
    )


def _band_note(results: Results) -> str:
    return "line: mean, band: ± 1 sd over seeds" if len(results.seeds) > 1 else ""
