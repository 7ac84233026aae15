"""Restore and publish on made-up results: what is refused, named, left alone and brought back."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_server import small_frey, small_mnist
from vaelab.data import DATASETS, fetch_dataset, load
from vaelab.data.pointers import folder_md5, pointer_path
from vaelab.publishing import dvc
from vaelab.publishing.restore import UNTOLD
from vaelab.util.errors import VaelabError
from vaelab.util.io import file_sha256, one_at_a_time, read_json, write_json
from versioned_project import (
    Versioned,
    dvc_says,
    free_port,
    make_project,
    needs_dvc,
    s3_remote,
    ssh_remote,
)
from workflow_project import ROOT, commit, git

RUNS = ("arch_500_4-s0", "ml_n1000-s0", "vae-s0")
HELD = {f"checkpoints/{run}.safetensors" for run in RUNS}
HELD |= {f"runs/{run}/arrays.npz" for run in RUNS}
HELD |= {"checkpoints/ml_n1000-s0.snapshots.safetensors", "checkpoints/classifier.safetensors"}


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The outputs that Snakemake was told of; it has no workflow here to look them up in."""
    calls: list[list[str]] = []

    def tell(config: object, targets: list[Path]) -> None:
        calls.append([path.name.removesuffix(".safetensors") for path in targets])

    monkeypatch.setattr("vaelab.publishing.restore.tell_snakemake", tell)
    return calls


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a project with results that are ready to be published, to be copied."""
    return make_project(tmp_path_factory.mktemp("made") / "project").folder


@pytest.fixture(scope="module")
def origin(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Versioned:
    """A project whose results are published, text committed; never changed by a test."""
    project = Versioned(shutil.copytree(made, tmp_path_factory.mktemp("origin") / "project"))
    project.publish()
    commit(project.folder, "Publish")
    return project


@pytest.fixture
def clone(origin: Versioned, tmp_path: Path) -> Versioned:
    return origin.clone(tmp_path / "clone")


@pytest.fixture
def ready(made: Path, tmp_path: Path) -> Versioned:
    """A project with results that are ready to be published."""
    return Versioned(shutil.copytree(made, tmp_path / "project"))


def remote_file(project: Versioned, path: str) -> Path:
    """The file of the local remote that holds a run's arrays."""
    pointer = yaml.safe_load((project.results / f"{path}.dvc").read_text())
    md5 = pointer["outs"][0]["md5"]
    return project.folder.parent / "vaelab-dvc/files/md5" / md5[:2] / md5[2:]


def edit(path: Path, **changes: Any) -> None:
    write_json(path, read_json(path) | changes)


# --- Publish --------------------------------------------------------------------------------


@needs_dvc
def test_publishing_says_what_to_commit(origin: Versioned) -> None:
    *_, runs, command = origin.lines
    assert runs.startswith(f"modern: {len(RUNS)} runs are at the remote 'local'")
    assert command == "  git add results/modern && git commit -m 'Publish modern'"


@needs_dvc
def test_publication_is_text_in_git_and_the_rest_in_dvc(origin: Versioned) -> None:
    record = read_json(origin.results / "publication.json")
    assert record["sha256"] == origin.held()
    assert set(record["sha256"]) == HELD
    tracked = git(origin.folder, "ls-files", "results").split()
    names = {path.removeprefix("results/modern/") for path in tracked}
    assert {"checkpoints.dvc", "publication.json", "metrics.json"} <= names
    for run in RUNS:
        texts = {f"runs/{run}/{name}" for name in ("history.csv", "metrics.json")}
        assert {*texts, f"runs/{run}/provenance.json", f"runs/{run}/arrays.npz.dvc"} <= names
    assert not names & HELD
    # States of trainings under way are of no interest to others.
    pointer = yaml.safe_load((origin.results / "checkpoints.dvc").read_text())
    assert pointer["outs"][0]["nfiles"] == len([p for p in HELD if p.startswith("checkpoints")])
    assert git(origin.folder, "status", "--porcelain") == ""
    assert "up to date" in dvc_says(origin.folder, "status")
    assert "in sync" in dvc_says(origin.folder, "status", "--cloud")


