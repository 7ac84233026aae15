"""Ways to train a network, each as a function from a number of training images to seconds.

The rivals are written as their authors would: a loop that a competent user tunes, the report's
notebooks, the VAE of the PyTorch examples, pythae's trainer. They train the same network on the
same images, in the same batches, on one thread.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

from benchmarks.networks import LATE, RIVALS, Way, layers
from vaelab.data import Dataset, load
from vaelab.data.registry import DATASETS
from vaelab.data.vision import vision_datasets
from vaelab.models.families import build
from vaelab.models.vqvae import VQVAE
from vaelab.settings.spec import RunSpec, VaePart
from vaelab.training.device import Compute, configure_process
from vaelab.training.fast.flat import FlatParameters
from vaelab.training.fast.gradients import _FusedMLP
from vaelab.training.fast.optimizer import OnePassOptimizer
from vaelab.training.gradients import AutogradGradients
from vaelab.training.optimizer import MOMENTS, Optimizer
from vaelab.training.trainer import FINITE_EVERY, Trainer

# Train on so many images; returns the seconds that this took.
Run = Callable[[int], float]

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}

# More images than any benchmark trains on.
ENDLESS = 10**9
# Images after which some of Adam's moments are denormal, where it matters.
DENORMAL = 100_000


def prepare(way: Way, spec: RunSpec, data_root: Path) -> Run:
    """Everything that precedes training: data in memory, network, optimiser."""
    dtype = DTYPES[way.precision]
    if way.kind in RIVALS:
        # Nobody else flushes denormals or insists on deterministic kernels.
        torch.set_num_threads(1)
        rivals: dict[str, Callable[[RunSpec, Path], Run]] = {
            "tuned": partial(_tuned, dtype=dtype),
            "compiled": partial(_tuned, dtype=dtype, compiled=True),
            "report": _report,
            "examples": _examples,
            "pythae": _pythae,
        }
        return rivals[way.kind](spec, data_root)
    configure_process(1)
    if way.kind in ("bound", "products"):
        return _bound(spec, dtype, memory=way.kind == "bound")
    return _ours(way.kind, spec, _dataset(spec.data.dataset, data_root), dtype)


@cache
def _dataset(name: str, root: Path) -> Dataset:
    return load(name, root)


@cache
def _images(name: str, root: Path) -> Tensor:
    """Training images (N, P) in [0, 1]: one tensor for all rivals that want one."""
    return torch.from_numpy(_dataset(name, root).train_images).float().div_(255.0)


def _repeated(step: Callable[[], object], batch: int) -> Run:
    """Time as many steps as have that many images."""

    def run(samples: int) -> float:
        started = time.process_time()
        for _ in range(-(-samples // batch)):
            step()
        return time.process_time() - started

    return run


def _ours(kind: str, spec: RunSpec, dataset: Dataset, dtype: torch.dtype) -> Run:
    """vaelab's own training steps, with one layer of the fast path switched off or none."""
    endless = {"samples": ENDLESS, "schedule": "constant", "warmup": 0.0, "history_images": 1}
    trainer = Trainer(
        "bench", spec.changed(**endless), 0, dataset, Compute(torch.device("cpu"), dtype)
    )
    {"autograd": _by_autograd, "parted": _parted, "stepwise": _stepwise}.get(kind, id)(trainer)

    def step() -> None:
        trainer.advance()
        if trainer.progress.steps % FINITE_EVERY == 0:
            trainer.check_finite()

    run = _repeated(step, spec.recipe.batch_size)
    if kind in ("denormals", LATE):
        run(DENORMAL)
    if kind != "denormals":
        return run

    def both(samples: int) -> float:
        torch.set_flush_denormal(False)
        try:
            return run(samples)
        finally:
            torch.set_flush_denormal(True)

    return both


def _by_autograd(trainer: Trainer) -> None:
    """Without hand-written gradients: autograd on the weights that products read."""
    flat = trainer.flat
    for name, parameter in trainer.model.named_parameters():
        parameter.grad = None
        parameter.data = flat.weights[name]
        parameter.grad = flat.gradients[name]
    trainer.gradients = AutogradGradients(
        trainer.model, flat, trainer.spec.objective.beta, trainer.compute.dtype
    )


