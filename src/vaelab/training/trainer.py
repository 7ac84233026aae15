"""The training loop: deterministic, resumable at any step, the same for every model."""

from __future__ import annotations

import math
import resource
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from vaelab.data import Dataset
from vaelab.estimators import encoder_or_fit
from vaelab.models import VAE, VQVAE, build
from vaelab.models.objectives import elbo_terms, vq_terms
from vaelab.settings.spec import RunSpec, fingerprint, lineage
from vaelab.training.device import Compute
from vaelab.training.fast.flat import FlatParameters
from vaelab.training.fast.graphs import LAUNCHES, GraphedSteps
from vaelab.training.fast.optimizer import FlatOptimizer
from vaelab.training.methods import gradients_for, product_type
from vaelab.training.state import load_tensors, save_tensors
from vaelab.training.termination import end_if_asked, termination
from vaelab.util.errors import VaelabError
from vaelab.util.rng import representative, stream_seed

# Streams of random numbers of one run; each is seeded from (seed, stream, counter), so that
# none depends on how much another has drawn.
INIT, SHUFFLE, NOISE, HISTORY = range(4)

# Standard deviation of the VQ-VAE's output before training, where it starts at the mean grey.
VQ_OUTPUT_SPREAD = 0.1

# Images of the history of MCEM, which trains no encoder: a Gaussian is fitted to the posterior of
# each of them whenever the bound is evaluated.
FITTED_IMAGES = 100

# First point of a history that does not depend on the budget.
HISTORY_START = 1000

# Longest wait for a line of progress: points of the history are hours apart in a long training.
PROGRESS_SECONDS = 60.0

# Steps between two looks at whether the weights are still finite.
FINITE_EVERY = 200


def learning_rate(spec: RunSpec, seen: int) -> float:
    """Rate of the step that ends at `seen` samples: linear warm-up, then the schedule."""
    warm = spec.warmup * spec.samples
    if seen < warm:
        return spec.learning_rate * seen / warm
    if spec.schedule == "constant":
        return spec.learning_rate
    progress = min(1.0, (seen - warm) / max(1.0, spec.samples - warm))
    if spec.schedule == "linear":
        return spec.learning_rate * (1.0 - progress)
    return spec.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))


def history_grid(spec: RunSpec) -> list[int]:
    """Sample counts at which the history is logged: log-spaced, the last included.

    With so many points per decade they do not depend on the budget.
    """
    if spec.history_per_decade is not None:
        decades = math.log10(max(1.0, spec.samples / HISTORY_START))
        ends = np.arange(math.floor(decades * spec.history_per_decade) + 1)
        early = np.rint(HISTORY_START * 10.0 ** (ends / spec.history_per_decade)).astype(int)
        return sorted({*(int(n) for n in early if n < spec.samples), spec.samples})
    first = min(spec.batch_size, spec.samples)
    grid = np.geomspace(first, spec.samples, spec.history_points)
    return sorted({round(float(value)) for value in grid})


def snapshot_grid(spec: RunSpec) -> list[int]:
    """Sample counts at which weights are kept: equally spaced, the last included."""
    return [round(spec.samples * (i + 1) / spec.snapshots) for i in range(spec.snapshots)]


@dataclass
class TrainingResult:
    """What a training leaves.

    Attributes:
        state: the model's tensors by name, on the CPU.
        history: one row per logged point.
        snapshots: stacked flat weights (snapshots, P), or None.
        snapshot_samples: samples seen at each snapshot.
        seconds: wall-clock spent training, over all resumed parts.
        core_seconds: processor time, likewise.
    """

    state: dict[str, Tensor]
    history: list[dict[str, float]]
    snapshots: Tensor | None
    snapshot_samples: list[int]
    seconds: float
    core_seconds: float


@dataclass
class _Progress:
    """How far a training is; everything here is in the resume file."""

    seen: int = 0
    epoch: int = 0
    position: int = 0
    steps: int = 0
    seconds: float = 0.0
    core_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    snapshot_samples: list[int] = field(default_factory=list)