@needs_dvc
def test_publishing_keeps_the_dates_of_the_files(ready: Versioned) -> None:
    before = {path: path.stat().st_mtime_ns for path in ready.results.rglob("*") if path.is_file()}
    said = ready.publish()
    assert "modern: 3 runs are at the remote 'local'" in said
    assert {path: path.stat().st_mtime_ns for path in before} == before


def dirty(project: Versioned) -> str:
    git_state = {"revision": "f" * 40, "dirty": True}
    edit(project.files("vae-s0").text("provenance.json"), git=git_state)
    return r"\n  vae-s0: trained from uncommitted changes to revision ffffffffffff$"


def no_git(project: Versioned) -> str:
    git_state = {"revision": None, "dirty": None}
    edit(project.files("vae-s0").text("provenance.json"), git=git_state)
    return r"\n  vae-s0: trained outside a git checkout"


def two(project: Versioned) -> str:
    project.files("vae-s0").checkpoint.write_bytes(b"other weights")
    project.files("ml_n1000-s0").text("provenance.json").unlink()
    return (
        r"\n  ml_n1000-s0: it has not been trained"
        r"\n  vae-s0: its checkpoint is not the one its provenance records$"
    )


def respecified(project: Versioned) -> str:
    project.overrides = {"training": {"runs": {"vae": {"learning_rate": 0.5}}}}
    return r"\n  vae-s0: its fingerprint changed$"


def reevaluated(project: Versioned) -> str:
    project.overrides = {"likelihood": {"chains": 7}}
    return r"\n  ml_n1000-s0: its evaluation is missing or of other settings$"


def unknown(project: Versioned) -> str:
    shutil.copytree(project.results / "runs/vae-s0", project.results / "runs/vaee-s0")
    return r"\n  vaee-s0: not a run of config/runs.tsv"


def stranger(project: Versioned) -> str:
    (project.results / "checkpoints/old-s0.safetensors").write_bytes(b"old")
    (project.results / "checkpoints/classifier.safetensors").unlink()
    return r"/old-s0.safetensors: is of no run.*\n.*/classifier.safetensors: is missing$"


@pytest.fixture
def with_remote(monkeypatch: pytest.MonkeyPatch) -> None:
    """A remote by default, for which DVC is not asked."""
    monkeypatch.setattr(dvc, "default_remote", lambda: "local")


@pytest.mark.usefixtures("with_remote")
@pytest.mark.parametrize("spoil", [dirty, no_git, two, respecified, reevaluated, unknown, stranger])
def test_unfit_runs_are_refused_by_name(
    spoil: Callable[[Versioned], str], ready: Versioned
) -> None:
    message = spoil(ready)
    with pytest.raises(VaelabError, match=message) as error:
        ready.publish()
    assert str(error.value).startswith("preset modern is not ready to be published:")
    assert not [*ready.results.rglob("*.dvc")]
    assert not (ready.folder.parent / "vaelab-dvc").exists()


@pytest.mark.usefixtures("with_remote")
def test_preset_that_git_ignores_is_not_published(ready: Versioned) -> None:
    with (ready.folder / ".gitignore").open("a") as stream:
        stream.write("/results/modern/\n")
    with pytest.raises(VaelabError, match="git ignores results/modern, so preset modern"):
        ready.publish()


