"""A run as files: trained once, verified, evaluated once, and never mistaken for another."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from reports import heard
from toys import kept_process_settings, needs_gpu, toy_images, toy_spec, toy_vqvae_spec
from vaelab import __version__
from vaelab.data import Dataset
from vaelab.models.families import build
from vaelab.models.vae import VAE
from vaelab.pipeline import runner
from vaelab.pipeline.runner import load_model
from vaelab.results import provenance
from vaelab.results.files import RunFiles
from vaelab.results.provenance import git_state, versions
from vaelab.results.trained import CheckpointRecord
from vaelab.settings.config import Config, validate
from vaelab.settings.runs import Run
from vaelab.settings.spec import RunSpec, fingerprint
from vaelab.training.device import Compute
from vaelab.training.state import load_tensors
from vaelab.training.termination import termination
from vaelab.training.trainer import Trainer
from vaelab.util.errors import VaelabError
from vaelab.util.io import file_sha256, one_at_a_time, read_json

pytestmark = pytest.mark.usefixtures("process_settings")

SETTINGS = {
    "preset": "toy",
    "device": "cpu",
    "precision": "fp32",
    "evaluation": {"z_test": 2, "nll_images": 10, "nll_samples": 4, "generated": 100},
    "likelihood": {
        "snapshots": 2,
        "images": 10,
        "curve_samples": 3,
        "importance_samples": 90,
        "final_samples": 4,
        "final_images": 3,
        "temperatures": 3,
        "chains": 2,
    },
}


def train_run(
    *arguments: Any, log: Callable[[str], None] = lambda line: None, **options: Any
) -> None:
    with heard(log):
        runner.train_run(*arguments, **options)


def evaluate_run(*arguments: Any, log: Callable[[str], None], **options: Any) -> None:
    with heard(log):
        runner.evaluate_run(*arguments, **options)


def work_on_runs(
    *arguments: Any, log: Callable[[str], None] = lambda line: None, **options: Any
) -> None:
    with heard(log):
        runner.work_on_runs(*arguments, **options)


@dataclass
class Lab:
    """A results folder, a run and what was logged."""

    config: Config
    run: Run
    lines: list[str]

    @property
    def files(self) -> RunFiles:
        return RunFiles(self.config.folder, self.run.id)

    def train(self, **changes: Any) -> str:
        self.lines.clear()
        config = self.config.model_copy(update=changes)
        train_run(config, self.run, log=self.lines.append)
        return "\n".join(self.lines)

    def evaluate(self, **changes: Any) -> str:
        self.lines.clear()
        evaluate_run(self.config.model_copy(update=changes), self.run, log=self.lines.append)
        return "\n".join(self.lines)

    def json(self, name: str) -> dict[str, Any]:
        return read_json(self.files.text(name))

    def with_spec(self, **changes: Any) -> Lab:
        spec = RunSpec.from_flat(self.run.spec.flat() | changes)
        return Lab(self.config, Run(self.run.name, self.run.seed, spec), self.lines)


def replace_data(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, root: Path, *, allow_synthetic: bool) -> Dataset:
        assert name == dataset.name
        return dataset

    runner._read_once.cache_clear()
    monkeypatch.setattr(runner, "load", load)


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Callable[[Dataset], None]:
    """Replace the data of the following runs."""
    replace_data(toy_images(), monkeypatch)
    return lambda dataset: replace_data(dataset, monkeypatch)


@pytest.fixture
def lab(tmp_path: Path, data: Callable[[Dataset], None]) -> Lab:
    config = validate([("test", SETTINGS | {"results": str(tmp_path / "results")})])
    return Lab(config, Run("vae", 3, toy_spec()), [])


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*arguments: object, **named: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Trainer, "run", train)


# --- Training -------------------------------------------------------------------------------


def test_training_writes_weights_history_and_a_true_provenance(lab: Lab) -> None:
    assert "vae-s3: training, because it has not been trained" in lab.train()
    found = lab.json("provenance.json")
    assert found["run"] == "vae-s3"
    assert found["checkpoint_sha256"] == file_sha256(lab.files.checkpoint)
    assert found["fingerprint"] == fingerprint(lab.run.spec, 3, "toy mnist")
    assert RunSpec.from_flat(found["spec"]) == lab.run.spec
    assert found["seed"] == 3
    assert found["dataset"] == {"name": "mnist", "sha256": "toy mnist", "synthetic": False}
    assert found["git"] == git_state()
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["vaelab"] == __version__
    assert (found["device"], found["precision"], found["threads"]) == ("cpu", "fp32", 1)
    assert found["samples"] == 300
    assert 0.0 < found["train_seconds"] <= found["wall_seconds"]
    # Of this training alone, in a process that has also imported PyTorch.
    assert 0.0 <= found["core_seconds"] < found["wall_seconds"] + 0.5

    history = pd.read_csv(lab.files.text("history.csv"))
    assert history["samples"].iloc[-1] == 300
    weights, metadata = load_tensors(lab.files.checkpoint)
    assert (metadata["run"], metadata["fingerprint"]) == ("vae-s3", found["fingerprint"])
    assert metadata["versions"] == found["versions"]
    assert CheckpointRecord.from_metadata(metadata) == CheckpointRecord(
        "vae", 3, lab.run.spec, "toy mnist", (28, 28), 10
    )
    untrained = build(lab.run.spec).state_dict()
    assert weights.keys() == untrained.keys()
    assert history.iloc[-1]["train_neg_elbo"] < history.iloc[0]["train_neg_elbo"]


def test_finished_run_is_reused_and_its_files_become_new(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snakemake compares times of files: those of a reused run must be newer than its inputs."""
    lab.train()
    paths = [lab.files.checkpoint, *map(lab.files.text, ("history.csv", "provenance.json"))]
    contents = [path.read_bytes() for path in paths]
    for path in paths:
        os.utime(path, (1.0, 1.0))
    forbid_training(monkeypatch)
    identity = fingerprint(lab.run.spec, 3, "toy mnist")
    assert lab.train() == f"vae-s3: REUSED, fingerprint {identity[:12]}"
    assert [path.read_bytes() for path in paths] == contents
    assert all(path.stat().st_mtime > 1e9 for path in paths)