class _Training:
    """One run in progress."""

    def __init__(
        self, name: str, spec: RunSpec, seed: int, dataset: Dataset, compute: Compute
    ) -> None:
        self.name, self.spec, self.seed, self.compute = name, spec, seed, compute
        self.fingerprint = fingerprint(spec, seed, dataset.sha256)
        self.lineage = lineage(spec, seed, dataset.sha256)
        generator = torch.Generator().manual_seed(stream_seed(seed, INIT))
        self.model = build(spec, generator)
        if spec.output_bias:
            _set_output_bias(self.model, dataset.train_images[: spec.train_subset])
        self.model.to(compute.device)
        products = product_type(spec, compute.dtype)
        self.flat = FlatParameters(self.model, products)
        self.optimizer = FlatOptimizer(spec, self.flat)
        self.noise = torch.Generator(compute.device).manual_seed(stream_seed(seed, NOISE))
        # The Gaussian's density is sharp enough to see bf16's rounding of the pixels.
        rounded = spec.likelihood == "bernoulli" and spec.binarize == "none"
        self.images = _images(
            dataset.train_images[: spec.train_subset],
            compute.device,
            products if rounded else torch.float32,
        )
        self.gradients = gradients_for(
            spec, self.model, self.flat, compute.dtype, len(self.images), self.noise
        )
        self.labels = None
        if spec.condition != "none":
            self.labels = self.model.embed(torch.from_numpy(dataset.train_labels.copy())).to(
                compute.device
            )
        if spec.binarize == "dynamic":
            dataset = dataset.binarized()
        self.probes = {
            "train": self._probe(dataset, "train"),
            "test": self._probe(dataset, "test"),
        }
        self.progress = _Progress()
        # CUDA graphs by batch size: epochs may end with a smaller one.
        self.graphed: dict[int, GraphedSteps] = {}
        self.snapshots: list[Tensor] = []
        self.order = self._shuffle(0)

    def _probe(self, dataset: Dataset, split: str) -> tuple[Any, ...]:
        """Fixed images, conditions and noise of the history, the same for every seed."""
        images, labels = dataset.test_images, dataset.test_labels
        if split == "train":
            images, labels = dataset.train_images[: self.spec.train_subset], dataset.train_labels
        wanted = self.spec.history_images
        if self.spec.method == "mcem":
            wanted = min(wanted, FITTED_IMAGES)
        chosen = representative(images, dataset.image_shape, wanted, HISTORY)
        x = _images(images[chosen], self.compute.device, torch.float32)
        c = None
        if self.spec.condition != "none":
            c = self.model.embed(torch.from_numpy(labels[chosen])).to(self.compute.device)
        generator = torch.Generator().manual_seed(stream_seed(0, HISTORY))
        eps = torch.randn(len(x), self.spec.latent_dim, generator=generator)
        return x, c, eps.to(self.compute.device)

    def _shuffle(self, epoch: int) -> Tensor:
        """The order of an epoch, from the seed and the epoch's number alone."""
        generator = torch.Generator().manual_seed(stream_seed(self.seed, SHUFFLE, epoch))
        return self._on_device(torch.randperm(len(self.images), generator=generator))

    def advance(self, until: int = 0) -> None:
        """The next step; with CUDA graphs as many as one launch has, up to `until` samples."""
        graphs = self.compute.graphs
        index, rates = self._next(until if graphs else 0)
        if graphs:
            size = index.shape[1]
            if size not in self.graphed:
                self.graphed[size] = GraphedSteps(self.update, size, self.noise)
            self.graphed[size].run(index, self._on_device(torch.tensor(rates)))
            return
        # One step; on a card its rate is in float32, as in a graph, so that both come out alike.
        on_card = self.compute.device.type == "cuda"
        self.update(index[0], self._on_device(torch.tensor(rates))[0] if on_card else rates[0])

    def _on_device(self, values: Tensor) -> Tensor:
        """On the device; through pinned memory, so that nothing waits for a card."""
        device = self.compute.device
        if device.type == "cuda":
            values = values.pin_memory()
        return values.to(device, non_blocking=True)

    def _next(self, until: int) -> tuple[Tensor, list[float]]:
        """Go on to the next batches, all of one size: their images (n, B) by number, their rates.

        They end with the epoch, with the step that reaches `until` samples or with one after
        which the weights are looked at; there is at least one.
        """
        spec, progress = self.spec, self.progress
        if progress.position == len(self.images):
            progress.epoch, progress.position = progress.epoch + 1, 0
            self.order = self._shuffle(progress.epoch)
        left = min(len(self.images) - progress.position, spec.samples - progress.seen)
        size = min(spec.batch_size, left)
        steps = min(
            left // size,
            max(1, math.ceil((until - progress.seen) / size)),
            FINITE_EVERY - progress.steps % FINITE_EVERY,
            LAUNCHES[0],
        )
        index = self.order[progress.position : progress.position + steps * size]
        rates = [learning_rate(spec, progress.seen + (i + 1) * size) for i in range(steps)]
        progress.position += steps * size
        progress.seen += steps * size
        progress.steps += steps
        return index.view(steps, size), rates

    def update(self, index: Tensor, rate: float | Tensor) -> None:
        """A batch: one optimiser step, or several where the algorithm has it so.

        Args:
            index: images (B,) by number.
            rate: learning rate, on a card a tensor ().
        """
        x = self.images.index_select(0, index)
        if self.spec.binarize == "dynamic":
            x = (torch.empty_like(x).uniform_(generator=self.noise) < x).to(x.dtype)
        c = None if self.labels is None else self.labels.index_select(0, index)
        drawn = self.gradients.draw(x, index, self.noise)
        for _ in range(self.gradients.updates):
            self.gradients(x, c, *drawn)
            self.optimizer.step(rate)

    def release(self) -> None:
        """Let go of the card's graphs, in whose memory nothing may be under way then.

        They know the training and the training knows them, so they would live until Python looks
        for garbage, with all that is on the card.
        """
        if self.graphed:
            torch.cuda.current_stream(self.compute.device).synchronize()
            self.graphed.clear()

    def cut(self) -> bool:
        """Whether the last step was smaller because the budget ended within a batch."""
        position = self.progress.position
        return position % self.spec.batch_size != 0 and position != len(self.images)

    def weights(self) -> Tensor:
        """A copy of the weights (P,) on the CPU, in the order of the model's parameters."""
        return parameters_to_vector(self.model.parameters()).detach().cpu()

    @torch.no_grad()
    def log_history(self) -> dict[str, float]:
        """Evaluate on the fixed images and append a row."""
        row: dict[str, float] = {
            "samples": self.progress.seen,
            "seconds": round(self.progress.seconds, 3),
        }
        self.model.eval()
        for split, (x, c, eps) in self.probes.items():
            with torch.autocast(
                x.device.type, self.compute.dtype, enabled=self.compute.precision == "bf16"
            ):
                values = _measure(self.model, self.spec, x, c, eps)
            row |= {f"{split}_{key}": value for key, value in values.items()}
        self.model.train()
        if not all(math.isfinite(value) for value in row.values()):
            raise self._diverged()
        self.progress.history.append(row)
        return row

    def check_finite(self) -> None:
        """Stop a run whose weights are no longer numbers."""
        if not math.isfinite(self.flat.master.detach().sum().item()):
            raise self._diverged()

    def _diverged(self) -> VaelabError:
        return VaelabError(
            f"{self.name} diverged: its loss is not finite after {self.progress.seen} samples "
            f"(optimizer {self.spec.optimizer}, learning_rate {self.spec.learning_rate:g}). "
            "Lower the learning rate or change the recipe of this run."
        )

    def save(self, path: Path) -> None:
        """Write everything the rest of the training depends on."""
        tensors = {"master": self.flat.master.detach(), "noise": self.noise.get_state()}
        tensors |= {f"optimizer.{key}": value for key, value in self.optimizer.state.items()}
        tensors |= {f"buffer.{name}": value for name, value in self.model.named_buffers()}
        tensors |= {f"method.{key}": value for key, value in self.gradients.state.items()}
        if self.snapshots:
            tensors["snapshots"] = torch.stack(self.snapshots)
        metadata = {
            "fingerprint": self.fingerprint,
            "lineage": self.lineage,
            "precision": self.compute.precision,
            "device": self.compute.device.type,
            **vars(self.progress),
        }
        save_tensors(path, tensors, metadata)

    def load(self, path: Path, *, shorter: bool = False) -> bool:
        """Restore a state written by `save`; False if it is of another training or device.

        Args:
            path: the state.
            shorter: take the state of a training with a smaller budget, too.
        """
        tensors, metadata = load_tensors(path)
        kind = (metadata.pop("precision", None), metadata.pop("device", None))
        found = {key: metadata.pop(key, None) for key in ("fingerprint", "lineage")}
        begun = shorter and self.lineage is not None and found["lineage"] == self.lineage
        if kind != (self.compute.precision, self.compute.device.type) or not (
            begun or found["fingerprint"] == self.fingerprint
        ):
            return False
        progress = _Progress(**metadata)
        if progress.seen > self.spec.samples:
            return False
        # A shorter training also logs its own last step, which may be no point of this grid.
        before = [0.0, *(row["samples"] for row in progress.history)]
        grid = history_grid(self.spec)
        progress.history = [
            row
            for row, last in zip(progress.history, before, strict=False)
            if any(last < point <= row["samples"] for point in grid)
        ]
        self.progress = progress
        with torch.no_grad():
            self.flat.master.copy_(tensors["master"])
        self.flat.publish()
        self.noise.set_state(tensors["noise"])
        for key, value in self.optimizer.state.items():
            value.copy_(tensors[f"optimizer.{key}"])
        for name, buffer in self.model.named_buffers():
            buffer.copy_(tensors[f"buffer.{name}"])
        for key, value in self.gradients.state.items():
            value.copy_(tensors[f"method.{key}"])
        self.snapshots = list(tensors["snapshots"]) if "snapshots" in tensors else []
        self.order = self._shuffle(self.progress.epoch)
        return True


