"""Interleaved measurements: in each round, every way once on one core and once on all cores.

A machine is slower at some moments than at others. The ways take turns, so a slow moment affects
all of them, and ratios are taken within a round.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import statistics
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.networks import Way
from vaelab.settings.spec import RunSpec
from vaelab.util.errors import VaelabError

logger = logging.getLogger(__name__)

# The workflow sets these for trainings (workflow/rules/common.smk); the peers run without them.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
}
WARM_UP = 1000  # images of the first call, which also compiles and loads


class Turn(NamedTuple):
    """One measurement of a way in a number of simultaneous processes of one thread each."""

    round: int
    way: Way
    processes: int


@dataclass(frozen=True)
class Measurement:
    """The result of a turn; `rate` is in samples/s, summed over its processes."""

    round: int
    network: str
    kind: str
    precision: str
    processes: int
    rate: float


def schedule(ways: Sequence[Way], rounds: int, cores: int) -> Iterator[Turn]:
    """In each round, all ways on one core, then all ways on all cores."""
    for number in range(rounds):
        for processes in dict.fromkeys((1, cores)):
            for way in ways:
                yield Turn(number, way, processes)


def measure(
    ways: Sequence[Way],
    specs: dict[str, RunSpec],
    *,
    data_root: Path,
    rounds: int,
    seconds: float,
    cores: int,
) -> list[Measurement]:
    """Time every way for about `seconds`, `rounds` times on one core and on all.

    Raises:
        VaelabError: a way failed; its error is in the message.
    """
    with _Pool(cores, data_root, specs) as pool:
        samples: dict[Way, int] = {}
        for way in ways:
            logger.info(f"preparing {way.network}, {way.kind}, {way.precision}")
            pool.run(way, WARM_UP, cores)
            trial = pool.run(way, WARM_UP, 1)[0]
            batch = specs[way.network].recipe.batch_size
            samples[way] = max(1, round(WARM_UP * seconds / trial / batch)) * batch
        measurements = []
        for turn in schedule(ways, rounds, cores):
            spent = pool.run(turn.way, samples[turn.way], turn.processes)
            rate = sum(samples[turn.way] / value for value in spent)
            found = Measurement(turn.round, **asdict(turn.way), processes=turn.processes, rate=rate)
            measurements.append(found)
            logger.info(
                f"round {turn.round + 1} of {rounds}, {turn.processes} process(es): "
                f"{found.network}, {found.kind}, {found.precision}: {rate:.0f} samples/s"
            )
    return measurements


class _Pool:
    """Processes that keep every way prepared: per core one for ours and one for the peers."""

    def __init__(self, cores: int, data_root: Path, specs: dict[str, RunSpec]) -> None:
        self.cores, self.data_root, self.specs = cores, data_root, specs
        self.workers: dict[bool, list[Connection]] = {}
        self.processes: list[Any] = []

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *exc: object) -> None:
        for connections in self.workers.values():
            for connection in connections:
                connection.close()
        for process in self.processes:
            process.join(timeout=10)
            if process.is_alive():
                process.kill()

    def _start(self, peers: bool) -> list[Connection]:
        context = multiprocessing.get_context("spawn")
        connections = []
        with ExitStack() as stack:
            if not peers:
                stack.enter_context(_environment(ALLOCATOR))
            for _ in range(self.cores):
                near, far = context.Pipe()
                process = context.Process(
                    target=_serve, args=(far, self.data_root, self.specs), daemon=True
                )
                process.start()
                far.close()
                connections.append(near)
                self.processes.append(process)
        return connections

    def run(self, way: Way, samples: int, processes: int) -> list[float]:
        """Seconds that each of the simultaneous processes took."""
        if way.peer not in self.workers:
            self.workers[way.peer] = self._start(way.peer)
        chosen = self.workers[way.peer][:processes]
        try:
            for connection in chosen:
                connection.send((way, samples))
            answers = [connection.recv() for connection in chosen]
        except (EOFError, OSError) as error:
            raise VaelabError(f"{way.network}, {way.kind}: its process was killed") from error
        for answer in answers:
            if isinstance(answer, str):
                raise VaelabError(f"{way.network}, {way.kind}: {answer}")
        return answers


@contextmanager
def _environment(extra: dict[str, str]) -> Iterator[None]:
    """Environment variables for processes started inside; the allocator reads them at start."""
    before = {key: os.environ.get(key) for key in extra}
    os.environ.update(extra)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def _serve(connection: Connection, data_root: Path, specs: dict[str, RunSpec]) -> None:
    """Answer (way, samples) with seconds, or with the error as text, until the pipe closes."""
    os.environ["OMP_NUM_THREADS"] = "1"
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


def median_rates(measurements: Sequence[Measurement]) -> dict[tuple[str, str, str, int], float]:
    """(network, kind, precision, processes) -> median samples/s over the rounds."""
    groups: dict[tuple[str, str, str, int], list[float]] = {}
    for m in measurements:
        groups.setdefault((m.network, m.kind, m.precision, m.processes), []).append(m.rate)
    return {key: statistics.median(values) for key, values in groups.items()}


def median_ratio(
    measurements: Sequence[Measurement],
    over: tuple[str, str],
    under: tuple[str, str],
    network: str,
    processes: int,
) -> float | None:
    """Median over the rounds of one way's rate divided by another's; ways are (kind, precision)."""
    rates: dict[tuple[int, tuple[str, str]], float] = {
        (m.round, (m.kind, m.precision)): m.rate
        for m in measurements
        if (m.network, m.processes) == (network, processes)
    }
    ratios = [
        rate / rates[number, under]
        for (number, way), rate in rates.items()
        if way == over and (number, under) in rates
    ]
    return statistics.median(ratios) if ratios else None