def test_settings_that_weights_do_not_depend_on_retrain_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.train()
    forbid_training(monkeypatch)
    evaluation = lab.config.evaluation.model_copy(update={"z_test": 9})
    for changes in ({"evaluation": evaluation}, {"seeds": [3, 4]}, {"precision": "bf16"}):
        assert "REUSED" in lab.train(**changes)


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    [
        ("weights", lambda c: c[:-1] + bytes([c[-1] ^ 1]), "its checkpoint is not the one its"),
        ("weights", lambda c: c[: len(c) // 2], "its checkpoint is not the one its"),
        ("weights", None, "its checkpoint is missing"),
        ("history.csv", None, "its history is missing"),
        ("provenance.json", None, "it has not been trained"),
        ("provenance.json", lambda c: c[:100], "it has not been trained"),
    ],
)
def test_damaged_run_is_made_again_to_the_same_weights_and_record(
    name: str, spoil: Callable[[bytes], bytes] | None, reason: str, lab: Lab
) -> None:
    lab.train()
    lab.evaluate()
    weights, recorded = lab.files.checkpoint.read_bytes(), lab.json("provenance.json")["files"]
    path = lab.files.checkpoint if name == "weights" else lab.files.text(name)
    if spoil is None:
        path.unlink()
    else:
        path.write_bytes(spoil(path.read_bytes()))
    assert f"because {reason}" in lab.train()
    lab.evaluate()
    assert lab.files.checkpoint.read_bytes() == weights
    assert lab.json("provenance.json")["files"].keys() == recorded.keys()


def test_death_before_the_provenance_leaves_nothing_to_reuse(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provenance is written last: weights without it vouch for nothing."""
    with monkeypatch.context() as patch:
        patch.setattr(runner, "file_sha256", lambda path: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lab.train()
    assert lab.files.checkpoint.is_file()
    assert "it has not been trained" in lab.train()


@pytest.mark.parametrize("changes", [{"beta": 2.0}, {"samples": 301}, {"hidden": (17,)}])
def test_changed_spec_trains_again(changes: dict[str, Any], lab: Lab) -> None:
    lab.train()
    other = lab.with_spec(**changes)
    assert "its fingerprint changed" in other.train()
    assert "REUSED" in other.train()
    assert "its fingerprint changed" in lab.train()


def test_changed_data_train_again(lab: Lab, data: Callable[[Dataset], None]) -> None:
    lab.train()
    data(replace(toy_images(), sha256="other content"))
    assert "its fingerprint changed" in lab.train()


def test_stand_in_data_are_on_record(lab: Lab, data: Callable[[Dataset], None]) -> None:
    data(replace(toy_images("frey"), synthetic=True))
    faces = lab.with_spec(dataset="frey", likelihood="gaussian")
    faces.train()
    assert faces.json("provenance.json")["dataset"]["synthetic"] is True


@pytest.mark.parametrize(("fallback", "allowed"), [("synthetic", True), ("none", False)])
def test_stand_in_data_are_allowed_by_the_preset_alone(
    fallback: str, allowed: bool, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(name: str, root: Path, *, allow_synthetic: bool) -> Dataset:
        asked.append((name, root, allow_synthetic))
        raise VaelabError("no data")

    monkeypatch.setattr(runner, "load", load)
    settings = {"root": "elsewhere", "frey": {"fallback": fallback}}
    config = validate([("test", SETTINGS | {"data": settings})])
    with pytest.raises(VaelabError, match="no data"):
        train_run(config, lab.run)
    assert asked == [("mnist", Path("elsewhere").resolve(), allowed)]


def test_require_cached_turns_training_into_an_error(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        forbid_training(patch)
        with pytest.raises(VaelabError, match=r"vae-s3 would have to be trained \(it has not"):
            lab.train(require_cached=True)
    assert not lab.config.folder.exists()
    lab.train()
    assert "REUSED" in lab.train(require_cached=True)
    with pytest.raises(VaelabError, match=r"would have to be trained \(its fingerprint changed\)"):
        lab.with_spec(beta=2.0).train(require_cached=True)


def test_run_in_training_elsewhere_is_waited_for_and_reused(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.train()
    forbid_training(monkeypatch)
    provenance = lab.files.text("provenance.json")
    aside = provenance.rename(provenance.with_suffix(".aside"))
    other = ExitStack()
    other.enter_context(one_at_a_time(lab.files.text("")))
    lines = []

    def log(line: str) -> None:
        lines.append(line)
        if "another process is at work" in line:
            aside.rename(provenance)
            other.close()

    train_run(lab.config, lab.run, log=log)
    assert len(lines) == 2
    assert "vae-s3: REUSED" in lines[1]


def test_resume_file_is_removed_once_the_results_are_stored(lab: Lab) -> None:
    saved = []
    original = runner.save_tensors

    def spy(path: Path, *arguments: Any) -> None:
        saved.append([path.name for path in lab.files.resumes()])
        original(path, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "save_tensors", spy)
        lab.train(checkpoint_seconds=1e-9)
    assert saved == [["vae-s3.cpu-fp32.safetensors"]]
    assert not lab.files.resumes()


def stop_at_the_second_point() -> Callable[[str], None]:
    """A log that ends the training when there has been a step to save."""
    points = itertools.count(1)

    def log(line: str) -> None:
        if "/300 samples" in line and next(points) == 2:
            raise KeyboardInterrupt

    return log


def test_training_moved_to_another_device_leaves_the_state_of_the_first_until_it_has_ended(
    lab: Lab,
) -> None:
    config = lab.config.model_copy(update={"checkpoint_seconds": 1e-9})
    for precision in ("fp32", "bf16"):
        other = config.model_copy(update={"precision": precision})
        with pytest.raises(KeyboardInterrupt):
            train_run(other, lab.run, log=stop_at_the_second_point())
    names = [path.name for path in lab.files.resumes()]
    assert names == ["vae-s3.cpu-bf16.safetensors", "vae-s3.cpu-fp32.safetensors"]
    assert "resumed at" in lab.train()
    assert lab.files.resumes() == []


def test_core_seconds_count_all_parts_of_a_training(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(step=10.0)
    monkeypatch.setattr("vaelab.training.trainer._core_seconds", lambda: next(clock))
    with pytest.raises(KeyboardInterrupt):
        train_run(
            lab.config.model_copy(update={"checkpoint_seconds": 1e-9}),
            lab.run,
            log=stop_at_the_second_point(),
        )
    before = load_tensors(lab.files.resumes()[0])[1]["core_seconds"]
    assert before > 0.0
    # A look at the beginning and one at the end.
    lab.train(checkpoint_seconds=1e9)
    assert lab.json("provenance.json")["core_seconds"] == before + 10.0


def test_results_folder_that_cannot_be_written_is_an_error_for_the_user(
    lab: Lab, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(VaelabError, match=r"cannot create .*file/toy/runs/vae-s3"):
        lab.train(results=str(tmp_path / "file"))
    with pytest.raises(VaelabError, match=r"cannot read .*file/toy/runs/vae-s3/provenance\.json"):
        lab.evaluate(results=str(tmp_path / "file"))


# --- Evaluation -----------------------------------------------------------------------------


def test_evaluation_describes_the_run(lab: Lab) -> None:
    lab.train()
    assert lab.evaluate() == "vae-s3: evaluated"
    metrics, provenance = lab.json("metrics.json"), lab.json("provenance.json")
    assert (metrics["run"], metrics["name"], metrics["seed"]) == ("vae-s3", "vae", 3)
    assert (metrics["preset"], metrics["samples"]) == ("toy", 300)
    assert metrics["spec"] == provenance["spec"] | {"seed": 3}
    # Times differ between reruns, so they stay out of what tables and claims read.
    assert "train_seconds" not in metrics
    assert "evaluate_seconds" not in metrics
    assert 0.0 < provenance["evaluate_seconds"] < 60.0
    assert metrics["parameters"] == 2 * (784 * 16 + 16 + 16 * 3 + 3) + 3 * 16 + 16 + 16 * 784 + 784
    history = pd.read_csv(lab.files.text("history.csv"))
    assert metrics["test"]["kl"] == pytest.approx(history["test_kl"].iloc[-1], rel=0.2)
    with np.load(lab.files.text("arrays.npz")) as arrays:
        assert (arrays["originals"] == toy_images().test_images[:100]).all()


def test_evaluation_is_reused_until_something_it_depends_on_changes(lab: Lab) -> None:
    lab.train()
    lab.evaluate()
    content = lab.files.text("metrics.json").read_bytes()
    assert lab.evaluate() == "vae-s3: evaluation REUSED"
    assert lab.files.text("metrics.json").read_bytes() == content

    evaluation = lab.config.evaluation.model_copy(update={"z_test": 3})
    assert lab.evaluate(evaluation=evaluation) == "vae-s3: evaluated"
    assert lab.json("metrics.json")["test"]["z_samples"] == 3
    assert lab.evaluate() == "vae-s3: evaluated"

    likelihood = lab.config.likelihood.model_copy(update={"images": 9})
    assert "REUSED" in lab.evaluate(likelihood=likelihood), "it has no snapshots to evaluate"

    lab.files.text("arrays.npz").unlink()
    assert lab.evaluate() == "vae-s3: evaluated"
    other = lab.with_spec(beta=2.0)
    other.train()
    assert other.evaluate() == "vae-s3: evaluated"
    assert other.json("metrics.json")["spec"]["beta"] == 2.0


def test_evaluation_that_died_half_way_is_repeated(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """metrics.json is written last, so arrays without it, or with an old one, are not trusted."""
    lab.train()
    with monkeypatch.context() as patch:
        patch.setattr(runner, "write_json", lambda path, value: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lab.evaluate()
    assert lab.files.text("arrays.npz").is_file()
    assert lab.evaluate() == "vae-s3: evaluated"


def test_evaluation_before_training_names_what_is_missing(lab: Lab) -> None:
    with pytest.raises(VaelabError, match=r"vae-s3/provenance\.json does not exist"):
        lab.evaluate()


def test_evaluation_refuses_weights_that_are_not_the_recorded_ones(lab: Lab) -> None:
    lab.train()
    lab.evaluate()
    path = lab.files.checkpoint
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(VaelabError) as caught:
        lab.evaluate()
    message = str(caught.value)
    assert str(path) in message
    assert file_sha256(path) in message
    assert lab.json("provenance.json")["checkpoint_sha256"] in message
    path.unlink()
    with pytest.raises(VaelabError, match="SHA-256 missing"):
        lab.evaluate()


def test_evaluation_refuses_weights_of_another_spec(lab: Lab) -> None:
    """A beta that was not trained with must not be written beside these weights' numbers."""
    lab.train()
    with pytest.raises(VaelabError, match=r"vae-s3 was trained with another beta, samples; "):
        lab.with_spec(beta=4.0, samples=700).evaluate()
    assert not lab.files.text("metrics.json").exists()


def test_weights_that_do_not_fit_the_spec_are_named(lab: Lab) -> None:
    lab.train()
    wide = lab.with_spec(hidden=(17,))
    with pytest.raises(VaelabError, match=r"vae-s3\.safetensors does not hold the weights of vae"):
        load_model(lab.files.checkpoint, wide.run)


def test_vqvae_is_trained_and_evaluated_the_same_way(lab: Lab) -> None:
    vq = Lab(lab.config, Run("vqvae", 0, toy_vqvae_spec()), [])
    vq.train()
    weights, _ = load_tensors(vq.files.checkpoint)
    assert weights["encoder.1.num_batches_tracked"] == 2  # 60 images in batches of 30
    vq.evaluate()
    metrics = vq.json("metrics.json")
    assert metrics["parameters"] == 307_225
    assert 1.0 <= metrics["test"]["perplexity"] <= 10.0
    assert "REUSED" in vq.train()
    assert "REUSED" in vq.evaluate()


# --- Likelihood runs ------------------------------------------------------------------------


@pytest.fixture
def likelihood_lab(lab: Lab) -> Lab:
    return lab.with_spec(snapshots=2, train_subset=60)


def test_likelihood_run_keeps_snapshots_and_writes_their_estimates(likelihood_lab: Lab) -> None:
    lab = likelihood_lab
    lab.train()
    snapshots, metadata = load_tensors(lab.files.snapshots)
    assert metadata["samples"] == [180, 300]  # batches of 60: the first after 150
    final = load_model(lab.files.checkpoint, lab.run)
    flat = torch.nn.utils.parameters_to_vector(final.parameters())
    assert torch.equal(snapshots["weights"][-1], flat)
    assert not torch.equal(snapshots["weights"][0], flat)

    lab.evaluate()
    curve = pd.read_csv(lab.files.text("likelihood.csv"))
    assert sorted(set(curve["samples"])) == [180, 300]
    assert set(curve["split"]) == {"train", "test"}
    table = curve.pivot_table(index=["samples", "split"], columns="estimator", values="nats")
    assert (table["elbo"] < table["importance"]).all(), "importance sampling is above the bound"
    assert (table["harmonic"] < table["elbo"]).all(), "the report's estimator is below it"
    assert (table["importance"] < 0).all()
    from_the_encoder = curve[curve["estimator"] != "importance"]
    assert set(from_the_encoder["z_samples"]) == {3}
    assert set(curve.drop(from_the_encoder.index)["z_samples"]) == {90}
    final = pd.read_csv(lab.files.text("likelihood_final.csv"))
    assert set(final["estimator"]) == {
        *("elbo", "importance", "report", "notebook", "harmonic", "kw_d", "ais"),
    }
    assert set(final["images"]) == {3}
    assert final["diagnostic"][final["estimator"] == "importance"].str.startswith("ESS").all()


def test_likelihood_settings_and_files_belong_to_the_evaluation(
    likelihood_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tables(*arguments: Any) -> tuple[list[dict[str, int]], list[dict[str, int]]]:
        rows = [{"z_samples": arguments[6].curve_samples}]
        return rows, rows

    monkeypatch.setattr(runner, "likelihood_tables", tables)
    lab = likelihood_lab
    lab.train()
    lab.evaluate()
    assert "REUSED" in lab.evaluate()
    changed = lab.config.likelihood.model_copy(update={"curve_samples": 5})
    assert lab.evaluate(likelihood=changed) == "vae-s3: evaluated"
    assert set(pd.read_csv(lab.files.text("likelihood.csv"))["z_samples"]) == {5}
    lab.files.text("likelihood_final.csv").unlink()
    assert lab.evaluate(likelihood=changed) == "vae-s3: evaluated"


def test_evaluation_that_moves_to_the_cpu_half_way_measures_the_trained_weights(
    likelihood_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = likelihood_lab
    lab.train()
    lab.evaluate()
    expected = lab.json("metrics.json")
    original, attempts = runner.likelihood_tables, []

    def tables(name: str, spec: RunSpec, model: VAE, *arguments: Any) -> Any:
        attempts.append(model)
        if len(attempts) == 1:
            # An earlier snapshot is in place when the GPU's memory ends.
            with torch.no_grad():
                model.decoder.layers[-1].bias += 1.0
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(name, spec, model, *arguments)

    def compute_with(config: Config, threads: int, work: Any) -> Any:
        compute = Compute(torch.device("cpu"), torch.float32)
        with pytest.raises(torch.OutOfMemoryError):
            work(compute)
        return work(compute)

    monkeypatch.setattr(runner, "likelihood_tables", tables)
    monkeypatch.setattr(runner, "compute_with", compute_with)
    lab.files.text("metrics.json").unlink()
    lab.evaluate()
    assert len(attempts) == 2
    assert lab.json("metrics.json") == expected


def test_snapshots_become_new_with_their_run_and_are_missed(likelihood_lab: Lab) -> None:
    likelihood_lab.train()
    os.utime(likelihood_lab.files.snapshots, (1.0, 1.0))
    assert "REUSED" in likelihood_lab.train()
    assert likelihood_lab.files.snapshots.stat().st_mtime > 1e9
    likelihood_lab.files.snapshots.unlink()
    assert "its snapshots are missing" in likelihood_lab.train()


# --- Several runs at once --------------------------------------------------------------------

SEVERAL = [
    Run("adam", 0, toy_spec()),
    Run("adam", 1, toy_spec()),
    Run("adagrad", 0, toy_spec(optimizer="adagrad", binarize="dynamic")),
    Run("vqvae", 0, toy_vqvae_spec()),
    Run("longer", 0, toy_spec(samples=2000)),  # starts first
]
"""As on a GPU, where the kernels of several threads overlap; here their operations do."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Settings whose results are those of SEVERAL, one after the other."""
    results = str(tmp_path_factory.mktemp("alone"))
    config = validate([("test", SETTINGS | {"results": results})])
    with pytest.MonkeyPatch.context() as patch, kept_process_settings():
        replace_data(toy_images(), patch)
        work_on_runs(config, SEVERAL)
    return config


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let a process work on so many runs at once."""
    return lambda number: monkeypatch.setattr(runner, "places", lambda config: number)


def assert_same_results(one: Config, other: Config) -> None:
    for run in SEVERAL:
        files = [RunFiles(config.folder, run.id) for config in (one, other)]
        hashes = [
            [file_sha256(path) for path in (f.checkpoint, f.text("metrics.json"))] for f in files
        ]
        assert hashes[0] == hashes[1]
        arrays = [np.load(f.text("arrays.npz")) for f in files]
        assert all(np.array_equal(arrays[0][name], arrays[1][name]) for name in arrays[0])


def test_result_of_a_run_does_not_depend_on_what_ran_beside_it(
    alone: Config,
    lab: Lab,
    at_once: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_once(4)
    threads: set[int] = set()
    train = Trainer.run

    def noted(*arguments: Any, **named: Any) -> Any:
        threads.add(threading.get_ident())
        return train(*arguments, **named)

    monkeypatch.setattr(Trainer, "run", noted)
    work_on_runs(lab.config, SEVERAL, log=lab.lines.append)
    assert len(threads) > 1
    assert threading.get_ident() not in threads
    assert_same_results(alone, lab.config)


def test_longest_runs_start_first(
    lab: Lab, at_once: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By kernels: a VQ-VAE's steps have most, then MCEM's."""
    runs = [
        Run("short", 0, toy_spec(samples=100)),
        Run("shallow", 0, toy_spec(samples=2000)),
        Run("deep", 0, toy_spec(samples=2000, hidden=(16, 16))),
        Run("mcem", 0, toy_spec(samples=900, method="mcem", trunks="shared")),
        Run("vqvae", 0, toy_vqvae_spec(samples=900, batch_size=100)),
    ]
    started: list[str] = []
    both = threading.Barrier(2)

    def train(config: Config, run: Run, **options: Any) -> None:
        started.append(run.name)
        if run.name != "short":
            both.wait(60)

    at_once(2)
    monkeypatch.setattr(runner, "train_run", train)
    work_on_runs(lab.config, runs, evaluation=False)
    assert [set(started[:2]), set(started[2:4]), started[4]] == [
        {"vqvae", "mcem"},
        {"deep", "shallow"},
        "short",
    ]


@needs_gpu
def test_result_of_a_run_on_a_gpu_does_not_depend_on_what_ran_beside_it(
    lab: Lab, tmp_path: Path
) -> None:
    alone, beside = (
        lab.config.model_copy(
            update={"device": "cuda", "runs_per_gpu": places, "results": str(tmp_path / name)}
        )
        for name, places in (("one", 1), ("other", 4))
    )
    for config in (alone, beside):
        work_on_runs(config, SEVERAL, log=lab.lines.append)
    assert_same_results(alone, beside)
    provenance = read_json(RunFiles(beside.folder, "vqvae-s0").text("provenance.json"))
    assert provenance["device"] == "cuda"


def test_runs_at_once_save_their_state_when_the_process_is_asked_to_end(
    alone: Config, lab: Lab, at_once: Callable[[int], None]
) -> None:
    at_once(2)

    def log(line: str) -> None:
        if line.startswith("longer-s0: 100/2000"):
            os.kill(os.getpid(), signal.SIGTERM)
            # The main thread handles it, when it comes to it.
            end = time.monotonic() + 60
            with termination() as received:
                while not received and time.monotonic() < end:
                    time.sleep(0.01)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        work_on_runs(lab.config, SEVERAL, log=log)
    assert ended.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    assert RunFiles(lab.config.folder, "longer-s0").resumes()
    assert not RunFiles(lab.config.folder, "adagrad-s0").checkpoint.exists()

    work_on_runs(lab.config, SEVERAL, log=lab.lines.append)
    assert any(line.startswith("longer-s0: resumed at") for line in lab.lines)
    assert_same_results(alone, lab.config)


def test_failing_run_lets_those_under_way_finish_and_begins_no_other(
    lab: Lab, at_once: Callable[[int], None]
) -> None:
    at_once(2)
    wrong = Run("wrong", 0, toy_spec(learning_rate=1e30, samples=3000))
    later = [Run("later", seed, toy_spec(samples=3000)) for seed in range(6)]
    with pytest.raises(VaelabError, match="wrong-s0 diverged"):
        work_on_runs(lab.config, [wrong, *later], evaluation=False, log=lab.lines.append)
    said = [line.startswith("wrong-s0: failed: wrong-s0 diverged") for line in lab.lines]
    assert any(said[: lab.lines.index(next(x for x in lab.lines if "3000/3000 samples" in x))])
    done = [RunFiles(lab.config.folder, run.id).checkpoint.exists() for run in later]
    assert done[0]
    assert not done[-1]


def test_runs_are_worked_on_in_turn_where_there_is_one_place(lab: Lab) -> None:
    work_on_runs(lab.config, SEVERAL[:3], evaluation=False, log=lab.lines.append)
    assert runner.places(lab.config) == 1
    began = [line.split(":")[0] for line in lab.lines if "training, because" in line]
    ended = [line.split(":")[0] for line in lab.lines if "/300 samples" in line]
    assert began == ["adam-s0", "adam-s1", "adagrad-s0"]
    assert ended == sorted(ended, key=began.index)
    work_on_runs(lab.config, SEVERAL[:3], training=False, log=lab.lines.append)
    assert lab.lines[-3:] == [f"{name}: evaluated" for name in began]


# --- Provenance -----------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout with one commit, as the folder of the sources."""
    monkeypatch.setattr(provenance, "CHECKOUT", tmp_path)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "A. Tester")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "tester@example.org")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("a = 1\n")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "Start"]):
        subprocess.run(["git", *command], check=True)
    return tmp_path