def train(
    name: str,
    spec: RunSpec,
    seed: int,
    dataset: Dataset,
    compute: Compute,
    *,
    resume: Path,
    resume_seconds: float = 60.0,
    shorter: Sequence[Path] = (),
    keep: Path | None = None,
    log: Callable[[str], None] = print,
) -> TrainingResult:
    """Train one run to its end, from its resume file if there is a fitting one.

    Args:
        name: the run's id, for messages.
        spec: what to train.
        seed: RNG seed.
        dataset: images uint8 and labels.
        compute: device and precision.
        resume: file of the resumable state; written about every `resume_seconds` and when
            the process is asked to end, deleted by the caller once results are stored.
        resume_seconds: wall-clock between two states. It does not change the result.
        shorter: kept states that may be of the same training with a smaller budget; without a
            resume file it goes on from the last of those that are.
        keep: file of the state at the end, for a training of which this one is the beginning.
        log: takes one line of text per point of the history, and at least one a minute.

    Raises:
        VaelabError: the loss or the weights are no longer finite, or the resume file is damaged.
        SystemExit: the process was asked to end; the state is saved.
    """
    used = _core_seconds()
    training = _Training(name, spec, seed, dataset, compute)
    progress = training.progress
    if resume.exists():
        if training.load(resume):
            progress = training.progress
            log(f"{name}: resumed at {progress.seen} of {spec.samples} samples")
        else:
            log(f"{name}: {resume} is of another specification or device; starting anew")
    for path in shorter if not progress.seen else ():
        if (begun := _Training(name, spec, seed, dataset, compute)).load(path, shorter=True) and (
            begun.progress.seen > progress.seen
        ):
            training, progress = begun, begun.progress
            log(f"{name}: going on from {progress.seen} of {spec.samples} samples of {path}")
    # Both grids end at the budget.
    pending = [point for point in history_grid(spec) if point > progress.seen]
    snapshots = [point for point in snapshot_grid(spec) if point > progress.seen]
    last_line = last_save = clock = time.monotonic()
    spent, spent_on_cores = progress.seconds, progress.core_seconds - used
    with ExitStack() as ending:
        ending.callback(training.release)
        asked = ending.enter_context(termination())
        while progress.seen < spec.samples:
            training.advance(min(pending[:1] + snapshots[:1]))
            if progress.steps % FINITE_EVERY == 0:
                training.check_finite()
            now = time.monotonic()
            progress.seconds = spent + now - clock
            if pending and progress.seen >= pending[0]:
                pending = [point for point in pending if point > progress.seen]
                training.log_history()
                last_line = -math.inf
            if now - last_line >= PROGRESS_SECONDS and progress.history:
                log(_progress_line(name, spec, progress))
                last_line = now
            if snapshots and progress.seen >= snapshots[0]:
                snapshots = snapshots[1:]
                training.snapshots.append(training.weights())
                progress.snapshot_samples.append(progress.seen)
            if asked or now - last_save >= resume_seconds:
                progress.core_seconds = spent_on_cores + _core_seconds()
                training.save(resume)
                last_save = now
            end_if_asked()
    training.check_finite()
    progress.core_seconds = spent_on_cores + _core_seconds()
    if keep is not None and training.lineage is not None and not training.cut():
        training.save(keep)
    return TrainingResult(
        state={key: value.cpu().clone() for key, value in training.model.state_dict().items()},
        history=progress.history,
        snapshots=torch.stack(training.snapshots) if training.snapshots else None,
        snapshot_samples=progress.snapshot_samples,
        seconds=progress.seconds,
        core_seconds=progress.core_seconds,
    )