def _stepwise(trainer: Trainer) -> None:
    """Without the compiled step: PyTorch's fused Adam on the flat parameters."""
    recipe = trainer.spec.recipe
    trainer.optimizer = Optimizer(recipe.optimizer, trainer.flat, recipe.adam_beta2)


def _parted(trainer: Trainer) -> None:
    """Without flat parameters: tensors of their own, and a product for each first layer."""
    flat, recipe = trainer.flat, trainer.spec.recipe
    trainer.gradients.encoder = _SeparateTrunks(trainer.model, flat)  # type: ignore[attr-defined]
    step: Callable[[Any], object]
    if not flat.separate:
        adam = torch.optim.Adam(trainer.model.parameters(), recipe.learning_rate, fused=True)
        step = lambda rate: adam.step()  # noqa: E731
    else:
        steps = []
        for name, parameter in trainer.model.named_parameters():
            one: Any = SimpleNamespace(
                master=parameter.detach().view(-1),
                compute=flat.weights[name].view(-1),
                compute_grad=flat.gradients[name].view(-1),
            )
            steps.append(OnePassOptimizer(recipe.optimizer, one, recipe.adam_beta2).step)
        step = lambda rate: [one_step(rate) for one_step in steps]  # noqa: E731
    trainer.optimizer.step = step  # type: ignore[method-assign, assignment]


