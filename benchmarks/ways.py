"""Ways to train a network, each as a function from training images to seconds.

The peers are written as their authors would: the report's notebooks, the VAE of the PyTorch
examples, pythae's trainer. They train the same network on the same images, in batches of 100,
on one thread.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy
from torch.utils.data import DataLoader

from benchmarks.networks import Way, layers
from vaelab.data import Dataset, load
from vaelab.data.registry import DATASETS
from vaelab.data.vision import vision_datasets
from vaelab.models.families import build
from vaelab.models.vqvae import VQVAE
from vaelab.settings.spec import RunSpec, VaePart
from vaelab.training.device import Compute, configure_process
from vaelab.training.trainer import Trainer

# Train on so many images; returns the seconds that this took.
Run = Callable[[int], float]

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def prepare(way: Way, spec: RunSpec, data_root: Path) -> Run:
    """Everything that precedes training: data in memory, network, optimiser."""
    if way.peer:
        # Nobody else flushes denormals or insists on deterministic kernels.
        torch.set_num_threads(1)
        return {"report": _report, "examples": _examples, "pythae": _pythae}[way.kind](
            spec, data_root
        )
    configure_process(1)
    compute = Compute(torch.device("cpu"), DTYPES[way.precision])
    if way.kind == "ours":
        return _ours(spec, _dataset(spec.data.dataset, data_root), compute)
    return _bound(spec, compute.dtype)


@cache
def _dataset(name: str, root: Path) -> Dataset:
    return load(name, root)


def _ours(spec: RunSpec, dataset: Dataset, compute: Compute) -> Run:
    """vaelab's own training, as the workflow runs it; `seconds` is what provenance records."""

    def run(samples: int) -> float:
        budget = {"samples": samples, "snapshots": 0, "history_points": 2, "history_images": 1}
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer("bench", spec.changed(**budget), 0, dataset, compute)
            return trainer.run(resume=Path(folder) / "state.safetensors").seconds

    return run