def _core_seconds() -> float:
    """Processor time of the process or, beside other runs, of the thread that works on this one."""
    alone = threading.current_thread() is threading.main_thread()
    usage = resource.getrusage(resource.RUSAGE_SELF if alone else resource.RUSAGE_THREAD)
    return usage.ru_utime + usage.ru_stime


def _measure(
    model: VAE | VQVAE, spec: RunSpec, x: Tensor, c: Tensor | None, eps: Tensor
) -> dict[str, float]:
    """The history's columns for one split, means over the images."""
    if isinstance(model, VQVAE):
        terms, _ = vq_terms(model, x, spec.beta)
        values = {"objective": terms.objective(), **terms._asdict()}
        return {key: float(value) for key, value in values.items()}
    elbo = elbo_terms(model, x, c, eps, encoder_or_fit(model, spec.method).encode(x, c))
    return {
        "objective": float(elbo.objective(spec.beta).double().mean()),
        "recon": float(elbo.recon.double().mean()),
        "kl": float(elbo.kl.double().mean()),
        "neg_elbo": float(elbo.neg_elbo().double().mean()),
    }


def _progress_line(name: str, spec: RunSpec, progress: _Progress) -> str:
    row = progress.history[-1]
    rate = progress.seen / max(progress.seconds, 1e-9)
    left = (spec.samples - progress.seen) / rate
    key = "train_neg_elbo" if "train_neg_elbo" in row else "train_objective"
    return (
        f"{name}: {progress.seen}/{spec.samples} samples, {rate:.0f}/s, "
        f"{key.removeprefix('train_')} {row[key]:.5g} (train), {left:.0f} s left"
    )


