"""Copies of the project, and Snakemake in them: plans (dry runs) and real runs.

Run as a script it answers many dry runs from one process, which imports Snakemake once.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).parents[2]
PRESETS = ("faithful", "modern", "paper", "quick", "smoke")
"""The presets of the repository; a checkout may also hold presets of its user."""
LEFT_TO_THE_WORKFLOW = (
    "vae",
    "cvae_onehot",
    "vqvae",
    "ml_n1000",
    "mnist_d2",
    "frey_d2",
    "arch_500_4",
)
"""What jobs train in the run that tests share, some for each rule; commands train the rest."""
MIRROR_VARIABLE = "VAELAB_DATA_MIRROR"
OUTPUT = "snakemake.out"
"""The file to which a workflow in the background prints."""

_FETCHED = [ROOT / "data/raw"]
"""Where data of this machine may be; who names no mirror has them downloaded once a process."""

# The jobs of a group are indented below the name of the group.
_GROUP = re.compile(r".*Group job (\w+) \(.*\):")
_RULE = re.compile(r"(    )?(?:local)?(?:rule|checkpoint) (\w+):")
_FIELD = re.compile(r"    (?:    )?(\w+): (.*)")


@dataclass(frozen=True)
class Job:
    """A job of a plan: its rule, its group in the queue, and what Snakemake prints about it."""

    rule: str
    group: str | None = None
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def run(self) -> str | None:
        """Id of the run that it trains, if it does."""
        found = re.search(r"run=([\w-]+)", self.fields.get("wildcards", ""))
        return found and found[1]

    @property
    def inputs(self) -> list[str]:
        """The paths it reads."""
        return self.fields.get("input", "").split(", ")

    @property
    def outputs(self) -> list[str]:
        """The paths it writes."""
        return [path.removesuffix(" (update)") for path in self.fields["output"].split(", ")]

    @property
    def resources(self) -> dict[str, str]:
        """Resources by name."""
        return dict(pair.split("=", 1) for pair in self.fields["resources"].split(", "))


@dataclass(frozen=True)
class Plan:
    """What a dry run prints.

    Attributes:
        status: exit status.
        text: its output.
        modules: the Python modules that it had loaded at its end.
    """

    status: int
    text: str
    modules: frozenset[str] = frozenset()

    @cached_property
    def jobs(self) -> list[Job]:
        """The planned jobs."""
        assert self.status == 0, self.text
        jobs: list[Job] = []
        group = None
        for line in self.text.splitlines():
            if name := _GROUP.fullmatch(line):
                group = name[1]
            elif header := _RULE.fullmatch(line):
                jobs.append(Job(header[2], group if header[1] else None))
            elif jobs and (entry := _FIELD.fullmatch(line)):
                jobs[-1].fields[entry[1]] = entry[2]
        assert bool(jobs) != ("Nothing to be done" in self.text), self.text
        return jobs

    @property
    def rules(self) -> Counter[str]:
        """Jobs per rule; the two rules that train count as `train`."""
        return Counter("train" if job.run else job.rule for job in self.jobs)

    @property
    def trained(self) -> set[str]:
        """Ids of the runs with a training job."""
        return {job.run for job in self.jobs if job.run}


@dataclass(frozen=True)
class Project:
    """A copy of the project that uses its own sources, never those of the original."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of the commands run in it."""
        # Without compiled files each of hundreds of commands would compile the sources anew.
        strange = ("VAELAB_", "SNAKEMAKE_", "PYTEST_", "PYTHONDONTWRITEBYTECODE")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(strange)}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        extra = {"PATH": path, "PYTHONPATH": str(self.folder / "src")}
        fetched = (str(folder) for folder in _FETCHED if (folder / "mnist/source.json").is_file())
        mirror = os.environ.get(MIRROR_VARIABLE) or next(fetched, None)
        return kept | extra | ({MIRROR_VARIABLE: mirror} if mirror else {})

    def command(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; returns stdout and stderr as one text."""
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def snakemake(self, *arguments: str, cores: int = 2) -> str:
        """Run the workflow to its end, which must be a success, and return what it prints."""
        done = self.command("snakemake", *arguments, "--cores", str(cores))
        logs = self.folder.glob("results/*/logs/**/*.log")
        assert done.returncode == 0, done.stdout + "".join(
            f"\n{path}:\n{path.read_text()}" for path in logs if str(path.name) in done.stdout
        )
        _FETCHED.append(self.folder / "data/raw")
        return done.stdout

    def start(self, *arguments: str, cores: int | None = 2) -> subprocess.Popen[bytes]:
        """Start the workflow in the background; without `cores` the profile decides."""
        given = [] if cores is None else ["--cores", str(cores)]
        with open(self.folder / OUTPUT, "wb") as output:
            return subprocess.Popen(
                ["snakemake", *arguments, *given],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=_take_signals,
            )

    def plan(self, *arguments: str) -> Plan:
        """One dry run."""
        return self.plans({"it": arguments})["it"]

    def plans(self, queries: Mapping[str, Sequence[str]]) -> dict[str, Plan]:
        """Dry runs by name; the command lines come without `--dry-run`."""
        done = subprocess.run(
            [sys.executable, __file__],
            cwd=self.folder,
            env=self.environment,
            input=json.dumps({name: list(arguments) for name, arguments in queries.items()}),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return {
            name: Plan(answer["status"], answer["text"], frozenset(answer["modules"]))
            for name, answer in json.loads(done.stdout).items()
        }

    def copy(self, folder: Path) -> Project:
        """A copy with the results and all that Snakemake knows about them, times included."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)


def _take_signals() -> None:
    """Let a process be ended, where who runs the tests ignores signals, as nohup and a shell do."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def copy_project(folder: Path) -> Project:
    """Copy the files that are or would be under version control, without data and results."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        # Those that are published are under version control as well.
        if (ROOT / name).is_file() and not name.startswith("results/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return Project(folder)


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, with a committer of its own, and return what it prints."""
    identity = ("-c", "user.name=A. Tester", "-c", "user.email=tester@example.org")
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def commit(folder: Path, message: str, *, start: bool = False) -> None:
    """Commit everything that git does not ignore; with `start` in a new repository."""
    if start:
        git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", message)


def stop(member: psutil.Process) -> list[psutil.Process]:
    """Stop a process, then its descendants; returns those that had not ended by themselves.

    A stopped process starts no other, so that none is missed that began meanwhile.
    """
    try:
        member.suspend()
        children = member.children()
    except psutil.NoSuchProcess:
        return []
    return [member, *(stopped for child in children for stopped in stop(child))]


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all its descendants with SIGKILL."""
    family = stop(psutil.Process(process.pid))
    for member in family:
        member.kill()
    psutil.wait_procs(family)
    process.wait()


def preset_rows(preset: str) -> list[dict[str, Any]]:
    """The rows of config/runs.tsv that a preset trains, with its recipe, as plain cells."""
    settings = yaml.safe_load((ROOT / f"config/presets/{preset}.yaml").read_text())
    recipe = settings["training"]
    baselines = settings.get("baselines", True)

    def switched_on(row: Mapping[str, str]) -> bool:
        if row["when"] == "baselines":
            return baselines if isinstance(baselines, bool) else row["run"] in baselines
        return row["when"] == "always" or bool(settings.get(row["when"]))

    with open(ROOT / "config/runs.tsv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    return [
        row
        | recipe.get("default", {})
        | recipe.get("groups", {}).get(row["group"], {})
        | recipe.get("runs", {}).get(row["run"], {})
        for row in rows
        if switched_on(row)
    ]


def holders(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Run name -> the first run that is the same training. Only likelihood runs are special."""
    first: dict[str, str] = {}
    result = {}
    for row in rows:
        same = {k: v for k, v in row.items() if k not in ("run", "group", "when")}
        same["snapshots"] = row["group"] == "likelihood"
        result[row["run"]] = first.setdefault(json.dumps(same, sort_keys=True), row["run"])
    return result


def _answer() -> None:
    """Read command lines from stdin, dry-run each in a forked child, write what they print."""
    from snakemake.cli import main
    from snakemake.workflow import Workflow

    queries = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as scratch:
        running: dict[int, str] = {}
        status: dict[str, int] = {}

        def wait_for_one() -> None:
            process, code = os.wait()
            status[running.pop(process)] = os.waitstatus_to_exitcode(code)

        for name, arguments in queries.items():
            if len(running) == (os.cpu_count() or 1):
                wait_for_one()
            if process := os.fork():
                running[process] = name
                continue
            text = os.open(f"{scratch}/{name}", os.O_CREAT | os.O_WRONLY)
            os.dup2(text, 1)
            os.dup2(text, 2)
            code = 1
            # A dry run is local and would not show what a cluster gets.
            Workflow.non_local_exec = "--workflow-profile" in arguments
            try:
                # More cores than any job requests, so that no job gets fewer.
                main([*arguments, "--dry-run", "--cores", "8"])
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                Path(f"{scratch}/{name}.modules").write_text(json.dumps(sorted(sys.modules)))
                sys.stdout.flush()
                os._exit(code)
        while running:
            wait_for_one()
        answers = {
            name: {
                "status": code,
                "text": Path(f"{scratch}/{name}").read_text(),
                "modules": json.loads(Path(f"{scratch}/{name}.modules").read_text()),
            }
            for name, code in status.items()
        }
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    _answer()
