"""SIGTERM, SIGINT and SIGHUP as a list, so that a training can save its state before it ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

# Signals received inside the active `termination`. Global, as signals belong to the process.
_in_force: list[int] | None = None


@contextmanager
def termination() -> Iterator[Sequence[int]]:
    """Collect the signals received; inside another `termination`, this is the outer one's list.

    Only Python's main thread handles signals. So with several threads the outer one must be in
    the main thread.
    """
    global _in_force
    if _in_force is not None:
        yield _in_force
        return
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    # `nohup` ignores SIGHUP; so it stays.
    numbers = [
        n
        for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        if signal.getsignal(n) is not signal.SIG_IGN
    ]
    previous = {n: signal.signal(n, note) for n in numbers}
    _in_force = received
    try:
        yield received
    finally:
        _in_force = None
        for number, handler in previous.items():
            signal.signal(number, handler)


def end_if_asked() -> None:
    """Raise SystemExit if a `termination` is active and has received a signal."""
    if _in_force:
        raise SystemExit(128 + _in_force[0])
