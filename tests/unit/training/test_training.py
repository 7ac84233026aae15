"""Training: the fast path against autograd, schedules, resume after SIGKILL, divergence."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import vector_to_parameters

from toys import BF16, FP32, VARIANTS, toy_batch, toy_images, toy_spec, toy_vqvae_spec, train
from vaelab.models.families import build
from vaelab.models.vqvae import VQVAE
from vaelab.settings.config import Config
from vaelab.settings.spec import RunSpec
from vaelab.training.device import Compute, resolve_compute
from vaelab.training.fast.flat import FlatParameters
from vaelab.training.fast.gradients import FusedGradients
from vaelab.training.fast.optimizer import fastest_optimizer
from vaelab.training.gradients import AutogradGradients
from vaelab.training.history import history_grid
from vaelab.training.lease import compute_with
from vaelab.training.state import load_tensors, save_tensors
from vaelab.training.termination import end_if_asked, termination
from vaelab.training.trainer import Trainer, learning_rate
from vaelab.util.errors import VaelabError
from workflow_project import ROOT

DATA = toy_images(train=230)


def both_gradients(run: RunSpec, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    gradients = []
    for way in (AutogradGradients, FusedGradients):
        model = build(run, torch.Generator().manual_seed(0))
        flat = FlatParameters(model, dtype if way is FusedGradients else torch.float32)
        x, c, eps = toy_batch(run, model)
        way(model, flat, run.objective.beta, dtype)(x.to(dtype), c, eps)
        flat.collect()
        gradients.append(flat.gradient.clone())
    return gradients[0], gradients[1]


@pytest.mark.parametrize("name", VARIANTS)
def test_fused_gradients_equal_autograd_in_float32(name: str) -> None:
    autograd, fused = both_gradients(VARIANTS[name], torch.float32)
    assert autograd.abs().max() > 1e-3
    torch.testing.assert_close(fused, autograd, rtol=1e-4, atol=1e-6 * autograd.abs().max().item())


@pytest.mark.parametrize("name", VARIANTS)
def test_fused_gradients_in_bf16_are_as_close_as_autocast(name: str) -> None:
    exact, _ = both_gradients(VARIANTS[name], torch.float32)
    autocast, fused = both_gradients(VARIANTS[name], torch.bfloat16)
    error = ((fused - exact).norm() / exact.norm()).item()
    reference = ((autocast - exact).norm() / exact.norm()).item()
    assert 0.0 < error < max(1.3 * reference, 0.01)
    assert error < 0.08


def test_flat_parameters_are_the_model() -> None:
    model = build(toy_spec(), torch.Generator().manual_seed(0))
    before = {name: p.clone() for name, p in model.named_parameters()}
    flat = FlatParameters(model, torch.bfloat16)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, before[name], rtol=0, atol=0)
    with torch.no_grad():
        flat.master.add_(1.0)
    flat.publish()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, before[name] + 1.0, rtol=0, atol=0)
        torch.testing.assert_close(
            flat.weights[name], (before[name] + 1.0).bfloat16(), rtol=0, atol=0
        )


def test_convolutions_keep_their_memory_format() -> None:
    """And a state has them as it would in any other."""
    model = VQVAE()
    model.reset_parameters(torch.Generator().manual_seed(0))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    flat = FlatParameters(model, torch.float32)
    kernels = [name for name, weights in before.items() if weights.ndim == 4]
    assert len(kernels) == 6
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is not None
        if name in kernels:
            assert parameter.is_contiguous(memory_format=torch.channels_last)
            assert parameter.grad.is_contiguous(memory_format=torch.channels_last)
    packed = flat.packed(flat.master.detach())
    assert torch.equal(packed, torch.cat([weights.flatten() for weights in before.values()]))
    flat.unpack(packed + 1.0, flat.master.detach())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name] + 1.0)


def test_first_layers_of_both_trunks_are_one_matrix() -> None:
    model = build(VARIANTS["onehot"], torch.Generator().manual_seed(0))
    flat = FlatParameters(model, torch.bfloat16)
    weight, bias = flat.first_layer(flat.compute)
    layers = [model.encoder_mean.layers[0], model.encoder_log_var.layers[0]]
    assert torch.equal(weight, torch.cat([layer.weight for layer in layers]).bfloat16())
    assert torch.equal(bias, torch.cat([layer.bias for layer in layers]).bfloat16())
    gradient, _ = flat.first_layer(flat.compute_grad)
    gradient.fill_(2.0)
    flat.collect()
    assert all((layer.weight.grad == 2.0).all() for layer in layers)
    assert not flat.gradients["encoder_mean.layers.1.weight"].any()


def test_snapshots_are_in_the_order_of_the_models_parameters(tmp_path: Path) -> None:
    run = toy_spec(snapshots=1)
    result = train("a", run, 0, DATA, FP32, resume=tmp_path / "r")
    model = build(run)
    vector_to_parameters(result.snapshots[-1], model.parameters())
    assert all(torch.equal(value, result.state[name]) for name, value in model.named_parameters())


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adam", lambda p: torch.optim.Adam([p], lr=0.01, betas=(0.9, 0.97))),
        ("adagrad", lambda p: torch.optim.Adagrad([p], lr=0.01)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_optimizers_are_pytorchs(name: str, reference: object, dtype: torch.dtype) -> None:
    """In float32 by PyTorch's kernels, with bf16 products by the one-pass kernels."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(30, 20)
    flat = FlatParameters(layer, dtype)
    ours, theirs = flat.master, torch.nn.Parameter(flat.master.detach().clone())
    optimizer = fastest_optimizer(name, flat, 0.97)
    expected = reference(theirs)
    for gradient in torch.randn(4, len(theirs)).to(dtype):
        flat.compute_grad.copy_(gradient)
        theirs.grad = gradient.float()
        optimizer.step(0.01)
        expected.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    assert torch.equal(flat.compute, ours.detach().to(dtype))


