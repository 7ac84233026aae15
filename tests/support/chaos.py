"""`make chaos`: kill, corrupt and starve a workflow at random; compare it with one left in peace.

Everything random comes from a seed. Moments are counted in jobs begun, not in seconds, so that
they are as good on a slow machine. Compared are all bytes of the results but the seconds that
trainings took.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pandas as pd

from workflow_project import OUTPUT, Project, copy_project, kill

KINDS = ("kill", "end", "rival", "truncate", "flip", "delete", "full disk", "clock")
SECONDS = ("train_seconds", "wall_seconds", "core_seconds", "evaluate_seconds")
# Of these no two runs have the same; manifest.json is what `vaelab verify` compares with.
APART = ("logs", "benchmarks", "manifest.json")


@dataclass
class Disturbed:
    """A workflow in the smoke preset to which things happen.

    Attributes:
        project: where it runs.
        targets: what it makes.
        settings: values for --config.
        random: decides what happens and when.
        jobs: at most so many begin before an interruption.
        lost: files that had to be deleted. Snakemake does not miss those that nothing is made
            from any more, so they are targets from then on.
        began: when; older files stay undamaged.
    """

    project: Project
    targets: Sequence[str]
    settings: Sequence[str]
    random: Random
    jobs: int
    lost: set[str] = field(default_factory=set)
    began: float = field(default_factory=time.time)

    @property
    def results(self) -> Path:
        return self.project.folder / "results/smoke"

    @property
    def arguments(self) -> list[str]:
        return [*self.targets, *sorted(self.lost), "--config", *self.settings]

    def happens(self, kind: str) -> str:
        """Let a disturbance of a kind happen; what it was."""
        if kind in ("kill", "end", "rival"):
            return self._interruption(kind)
        if kind == "full disk":
            return self._full_disk()
        if kind == "clock":
            inputs = sorted(self.project.folder.glob("data/raw/*/*"))
            for path in inputs:
                os.utime(path, (time.time() + 3600,) * 2)
            return f"{len(inputs)} inputs dated an hour ahead"
        return self._damage(kind)

    def finish(self) -> None:
        """Let the workflow come to its end, after which nothing is left to do."""
        self.project.snakemake(*self.arguments)
        assert self.project.plan(*self.arguments).jobs == []

    def problems(self) -> list[str]:
        """What `vaelab verify` finds."""
        done = self.project.command("vaelab", "verify", "--config", *self.settings)
        lines = done.stdout.splitlines()
        assert lines[-1].endswith(" problems"), done.stdout
        return [line for line in lines[:-1] if not line.startswith("no hash on record")]

    def _interruption(self, kind: str) -> str:
        started = time.time()
        process = self.project.start(*self.arguments)

        def begun() -> int:
            logs = self.results.glob("logs/**/*.log")
            return sum(log.stat().st_mtime >= started for log in logs)

        wanted = self.random.randint(1, self.jobs)
        while begun() < wanted and process.poll() is None:
            time.sleep(0.05)
        time.sleep(self.random.uniform(0.0, 0.5))
        count, locks = begun(), self.project.folder / ".snakemake/locks"
        if process.poll() is not None:
            return f"{kind}: too late, all was done after {count} jobs"
        if kind == "rival":
            # The end of any workflow in this folder removes the locks of all.
            if self.random.random() < 0.5:
                shutil.rmtree(locks)
            refused = self.project.command("snakemake", *self.arguments, "--cores", "1")
            assert refused.returncode == 1, refused.stdout
            refusals = "another workflow is at work", "Directory cannot be locked"
            assert any(text in refused.stdout for text in refusals), refused.stdout
            assert process.poll() is None
        if kind == "kill":
            kill(process)
            self.project.command("snakemake", "--unlock", "--config", *self.settings)
            return f"SIGKILL of everything after {count} jobs had begun"
        number = self.random.choice((signal.SIGTERM, signal.SIGHUP, signal.SIGINT))
        process.send_signal(number)
        assert process.wait(300) == 1
        assert not [*locks.glob("*")]
        assert "Traceback (most recent" not in (self.project.folder / OUTPUT).read_text()
        refused = "a second workflow was refused, then " if kind == "rival" else ""
        return f"{refused}{number.name} after {count} jobs had begun"

    def _damage(self, kind: str) -> str:
        """Damage a file and keep its date; `vaelab verify` has to name it, so it is deleted."""
        files = [
            path
            for path in _files(self.results)
            if path.stat().st_mtime > self.began and path.name != "index.html"
        ]
        if not files:
            return f"{kind}: nothing is there yet"
        path = self.random.choice(files)
        before, content = path.stat(), bytearray(path.read_bytes())
        at = self.random.randrange(len(content))
        if kind == "truncate":
            path.write_bytes(content[:at])
        elif kind == "flip":
            content[at] ^= 1 << self.random.randrange(8)
            path.write_bytes(content)
        else:
            path.unlink()
        if path.exists():
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        name = path.relative_to(self.project.folder).as_posix()
        run = path.parent.name if "runs" in path.parts else path.name.partition(".")[0]
        # What is on record of a run whose provenance is lost is lost with it.
        named = name, f"results/smoke/runs/{run}/provenance.json"
        expected = tuple(f"{state}: {file}" for file in named for state in ("damaged", "missing"))
        found = self.problems()
        assert any(line.startswith(expected) for line in found), (kind, name, found)
        path.unlink(missing_ok=True)
        self.lost.add(name)
        return f"{kind} at byte {at} of {name}" if kind != "delete" else f"delete {name}"

    def _full_disk(self) -> str:
        """Results on a file system with little room; needs root."""
        results = self.results.parent
        aside = results.rename(results.with_name("aside"))
        used = int(subprocess.check_output(["du", "-sk", aside], text=True).split()[0])
        size = used + self.random.randint(100, 500)
        results.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(results)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            results.rmdir()
            aside.rename(results)
            return "full disk: left out, for it needs root"
        try:
            subprocess.run(["cp", "-a", f"{aside}/.", str(results)], check=True)
            done = self.project.command("snakemake", *self.arguments, "--cores", "2")
            shutil.rmtree(aside)
            subprocess.run(["cp", "-a", str(results), str(aside)], check=True)
        finally:
            subprocess.run(["umount", str(results)], check=True)
        results.rmdir()
        aside.rename(results)
        if done.returncode == 0:
            return f"full disk: {size - used} kB were enough for all"
        assert "No space left" in done.stdout, done.stdout
        return f"a full disk after {size - used} kB"


def differences(calm: Project, disturbed: Project, *settings: str) -> tuple[int, list[str]]:
    """How many files the results have, and the names of those that are not the same.

    The seconds of trainings are taken out of both, and the page, which says them, is made again.
    """
    folders = [project.folder / "results/smoke" for project in (calm, disturbed)]
    for project, folder in zip((calm, disturbed), folders, strict=True):
        for path in folder.glob("runs/*/provenance.json"):
            record = json.loads(path.read_text())
            for key in SECONDS:
                record[key] = 0.0
            record["files"] = dict.fromkeys(record["files"])
            path.write_text(json.dumps(record))
        for path in folder.glob("runs/*/history.csv"):
            pd.read_csv(path, dtype=str).assign(seconds="0").to_csv(path, index=False)
        if (folder / "index.html").exists():
            done = project.command("vaelab", "review", "--config", *settings)
            assert done.returncode == 0, done.stdout
    ours, theirs = ({p.relative_to(f): p.read_bytes() for p in _files(f)} for f in folders)
    names = ours.keys() | theirs.keys()
    return len(names), sorted(str(n) for n in names if ours.get(n) != theirs.get(n))


def _files(results: Path) -> list[Path]:
    """The files of results, without those that tell of the run and those left by a kill."""
    return sorted(
        path
        for path in results.rglob("*")
        if path.is_file()
        and path.relative_to(results).parts[0] not in APART
        and not any(part.startswith(".") for part in path.relative_to(results).parts)
    )


def main() -> None:
    """See the module; status 1 where results differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=["all", "models"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1, help="times that each kind happens")
    given = parser.parse_args()
    random, settings = Random(given.seed), ("preset=smoke",)
    with tempfile.TemporaryDirectory(prefix="vaelab-chaos-") as folder:
        calm, disturbed = (copy_project(Path(folder) / name) for name in ("calm", "disturbed"))
        start = time.monotonic()

        def say(text: str) -> None:
            print(f"{time.monotonic() - start:6.0f} s  {text}", flush=True)

        say(f"seed {given.seed}: {' '.join(given.targets)} of preset smoke, in peace")
        jobs = len(calm.plan(*given.targets, "--config", *settings).jobs)
        calm.snakemake(*given.targets, "--config", *settings)
        chaos = Disturbed(disturbed, given.targets, settings, random, jobs=max(1, jobs // 4))
        kinds = list(KINDS) * given.rounds
        random.shuffle(kinds)
        # There has to be something to damage.
        for kind in ("kill", *kinds):
            say(chaos.happens(kind))
        chaos.finish()
        problems = chaos.problems()
        if "all" not in given.targets:
            problems = [line for line in problems if not line.startswith("missing: ")]
        count, differing = differences(calm, disturbed, *settings)
        say(f"{count - len(differing)} of {count} files are the same, byte for byte")
    for line in (*problems, *differing):
        print(line)
    sys.exit(bool(problems or differing))


if __name__ == "__main__":
    main()
