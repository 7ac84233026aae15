"""What the package reports, line by line while it does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def heard(log: Callable[[str], None]) -> Iterator[None]:
    """Call `log` with every line that is reported meanwhile, by whichever thread.

    What it raises is raised where the line was reported.
    """

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            log(record.getMessage())

    listener, logger = Listener(), logging.getLogger("vaelab")
    before = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(listener)
        logger.setLevel(before)
