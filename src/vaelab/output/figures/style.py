"""One look for all figures: type, colours, the line that says what a figure rests on, saving."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

from vaelab.output.plots import INK
from vaelab.results.reader import Results, alarms, provenance_line
from vaelab.util.io import atomic_path

DPI = 200
WIDTH = 7.2  # inches, a full text width: 8 pt type stays readable when shown at 12 cm
FOOTER = 0.2  # inches per line of the footer

MUTED, RULE, WARNING = "#666666", "#D9D9D9", "#B00020"

LINES = {"train": "-", "test": (0, (4, 1.4))}

# Ten hues of Petroff's accessible colour cycle, each with a marker of its own.
DIGIT_COLOURS = (
    "#3F90DA", "#FFA90E", "#BD1F01", "#94A4A2", "#832DB6",
    "#A96B59", "#E76300", "#B9AC70", "#30343F", "#6FCFD1",
)  # fmt: skip
DIGIT_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")

STYLE: dict[Any, Any] = {
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same glyphs on every machine
    "font.size": 8,
    "text.color": INK,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "svg.hashsalt": "vaelab",  # identifiers in the file do not change from run to run
    "svg.fonttype": "path",
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, drawn by Agg without any global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def footer_height(results: Results, names: Iterable[str]) -> float:
    """Inches that `footer` takes at the bottom of a figure."""
    return FOOTER * (2 if alarms(results, names) else 1) + 0.06


def footer(
    figure: Figure,
    results: Results,
    names: Sequence[str],
    note: str = "",
    legend: Legend | None = None,
) -> None:
    """Say what the figure rests on, below it; warnings above that line, in red.

    A legend of the whole figure goes between the panels and the footer.
    """
    width, height = figure.get_size_inches()
    text = provenance_line(results, names) + (f" · {note}" if note else "")
    left = 0.18 / width
    figure.text(left, 0.06 / height, text, color=MUTED, fontsize=7, va="bottom")
    if alarm := " · ".join(alarms(results, names)):
        y = (0.06 + FOOTER) / height
        figure.text(left, y, alarm, color=WARNING, fontsize=9, fontweight="bold", va="bottom")
    bottom = footer_height(results, names) / height
    if legend is not None:
        legend.set_loc("lower center")
        legend.set_bbox_to_anchor((0.5, bottom), figure.transFigure)
        bottom += legend.get_window_extent().height / figure.bbox.height + 0.06 / height
    if isinstance(engine := figure.get_layout_engine(), ConstrainedLayoutEngine):
        engine.set(rect=(0, bottom, 1, 1 - bottom))


def side_note(axes: Axes, text: str) -> None:
    """A remark to the right of a panel's title."""
    axes.set_title(text, loc="right", fontsize=7, fontweight="normal", color=MUTED)


def corner_note(axes: Axes, text: str) -> None:
    """A remark in the upper left corner of a panel."""
    axes.text(0.03, 0.985, text, transform=axes.transAxes, va="top", fontsize=7, color=MUTED)


def samples_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis of training samples seen, one tick per decade."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(base=10, numticks=12))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("samples seen")


def millions_axis(axes: Axes, high: float) -> None:
    """A linear axis of training samples seen, in millions."""
    axes.set_xlim(0, high)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:g}"))
    axes.set_xlabel("samples seen, millions")


def decade_below(value: float) -> float:
    """The largest power of ten that does not exceed `value`."""
    return float(10.0 ** np.floor(np.log10(value)))


@contextmanager
def common_style() -> Iterator[None]:
    """The common style on matplotlib's own defaults, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def draw(function: Callable[[Results], Figure], results: Results) -> Figure:
    """Draw a figure in the common style."""
    with common_style():
        return function(results)


def save(figure: Figure, path_png: Path | str, with_vector: bool) -> None:
    """Write the PNG and, on request, an SVG of the same name beside it.

    The same figure gives the same bytes at any time: no dates, no random identifiers. The PNG
    has a palette of 256 colours, which no eye tells from the original and which takes 40 % of
    its bytes in the results page and in Snakemake's report.
    """
    path_png = Path(path_png)
    with common_style():
        drawn = BytesIO()
        figure.savefig(drawn, format="png", dpi=DPI, pil_kwargs={"compress_level": 0})
        image = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        with atomic_path(path_png) as temporary:
            image.save(temporary, format="png", optimize=True, dpi=(DPI, DPI))
        if with_vector:
            _settle(figure)
            with atomic_path(path_png.with_suffix(".svg")) as temporary:
                figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})


def _settle(figure: Figure) -> None:
    """Lay the panels out for an SVG, to the millionth of the figure.

    The layout's solver meets the panels in an order that differs from process to process, and so
    do the last bits of their places, of which SVG makes identifiers.
    """
    figure.set_dpi(72)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes in figure.axes:
        axes.set_position(tuple(np.round(axes.get_position().bounds, 6)))
