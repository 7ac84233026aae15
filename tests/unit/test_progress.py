"""Progress on a terminal: the bar of `vaelab train`, and the screen of Snakemake."""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from rich.console import Console
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

import snakemake_logger_plugin_vaelab as plugin
from vaelab.util.progress import BarHandler, Progress, duration
from workflow_project import ROOT

QUIETLY = {"quiet": None, "verbose": False, "debug_dag": False, "printshellcmds": False}


def record(event: str | None = None, msg: object = "", **values: Any) -> logging.LogRecord:
    made = logging.makeLogRecord({"msg": msg, "levelno": logging.INFO, "event": event, **values})
    if event is None:
        del made.event
    return made


def started(jobid: int, rule: str, log: Path | str = "", **wildcards: str) -> logging.LogRecord:
    logs, output = [str(log)] if log else [], [f"{rule}.out (update)"]
    return record(
        "job_info", jobid=jobid, rule_name=rule, wildcards=wildcards, output=output, log=logs
    )


def shown(renderable: object) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(renderable)
    return console.file.getvalue()


def test_a_line_of_progress_is_read_back() -> None:
    told = Progress("vae-s0", 500, 2000, 250.0, "neg_elbo", 123.45)
    assert str(told) == "vae-s0: 500/2000 samples, 250/s, neg_elbo 123.45 (train), 6 s left"
    assert Progress.last_of(f"other\n{str(told).replace('500/', '100/')}\n{told}\n") == told
    assert Progress.last_of("vae-s0: evaluated") is None
    assert told.after(2.0).seen == 1000
    assert told.after(100.0).seen == 2000
    assert [duration(s) for s in (40, 720, 11_100)] == ["40 s", "12 min", "3 h 05 min"]


def test_screen_counts_trainings_and_estimates_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = time.time()
    monkeypatch.setattr(plugin.time, "time", lambda: clock)
    screen = plugin.Screen()
    screen.take(record("resources_info", cores=2))
    screen.take(record("run_info", stats={"train": 4, "figure_01": 1, "total": 5}))
    screen.take(started(1, "train", run="a-s0"))
    assert screen.seconds_left({}) is None
    clock += 30.0
    assert screen.take(record("job_finished", job_id=1)) is None
    screen.take(record("progress", done=1, total=5))
    # Three trainings of 30 s on two cores, a figure of which nothing is known.
    assert screen.seconds_left({}) == 45.0

    log = tmp_path / "b.log"
    screen.take(started(2, "train", log, run="b-s0"))
    log.write_text(f"{Progress('b-s0', 500, 2000, 50.0, 'neg_elbo', 123.45)}\n")
    os.utime(log, (clock, clock))
    text = shown(screen)
    assert "1 of 5 jobs · 1 of 4 trainings · 30 s so far · about 45 s left" in text
    assert "b-s0" in text
    assert "25%" in text
    assert "50/s −ELBO 123.5 30 s" in text

    screen.take(started(3, "figure_01"))
    assert "figure_01 0 s" in shown(screen)
    assert screen.take(record("job_finished", job_id=3)) == "figure_01  figure_01.out"


@pytest.mark.parametrize(
    ("terminal", "ci", "settings", "live"),
    [
        (True, False, {}, True),
        (False, False, {}, False),
        (True, True, {}, False),
        (True, False, {"quiet": {"all"}}, False),
        (True, False, {"dryrun": True}, False),
    ],
)
def test_snakemake_keeps_the_screen_where_bars_are_not_wanted(
    terminal: bool, ci: bool, settings: dict[str, Any], live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    if ci:
        monkeypatch.setenv("CI", "true")
    handler = plugin.LogHandler(SimpleNamespace(**QUIETLY | {"dryrun": False} | settings), None)
    assert handler.writes_to_stream is live
    handler.emit(record(msg="Building DAG of jobs..."))
    handler.emit(record(msg="Nothing to be done."))
    assert sys.stderr.getvalue() == ("Nothing to be done.\n" if live else "")
    handler.close()


@pytest.mark.parametrize("profile", sorted((ROOT / "profiles").glob("*/*.yaml")), ids=str)
def test_snakemake_finds_the_logger_of_the_profiles(profile: Path) -> None:
    assert yaml.safe_load(profile.read_text())["logger"] in LoggerPluginRegistry().plugins


def test_bars_leave_the_lines_of_finished_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    handler = BarHandler()
    half = Progress("vae-s0", 1000, 2000, 1e-9, "neg_elbo", 123.45)
    handler.emit(record(msg="vae-s0: training"))
    handler.emit(record(msg=half))
    assert "50%" in shown(handler._bars())
    handler.emit(record(msg=Progress("vae-s0", 2000, 2000, 1.0, "neg_elbo", 120.0)))
    assert "%" not in shown(handler._bars())
    lines = sys.stdout.getvalue().split()
    assert lines[:2] == ["vae-s0:", "training"]
    assert "2000/2000" in lines
