"""What Snakemake shows on a terminal: trainings under way, what has appeared, the time left.

Snakemake finds this package by its name; profiles/default asks for it with `logger: vaelab`. Where
the output is not a terminal, with --quiet, in a dry run and in CI it stays silent and leaves the
screen to Snakemake. The full log goes to .snakemake/log in any case.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from vaelab.util.io import usable_caches
from vaelab.util.progress import Progress, duration, table

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live
    from snakemake_interface_logger_plugins.settings import OutputSettingsLoggerInterface

# Snakemake imports this before it makes its cache, which a home may not hold.
usable_caches()

# What Snakemake says at every run, and what the lines above the bars replace.
HIDDEN = (
    "Assuming unrestricted shared",
    "Building DAG of jobs",
    "Conda environments: ignored",
    "DAG of jobs will be updated",
    "Elapsed time",
    "Select jobs to execute",
    "Updating checkpoint dependencies",
    "Using shell",
)
SHOWN_EVENTS = (None, LogEvent.ERROR, LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR)


@dataclass
class Job:
    """A job under way."""

    rule: str
    run: str
    output: Sequence[str]
    log: Sequence[str]
    begun: float


class Screen:
    """What is known of a workflow, and how it is shown."""

    def __init__(self) -> None:
        self.begun = time.time()
        self.cores = 1
        self.done = self.total = 0
        self.planned: Counter[str] = Counter()
        self.started: Counter[str] = Counter()
        self.jobs: dict[int, Job] = {}
        # Seconds of finished jobs, by rule.
        self.seconds: dict[str, list[float]] = {}
        self.lock = threading.Lock()

    def take(self, record: logging.LogRecord) -> str | None:
        """Note what a record says; returns a line to print, if something has appeared."""
        values = record.__dict__
        with self.lock:
            match values.get("event"):
                case LogEvent.RESOURCES_INFO:
                    self.cores = values.get("cores") or self.cores
                case LogEvent.RUN_INFO:
                    stats = dict(values["stats"])
                    self.total = stats.pop("total")
                    self.planned = Counter(stats)
                case LogEvent.PROGRESS:
                    self.done, self.total = values["done"], values["total"]
                case LogEvent.JOB_INFO:
                    run = str(dict(values["wildcards"]).get("run", ""))
                    now = time.time()
                    job = Job(values["rule_name"], run, values["output"], values["log"], now)
                    self.jobs[values["jobid"]] = job
                    self.started[job.rule] += 1
                case LogEvent.JOB_ERROR:
                    self.jobs.pop(values["jobid"], None)
                case LogEvent.JOB_FINISHED:
                    return self._finish(values["job_id"])
        return None

    def _finish(self, jobid: int) -> str | None:
        job = self.jobs.pop(jobid, None)
        if job is None:
            return None
        self.seconds.setdefault(job.rule, []).append(time.time() - job.begun)
        # A file's flags stand behind its name, in brackets.
        made = job.output[0].partition(" (")[0] if job.output else ""
        return None if _trains(job.rule) else f"{job.rule}  {made}"

    @property
    def trainings(self) -> tuple[int, int]:
        """Trainings done, and in all as far as is known; the search adds to them."""
        running = sum(_trains(job.rule) for job in self.jobs.values())
        started = sum(n for rule, n in self.started.items() if _trains(rule))
        planned = sum(n for rule, n in self.planned.items() if _trains(rule))
        return started - running, max(started, planned)

    def seconds_left(self, progress: Mapping[int, Progress]) -> float | None:
        """Time left, from what finished jobs of each rule took and how fast trainings go now.

        Args:
            progress: where the trainings under way are, by job.

        Returns:
            None while nothing is known of a rule that has jobs waiting.
        """
        now = time.time()
        measured = {rule: list(seconds) for rule, seconds in self.seconds.items()}
        for jobid, p in progress.items():
            job = self.jobs[jobid]
            if job.rule not in self.seconds:
                measured.setdefault(job.rule, []).append(now - job.begun + p.seconds_left)
        means = {rule: sum(seconds) / len(seconds) for rule, seconds in measured.items()}
        alike = {
            kind: [m for r, m in means.items() if _trains(r) is kind] for kind in (True, False)
        }
        left = 0.0
        for rule, count in (self.planned - self.started).items():
            known = [means[rule]] if rule in means else alike[_trains(rule)]
            if not known and _trains(rule):
                return None
            left += count * sum(known) / max(1, len(known))
        for jobid, job in self.jobs.items():
            if jobid in progress:
                left += progress[jobid].seconds_left
            else:
                left += max(0.0, means.get(job.rule, 0.0) - (now - job.begun))
        return left / max(1, min(self.cores, self.total - self.done))

    def __rich__(self) -> Group:
        """The bar of the workflow, a row for each training under way, and the other jobs."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        with self.lock:
            progress = {i: p for i, job in self.jobs.items() if (p := _last_progress(job))}
            left = self.seconds_left(progress)
            bar = ProgressBar(total=max(1, self.total), completed=self.done, width=20)
            head = Table.grid(padding=(0, 1))
            head.add_row(bar, self.summary + (f" · about {duration(left)} left" if left else ""))
            others = [
                f"{job.run or job.rule} {duration(time.time() - job.begun)}"
                for i, job in self.jobs.items()
                if i not in progress
            ]
            rows = table(progress.values())
        return Group(head, rows, Text(" · ".join(others), style="dim"))

    @property
    def summary(self) -> str:
        """Jobs and trainings done so far, and since when."""
        done, trainings = self.trainings
        parts = [f"{self.done} of {self.total} jobs"]
        if trainings:
            parts.append(f"{done} of {trainings} trainings")
        return " · ".join([*parts, f"{duration(time.time() - self.begun)} so far"])