@pytest.mark.parametrize("optimizer", ["adam", "adagrad"])
def test_one_pass_rounds_weights_to_the_nearest_even_bf16(optimizer: str) -> None:
    """Without a gradient the weights stay; their bf16 copy is PyTorch's rounding, ties included."""
    layer = torch.nn.Linear(64, 65, bias=False)
    ties = torch.arange(64 * 65, dtype=torch.int32) * 0x8000 + 0x3F000000
    with torch.no_grad():
        layer.weight.copy_(ties.view(torch.float32).view(65, 64))
        layer.weight[::2] *= -1
    flat = FlatParameters(layer, torch.bfloat16)
    before = flat.master.detach().clone()
    flat.compute.zero_()
    fastest_optimizer(optimizer, flat, 0.999).step(0.1)
    assert torch.equal(flat.master.detach(), before)
    assert torch.equal(flat.compute, before.bfloat16())


def test_learning_rate_warms_up_then_falls_to_zero() -> None:
    line = toy_spec(schedule="linear", warmup=0.2, learning_rate=0.01, samples=1000)
    assert learning_rate(line, 100) == pytest.approx(0.005)
    assert learning_rate(line, 400) == pytest.approx(0.0075)
    assert learning_rate(line, 1000) == pytest.approx(0.0, abs=1e-12)
    run = toy_spec(schedule="cosine", warmup=0.2, learning_rate=0.01, samples=1000)
    assert learning_rate(run, 100) == pytest.approx(0.005)
    assert learning_rate(run, 200) == pytest.approx(0.01)
    assert learning_rate(run, 600) == pytest.approx(0.005)
    assert learning_rate(run, 1000) == pytest.approx(0.0, abs=1e-12)
    assert learning_rate(toy_spec(learning_rate=0.01), 999) == 0.01


def test_history_grid_is_logarithmic_and_ends_at_the_budget() -> None:
    grid = history_grid(toy_spec(samples=100_000, batch_size=100, history_points=7))
    assert grid[0] == 100
    assert grid[-1] == 100_000
    ratios = np.diff(np.log(grid))
    assert ratios == pytest.approx(np.full(6, np.log(1000) / 6), rel=0.02)


@pytest.mark.parametrize("compute", [FP32, BF16], ids=["fp32", "bf16"])
def test_training_lowers_the_bound_and_repeats_bit_for_bit(
    compute: Compute, tmp_path: Path
) -> None:
    run = toy_spec(samples=4000, batch_size=50, learning_rate=3e-3)
    results = [train("a", run, 0, DATA, compute, resume=tmp_path / "r") for _ in range(2)]
    first, last = results[0].history[0], results[0].history[-1]
    assert last["samples"] == 4000
    assert last["train_neg_elbo"] < 0.8 * first["train_neg_elbo"]
    assert last["train_neg_elbo"] == pytest.approx(last["train_recon"] + last["train_kl"])
    for name, tensor in results[0].state.items():
        assert torch.equal(tensor, results[1].state[name])
    other = train("a", run, 1, DATA, compute, resume=tmp_path / "r")
    assert any(not torch.equal(t, other.state[n]) for n, t in results[0].state.items())


