"""On a GPU: everything that a step or an estimate touches is there.

With a GPU that is only pretended, so these tests run everywhere. Its numbers are the CPU's own:
what comes out must be the CPU's to the last bit.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from every_training import SPECS, assert_same
from pretended_gpu import GPU, PretendedGpu, pretended_gpu
from recorded_graphs import RecordedGraph, recorded_graphs
from toys import BF16, FP32, needs_gpu, toy_images, toy_spec, train
from vaelab.estimators import kw_appendix_d, log_weights
from vaelab.evaluation.evaluator import evaluate
from vaelab.evaluation.likelihood import likelihood_tables
from vaelab.models.families import build
from vaelab.settings.config import EvaluationSettings, LikelihoodSettings
from vaelab.settings.spec import RunSpec
from vaelab.training.device import Compute, configure_process
from vaelab.training.fast import flat as flat_module
from vaelab.training.fast.flat import FlatParameters
from vaelab.training.state import load_tensors
from vaelab.training.trainer import Trainer, TrainingResult

__all__ = ["pretended_gpu", "recorded_graphs"]

# The thirteenth step has the 7 images left of the first epoch; four more are of the second. The
# number of samples is a power of two: float32 then represents all rates, see every_training.
IMAGES = {name: toy_images(name, train=103) for name in ("mnist", "frey")}
CAPTURED = list(SPECS)
ON_GPU = Compute(GPU, torch.float32)
BUDGET = {"samples": 128, "batch_size": 8, "learning_rate": 2.0**-8}
SPECS = {name: spec.changed(**{"samples": 128}) for name, spec in SPECS.items()} | {
    "vqvae": SPECS["vqvae"].changed(**{"samples": 32}),
    "manifold": toy_spec(**BUDGET, latent_dim=2, trunks="shared"),
    "faces": toy_spec(**BUDGET, dataset="frey", likelihood="gaussian"),
    "fixed_variance": toy_spec(**BUDGET, likelihood="gaussian_fixed"),
    "scalar": toy_spec(**BUDGET, condition="scalar"),
    "mean_image": toy_spec(**BUDGET, output_bias=True),
}
# One step at a time; the steps of the others are among those that are captured.
STEP_BY_STEP = ["adam", *(name for name in SPECS if name not in CAPTURED)]
# What an evaluation looks at: the network, the images, whether there is an encoder.
EVALUATED = [
    name
    for name in SPECS
    if name not in ("adam", "adagrad", "snapshots", "wake_sleep", "mean_image")
]
SETTINGS = EvaluationSettings(z_train=1, z_test=2, nll_images=20, nll_samples=5, generated=100)
LIKELIHOOD = LikelihoodSettings(
    snapshots=2,
    images=2,
    curve_samples=3,
    importance_samples=30,
    final_samples=4,
    final_images=2,
    temperatures=2,
    chains=1,
)


def slow(names: Sequence[str], *marked: str) -> list[Any]:
    """Names as parameters, some of which are slow."""
    return [pytest.param(n, marks=pytest.mark.slow) if n in marked else n for n in names]


@pytest.fixture(autouse=True)
def one_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU's, whose last bits depend on where a parameter begins."""
    monkeypatch.setattr(flat_module, "GPU_ALIGNMENT", 1)


def trained(spec: RunSpec, compute: Compute, path: Path) -> TrainingResult:
    data = IMAGES[spec.data.dataset]
    return train("a", spec, 0, data, compute, resume=path)


@pytest.mark.parametrize("name", STEP_BY_STEP)
def test_training_is_where_it_was_asked_to_be(
    name: str, tmp_path: Path, pretended_gpu: PretendedGpu
) -> None:
    expected = trained(SPECS[name], FP32, tmp_path / "r")
    assert not pretended_gpu.operations.on_gpu
    assert_same(trained(SPECS[name], ON_GPU, tmp_path / "r"), expected)
    assert (
        pretended_gpu.operations.on_gpu
        > SPECS[name].budget.samples // SPECS[name].recipe.batch_size
    )


