"""Steps of the training loop by hand: which images, labels, noise, rate and weights."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from toys import BF16, FP32, toy_images, toy_spec, train
from vaelab.models.families import build
from vaelab.models.objectives import elbo_terms
from vaelab.models.vae import VAE
from vaelab.settings.spec import RunSpec
from vaelab.training.device import Compute, configure_process
from vaelab.training.history import HISTORY
from vaelab.training.trainer import FINITE_EVERY, INIT, NOISE, SHUFFLE, Trainer, learning_rate
from vaelab.util.errors import VaelabError
from vaelab.util.rng import representative, stream_seed

DATA = toy_images()
SEED = 5


def stream(*key: int) -> torch.Generator:
    return torch.Generator().manual_seed(stream_seed(*key))


def pixels(split: str, index: Any) -> Tensor:
    images = DATA.train_images if split == "train" else DATA.test_images
    return torch.from_numpy(images[index]).float() / 255.0


def condition(model: VAE, spec: RunSpec, labels: Any) -> Tensor | None:
    return None if spec.model.condition == "none" else model.embed(torch.from_numpy(labels.copy()))


def by_hand(spec: RunSpec, steps: int) -> dict[str, Tensor]:
    """The weights after some steps: autograd, PyTorch's optimiser, nothing of the loop."""
    model = build(spec, stream(SEED, INIT))
    kind = {"adam": torch.optim.Adam, "adagrad": torch.optim.Adagrad}[spec.recipe.optimizer]
    optimizer = kind(model.parameters(), lr=0.0)
    noise = stream(SEED, NOISE)
    count = spec.data.train_subset or len(DATA.train_images)
    seen, epoch, position = 0, 0, 0
    order = torch.randperm(count, generator=stream(SEED, SHUFFLE, 0))
    for _ in range(steps):
        if position == count:
            epoch, position = epoch + 1, 0
            order = torch.randperm(count, generator=stream(SEED, SHUFFLE, epoch))
        index = order[position : position + spec.recipe.batch_size].numpy()
        position += len(index)
        seen += len(index)
        c = condition(model, spec, DATA.train_labels[index])
        eps = torch.randn(len(index), spec.model.latent_dim, generator=noise)
        optimizer.param_groups[0]["lr"] = learning_rate(spec, seen)
        optimizer.zero_grad()
        elbo_terms(model, pixels("train", index), c, eps).objective(
            spec.objective.beta
        ).mean().backward()
        optimizer.step()
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