def test_revision_is_that_of_the_checkout(checkout: Path) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert git_state() == {"revision": head.stdout.strip(), "dirty": False}
    (checkout / "untracked.txt").write_text("results and notes do not make a checkout dirty")
    assert git_state()["dirty"] is False
    # Nor do published results that runs have written anew.
    (checkout / "results").mkdir()
    (checkout / "results/metrics.json").write_text("{}\n")
    for command in (["add", "."], ["commit", "-q", "-m", "Publish"]):
        subprocess.run(["git", *command], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    (checkout / "results/metrics.json").write_text("[]\n")
    assert git_state("results") == {"revision": head.stdout.strip(), "dirty": False}
    assert git_state("elsewhere")["dirty"] is True
    subprocess.run(["git", "checkout", "-q", "."], check=True)
    (checkout / "a.py").write_text("a = 2\n")
    assert git_state() == {"revision": head.stdout.strip(), "dirty": True}


def test_revision_is_never_that_of_another_repository(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sources in a folder of somebody's repository, and sources without git."""
    monkeypatch.setattr(provenance, "CHECKOUT", checkout / "vaelab")
    (checkout / "vaelab").mkdir()
    assert git_state() == {"revision": None, "dirty": None}
    monkeypatch.setattr(provenance, "CHECKOUT", checkout)
    monkeypatch.setenv("PATH", str(checkout))
    assert git_state() == {"revision": None, "dirty": None}
    # As in an archive or an image.
    (checkout / "revision.txt").write_text("abc\n")
    monkeypatch.setattr(provenance, "REVISION_FILE", checkout / "revision.txt")
    assert git_state() == {"revision": "abc", "dirty": None}


def test_archive_of_the_sources_knows_its_revision(checkout: Path) -> None:
    (checkout / "revision.txt").write_bytes(provenance.REVISION_FILE.read_bytes())
    (checkout / ".gitattributes").write_text("revision.txt export-subst\n")
    for command in (["add", "."], ["commit", "-q", "-m", "Revision"]):
        subprocess.run(["git", *command], check=True)
    archive = subprocess.run(["git", "archive", "HEAD"], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        member = files.extractfile("revision.txt")
        assert member is not None
        found = member.read().decode().strip()
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert found == head.stdout.strip()


def test_git_that_cannot_tell_is_an_error(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / ".gitignore").write_text("ignored\n")
    assert provenance.ignored_by_git(Path("ignored"))
    assert not provenance.ignored_by_git(Path("kept"))
    shutil.rmtree(checkout / ".git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(VaelabError, match="cannot tell whether it ignores kept: fatal: not a git"):
        provenance.ignored_by_git(Path("kept"))


def test_versions_are_the_installed_ones() -> None:
    found = versions()
    assert found["numpy"] == np.__version__
    assert found["python"].split(".")[0] == "3"
    assert set(found) == {"python", "torch", "numpy", "vaelab"}
