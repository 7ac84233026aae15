"""What the page inlines: scripts, the style sheet, the charting library, pictures."""

from __future__ import annotations

import gzip
from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

STYLE_SHEET = "style.css"
SCRIPTS = ("page.js", "charts.js", "explorer.js")
# Colours of a plot: flat areas and the shades of anti-aliased lines need no more.
PLOT_COLOURS = 48
# Quality of sheets of images. The full pictures lie beside the page.
SHEET_QUALITY = 65


@dataclass(frozen=True)
class Picture:
    """An image as a data URI with its size in pixels, which reserves its place in the page."""

    uri: str
    width: int
    height: int


def static(name: str) -> str:
    """The text of a file of page/static."""
    return (files("vaelab.output.page") / "static" / name).read_text(encoding="utf-8").strip()


@cache
def plotly_source() -> str:
    """Plotly.js as the pinned package ships it, gzip in base64: two fifths of its size."""
    source = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return b64encode(gzip.compress(source, 9, mtime=0)).decode("ascii")


def data_uri(content: bytes, kind: str) -> str:
    """Bytes of a media type as a URI."""
    return f"data:{kind};base64,{b64encode(content).decode('ascii')}"


def picture(png: Path) -> Picture | None:
    """A figure as WebP for the page: plots without loss, sheets of images with a little.

    A plot is told by its vector twin. None where the figure is missing.
    """
    if not png.is_file():
        return None
    with Image.open(png) as image:
        pixels = image.convert("RGB")
    if png.with_suffix(".svg").is_file():
        flat = pixels.quantize(PLOT_COLOURS, dither=Image.Dither.NONE).convert("RGB")
        return encoded(flat, lossless=True, quality=60)
    return encoded(pixels, quality=SHEET_QUALITY)


def encoded(image: Image.Image, **options: Any) -> Picture:
    """An image as WebP, with options of Pillow's encoder."""
    buffer = BytesIO()
    image.save(buffer, "WEBP", method=4, **options)
    return Picture(data_uri(buffer.getvalue(), "image/webp"), *image.size)
