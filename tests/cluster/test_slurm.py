"""The workflow on a real Slurm of three nodes, which the tests start on this machine.

One training in the slurm-gpu profile first gets too little memory. With VAELAB_TEST_SLURM=1 the
whole workflow also runs through the slurm profile, while a node is drained, a job cancelled and the
controller restarted, and has to end with the files of a local run.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from slurm_cluster import NODES, Cluster, cluster, missing, wait_until
from workflow_project import OUTPUT, Project, copy_project, kill

REASON = missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
SWITCH = "VAELAB_TEST_SLURM"

SMOKE = ("--config", "preset=smoke")
# This Slurm answers at once, and its nodes share one disk.
QUICKLY = ("--latency-wait", "10", "--slurm-init-seconds-before-status-checks", "2")
# What depends on nothing but settings, seeds and data.
SAME = (
    *("checkpoints/*.safetensors", "runs/*/metrics.json", "runs/*/history.csv"),
    *("runs/*/arrays.npz", "runs/*/likelihood*.csv", "search/*.json"),
    *("figures/*", "tables/*", "claims.*", "metrics.json", "measures.json"),
)
IN_TIME = 1200
"""Seconds after which something hangs; a quiet machine of two cores needs an eighth of them."""


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    """A running cluster; its variables are set for all that the tests of this file start."""
    # The path of a socket is short, and pytest's folders are not.
    with (
        tempfile.TemporaryDirectory(prefix="slurm-") as folder,
        cluster(Path(folder)) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


class Watch:
    """What can be seen of a run while it goes on."""

    def __init__(self, project: Project, slurm: Cluster) -> None:
        self.runs, self.slurm = project.folder / "results/smoke/runs", slurm
        self.trainings: dict[str, set[str]] = defaultdict(set)
        """Evaluated run -> provenances that were seen; each training writes another."""
        self.nodes: dict[str, set[str]] = defaultdict(set)
        """Slurm job -> nodes on which it was seen."""
        self.states: dict[str, str] = {}
        """Slurm job -> state in which it was last seen."""

    def look(self) -> None:
        for file in self.runs.glob("*/metrics.json"):
            provenance = file.with_name("provenance.json").read_text()
            self.trainings[file.parent.name].add(provenance)
        try:
            listed = self.slurm.command("squeue", "--noheader", "--states=all", "--format=%i %T %N")
        except RuntimeError:
            return  # The controller is away.
        for line in listed.splitlines():
            job, state, *node = line.split()
            self.states[job] = state
            self.nodes[job].update(node)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Go on looking until something is the case."""

        def holds() -> bool:
            self.look()
            return condition()

        wait_until(holds, what, IN_TIME)


class Disturbed(NamedTuple):
    """A run of everything that was disturbed, and what was seen of it."""

    project: Project
    watch: Watch
    output: str
    drained: set[str]
    """Jobs that were on the node when it was drained."""
    while_drained: set[str]
    """Jobs that were on the node before it was taken back."""
    cancelled: str
    finished_before: set[str]
    """Trainings of the cancelled job that were over before."""
    seconds: float


def group_of(project: Project, slurm: Cluster, job: str) -> set[str]:
    """The runs that a Slurm job trains."""
    text = slurm.command("scontrol", "--oneliner", "show", "job", job)
    log = Path(re.search(r"StdOut=(\S+)", text)[1])
    return set(re.findall(r"train\w*:run=(\S+)", log.read_text())) if log.exists() else set()


