"""SIGTERM and SIGINT as a list to look at, so that a training can save its state and then end."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

# What the `termination` in force has received. Signals are the process's, and so is this.
_in_force: list[int] | None = None


@contextmanager
def termination() -> Iterator[Sequence[int]]:
    """The signals received so far; of the outer `termination` where there is one.

    Python lets the main thread alone handle signals, so where several threads work it is there
    that the outer one belongs.
    """
    global _in_force
    if _in_force is not None:
        yield _in_force
        return
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous = {n: signal.signal(n, note) for n in (signal.SIGTERM, signal.SIGINT)}
    _in_force = received
    try:
        yield received
    finally:
        _in_force = None
        for number, handler in previous.items():
            signal.signal(number, handler)


def end_if_asked() -> None:
    """Raise SystemExit where a `termination` is in force and has received a signal."""
    if _in_force:
        raise SystemExit(128 + _in_force[0])
