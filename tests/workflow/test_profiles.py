"""The profiles of clusters: what they plan, and PBS's commands with stand-ins for them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from workflow_project import OUTPUT, ROOT, Plan, Project, copy_project

SMOKE = ("--config", "preset=smoke")
RUN = "results/smoke/runs/arch_50_4-s0/metrics.json"

# A queue of one machine: qsub starts a job at once, but loses the first, as a node that fails does.
QSUB = """\
#!/bin/sh
cd {folder}
for script; do :; done
echo "$*" >> submitted
id=$(grep -c . submitted)
if [ "$id" = 1 ]; then echo 271 > 1.status; else
  (sh "$script" > "$id.log" 2>&1; echo $? > "$id.status") > /dev/null 2>&1 &
fi
echo "$id.server"
"""
QSTAT = """\
#!/bin/sh
cd {folder}
for id; do :; done
id=${{id%.server}}
echo "Job Id: $id.server"
echo "    Job_Name = snakejob"
if [ -e "$id.status" ]; then
  echo "    job_state = F"
  echo "    Exit_status = $(cat "$id.status")"
else
  echo "    job_state = R"
fi
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copy_project(tmp_path_factory.mktemp("profiles") / "project")


@pytest.fixture(scope="module")
def plans(project: Project) -> dict[str, Plan]:
    """Plans by profile, of `all` in the smoke preset.

    A job that states no memory or no time has 1 of each.
    """
    nothing = ("--default-resources", "mem_mb=1", "runtime=1")
    return project.plans(
        {
            name: ("all", "--workflow-profile", f"profiles/{name}", *nothing, *SMOKE)
            for name in ("slurm", "slurm-gpu", "cluster-generic")
        }
    )


def test_gpus_are_asked_for_by_the_profile_not_by_the_login_node(plans: dict[str, Plan]) -> None:
    for name, gpus in (("slurm", "0"), ("slurm-gpu", "1"), ("cluster-generic", "0")):
        trainings = [job for job in plans[name].jobs if job.run]
        assert len(trainings) > 40
        assert {job.resources["gpu"] for job in trainings} == {gpus}, name


def test_every_job_of_a_queue_states_memory_and_time(plans: dict[str, Plan]) -> None:
    for name in ("slurm", "slurm-gpu", "cluster-generic"):
        queued = [job for job in plans[name].jobs if "benchmark" in job.fields]
        assert {"train", "classifier", "figure_01", "table_1", "page"} <= {j.rule for j in queued}
        for job in queued:
            assert int(job.resources["mem_mb"]) > 1, job.rule
            assert int(job.resources["runtime"]) > 1, job.rule


def test_short_jobs_queue_together(plans: dict[str, Plan]) -> None:
    """Which those are is for test_planning."""
    groups = Counter(job.group for job in plans["slurm"].jobs if job.run)
    assert sum(groups.values()) > 50
    assert set(groups.values()) <= {7, 8}
    drawn = {j.group for j in plans["slurm"].jobs if re.match(r"(figure|table)_\d", j.rule)}
    assert drawn >= {"drawing_0", "drawing_1", "drawing_2"}


def test_jobs_go_through_the_commands_of_another_queue(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, script in (("qsub", QSUB), ("qstat", QSTAT)):
        command = tmp_path / name
        command.write_text(script.format(folder=tmp_path))
        command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    process = project.start(
        *("--workflow-profile", "profiles/cluster-generic", RUN, "--latency-wait", "10", *SMOKE),
        cores=None,
    )
    assert process.wait(600) == 0, (project.folder / OUTPUT).read_text()
    assert (project.folder / RUN).is_file()
    # The data were fetched without the queue; the training that was lost was given more.
    lost, again = (tmp_path / "submitted").read_text().splitlines()
    assert "select=1:ncpus=1:mem=2000mb" in lost
    assert "select=1:ncpus=1:mem=4000mb" in again
    minutes = [int(re.search(r"walltime=0:(\d+):0", line)[1]) for line in (lost, again)]
    assert minutes[1] == 2 * minutes[0]


@pytest.fixture
def sacct(tmp_path: Path) -> Callable[..., str]:
    """Ask this workflow's sacct, found through a link, on a machine with the given commands."""
    folder = tmp_path / "linked"
    folder.symlink_to(ROOT / "workflow/slurm")
    arguments = ("-X", "--format=JobIdRaw,State", "--name", "abc")

    def ask(given: Sequence[str] = arguments, **commands: str) -> str:
        machine = tmp_path / "machine"
        machine.mkdir()
        for name, script in commands.items():
            (machine / name).write_text(f"#!/bin/sh\n{script}\n")
            (machine / name).chmod(0o755)
        # Nothing else, so that no Slurm of the machine that runs the test is found.
        (machine / "which").symlink_to(shutil.which("which"))
        path = os.pathsep.join([str(folder), str(machine)])
        return subprocess.check_output(["sacct", *given], text=True, env={"PATH": path})

    return ask


def test_jobs_elsewhere_do_not_find_it() -> None:
    assert [path.name for path in (ROOT / "workflow/bin").iterdir()] == ["vaelab"]


def test_machine_without_sacct_asks_the_queue(sacct: Callable[..., str]) -> None:
    assert sacct(squeue='echo "7|$5"') == "7|abc\n"


def test_sacct_that_answers_is_believed(sacct: Callable[..., str]) -> None:
    assert sacct(sacct='echo "$4 7|COMPLETED"; echo "8|FAILED"', squeue="exit 1") == (
        "abc 7|COMPLETED\n8|FAILED\n"
    )


def test_queue_answers_where_sacct_does_not(sacct: Callable[..., str]) -> None:
    queue = '[ "$*" = "--noheader --states=all --format=%i|%T --name abc" ] && echo "7|RUNNING"'
    disabled = "echo 'accounting storage is disabled' >&2; exit 1"
    assert sacct(sacct=disabled, squeue=queue) == "7|RUNNING\n"


def test_other_questions_are_not_for_the_queue(sacct: Callable[..., str]) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        sacct(["--version"], sacct="exit 1", squeue="echo wrong")