def test_the_epoch_sees_every_image_once_and_keeps_the_partial_batch(tmp_path: Path) -> None:
    """230 images in batches of 100: 100, 100, 30, then the next epoch's first 100."""
    training = Trainer("a", toy_spec(samples=330), 0, DATA, FP32)
    order = training.order.clone()
    sizes, positions = [], []
    for _ in range(4):
        before = training.progress.seen
        training.advance()
        sizes.append(training.progress.seen - before)
        positions.append(training.progress.position)
    assert sizes == [100, 100, 30, 100]
    assert positions == [100, 200, 230, 100]
    assert sorted(order.tolist()) == list(range(230))
    assert not torch.equal(order, training.order)


VICTIM = """
    import signal, sys
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # who runs the tests may ignore it
    sys.path.insert(0, {tests!r})
    from pathlib import Path
    import torch
    from toys import BF16, FP32, toy_images, toy_spec, train
    torch.set_num_threads(1)
    train("victim", toy_spec(**{changes!r}), 0, toy_images(), {compute}, resume=Path({resume!r}),
          resume_seconds={seconds}, log=lambda line: print(line, flush=True))
"""

KILL_VARIANTS = {
    "adam_snapshots": ({"samples": 3000, "hidden": (64,), "snapshots": 4}, "FP32"),
    "adagrad_bf16": (
        {"samples": 3000, "hidden": (32, 16), "optimizer": "adagrad", "init": "normal"},
        "BF16",
    ),
}


def start_victim(
    changes: dict[str, Any], compute: str, resume: Path, seconds: float
) -> subprocess.Popen[str]:
    """A training in a process of its own, which saves its state every so many seconds."""
    script = textwrap.dedent(VICTIM).format(
        tests=str(ROOT / "tests/support"),
        changes=changes,
        compute=compute,
        resume=str(resume),
        seconds=seconds,
    )
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", KILL_VARIANTS)
def test_killed_training_resumes_to_the_identical_result(
    name: str, tmp_path: Path, process_settings: None
) -> None:
    changes, compute = KILL_VARIANTS[name]
    resume = tmp_path / "resume.safetensors"
    killed = start_victim(changes, compute, resume, 0.0)
    deadline = time.monotonic() + 60
    while not resume.exists() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL, "the training ended before it could be killed"
    seen = load_tensors(resume)[1]["seen"]
    assert 0 < seen < changes["samples"]

    torch.set_num_threads(1)
    lines: list[str] = []
    whole, resumed = (
        train("victim", toy_spec(**changes), 0, toy_images(), {"FP32": FP32, "BF16": BF16}[compute],
              resume=path, log=lines.append)
        for path in (tmp_path / "none", resume)
    )  # fmt: skip
    assert [line for line in lines if "resumed" in line] == [
        f"victim: resumed at {seen} of {changes['samples']} samples"
    ]
    assert whole.state.keys() == resumed.state.keys()
    for key, tensor in whole.state.items():
        assert torch.equal(tensor, resumed.state[key]), key
    if whole.snapshots is not None:
        assert torch.equal(whole.snapshots, resumed.snapshots)
    for row, other in zip(whole.history, resumed.history, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}