@pytest.mark.usefixtures("with_remote")
def test_second_publication_waits_for_the_first(
    ready: Versioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(dvc, "add", lambda paths: calls.append("add"))
    monkeypatch.setattr(dvc, "push", lambda paths: calls.append("push"))
    second = threading.Thread(target=ready.publish)
    with one_at_a_time(ready.folder / ".dvc"):
        second.start()
        while not ready.lines:
            time.sleep(0.01)
        assert ready.lines == ["another process is at work on .dvc; waiting for it"]
        assert calls == []
    second.join(30)
    assert calls == ["add", "push"]


# --- Restore --------------------------------------------------------------------------------


@needs_dvc
def test_clone_gets_back_every_file(
    origin: Versioned, clone: Versioned, told: list[list[str]]
) -> None:
    assert clone.held() == {}
    said = clone.restore()
    assert "modern: 3 runs are as published, 8 files were restored" in said
    assert clone.held() == origin.held()
    assert told == [[*RUNS, "classifier"]]
    assert git(clone.folder, "status", "--porcelain") == ""
    assert "up to date" in dvc_says(clone.folder, "status")
    # A second time there is nothing to do, and nothing becomes new.
    assert "0 files were restored" in clone.restore()
    assert len(told) == 1


@needs_dvc
def test_interrupted_restore_is_completed(
    clone: Versioned, told: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files were put in place, but Snakemake was not told of them."""
    with monkeypatch.context() as patch:
        patch.setattr("vaelab.publishing.restore.tell_snakemake", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            clone.restore()
    (clone.folder / ".restore/results").mkdir(parents=True)
    assert "0 files were restored" in clone.restore()
    assert told == [[*RUNS, "classifier"]]
    assert not (clone.folder / ".restore").exists()
    assert not (clone.folder / UNTOLD).exists()


@needs_dvc
@pytest.mark.parametrize("place", ["cache", "remote"])
def test_damaged_content_is_named_and_nothing_restored(place: str, clone: Versioned) -> None:
    at_remote = remote_file(clone, "runs/vae-s0/arrays.npz")
    damaged = at_remote
    if place == "cache":
        damaged = clone.folder / ".dvc/cache/files/md5" / at_remote.parent.name / at_remote.name
        clone.restore()
        shutil.rmtree(clone.results / "checkpoints")
        for path in clone.results.glob("runs/*/arrays.npz"):
            path.unlink()
    good = file_sha256(damaged)
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    bad = file_sha256(damaged)
    damaged.chmod(0o444)
    with pytest.raises(VaelabError) as error:
        clone.restore()
    assert f"runs/vae-s0/arrays.npz: has SHA-256 {bad}, published was {good}" in str(error.value)
    assert clone.held() == {}
    assert not (clone.folder / ".restore").exists()


@needs_dvc
def test_what_the_remote_lost_is_named_and_the_rest_restored(
    clone: Versioned, told: list[list[str]]
) -> None:
    remote_file(clone, "runs/arch_500_4-s0/arrays.npz").unlink()
    said = clone.restore()
    assert (
        "missing: results/modern/runs/arch_500_4-s0/arrays.npz: could not be brought; "
        "arch_500_4-s0 will be trained"
    ) in said
    assert set(clone.held()) == {path for path in HELD if "arch" not in path}
    assert told == [["ml_n1000-s0", "vae-s0", "classifier"]]


@needs_dvc
def test_stale_runs_are_named_and_left_to_the_workflow(
    clone: Versioned, told: list[list[str]]
) -> None:
    clone.overrides = {
        "training": {"runs": {"vae": {"learning_rate": 0.5}}},
        "likelihood": {"chains": 7},
        "classifier": {"epochs": 3},
    }
    said = clone.restore()
    assert "stale: vae-s0 was published with another learning_rate; it will be trained" in said
    assert "stale: ml_n1000-s0 was published with other evaluation settings" in said
    assert "stale: the classifier was published with other settings" in said
    # The weights of a run that only has to be evaluated again are good.
    lost = {path for path in HELD if "vae-s0" in path}
    lost |= {"runs/ml_n1000-s0/arrays.npz", "checkpoints/classifier.safetensors"}
    assert set(clone.held()) == HELD - lost
    assert told == [["arch_500_4-s0"]]


@needs_dvc
def test_run_that_was_trained_here_is_kept(clone: Versioned) -> None:
    files = clone.files("vae-s0")
    files.checkpoint.parent.mkdir()
    files.checkpoint.write_bytes(b"trained here")
    edit(files.text("provenance.json"), checkpoint_sha256=file_sha256(files.checkpoint))
    assert "kept: vae-s0 was trained here and differs from what is published" in clone.restore()
    assert files.checkpoint.read_bytes() == b"trained here"
    assert len(clone.held()) == len(HELD) - 1


@needs_dvc
def test_without_a_remote_the_workflow_is_left_to_train(clone: Versioned) -> None:
    (clone.folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
    message = "DVC has no default remote, so nothing is restored; the workflow will train"
    assert message in clone.restore()
    assert clone.held() == {}


@needs_dvc
def test_remote_out_of_reach_is_an_error(clone: Versioned) -> None:
    clone.remote(f"ssh://127.0.0.1:{free_port()}/store", user="nobody")
    with pytest.raises(
        VaelabError, match=r"could not bring the content \(remote 'other'\): .*onne"
    ):
        clone.restore()
    assert not (clone.folder / ".restore").exists()


@needs_dvc
def test_preset_that_was_never_published_is_no_error(clone: Versioned) -> None:
    clone.overrides = {"preset": "paper"}
    assert "paper: no results of it are published here; the workflow will train" in clone.restore()


def test_restore_waits_for_no_snakemake(ready: Versioned) -> None:
    (ready.folder / ".snakemake/locks").mkdir(parents=True)
    (ready.folder / ".snakemake/locks/0.input.lock").write_text("")
    with pytest.raises(VaelabError, match="Snakemake is at work in this folder"):
        ready.restore()


@pytest.mark.parametrize("command", [Versioned.restore, Versioned.publish])
def test_folder_without_git_is_told_what_to_do(
    command: Callable[[Versioned], str], ready: Versioned
) -> None:
    shutil.rmtree(ready.folder / ".git")
    with pytest.raises(VaelabError, match=r"here is no .git: clone the repository, or take a"):
        command(ready)


def test_missing_dvc_is_explained(
    ready: Versioned, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dvc.sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(VaelabError, match="DVC is not installed; `make setup`"):
        ready.restore()


def test_killed_dvc_is_an_error_for_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(arguments, -9, stdout="", stderr="")

    monkeypatch.setattr(dvc, "_dvc", killed)
    with pytest.raises(VaelabError, match=r"(?s)send .*exit status -9\n.*command again"):
        dvc.push([])
    with pytest.raises(VaelabError, match=r"(?s)bring the content .*\nNothing here was changed"):
        dvc.pull(Path())


@needs_dvc
@pytest.mark.parametrize("serve", [ssh_remote, s3_remote])
def test_remote_on_a_real_server(
    serve: Callable[[Path], AbstractContextManager[tuple[str, dict[str, str]]]],
    origin: Versioned,
    tmp_path: Path,
) -> None:
    (tmp_path / "server").mkdir()
    with serve(tmp_path / "server") as (url, options):
        sender = Versioned(tmp_path / "sender")
        shutil.copytree(origin.folder, sender.folder)
        sender.remote(url, **options)
        assert "3 runs are at the remote 'other'" in sender.publish()
        git(sender.folder, "clone", "--quiet", ".", str(tmp_path / "receiver"))
        receiver = Versioned(tmp_path / "receiver")
        receiver.remote(url, **options)
        assert "8 files were restored" in receiver.restore()
        assert receiver.held() == origin.held()


# --- Datasets -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "frey"])
def test_pointers_in_git_name_the_content_of_the_registry(name: str) -> None:
    pointer = yaml.safe_load((ROOT / f"data/raw/{name}.dvc").read_text())
    assert pointer["meta"]["sha256"] == DATASETS[name].sha256
    assert pointer["outs"][0]["path"] == name
    assert pointer["outs"][0]["nfiles"] == len(DATASETS[name].files)


@pytest.fixture
def pinned(tmp_path: Path) -> Path:
    """A data folder with a small MNIST and Frey Face and pointers to them."""
    mnist, contents = small_mnist()
    frey, faces = small_frey()
    for dataset in (mnist, frey):
        for file in dataset.files:
            content = contents.get(file.name, faces.tobytes())
            (tmp_path / file.path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file.path).write_bytes(dataset.reader.pack(content))
        pointer = {
            "outs": [{"md5": folder_md5(dataset, tmp_path), "path": dataset.name}],
            "meta": {"sha256": dataset.sha256},
        }
        pointer_path(dataset, tmp_path).write_text(yaml.safe_dump(pointer))
    return tmp_path


@needs_dvc
def test_hash_of_a_folder_is_the_one_of_dvc(pinned: Path) -> None:
    git(pinned, "init", "--quiet")
    dvc_says(pinned, "init", "--quiet")
    shutil.copy(ROOT / ".dvcignore", pinned / ".dvcignore")
    dataset, _ = small_mnist()
    dvc_says(pinned, "add", "--no-relink", "raw/mnist")
    found = yaml.safe_load(pointer_path(dataset, pinned).read_text())
    assert found["outs"][0]["md5"] == folder_md5(dataset, pinned)
    assert found["meta"]["sha256"] == dataset.sha256


@pytest.mark.parametrize("use", [fetch_dataset, load])
@pytest.mark.parametrize("key", ["md5", "sha256"])
def test_content_that_is_not_the_pinned_one_is_an_error(
    use: Callable[..., object], key: str, pinned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, _ = small_mnist()
    monkeypatch.setitem(DATASETS, "mnist", dataset)
    use("mnist", pinned)
    path = pointer_path(dataset, pinned)
    pointer = yaml.safe_load(path.read_text())
    found = folder_md5(dataset, pinned) if key == "md5" else dataset.sha256
    (pointer["outs"][0] if key == "md5" else pointer["meta"])[key] = "0123abcd"
    path.write_text(yaml.safe_dump(pointer))
    with pytest.raises(VaelabError) as error:
        use("mnist", pinned)
    assert f"{path} pins the content with" in str(error.value)
    assert "0123abcd" in str(error.value)
    assert found in str(error.value)


def test_pointer_that_cannot_be_read_is_named(
    pinned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, _ = small_frey()
    monkeypatch.setitem(DATASETS, "frey", dataset)
    pointer_path(dataset, pinned).write_text("outs: []\n")
    with pytest.raises(VaelabError, match=r"frey\.dvc is not a pointer as vaelab writes them"):
        load("frey", pinned)


# --- Metrics, params and plots --------------------------------------------------------------


@needs_dvc
def test_what_changed_between_revisions_is_shown_under_stable_names(clone: Versioned) -> None:
    write_json(clone.results / "metrics.json", {"runs": {"vae": {"seed_0": {"kl": 4.5}}}})
    preset = clone.folder / "config/presets/modern.yaml"
    settings = yaml.safe_load(preset.read_text())
    settings["training"]["groups"]["vqvae"]["learning_rate"] = 0.5
    preset.write_text(yaml.safe_dump(settings))
    found = json.loads(dvc_says(clone.folder, "metrics", "diff", "--json"))
    changes = found["results/modern/metrics.json"]
    assert changes == {"runs.vae.seed_0.kl": {"old": 5.0, "new": 4.5, "diff": -0.5}}
    found = json.loads(dvc_says(clone.folder, "params", "diff", "--json"))
    changed = {k: v["new"] for k, v in found["config/presets/modern.yaml"].items()}
    assert changed == {"training.groups.vqvae.learning_rate": 0.5}

    history = clone.files("vae-s0").text("history.csv")
    history.write_text("samples,test_neg_elbo\n1,99\n")
    shown = json.loads(dvc_says(clone.folder, "plots", "diff", "--json"))
    values = [v for plot in shown["data"]["modern"] for v in plot["content"]["data"]["values"]]
    ours = {v["rev"]: v["test_neg_elbo"] for v in values if "vae-s0" in json.dumps(v)}
    assert ours == {"HEAD": "6", "workspace": "99"}


@needs_dvc
def test_local_presets_are_shown_where_they_are(clone: Versioned) -> None:
    quick = clone.folder / "results/quick/metrics.json"
    write_json(quick, {"runs": {"vae": {"seed_0": {"kl": 4.0}}}})
    shown = json.loads(dvc_says(clone.folder, "metrics", "show", "--json"))
    metrics = shown[""]["data"]["results/quick/metrics.json"]["data"]
    assert metrics["runs"]["vae"]["seed_0"]["kl"] == 4.0