@pytest.fixture(scope="module")
def disturbed(slurm: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    """`all` through the slurm profile with everything that can happen."""
    if not os.environ.get(SWITCH):
        pytest.skip(f"`all` through Slurm takes six minutes by itself; {SWITCH}=1 runs it")
    project = copy_project(tmp_path_factory.mktemp("slurm") / "project")
    started = time.monotonic()
    process = project.start(
        *("--workflow-profile", "profiles/slurm", "all", *QUICKLY, *SMOKE), cores=None
    )
    watch = Watch(project, slurm)

    def alive() -> bool:
        if process.poll() is not None:
            raise AssertionError((project.folder / OUTPUT).read_text())
        return True

    try:
        # A node is drained: its job may end, it gets no other.
        watch.until(lambda: alive() and len(watch.trainings) >= 2, "two trainings")
        node = slurm.command("squeue", "--noheader", "--states=running", "--format=%N").split()[0]
        drained = set(slurm.jobs("running", node))
        slurm.command("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")

        # A job is cancelled when it has trained a part of its runs.
        def victim() -> tuple[str, set[str]] | None:
            for job in slurm.jobs("running"):
                group = group_of(project, slurm, job)
                done = {run for run in group if watch.trainings.get(run)}
                if done and len(done) < len(group) - 1:
                    return job, done
            return None

        watch.until(lambda: alive() and victim() is not None, "a job half done")
        cancelled, finished = victim()
        slurm.command("scancel", cancelled)

        # The controller goes away and comes back, while jobs end and others wait.
        watch.until(lambda: alive() and len(watch.trainings) >= 20, "twenty trainings")
        slurm.stop("slurmctld")
        away = time.monotonic() + 3
        watch.until(lambda: alive() and time.monotonic() > away, "three seconds")
        slurm.start_controller()

        watch.until(lambda: alive() and len(watch.trainings) >= 35, "35 trainings")
        while_drained = {job for job, nodes in watch.nodes.items() if node in nodes}
        slurm.command("scontrol", "update", f"nodename={node}", "state=resume")
        watch.until(lambda: process.poll() is not None, "the end")
        seconds = time.monotonic() - started
    finally:
        if process.poll() is None:
            kill(process)
    output = (project.folder / OUTPUT).read_text()
    assert process.returncode == 0, output
    return Disturbed(project, watch, output, drained, while_drained, cancelled, finished, seconds)


def content(path: Path) -> bytes:
    """A file, but of a history not the seconds, its second column."""
    if path.name != "history.csv":
        return path.read_bytes()
    rows = [line.split(",") for line in path.read_text().splitlines()]
    assert rows[0][1] == "seconds"
    return "\n".join(",".join(row[:1] + row[2:]) for row in rows).encode()


def files(project: Project) -> dict[str, bytes]:
    folder = project.folder / "results/smoke"
    return {
        str(path.relative_to(folder)): content(path)
        for pattern in SAME
        for path in folder.glob(pattern)
    }


def test_results_are_those_of_a_local_run(disturbed: Disturbed, finished_smoke: Project) -> None:
    ours, local = files(disturbed.project), files(finished_smoke)
    assert len(local) > 240
    assert set(ours) == set(local)
    assert [name for name in local if ours[name] != local[name]] == []
    page = disturbed.project.folder / "results/smoke/index.html"
    assert page.stat().st_size > 100_000
    print(f"through Slurm, disturbed: {disturbed.seconds:.0f} s")


def test_nothing_is_lost_or_trained_twice(disturbed: Disturbed) -> None:
    runs = disturbed.project.folder / "results/smoke/runs"
    assert set(disturbed.watch.trainings) == {folder.name for folder in runs.iterdir()}
    several = {run for run, seen in disturbed.watch.trainings.items() if len(seen) != 1}
    assert several == set()


def test_cancelled_job_is_repeated_without_what_it_had_done(disturbed: Disturbed) -> None:
    assert disturbed.watch.states[disturbed.cancelled] == "CANCELLED"
    assert disturbed.finished_before
    for run in disturbed.finished_before:
        log = disturbed.project.folder / f"results/smoke/logs/train/{run}.log"
        assert f"{run}: REUSED" in log.read_text()


def test_drained_node_ends_its_job_and_gets_no_other(disturbed: Disturbed) -> None:
    assert len(disturbed.drained) == 1
    before = max(map(int, disturbed.drained))
    assert {job for job in disturbed.while_drained if int(job) > before} == set()


def test_jobs_spread_over_the_nodes_in_groups(disturbed: Disturbed) -> None:
    used = Counter(node for nodes in disturbed.watch.nodes.values() for node in nodes)
    assert set(used) == set(NODES)
    # Seven groups of trainings and one repeated, three of drawings, six jobs alone, the summary.
    assert int(re.findall(r"of (\d+) steps", disturbed.output)[-1]) > 75
    assert 10 < len(disturbed.watch.nodes) <= 20
    assert (disturbed.project.folder / "results/smoke/logs/fetch_mnist.log").is_file()


def test_job_over_its_memory_is_repeated_with_more(
    slurm: Cluster, tmp_path: Path, finished_smoke: Project
) -> None:
    """In the slurm-gpu profile: it asks for a GPU, and without CUDA goes on on the CPU."""
    project = copy_project(tmp_path / "project")
    weights = "results/smoke/checkpoints/arch_50_4-s0.safetensors"
    process = project.start(
        *("--workflow-profile", "profiles/slurm-gpu", weights, *QUICKLY),
        # A training takes 600 MB.
        *(
            "--set-resources",
            "train_architecture:gpu=1",
            "train_architecture:mem_mb=250 * 8 ** (attempt - 1)",
        ),
        *SMOKE,
        cores=None,
    )
    assert process.wait(IN_TIME) == 0, (project.folder / OUTPUT).read_text()
    columns = "State:20,MinMemory:20,tres-per-job:20,Comment:60"
    listed = slurm.command(
        "squeue", "--noheader", "--states=all", "--sort=i", f"--Format={columns}"
    )
    tried = [line.split() for line in listed.splitlines() if "trainings" in line][-2:]
    assert [memory for _, memory, *_ in tried] == ["250M", "2000M"]
    assert tried[0][0] in ("FAILED", "OUT_OF_MEMORY", "CANCELLED")
    assert tried[1][0] == "COMPLETED"
    assert all("gpu:1" in gpus for _, _, gpus, _ in tried)
    logs = project.folder.glob(".snakemake/slurm_logs/*/*.log")
    assert any("exceeded memory limit" in path.read_text() for path in logs)
    assert (project.folder / weights).read_bytes() == (finished_smoke.folder / weights).read_bytes()