def test_training_that_is_asked_to_end_saves_its_state_first(tmp_path: Path) -> None:
    resume = tmp_path / "resume.safetensors"
    process = start_victim({"samples": 50_000_000}, "FP32", resume, 1e9)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert load_tensors(resume)[1]["seen"] > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_all_of_these_signals_ask_to_end(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # nohup, say, ignores SIGHUP
    with termination() as asked:
        os.kill(os.getpid(), number)
        assert list(asked) == [number]
        with pytest.raises(SystemExit) as ended:
            end_if_asked()
    signal.signal(number, before)
    assert ended.value.code == 128 + number


def test_resume_file_of_another_training_is_not_used(tmp_path: Path) -> None:
    resume = tmp_path / "resume.safetensors"
    lines: list[str] = []
    train("a", toy_spec(samples=500), 0, DATA, FP32, resume=resume, resume_seconds=0.0,
          log=lines.append)  # fmt: skip
    assert resume.exists()
    train("a", toy_spec(samples=600), 0, DATA, FP32, resume=resume, log=lines.append)
    assert any("of another specification or device" in line for line in lines)


def test_damaged_resume_file_is_named(tmp_path: Path) -> None:
    resume = tmp_path / "resume.safetensors"
    resume.write_bytes(b"not a safetensors file")
    with pytest.raises(VaelabError, match=r"resume\.safetensors is damaged"):
        train("a", toy_spec(), 0, DATA, FP32, resume=resume)


def test_divergence_is_named_and_stops_the_run(tmp_path: Path) -> None:
    run = toy_spec(learning_rate=1e20, samples=100_000, history_points=2)
    with pytest.raises(VaelabError, match=r"wild-s0 diverged: .* after \d+ samples"):
        train("wild-s0", run, 0, DATA, FP32, resume=tmp_path / "r")


def test_output_bias_starts_at_the_mean_image(tmp_path: Path) -> None:
    training = Trainer("a", toy_spec(output_bias=True), 0, DATA, FP32)
    bias = training.model.decoder.layers[-1].bias.detach().sigmoid().numpy()
    assert bias == pytest.approx(DATA.train_images.mean(0) / 255.0, abs=2e-3)


def test_the_vq_vae_starts_grey_with_its_output_open_in_every_phase() -> None:
    """Its transposed convolutions treat pixels by their position modulo 4."""
    x = torch.from_numpy(DATA.train_images[:64]).float() / 255.0
    closed = {}
    for bias in (True, False):
        model = Trainer("a", toy_vqvae_spec(output_bias=bias), 0, DATA, FP32).model
        with torch.no_grad():
            out = model(x)[0].view(-1, 28, 28)
        phases = out.unflatten(1, (7, 4)).unflatten(3, (7, 4))
        closed[bias] = (phases == 0).float().mean((0, 1, 3)).max().item()
        if bias:
            assert out.mean().item() == pytest.approx(DATA.train_images.mean() / 255, abs=0.02)
    assert closed[True] < 0.3
    assert closed[False] > 0.6


@pytest.mark.parametrize(
    ("capabilities", "precision", "found"),
    [
        ({"avx512_bf16": True}, "auto", "bf16"),
        ({"amx_bf16": True}, "auto", "bf16"),
        ({"avx512_f": True, "avx512_bf16": False}, "auto", "fp32"),
        ({}, "auto", "fp32"),
        ({"avx512_bf16": True}, "fp32", "fp32"),
        ({}, "bf16", "bf16"),
    ],
)
@pytest.mark.usefixtures("process_settings")
def test_precision_is_what_is_asked_for_else_bf16_where_the_processor_has_it(
    capabilities: dict[str, bool], precision: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_compute("cpu", precision).precision == found
    config = Config(device="cpu", precision=precision)
    assert compute_with(config, 1, lambda compute: compute.precision) == found


def test_cuda_by_name_without_a_device_is_an_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(VaelabError, match="sees no CUDA device"):
        resolve_compute("cuda", "auto")


@pytest.mark.parametrize("method", ["aevb", "wake_sleep", "mcem"])
def test_a_larger_budget_goes_on_from_a_kept_state_to_the_same_bits(
    method: str, tmp_path: Path
) -> None:
    fields = {"optimizer": "adagrad", "init": "normal", "method": method, "batch_size": 50}
    fields |= {"history_per_decade": 9, "samples": 4000}
    long, kept = toy_spec(**fields), tmp_path / "kept"
    short = long.changed(**{"samples": 2630})
    at_once = train("at once", long, 0, DATA, FP32, resume=tmp_path / "a")
    train("short", short, 0, DATA, FP32, resume=tmp_path / "b", keep=kept)
    lines: list[str] = []
    more = train(
        "more", long, 0, DATA, FP32, resume=tmp_path / "c", shorter=[kept], log=lines.append
    )
    assert "going on from 2630 of 4000" in lines[0]
    for name, tensor in at_once.state.items():
        assert torch.equal(more.state[name], tensor), name
    rows = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]
        for result in (at_once, more)
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    "change", [{"samples": 2605}, {"learning_rate": 0.02}, {"schedule": "linear"}]
)
def test_a_state_that_is_no_beginning_is_not_gone_on_from(
    change: dict[str, object], tmp_path: Path
) -> None:
    long = toy_spec(history_per_decade=9, batch_size=50, samples=4000)
    short = long.changed(**{"samples": 2630} | change)
    kept = tmp_path / "kept"
    train("short", short, 0, DATA, FP32, resume=tmp_path / "b", keep=kept)
    # Neither a batch that the budget cut short nor a falling rate is worth keeping.
    assert kept.exists() == ("learning_rate" in change)
    lines: list[str] = []
    there = [kept] if kept.exists() else []
    train("more", long, 0, DATA, FP32, resume=tmp_path / "c", shorter=there, log=lines.append)
    assert not any("going on" in line for line in lines)


def test_weights_are_as_readable_as_any_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(1)}, {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.safetensors").stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_weights_on_a_full_disk_are_one_line(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let root mount")
    try:
        with pytest.raises(VaelabError, match=r"cannot write .*No space left on device; free"):
            save_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(100_000)}, {})
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