def _bound(spec: RunSpec, dtype: torch.dtype) -> Run:
    """The products of a training step alone, on operands laid out as in training."""
    step = (_products if isinstance(spec.model, VaePart) else _convolutions)(spec, dtype)

    @torch.no_grad()
    def run(samples: int) -> float:
        started = time.perf_counter()
        for _ in range(-(-samples // spec.recipe.batch_size)):
            step()
        return time.perf_counter() - started

    return run


def _products(spec: RunSpec, dtype: torch.dtype) -> Callable[[], None]:
    batch = spec.recipe.batch_size
    calls: list[tuple[Tensor, Tensor, Tensor]] = []
    for layer in layers(spec):
        x, dx = torch.rand(batch, layer.inputs).to(dtype), torch.empty(batch, layer.inputs)
        y, dy = torch.empty(batch, layer.outputs), torch.randn(batch, layer.outputs).to(dtype)
        weight = torch.randn(layer.outputs, layer.inputs).to(dtype)
        calls.append((x, weight.t(), y.to(dtype)))
        calls.append((dy.t(), x, torch.empty_like(weight)))
        if layer.needs_input_gradient:
            calls.append((dy, weight, dx.to(dtype)))

    def step() -> None:
        for left, right, out in calls:
            torch.mm(left, right, out=out)

    return step


def _convolutions(spec: RunSpec, dtype: torch.dtype) -> Callable[[], None]:
    """The VQ-VAE's convolutions: forward, and backward to weights and (but once) inputs."""
    model = build(spec, torch.Generator().manual_seed(0))
    assert isinstance(model, VQVAE)
    seen: list[tuple[Any, Tensor, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda m, args, out: seen.append((m, args[0], out)))
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]
    with torch.no_grad():
        model(torch.rand(spec.recipe.batch_size, DATASETS[spec.data.dataset].pixels))
    for hook in hooks:
        hook.remove()
    calls = []
    for index, (conv, x, y) in enumerate(seen):
        transposed = isinstance(conv, nn.ConvTranspose2d)
        options = (conv.stride, conv.padding, conv.dilation, transposed)
        shape = (*options, conv.output_padding, conv.groups)
        calls.append((x.to(dtype), conv.weight.detach().to(dtype), y.to(dtype), shape, index > 0))

    def step() -> None:
        for x, weight, dy, shape, needs_dx in calls:
            torch.ops.aten.convolution(x, weight, None, *shape)
            torch.ops.aten.convolution_backward(
                dy, x, weight, None, *shape, [needs_dx, True, False]
            )

    return step


class _PlainVAE(nn.Module):
    """The network as one would write it for a notebook: three stacks of layers."""

    def __init__(self, spec: RunSpec) -> None:
        super().__init__()
        assert isinstance(spec.model, VaePart)
        widths = [DATASETS[spec.data.dataset].pixels, *spec.model.hidden]
        self.mean = _stack([*widths, spec.model.latent_dim])
        self.log_var = _stack([*widths, spec.model.latent_dim])
        self.decoder = nn.Sequential(
            _stack([spec.model.latent_dim, *reversed(widths)]), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, P) -> pixel means (B, P), latent means and log-variances (B, d)."""
        mean, log_var = self.mean(x), self.log_var(x)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        return self.decoder(z), mean, log_var


def _stack(widths: list[int]) -> nn.Sequential:
    stack: list[nn.Module] = []
    for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
        stack += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*stack[:-1])


def _loss(out: Tensor, x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Negative ELBO, summed over the batch."""
    recon = binary_cross_entropy(out, x, reduction="sum")
    return recon - 0.5 * torch.sum(1 + log_var - mean.pow(2) - log_var.exp())


def _torchvision_loader(spec: RunSpec, data_root: Path) -> DataLoader[Any]:
    """Shuffled batches of torchvision's MNIST through ToTensor."""
    datasets = vision_datasets()
    from torchvision import transforms

    # torchvision looks for the same files under another folder, and reads them at once.
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "MNIST").mkdir()
        (Path(root) / "MNIST/raw").symlink_to((data_root / "raw/mnist").resolve())
        images = datasets.MNIST(root, train=True, transform=transforms.ToTensor())
    return DataLoader(images, batch_size=spec.recipe.batch_size, shuffle=True)


def _endless(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader


def _timed_steps(spec: RunSpec, batches: Iterator[Any], step: Callable[[Any], None]) -> Run:
    def run(samples: int) -> float:
        started = time.perf_counter()
        for _ in range(-(-samples // spec.recipe.batch_size)):
            step(next(batches))
        return time.perf_counter() - started

    return run


def _report(spec: RunSpec, data_root: Path) -> Run:
    """The report's notebooks: mean loss of the batch, eager Adagrad."""
    model = _PlainVAE(spec)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=spec.recipe.learning_rate)

    def step(batch: tuple[Tensor, Tensor]) -> None:
        x = batch[0].flatten(1)
        loss = _loss(*_outputs(model, x)) / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return _timed_steps(spec, _endless(_torchvision_loader(spec, data_root)), step)


def _examples(spec: RunSpec, data_root: Path) -> Run:
    """The loop of the PyTorch examples' VAE: summed loss, Adam, a running sum of the loss."""
    model = _PlainVAE(spec)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    total = 0.0

    def step(batch: tuple[Tensor, Tensor]) -> None:
        nonlocal total
        x = batch[0].to("cpu").view(-1, DATASETS[spec.data.dataset].pixels)
        optimizer.zero_grad()
        loss = _loss(*_outputs(model, x))
        loss.backward()
        total += loss.item()
        optimizer.step()

    return _timed_steps(spec, _endless(_torchvision_loader(spec, data_root)), step)


def _outputs(model: _PlainVAE, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    out, mean, log_var = model(x)
    return out, x, mean, log_var


def _pythae(spec: RunSpec, data_root: Path) -> Run:
    """pythae's BaseTrainer: one epoch of its own loop over so many images."""
    logging.disable(logging.INFO)
    with contextlib.redirect_stdout(io.StringIO()):
        from pythae.data.datasets import BaseDataset
        from pythae.models import VAE, VAEConfig
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder, BaseEncoder
        from pythae.trainers import BaseTrainer, BaseTrainerConfig

    plain = _PlainVAE(spec)

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.mean, self.log_var = plain.mean, plain.log_var

        def forward(self, x: Tensor) -> ModelOutput:
            return ModelOutput(embedding=self.mean(x), log_covariance=self.log_var(x))

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.decoder = plain.decoder

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.decoder(z))

    settings = VAEConfig(
        input_dim=(DATASETS[spec.data.dataset].pixels,),
        latent_dim=spec.model.latent_dim,
        reconstruction_loss="bce",
    )
    model = VAE(settings, Encoder(), Decoder())
    images = torch.from_numpy(_dataset(spec.data.dataset, data_root).train_images).float() / 255.0

    def run(samples: int) -> float:
        count = min(samples, len(images))
        part = BaseDataset(images[:count], torch.zeros(count))
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            config = BaseTrainerConfig(
                output_dir=folder,
                per_device_train_batch_size=spec.recipe.batch_size,
                num_epochs=1,
                optimizer_cls="Adagrad",
                learning_rate=spec.recipe.learning_rate,
                no_cuda=True,
            )
            trainer = BaseTrainer(model, part, training_config=config)
            trainer.prepare_training()
            spent = 0.0
            for _ in range(-(-samples // count)):
                started = time.perf_counter()
                trainer.train_step(epoch=1)
                spent += time.perf_counter() - started
        return spent * samples / (count * -(-samples // count))

    return run
