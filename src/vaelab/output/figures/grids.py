"""Sheets of image grids, laid out on whole pixels so that no image pixel is blurred or doubled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vaelab.output.figures.style import DPI, MUTED, footer, footer_height
from vaelab.results.reader import Results

PADDING = 2  # black pixels between the images of a grid
GAP, TITLE, SUBTITLE = 36, 60, 36  # output pixels around panels and above them


@dataclass(frozen=True)
class Panel:
    """One grid of images under a title; `image` is (H, W) uint8."""

    title: str
    image: np.ndarray
    subtitle: str = ""


def image_grid(
    images: np.ndarray, shape: tuple[int, int], columns: int, padding: int = PADDING
) -> np.ndarray:
    """Tile flattened images row by row, with black lines around and between them.

    Args:
        images: (N, P) uint8.
        shape: (H, W) of an image, P = H * W.
        columns: images in a row.
        padding: width of the lines in pixels.

    Returns:
        (rows * (H + padding) + padding, columns * (W + padding) + padding) uint8; 100 MNIST
        images in 10 columns give 302 x 302 (the report's grids).
    """
    height, width = shape
    rows = -(-len(images) // columns)
    grid = np.zeros(
        (rows * (height + padding) + padding, columns * (width + padding) + padding), np.uint8
    )
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        top, left = padding + row * (height + padding), padding + column * (width + padding)
        grid[top : top + height, left : left + width] = image.reshape(height, width)
    return grid


def sheet(
    panels: Sequence[Panel],
    columns: int,
    results: Results,
    names: Sequence[str],
    cell: int = 604,
    note: str = "",
) -> Figure:
    """Panels row by row, each enlarged by the largest whole factor that fits `cell` pixels.

    Args:
        panels: what to show.
        columns: panels in a row.
        results: where the panels come from, for the footer.
        names: the runs shown, for the footer.
        cell: width of a panel in output pixels.
        note: added to the footer.
    """
    images = [_enlarged(panel.image, cell) for panel in panels]
    starts = range(0, len(panels), columns)
    rows = [range(start, min(start + columns, len(panels))) for start in starts]
    heights = [max(images[i].shape[0] for i in row) for row in rows]
    title = TITLE + (SUBTITLE if any(panel.subtitle for panel in panels) else 0)
    foot = round(footer_height(results, names) * DPI)
    width = columns * (cell + GAP) + GAP
    height = sum(heights) + len(rows) * (title + GAP) + foot
    figure = Figure(figsize=(width / DPI, height / DPI))
    FigureCanvasAgg(figure)
    top = 0
    for row, row_height in zip(rows, heights, strict=True):
        top += title
        for column, index in enumerate(row):
            left = GAP + column * (cell + GAP)
            _place(figure, panels[index], images[index], left, top, (width, height))
        top += row_height + GAP
    footer(figure, results, names, note)
    return figure


def _enlarged(image: np.ndarray, cell: int) -> np.ndarray:
    factor = max(1, cell // image.shape[1])
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _place(
    figure: Figure,
    panel: Panel,
    image: np.ndarray,
    left: int,
    top: int,
    canvas: tuple[int, int],
) -> None:
    """Put an image at a pixel position, one image pixel on one output pixel, titles above it."""
    width, height = canvas
    rows, columns = image.shape
    axes = figure.add_axes(
        (left / width, 1 - (top + rows) / height, columns / width, rows / height)
    )
    # As RGB the grey values go to the file unchanged; a colour map would round some of them.
    rgb = np.repeat(image[:, :, None], 3, axis=2)
    axes.imshow(rgb, interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    lift = 12 + (SUBTITLE if panel.subtitle else 0)
    axes.set_title(panel.title, fontsize=11, pad=lift * 72 / DPI)
    if panel.subtitle:
        axes.annotate(
            panel.subtitle,
            (0, 1),
            (0, 6 * 72 / DPI),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=8.5,
            color=MUTED,
            va="bottom",
        )