class _SeparateTrunks:
    """An encoder whose trunks each have a first layer of their own."""

    def __init__(self, model: Any, flat: FlatParameters) -> None:
        self.trunks = [_FusedMLP(name, getattr(model, name), flat) for name in model.trunks]

    def forward(self, x: Tensor) -> tuple[list[list[Tensor]], Tensor]:
        values = [trunk.forward(x) for trunk in self.trunks]
        return values, torch.cat([v[-1] for v in values], -1)

    def backward(self, dy: Tensor, values: list[list[Tensor]]) -> None:
        heads = dy.split(dy.shape[-1] // len(self.trunks), -1)
        for trunk, head, v in zip(self.trunks, heads, values, strict=True):
            trunk.backward(head, v, need_dx=False)


def _bound(spec: RunSpec, dtype: torch.dtype, *, memory: bool) -> Run:
    """The products of a training step, on operands laid out as in training.

    With `memory`, one pass over what the optimiser has to read and write follows them.
    """
    mlp = isinstance(spec.model, VaePart)
    products = (_products if mlp else _convolutions)(spec, dtype)
    # Autograd, which serves the VQ-VAE, leaves weights and gradients in float32.
    traffic = _traffic(spec, dtype if mlp else torch.float32)

    @torch.no_grad()
    def step() -> None:
        products()
        if memory:
            traffic()

    return _repeated(step, spec.recipe.batch_size)


def _traffic(spec: RunSpec, dtype: torch.dtype) -> Callable[[], None]:
    """Read and write weights and moments, read the gradient, write what products read."""
    model = build(spec, torch.Generator().manual_seed(0))
    size = sum(parameter.numel() for parameter in model.parameters())
    state = torch.rand(1 + len(MOMENTS[spec.recipe.optimizer]), size)
    gradient = torch.rand(size).to(dtype)
    weights = torch.empty_like(gradient)

    def step() -> None:
        if dtype == torch.float32:
            state[0].add_(gradient)
            state[1:].mul_(1.0)
        else:
            state.mul_(1.0)
            weights.copy_(gradient)

    return step


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
    """The network as one would write it for a notebook: stacks of layers."""

    def __init__(self, spec: RunSpec) -> None:
        super().__init__()
        part = spec.model
        assert isinstance(part, VaePart)
        pixels, activation = DATASETS[spec.data.dataset].pixels, part.activation
        widths = [pixels, *part.hidden]
        trunks = 2 if part.trunks == "separate" else 1
        self.encoders = nn.ModuleList(
            _stack([*widths, 2 * part.latent_dim // trunks], activation) for _ in range(trunks)
        )
        outputs = 2 * pixels if part.likelihood == "gaussian" else pixels
        self.decoder = _stack([part.latent_dim, *part.hidden[::-1], outputs], activation)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, P) -> latent means and log-variances (B, d)."""
        mean, log_var = torch.cat([encoder(x) for encoder in self.encoders], -1).chunk(2, -1)
        return mean, log_var

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, P) -> logits (B, P) or (B, 2 P), latent means and log-variances (B, d)."""
        mean, log_var = self.encode(x)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        return self.decoder(z), mean, log_var


def _stack(widths: list[int], activation: str) -> nn.Sequential:
    stack: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        stack += [nn.Linear(inputs, outputs), nn.ReLU() if activation == "relu" else nn.Tanh()]
    return nn.Sequential(*stack[:-1])


def _kl(mean: Tensor, log_var: Tensor) -> Tensor:
    return -0.5 * torch.sum(1 + log_var - mean.pow(2) - log_var.exp())


def _tuned(spec: RunSpec, data_root: Path, *, dtype: torch.dtype, compiled: bool = False) -> Run:
    """What a competent user writes: the data set as one tensor, autocast, fused Adam."""
    images, batch = _images(spec.data.dataset, data_root), spec.recipe.batch_size
    if isinstance(spec.model, VaePart):
        model: nn.Module = _PlainVAE(spec)
    else:
        # The report's VQ-VAE is none of the well-known ones: our own module, in a plain loop.
        model = build(spec, torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=spec.recipe.learning_rate, fused=True)

    def loss(x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            if isinstance(model, VQVAE):
                return model.loss(x, None, (), spec.objective.beta)
            out, mean, log_var = model(x)
        out, mean, log_var = out.float(), mean.float(), log_var.float()
        if out.shape == x.shape:
            recon = binary_cross_entropy_with_logits(out, x, reduction="sum")
        else:
            logits, spread = out.chunk(2, -1)
            recon = 0.5 * (spread + (x - logits.sigmoid()).square() * torch.exp(-spread)).sum()
        return (recon + _kl(mean, log_var)) / len(x)

    objective = torch.compile(loss) if compiled else loss

    def batches() -> Iterator[Tensor]:
        while True:
            for index in torch.randperm(len(images)).split(batch):
                if len(index) == batch:
                    yield images[index]

    def step(x: Tensor) -> None:
        optimizer.zero_grad()
        objective(x).backward()
        optimizer.step()

    following = batches()
    return _repeated(lambda: step(next(following)), batch)


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


def _published_loss(model: _PlainVAE, x: Tensor) -> Tensor:
    """Negative ELBO, summed over the batch: the cross-entropy of a sigmoid, in float32."""
    out, mean, log_var = model(x)
    return binary_cross_entropy(torch.sigmoid(out), x, reduction="sum") + _kl(mean, log_var)


def _report(spec: RunSpec, data_root: Path) -> Run:
    """The report's notebooks: mean loss of the batch, eager Adagrad."""
    model = _PlainVAE(spec)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=spec.recipe.learning_rate)

    def step(batch: tuple[Tensor, Tensor]) -> None:
        x = batch[0].flatten(1)
        loss = _published_loss(model, x) / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    batches = _endless(_torchvision_loader(spec, data_root))
    return _repeated(lambda: step(next(batches)), spec.recipe.batch_size)


def _examples(spec: RunSpec, data_root: Path) -> Run:
    """The loop of the PyTorch examples' VAE: summed loss, Adam, a running sum of the loss."""
    model = _PlainVAE(spec)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    total = 0.0

    def step(batch: tuple[Tensor, Tensor]) -> None:
        nonlocal total
        x = batch[0].to("cpu").view(-1, DATASETS[spec.data.dataset].pixels)
        optimizer.zero_grad()
        loss = _published_loss(model, x)
        loss.backward()
        total += loss.item()
        optimizer.step()

    batches = _endless(_torchvision_loader(spec, data_root))
    return _repeated(lambda: step(next(batches)), spec.recipe.batch_size)


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
            self.encoders = plain.encoders

        def forward(self, x: Tensor) -> ModelOutput:
            mean, log_var = plain.encode(x)
            return ModelOutput(embedding=mean, log_covariance=log_var)

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.decoder = plain.decoder

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=torch.sigmoid(self.decoder(z)))

    settings = VAEConfig(
        input_dim=(DATASETS[spec.data.dataset].pixels,),
        latent_dim=spec.model.latent_dim,
        reconstruction_loss="bce",
    )
    model = VAE(settings, Encoder(), Decoder())
    images = _images(spec.data.dataset, data_root)

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
                started = time.process_time()
                trainer.train_step(epoch=1)
                spent += time.process_time() - started
        return spent * samples / (count * -(-samples // count))

    return run
