"""Interleaved measurements: in each round, every way once, one after the other.

A machine is slower at some moments than at others. The ways take turns, so a slow moment affects
all of them, and ratios are taken within a round.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.networks import RIVALS, Way
from vaelab.settings.spec import RunSpec
from vaelab.util.errors import VaelabError

logger = logging.getLogger(__name__)

WARM_UP = 1000  # images of the first call, which also compiles and loads

# Samples/s of every round, by way.
Rates = dict[Way, list[float]]


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        rates: samples per second of CPU time, by way and round.
        compilation: wall-clock seconds that torch.compile took, by network.
        notes: which rivals failed, and why.
    """

    rates: Rates
    compilation: dict[str, float]
    notes: list[str]


def measure(
    ways: Sequence[Way], specs: dict[str, RunSpec], *, data_root: Path, rounds: int, seconds: float
) -> Measured:
    """Time every way for about `seconds`, `rounds` times, on one core.

    Raises:
        VaelabError: a way of ours failed; its error is in the message.
    """
    found = Measured({}, {}, [])
    with _Processes(data_root, specs) as processes:
        samples: dict[Way, int] = {}
        for way in ways:
            logger.info(f"preparing {way.network}, {way.kind}, {way.precision}")
            started = time.monotonic()
            try:
                processes.run(way, WARM_UP)
                prepared = time.monotonic() - started
                trial = processes.run(way, WARM_UP)
            except VaelabError as error:
                if way.kind not in RIVALS:
                    raise
                last = str(error).strip().splitlines()[-1]
                found.notes.append(f"{way.network}, {RIVALS[way.kind]}: {last}")
                continue
            if way.kind == "compiled":
                found.compilation[way.network] = prepared
            batch = specs[way.network].recipe.batch_size
            samples[way] = max(1, round(WARM_UP * seconds / trial / batch)) * batch
        for number in range(rounds):
            logger.info(f"round {number + 1} of {rounds}")
            for way, count in samples.items():
                rate = count / processes.run(way, count)
                found.rates.setdefault(way, []).append(rate)
    return found


class _Processes:
    """One process for each setting; it keeps its ways prepared."""

    def __init__(self, data_root: Path, specs: dict[str, RunSpec]) -> None:
        self.data_root, self.specs = data_root, specs
        self.connections: dict[str, Connection] = {}
        self.processes: list[Any] = []

    def __enter__(self) -> _Processes:
        return self

    def __exit__(self, *exc: object) -> None:
        for connection in self.connections.values():
            connection.close()
        for process in self.processes:
            process.join(timeout=10)
            if process.is_alive():
                process.kill()

    def _start(self, setting: str) -> Connection:
        context = multiprocessing.get_context("spawn")
        near, far = context.Pipe()
        process = context.Process(
            target=_serve, args=(far, self.data_root, self.specs), daemon=True
        )
        with _environment():
            process.start()
        far.close()
        self.processes.append(process)
        return near

    def run(self, way: Way, samples: int) -> float:
        """Seconds that so many samples took."""
        if way.setting not in self.connections:
            self.connections[way.setting] = self._start(way.setting)
        connection = self.connections[way.setting]
        try:
            connection.send((way, samples))
            answer = connection.recv()
        except (EOFError, OSError) as error:
            raise VaelabError(f"{way.network}, {way.kind}: its process was killed") from error
        if isinstance(answer, str):
            raise VaelabError(f"{way.network}, {way.kind}: {answer}")
        return float(answer)


@contextmanager
def _environment() -> Iterator[None]:
    """What processes started inside find."""
    before = dict(os.environ)
    # A compilation that was found in a cache would say nothing of its time.
    os.environ.update(OMP_NUM_THREADS="1", TORCHINDUCTOR_FORCE_DISABLE_CACHES="1")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _serve(connection: Connection, data_root: Path, specs: dict[str, RunSpec]) -> None:
    """Answer (way, samples) with seconds, or with the error as text, until the pipe closes."""
    from benchmarks.ways import prepare

    prepared: dict[Way, Callable[[int], float]] = {}
    while True:
        try:
            way, samples = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            if way not in prepared:
                prepared[way] = prepare(way, specs[way.network], data_root)
            connection.send(prepared[way](samples))
        except Exception:
            connection.send(traceback.format_exc(limit=-3))


def median_ratio(rates: Rates, over: Way, under: Way) -> float | None:
    """Median over the rounds of one way's rate divided by another's; None without one of them."""
    if over not in rates or under not in rates:
        return None
    return statistics.median(a / b for a, b in zip(rates[over], rates[under], strict=True))
