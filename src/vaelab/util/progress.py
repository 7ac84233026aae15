"""How far a training is: the line in its log, and the bar on a terminal."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

LINE = re.compile(r"(\S+): (\d+)/(\d+) samples, (\S+)/s, (\S+) (\S+) \(train\), \S+ s left")


@dataclass(frozen=True)
class Progress:
    """Where a training is, as a record of `logging`; `str` gives the line.

    Attributes:
        run: the run's id.
        seen: images seen.
        samples: images to see in all.
        rate: images per second.
        loss: name of the last loss measured on training images.
        value: that loss, nats per image where it is a bound.
    """

    run: str
    seen: int
    samples: int
    rate: float
    loss: str
    value: float

    @property
    def seconds_left(self) -> float:
        """Seconds to the end at this rate."""
        return (self.samples - self.seen) / max(self.rate, 1e-9)

    def __str__(self) -> str:
        return (
            f"{self.run}: {self.seen}/{self.samples} samples, {self.rate:.0f}/s, "
            f"{self.loss} {self.value:.5g} (train), {self.seconds_left:.0f} s left"
        )

    @classmethod
    def last_of(cls, text: str) -> Progress | None:
        """What the last such line of a log says."""
        found = LINE.findall(text)
        if not found:
            return None
        run, seen, samples, rate, loss, value = found[-1]
        return cls(run, int(seen), int(samples), float(rate), loss, float(value))

    def after(self, seconds: float) -> Progress:
        """Where the training is some seconds later, at the same rate."""
        return replace(self, seen=min(self.samples, self.seen + int(self.rate * seconds)))


class BarHandler(logging.Handler):
    """Shows records of `Progress` as bars on a terminal, and prints all others above them.

    Between two records of a training its bar goes on at the last rate.
    """

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        super().__init__()
        self._last: dict[str, tuple[Progress, float]] = {}
        self._live = Live(console=Console(), get_renderable=self._bars, transient=True)

    def _bars(self) -> Table:
        now = time.time()
        return table([p.after(now - at) for p, at in list(self._last.values())])

    def emit(self, record: logging.LogRecord) -> None:
        """Move a bar, or print a line."""
        progress = record.msg
        if not isinstance(progress, Progress):
            self._live.console.print(self.format(record), markup=False, highlight=False)
        elif progress.seen < progress.samples:
            self._last[progress.run] = (progress, record.created)
            self._live.start()
        else:
            self._last.pop(progress.run, None)
            self._live.console.print(str(progress), markup=False, highlight=False)
        if not self._last:
            self._live.stop()


def table(trainings: Iterable[Progress]) -> Table:
    """A row for each training: run, bar, share, images per second, loss, time left."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    grid = Table.grid(padding=(0, 1))
    for p in trainings:
        bar = ProgressBar(total=p.samples, completed=p.seen, width=20)
        loss = f"{p.loss.replace('neg_elbo', '−ELBO')} {p.value:.1f}"
        share = f"{p.seen / p.samples:4.0%}"
        grid.add_row(p.run, bar, share, f"{p.rate:,.0f}/s", loss, duration(p.seconds_left))
    return grid


def duration(seconds: float) -> str:
    """A time in words: 40 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