def _images(images: np.ndarray, device: torch.device, dtype: torch.dtype) -> Tensor:
    """uint8 images as numbers in [0, 1] on the device."""
    # Grey levels are exact in every type, so the division rounds once; a card would multiply by
    # the rounded 1 / 255.
    return torch.from_numpy(images).to(dtype).div_(255.0).to(device)


def _set_output_bias(model: VAE | VQVAE, images: np.ndarray) -> None:
    """Let the untrained model answer with the mean image, as in Burda et al.'s code.

    A VAE gets the mean image's logits as the bias of its output mean; the mean is kept half a
    grey level away from 0 and 1, where logits are infinite. The VQ-VAE's last normalisation
    gets the mean grey and a small spread. Its ReLU is then open for nearly all pixels; from
    N(0, 1) it shuts for good for one of the 16 phases of the transposed convolutions, which
    leaves black dots in every image.
    """
    mean = images.mean(axis=0, dtype=np.float64) / 255.0
    if isinstance(model, VQVAE):
        with torch.no_grad():
            model.output_norm.weight.fill_(VQ_OUTPUT_SPREAD)
            model.output_norm.bias.fill_(mean.mean())
        return
    mean = np.clip(mean, 0.5 / 255.0, 1.0 - 0.5 / 255.0)
    logits = torch.from_numpy(np.log(mean) - np.log1p(-mean)).float()
    with torch.no_grad():
        model.decoder.layers[-1].bias[: len(logits)] = logits
