"""The yardstick: binary images, a number in its file, a run that `all` does not know."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pydantic import ValidationError

from toys import FP32, toy_images, toy_spec
from vaelab.cli import main
from vaelab.estimators.log_weights import log_terms
from vaelab.estimators.model import VAEAdapter
from vaelab.estimators.reductions import importance
from vaelab.evaluation.evaluator import evaluate
from vaelab.models.families import build
from vaelab.pipeline import yardstick
from vaelab.results.trained import CheckpointRecord
from vaelab.settings.config import Config, EvaluationSettings, load_config
from vaelab.settings.runs import Run, resolve
from vaelab.training.state import save_tensors
from vaelab.training.trainer import Trainer
from vaelab.util.errors import VaelabError
from vaelab.util.io import read_json, write_json
from workflow_project import PRESETS, ROOT

DATA = toy_images()


@pytest.mark.parametrize("preset", PRESETS)
def test_it_is_the_model_of_burda_et_al_in_every_preset(preset: str) -> None:
    runs = resolve(load_config(overrides={"preset": preset}, root=ROOT), ROOT)
    spec = runs.run("yardstick-s0").spec
    assert (spec.model.architecture, spec.model.activation, spec.data.binarize) == (
        (200, 200, 50),
        "tanh",
        "dynamic",
    )
    assert (spec.budget.samples, spec.recipe.optimizer, spec.recipe.schedule) == (
        24_000_000,
        "adam",
        "cosine",
    )
    assert runs.ids(["yardstick"]) == ["yardstick-s0"]
    assert not any("yardstick" in name for name in (*runs.by_id, *runs.alias))


def test_its_budget_can_be_changed() -> None:
    overrides = {"training": {"runs": {"yardstick": {"samples": 1000}}}}
    runs = resolve(load_config(overrides=overrides, root=ROOT), ROOT)
    assert runs.run("yardstick-s0").spec.budget.samples == 1000


def test_binarized_images_are_black_and_white_by_their_grey_values() -> None:
    grey = toy_images(train=3000)
    binary = grey.binarized()
    for before, after in (
        (grey.train_images, binary.train_images),
        (grey.test_images, binary.test_images),
    ):
        assert set(np.unique(after)) == {0, 255}
        assert after.dtype == np.uint8
        for level in (0, 20, 210):
            white = (after[before == level] == 255).mean()
            error = 5 * np.sqrt(0.25 / (before == level).sum())
            assert white == pytest.approx(level / 255, abs=error)
    again = dataclasses.replace(grey, train_images=grey.train_images[:200]).binarized()
    np.testing.assert_array_equal(again.test_images, binary.test_images)
    assert grey.test_images.max() < 255, "the original is left as it was"


def test_images_are_binarised_anew_at_every_visit() -> None:
    run = toy_spec(binarize="dynamic", batch_size=130, samples=10_000)
    training = Trainer("a", run, 0, DATA, FP32)
    seen = []

    def note(x: torch.Tensor, c: torch.Tensor | None, *drawn: torch.Tensor) -> None:
        seen.append(x[training.order.argsort()])

    note.draw, note.updates = training.gradients.draw, 1  # type: ignore[attr-defined]
    training.gradients = note  # type: ignore[assignment]
    for _ in range(60):
        training.advance()
    stack = torch.stack(seen)
    assert set(stack.unique().tolist()) == {0.0, 1.0}
    grey = torch.from_numpy(DATA.train_images).float() / 255.0
    error = (stack.mean(0) - grey) / (grey * (1 - grey) / 60).sqrt().clamp(min=1e-3)
    assert abs(error.mean().item()) < 0.05
    assert (stack[0] != stack[1]).float().mean() > 0.05


def test_history_and_evaluation_are_of_the_fixed_binary_images() -> None:
    run = toy_spec(binarize="dynamic", history_images=500)
    training = Trainer("a", run, 0, DATA, FP32)
    binary = DATA.binarized()
    x = training.history.splits["test"][0]
    np.testing.assert_array_equal((x * 255).numpy(), binary.test_images)
    settings = EvaluationSettings(nll_images=20, nll_samples=5, generated=100)
    one = evaluate(run, training.model, DATA, settings, FP32)
    two = evaluate(toy_spec(), training.model, binary, settings, FP32)
    assert one[0]["test"] == two[0]["test"]
    np.testing.assert_array_equal(one[1]["originals"], binary.test_images[:100])


def test_only_bernoulli_decoders_see_binary_images() -> None:
    with pytest.raises(ValidationError, match="binarize needs likelihood bernoulli"):
        toy_spec(binarize="dynamic", likelihood="gaussian_fixed")


@pytest.fixture
def measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Config, Run, torch.nn.Module]:
    """A trained yardstick in small, as its run left it."""
    config = Config(results=str(tmp_path))
    run = Run("yardstick", 0, toy_spec(binarize="dynamic", samples=260))
    model = build(run.spec, torch.Generator().manual_seed(0))
    said = CheckpointRecord("yardstick", 0, run.spec, "toy", (28, 28), 10).metadata()
    save_tensors(config.folder / "checkpoints/yardstick-s0.safetensors", model.state_dict(), said)
    write_json(
        config.folder / "runs/yardstick-s0/provenance.json",
        {"core_seconds": 120.0, "precision": "fp32"},
    )
    monkeypatch.setattr(yardstick, "load", lambda *arguments: DATA)
    monkeypatch.setattr(yardstick, "configure_process", lambda threads: None)
    monkeypatch.setattr(yardstick, "REPORT_EVERY", 40)
    return config, run, model


def test_number_stands_beside_the_literature(
    measured: tuple[Config, Run, torch.nn.Module], caplog: pytest.LogCaptureFixture
) -> None:
    config, run, model = measured
    result = yardstick.measure_yardstick(config, run, images=100, samples=50)
    assert read_json(config.folder / "yardstick.json") == result
    x = torch.from_numpy(DATA.binarized().test_images[:100]).float() / 255.0
    rng = torch.Generator().manual_seed(1)
    expected = importance(log_terms(VAEAdapter(model.eval()), x, 2000, rng))
    assert result["nll"] == pytest.approx(-expected.mean, abs=0.5)
    assert result["nll_se"] == pytest.approx(expected.se, rel=0.1)
    assert (result["images"], result["z_samples"], result["epochs"]) == (100, 50, 2.0)
    lines = caplog.messages[1:]
    assert [line.split(",")[0] for line in lines[:-1]] == [
        "yardstick-s0: 40 of 100 images", "yardstick-s0: 80 of 100 images",
    ]  # fmt: skip
    assert f"test NLL {result['nll']:.2f} ± " in lines[-1]
    assert "literature 86.3 to 87.8" in lines[-1]
    assert "260 samples (2 epochs) in 2 core minutes" in lines[-1]


def test_untrained_yardstick_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VaelabError, match=r"provenance\.json"):
        yardstick.measure_yardstick(
            Config(results=str(tmp_path)), Run("yardstick", 0, toy_spec()), images=10, samples=5
        )


def test_command_states_its_cost() -> None:
    text = CliRunner().invoke(main, ["yardstick", "--help"]).output
    assert "About 20 minutes on one core" in " ".join(text.split())
