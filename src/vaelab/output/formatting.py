"""Numbers and JSON as the page prints them."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd
from markupsafe import Markup

from vaelab.results.reader import grouped

MISSING = "–"
MINUS = "\N{MINUS SIGN}"


def absent(value: Any) -> bool:
    """Whether there is nothing to print: None, NaN, NA or an infinity."""
    if value is None or value is pd.NA:
        return True
    return isinstance(value, float) and not math.isfinite(value)


def number(value: Any, digits: int) -> str:
    """Fixed decimals with a true minus sign, never "-0.0"; a dash where there is no number."""
    if absent(value):
        return MISSING
    text = f"{value:.{digits}f}"
    return text.replace("-", MINUS if float(text) else "")


def signed(value: Any, digits: int) -> str:
    """A difference: like `number`, with a plus sign where it is positive."""
    text = number(value, digits)
    return f"+{text}" if text != MISSING and float(text.replace(MINUS, "-")) > 0 else text


def significant(value: Any, digits: int = 4) -> str:
    """Significant digits, for curves whose scales differ by orders of magnitude."""
    return MISSING if absent(value) else f"{value:.{digits}g}".replace("-", MINUS)


def counted(value: Any) -> str:
    """A whole number with its digits in groups of three."""
    return MISSING if absent(value) else grouped(int(value))


def as_json(value: Any) -> Markup:
    """JSON that is safe inside a script element, whatever text it holds."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(character, escape)
    return Markup(text)


FILTERS = {
    "json": as_json,
    "number": number,
    "signed": signed,
    "significant": significant,
    "grouped": counted,
}