class LogHandler(LogHandlerBase):
    """The handler that Snakemake makes."""

    def __post_init__(self) -> None:
        """Take the screen, if there is one to take."""
        self.screen = Screen()
        self.live: Live | None = None
        if wanted(self.common_settings):
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True)
            self.live = Live(self.screen, console=console, refresh_per_second=2, transient=True)

    @property
    def writes_to_stream(self) -> bool:
        """If not, Snakemake writes to the screen as ever."""
        return self.live is not None

    writes_to_file = has_filter = has_formatter = needs_rulegraph = False

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of a record, and print what should stay on the screen."""
        if self.live is None:
            return
        appeared = self.screen.take(record)
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            self.live.start()
        elif appeared:
            self.live.console.print(appeared, highlight=False)
        elif event in SHOWN_EVENTS:
            text = self.format(record)
            if text and not text.startswith(HIDDEN):
                style = {logging.ERROR: "red", logging.WARNING: "yellow"}.get(record.levelno)
                self.live.console.print(
                    text, style=style, markup=False, highlight=False, soft_wrap=True
                )

    def close(self) -> None:
        """Leave a line in place of the bars."""
        if self.live is not None and self.live.is_started:
            self.live.stop()
            self.live.console.print(self.screen.summary.removesuffix(" so far"), highlight=False)
        super().close()


def wanted(settings: OutputSettingsLoggerInterface) -> bool:
    """Whether there is a terminal, and nobody asked for less or for more than its bars."""
    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    asked = settings.quiet or settings.verbose or settings.debug_dag or settings.printshellcmds
    return terminal and "CI" not in os.environ and not asked and not settings.dryrun


def _trains(rule: str) -> bool:
    return rule.partition("_")[0] == "train"


def _last_progress(job: Job) -> Progress | None:
    """Where a training is, from the end of its log."""
    for name in job.log if _trains(job.rule) else ():
        try:
            with open(name, "rb") as stream:
                written = os.fstat(stream.fileno())
                stream.seek(max(0, written.st_size - 1000))
                progress = Progress.last_of(stream.read().decode("utf-8", "replace"))
        except OSError:
            continue
        # The log of an earlier training of the run says nothing about this one.
        if progress is not None and written.st_mtime >= job.begun:
            return progress.after(time.time() - written.st_mtime)
    return None
