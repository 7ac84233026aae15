"""What the package reports, as a list of lines that grows while it does."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def reported(lines: list[str]) -> Iterator[list[str]]:
    """Append to `lines` what is reported inside, by whichever thread."""
    logger, handler = logging.getLogger("vaelab"), _Lines(lines)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