VARIANTS = {
    "adagrad": toy_spec(optimizer="adagrad", learning_rate=0.01, init="normal"),
    "beta": toy_spec(beta=7.0),
    "one-hot": toy_spec(condition="onehot"),
    "raw label": toy_spec(condition="scalar", trunks="shared", activation="tanh"),
    "subset": toy_spec(train_subset=70, batch_size=40),
    "warm-up": toy_spec(schedule="cosine", warmup=0.6, learning_rate=0.01),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_steps_by_hand(name: str) -> None:
    """Four steps: a partial batch and a second epoch are among them."""
    spec = VARIANTS[name]
    training = Trainer("a", spec, SEED, DATA, FP32)
    start = build(spec, stream(SEED, INIT)).state_dict()
    for _ in range(4):
        training.advance()
    for parameter, expected in by_hand(spec, 4).items():
        found = training.model.state_dict()[parameter]
        moved = (expected - start[parameter]).abs().max().item()
        assert moved > 0.0
        torch.testing.assert_close(found, expected, rtol=0, atol=0.01 * moved)


def test_history_is_of_representative_images_with_fixed_noise() -> None:
    spec = toy_spec(condition="onehot", beta=3.0, history_images=15)
    training = Trainer("a", spec, SEED, DATA, FP32)
    training.advance()
    row = training.record()
    eps = torch.randn(15, spec.model.latent_dim, generator=stream(0, HISTORY))
    everything = {
        "train": (DATA.train_images, DATA.train_labels),
        "test": (DATA.test_images, DATA.test_labels),
    }
    for split, (images, labels) in everything.items():
        chosen = representative(images, DATA.image_shape, 15, HISTORY)
        c = condition(training.model, spec, labels[chosen])
        with torch.no_grad():
            terms = elbo_terms(training.model, pixels(split, chosen), c, eps)
        recon, kl = terms.recon.mean().item(), terms.kl.mean().item()
        assert row[f"{split}_recon"] == pytest.approx(recon, rel=1e-5)
        assert row[f"{split}_kl"] == pytest.approx(kl, rel=1e-5)
        assert row[f"{split}_neg_elbo"] == pytest.approx(recon + kl, rel=1e-5)
        assert row[f"{split}_objective"] == pytest.approx(recon + 3.0 * kl, rel=1e-5)
    assert row["samples"] == 100


def test_history_of_a_subset_run_is_of_images_it_trains_on() -> None:
    training = Trainer("a", toy_spec(train_subset=12, history_images=20), SEED, DATA, FP32)
    x, _, (eps,) = training.history.splits["train"]
    assert torch.equal(x, pixels("train", slice(12)))
    assert len(eps) == 12
    assert len(training.history.splits["test"][0]) == 20


def test_images_and_noise_of_the_history_are_the_same_for_every_seed() -> None:
    one, two = (Trainer("a", toy_spec(), seed, DATA, FP32) for seed in (1, 2))
    for split in ("train", "test"):
        assert torch.equal(one.history.splits[split][0], two.history.splits[split][0])
        assert torch.equal(one.history.splits[split][2][0], two.history.splits[split][2][0])


def finished(spec: RunSpec, folder: Path, compute: Compute = FP32) -> dict[str, Tensor]:
    return train("a", spec, 0, DATA, compute, resume=folder / "r").state


def test_logging_does_not_disturb_the_training(tmp_path: Path) -> None:
    """More points, more images and snapshots leave the weights as they are, bit for bit."""
    plain = finished(toy_spec(history_points=2), tmp_path)
    watched = finished(toy_spec(history_points=3, history_images=50, snapshots=3), tmp_path)
    assert all(torch.equal(tensor, watched[name]) for name, tensor in plain.items())


def test_progress_is_told_at_points_of_the_history_and_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = toy_spec(samples=1000, batch_size=100, history_points=2)

    def lines_of(seconds: float) -> list[str]:
        monkeypatch.setattr("vaelab.training.trainer.PROGRESS_SECONDS", seconds)
        lines: list[str] = []
        train("a", spec, 0, DATA, FP32, resume=tmp_path / "r", log=lines.append)
        return lines

    assert [line.split("/")[0] for line in lines_of(60.0)] == ["a: 100", "a: 1000"]
    often = lines_of(0.0)
    assert [line.split("/")[0] for line in often] == [
        f"a: {seen}" for seen in sorted([*range(100, 900, 130), *range(130, 950, 130), 1000])
    ]
    whole = re.compile(r"a: 490/1000 samples, [1-9]\d*/s, neg_elbo \d+\.\d+ \(train\), 0 s left")
    assert whole.fullmatch(often[6]), often[6]


def test_state_of_another_precision_is_not_resumed(tmp_path: Path) -> None:
    resume, lines = tmp_path / "r", []
    for compute in (BF16, FP32):
        train("a", toy_spec(), 0, DATA, compute, resume=resume, resume_seconds=0.0,
              log=lines.append)  # fmt: skip
    assert sum("of another specification or device" in line for line in lines) == 1


def test_divergence_between_two_logged_points_is_soon_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first step, which is logged, goes well; the next logged point is a million off."""
    monkeypatch.setattr(
        "vaelab.training.trainer.learning_rate", lambda spec, seen: 1e-3 if seen <= 10 else 1e20
    )
    spec = toy_spec(samples=1_000_000, history_points=2, batch_size=10)
    with pytest.raises(VaelabError) as caught:
        finished(spec, tmp_path)
    seen = int(re.search(r"after (\d+) samples", str(caught.value))[1])
    assert 10 < seen <= FINITE_EVERY * 10


@pytest.mark.usefixtures("process_settings")
def test_process_is_deterministic_flushes_denormals_and_keeps_to_its_threads() -> None:
    torch.set_flush_denormal(False)
    tiny = torch.tensor([1e-30]), torch.tensor([1e-10])
    assert (tiny[0] * tiny[1]).item() > 0.0
    for threads in (2, 1):
        configure_process(threads)
        assert torch.get_num_threads() == threads
    assert (tiny[0] * tiny[1]).item() == 0.0
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.allow_tf32
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
