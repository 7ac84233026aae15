"""Published smoke results in clones: restored, rebuilt without training, retrained if changed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from vaelab.cli import main
from vaelab.util.io import file_sha256
from versioned_project import dvc_says, skip_without_dvc
from workflow_project import Plan, Project, commit, git, holders, preset_rows

SMOKE = ("--config", "preset=smoke")
RUN_IDS = {f"{name}-s0" for name in holders(preset_rows("smoke")).values()}
# What is made again: something of each kind.
TARGETS = ("figure_06", "figure_13", "table_1", "table_2", "table_3", "claims")
DELETED = ("figures/figure_06.*", "figures/figure_13.*", "tables/table_*", "claims.*", "nll.json")
TRAINING = re.compile(
    r"^(?:local)?rule (train|train_likelihood|classifier|fetch_\w+):", re.MULTILINE
)

pytestmark = skip_without_dvc


def rebuilt(project: Project) -> dict[str, str]:
    """SHA-256 of what is made of the runs: tables, figures, claims, numbers."""
    folder = project.folder / "results/smoke"
    paths = [*folder.glob("tables/*"), *folder.glob("figures/*"), *folder.glob("*.json")]
    paths += [*folder.glob("search/*"), folder / "claims.csv"]
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in paths}


def dvc_files(project: Project) -> dict[Path, int]:
    """Files in DVC's folder; every command that reads or writes data leaves a trace there."""
    paths = (project.folder / ".dvc").rglob("*")
    return {path: path.stat().st_mtime_ns for path in paths if path.is_file()}


class Restored(NamedTuple):
    """A project whose results are published and a clone of it, restored and rebuilt."""

    published: Project
    clone: Project
    said: str
    """By `vaelab restore`."""
    plan: Plan
    """Of `all` in the restored clone."""
    changed: Plan
    """The same with another learning rate for one run."""
    output: str
    """Of TARGETS in the clone, whose files had been deleted there."""
    training_logs: dict[str, str]
    """What was in the logs of trainings in the clone then."""
    calls: str
    """Commands with which DVC was called meanwhile."""
    traces: tuple[dict[Path, int], dict[Path, int]]
    """Files of DVC in the clone before and after it."""


@pytest.fixture(scope="module")
def restored(
    finished_smoke: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Restored]:
    """See Restored.

    The clone is made as on Windows, where git would write CRLF; .gitattributes has LF all the same.
    """
    folder = tmp_path_factory.mktemp("restored")
    published = finished_smoke.copy(folder / "published")
    ignored = published.folder / ".gitignore"
    ignored.write_text(ignored.read_text().replace("/results/smoke/\n", ""))
    done = published.command("vaelab", "publish", *SMOKE)
    assert done.returncode == 0, done.stdout
    commit(published.folder, "Publish smoke")
    clone = Project(folder / "clone")
    crlf = ("-c", "core.autocrlf=true", "-c", "core.eol=crlf")
    git(folder, *crlf, "clone", "--quiet", str(published.folder), str(clone.folder))
    done = clone.command("vaelab", "restore", *SMOKE)
    assert done.returncode == 0, done.stdout
    said = done.stdout
    change = "training={runs: {beta50: {learning_rate: 0.5}}}"
    plans = clone.plans({"all": ("all", *SMOKE), "changed": ("all", *SMOKE, change)})
    stub = clone.folder.parent / "bin/dvc"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\nexit 1\n')
    stub.chmod(0o755)
    before = dvc_files(clone)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(stub.parent), prepend=":")
        for pattern in DELETED:
            for path in (clone.folder / "results/smoke").glob(pattern):
                path.unlink()
        output = clone.snakemake(*TARGETS, *SMOKE)
    logs = (clone.folder / "results/smoke/logs/train").glob("*")
    calls = folder / "calls"
    yield Restored(
        published,
        clone,
        said,
        plans["all"],
        plans["changed"],
        output,
        {path.name: path.read_text() for path in logs},
        calls.read_text() if calls.exists() else "",
        (before, dvc_files(clone)),
    )
    shutil.rmtree(folder)


def test_restored_clone_trains_nothing(restored: Restored) -> None:
    assert f"smoke: {len(RUN_IDS)} runs are as published" in restored.said
    assert "mnist: restored" in restored.said
    assert restored.plan.trained == set()
    assert {"figure_01", "table_1", "claims", "page"} <= set(restored.plan.rules)
    assert not TRAINING.findall(restored.output)
    # Snakemake makes the logs of what it only touches, too.
    assert set(restored.training_logs.values()) == {""}


def test_restored_clone_rebuilds_every_byte(restored: Restored) -> None:
    assert rebuilt(restored.clone) == rebuilt(restored.published)
    assert len(rebuilt(restored.clone)) > 30
    assert restored.clone.plan(*TARGETS, *SMOKE).jobs == []


def test_restored_clone_stays_clean(restored: Restored) -> None:
    assert git(restored.clone.folder, "status", "--porcelain") == ""
    assert "w/crlf" not in git(restored.clone.folder, "ls-files", "--eol")
    assert "up to date" in dvc_says(restored.clone.folder, "status")


@pytest.mark.usefixtures("process_settings")
def test_require_cached_is_met_by_a_restored_clone(restored: Restored) -> None:
    with chdir(restored.clone.folder):
        done = CliRunner().invoke(main, ["train", "vae", *SMOKE, "require_cached=true"])
    assert done.exit_code == 0, done.output
    assert "vae-s0: REUSED" in done.output


def test_changed_learning_rate_retrains_its_run_alone(restored: Restored) -> None:
    """Although Snakemake did not run the trainings of the clone, it knows their settings."""
    assert restored.changed.trained == {"beta50-s0"}
    assert "classifier" not in restored.changed.rules


def test_a_run_does_not_call_dvc(restored: Restored) -> None:
    """DVC locks its repository: what called it would fail beside another run that does."""
    assert restored.calls == ""
    before, after = restored.traces
    assert before == after


def test_without_a_remote_everything_is_trained(restored: Restored, tmp_path: Path) -> None:
    git(tmp_path, "clone", "--quiet", str(restored.published.folder), "alone")
    alone = Project(tmp_path / "alone")
    done = alone.command("vaelab", "restore", *SMOKE)
    assert done.returncode == 0, done.stdout
    assert "the remote 'local' has nothing of it; the workflow will train" in done.stdout
    assert "mnist: not at the remote; the workflow will fetch it from its sources" in done.stdout
    assert alone.plan("all", *SMOKE).trained == RUN_IDS