@pytest.mark.parametrize("name", slow(CAPTURED, "mcem", "vqvae"))
def test_captured_steps_in_bf16_are_where_they_were_asked_to_be(
    name: str,
    tmp_path: Path,
    pretended_gpu: PretendedGpu,
    recorded_graphs: list[RecordedGraph],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vaelab.training.fast.optimizer.one_pass", lambda flat: False)
    expected = trained(SPECS[name], BF16, tmp_path / "r")
    on_gpu = replace(BF16, device=GPU, graphs=True)
    assert_same(trained(SPECS[name], on_gpu, tmp_path / "r"), expected)
    assert recorded_graphs


def test_matrices_are_aligned_and_gaps_stay_zero(
    tmp_path: Path, pretended_gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their widths are odd, so that one after another would begin anywhere."""
    kept: list[FlatParameters] = []
    start = FlatParameters.__init__

    def noted(flat: FlatParameters, *arguments: Any) -> None:
        start(flat, *arguments)
        kept.append(flat)

    monkeypatch.setattr(flat_module, "GPU_ALIGNMENT", 64)
    monkeypatch.setattr(FlatParameters, "__init__", noted)
    spec = toy_spec(**BUDGET, hidden=(17, 13))
    expected = trained(spec, FP32, tmp_path / "r")
    found = trained(spec, ON_GPU, tmp_path / "r")
    trained(spec, replace(ON_GPU, dtype=torch.bfloat16), tmp_path / "r")
    assert found.state.keys() == expected.state.keys()
    for name, weights in expected.state.items():
        torch.testing.assert_close(found.state[name], weights, rtol=1e-4, atol=1e-5)
    *_, flat = kept
    first = {name for name in flat.weights if ".layers.0." in name and "decoder" not in name}
    for views in (flat.weights, flat.gradients):
        places = {name: 2 * view.storage_offset() for name, view in views.items()}
        assert all(place % 16 == 0 for name, place in places.items() if name not in first)
    parameters = sum(view.numel() for view in flat.weights.values())
    assert flat.master.numel() > parameters
    assert flat.master.count_nonzero() <= parameters
    gaps = torch.ones(flat.master.numel(), dtype=torch.bool)
    for view in flat.weights.values():
        gaps[view.storage_offset() :][: view.numel()] = False
    assert int(gaps.sum()) == flat.master.numel() - parameters
    assert not flat.master.detach().cpu()[gaps].any()


def evaluated(spec: RunSpec, compute: Compute) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    model = build(spec, torch.Generator().manual_seed(0))
    return evaluate(spec, model, IMAGES[spec.data.dataset], SETTINGS, compute)


@pytest.mark.parametrize("name", EVALUATED)
def test_evaluation_is_where_it_was_asked_to_be(
    name: str, pretended_gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_weights, "default_rows", lambda device: 4096)
    metrics, arrays = evaluated(SPECS[name], FP32)
    assert not pretended_gpu.operations.on_gpu
    found, pictures = evaluated(SPECS[name], ON_GPU)
    assert pretended_gpu.operations.on_gpu > 100
    assert found == metrics
    assert pictures.keys() == arrays.keys()
    assert all(np.array_equal(pictures[key], arrays[key]) for key in arrays)


@needs_gpu
@pytest.mark.parametrize("name", SPECS)
def test_evaluation_on_a_gpu_says_what_a_cpu_says(name: str) -> None:
    """With other noise; what has none, the KL of an encoder, is the same."""
    configure_process(1)
    found, pictures = evaluated(SPECS[name], Compute(torch.device("cuda"), torch.float32))
    expected, arrays = evaluated(SPECS[name], FP32)
    loss = "mse" if name == "vqvae" else "recon"
    for split in ("train", "test"):
        assert found[split][loss] == pytest.approx(expected[split][loss], rel=0.01)
        if name not in ("vqvae", "mcem"):
            assert found[split]["kl"] == pytest.approx(expected[split]["kl"], rel=1e-3)
    if name != "vqvae":
        nll = expected["test"]["nll"]
        assert found["test"]["nll"] == pytest.approx(nll, abs=0.02 * abs(nll))
    assert pictures.keys() == arrays.keys()
    assert all(pictures[key].shape == arrays[key].shape for key in arrays)
    assert np.array_equal(pictures["random_originals"], arrays["random_originals"])


@pytest.mark.slow
def test_estimates_are_where_they_were_asked_to_be(
    pretended_gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_weights, "default_rows", lambda device: 4096)
    monkeypatch.setattr(kw_appendix_d, "SHORT_BURN_IN", 2)
    few = partial(kw_appendix_d.kw_appendix_d, draws=3)
    monkeypatch.setattr(kw_appendix_d, "kw_appendix_d", few)
    spec = toy_spec(trunks="shared")
    model = build(spec, torch.Generator().manual_seed(0))
    weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    snapshots = torch.stack([0.5 * weights, weights])

    def tables(compute: Compute) -> Any:
        return likelihood_tables(
            "toy", spec, model, snapshots, [1, 2], IMAGES["mnist"], LIKELIHOOD, compute
        )

    expected = tables(FP32)
    assert not pretended_gpu.operations.on_gpu
    assert tables(ON_GPU) == expected
    assert pretended_gpu.operations.on_gpu > 100


@pytest.mark.parametrize("name", slow(["adam", "mcem", "vqvae"], "mcem"))
def test_training_goes_on_where_it_was(
    name: str, tmp_path: Path, pretended_gpu: PretendedGpu
) -> None:
    """A state from a file is the CPU's; the training that it becomes is the GPU's again."""
    spec = SPECS[name]
    expected = trained(spec, ON_GPU, tmp_path / "r")
    lines: list[str] = []

    def end(line: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    training = partial(train, "a", spec, 0, IMAGES["mnist"], ON_GPU, resume=tmp_path / "r")
    with pytest.raises(SystemExit):
        training(log=end)
    found = training(log=lines.append)
    assert "resumed at" in lines[0]
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("name", "first", "then"),
    [("adagrad", FP32, ON_GPU), ("mcem", ON_GPU, FP32), ("adagrad", BF16, FP32)],
)
def test_a_longer_training_goes_on_elsewhere(
    name: str,
    first: Compute,
    then: Compute,
    tmp_path: Path,
    pretended_gpu: PretendedGpu,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the weights and moments it had, other gaps between them, and other noise from there."""
    monkeypatch.setattr(flat_module, "GPU_ALIGNMENT", 64)
    spec, kept = SPECS[name].changed(schedule="constant"), tmp_path / "kept"
    short = spec.changed(**{"samples": 64})
    before = train("a", short, 0, IMAGES["mnist"], first, resume=tmp_path / "r", keep=kept)
    trainer = Trainer("a", spec, 0, IMAGES["mnist"], then)
    assert trainer.load(kept, shorter=True)
    for key, value in trainer.model.state_dict().items():
        assert torch.equal(value.cpu(), before.state[key]), key
    trainer.save(tmp_path / "again")
    tensors, again = (load_tensors(path)[0] for path in (kept, tmp_path / "again"))
    assert not torch.equal(tensors.pop("noise"), again.pop("noise"))
    assert all(torch.equal(again[key], tensor) for key, tensor in tensors.items())
    result = train("a", spec, 0, IMAGES["mnist"], then, resume=tmp_path / "r", shorter=[kept])
    assert result.moves == [
        {"samples": 64, "device": first.device.type, "precision": first.precision}
    ]
    assert [row["samples"] for row in result.history][-1] == 128
    # A training that was interrupted starts anew there.
    assert not Trainer("a", short, 0, IMAGES["mnist"], then).load(kept)


# --- The pretence itself --------------------------------------------------------------------


def test_pretended_gpu_sees_what_is_elsewhere(pretended_gpu: PretendedGpu) -> None:
    there, here = torch.ones(3, device=GPU), torch.ones(3)
    assert (there.device, here.device) == (GPU, torch.device("cpu"))
    assert (2 * there).is_cuda
    assert (there + torch.tensor(1.0)).device == GPU
    assert there.view(3, 1)[1:].device == GPU
    assert here.to(GPU).device == GPU
    assert there.cpu().device == torch.device("cpu")
    assert torch.nn.Linear(3, 2).to(GPU)(there).is_cuda
    for mixed in (
        lambda: there + here,
        lambda: torch.nn.Linear(3, 2)(there),
        lambda: there.index_select(0, torch.tensor([0])),
        lambda: there.numpy(),
        lambda: torch.rand(3, generator=torch.Generator(GPU)),
        lambda: torch.rand(3, device=GPU, generator=torch.Generator()),
        lambda: there.uniform_(generator=torch.Generator()),
        lambda: there.cumsum(0),
    ):
        with pytest.raises(AssertionError):
            mixed()
    assert here.cumsum(0).tolist() == [1.0, 2.0, 3.0]
