"""The two-dimensional latent space (report, Figure 13)."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaelab.output.catalogue import LATENT
from vaelab.output.figures.style import (
    DIGIT_COLOURS,
    DIGIT_MARKERS,
    WIDTH,
    footer,
    new_figure,
    side_note,
)
from vaelab.output.plots import MODEL_NOTES
from vaelab.results.reader import Results


def figure_13(results: Results) -> Figure:
    """Sampled z of the first 1000 training images, by digit (report, section 4.3).

    The report shows one BVAE; both values of beta that it may be are drawn.
    """
    figure = new_figure(WIDTH, 7.3)
    grid = figure.subplots(2, 2)
    for axes, (name, title) in zip(grid.flat, LATENT.items(), strict=True):
        arrays = results.arrays(name)
        _scatter(axes, arrays["train_codes"], arrays["train_labels"])
        axes.set_title(title)
        side_note(axes, MODEL_NOTES.get(name.removesuffix("_d2"), ""))
        axes.set_xlabel("z1")
        axes.set_ylabel("z2")
    legend = figure.legend(
        *grid[0][0].get_legend_handles_labels(),
        ncols=10,
        title="digit",
        columnspacing=1.2,
        handletextpad=0.1,
        markerscale=1.5,
    )
    footer(figure, results, list(LATENT), "first 1000 training images, sampled z", legend)
    return figure


def _scatter(axes: Axes, codes: np.ndarray, labels: np.ndarray) -> None:
    """One point an image; codes (N, 2), labels (N,)."""
    style: dict[str, Any] = {"s": 12, "edgecolor": "white", "linewidth": 0.3}
    for digit, (colour, marker) in enumerate(zip(DIGIT_COLOURS, DIGIT_MARKERS, strict=True)):
        points = codes[labels == digit].T
        axes.scatter(*points, color=colour, marker=marker, label=str(digit), **style)
    axes.set_aspect("equal", adjustable="datalim")
