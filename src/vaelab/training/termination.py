"""SIGTERM and SIGINT as a list to look at, so that a training can save its state and then end."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType


@contextmanager
def termination(collected: Sequence[int] | None = None) -> Iterator[Sequence[int]]:
    """The signals received so far.

    Args:
        collected: those that an outer `termination` collects. Python lets the main thread alone
            handle signals, so other threads are given its list.
    """
    if collected is not None:
        yield collected
        return
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous = {n: signal.signal(n, note) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
