"""The training loop: deterministic, resumable at any step, the same for every model.

`Trainer.run` is the loop. `history` says what is measured on the way, `state` what a resumed
training needs, `gradients` and `optimizer` what a step is; `fast` holds what is there for speed.
"""

from __future__ import annotations

import logging
import math
import resource
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vaelab.data import Dataset
from vaelab.models.families import build
from vaelab.results.records import Move
from vaelab.settings.spec import RunSpec, fingerprint, lineage
from vaelab.training.device import Compute
from vaelab.training.fast.flat import FlatParameters
from vaelab.training.fast.graphs import LAUNCHES, GraphedSteps
from vaelab.training.fast.optimizer import fastest_optimizer
from vaelab.training.gradients import Gradients
from vaelab.training.history import History, history_grid, in_unit_interval, snapshot_grid
from vaelab.training.methods import gradients_for
from vaelab.training.state import Identity, Progress, load_tensors, save_tensors
from vaelab.training.termination import end_if_asked, termination
from vaelab.util.errors import VaelabError
from vaelab.util.progress import Progress as Told
from vaelab.util.rng import stream_seed

logger = logging.getLogger(__name__)

# Streams of random numbers of one run; each is seeded from (seed, stream, counter), so that
# none depends on how much another has drawn. The history's is number 3.
INIT, SHUFFLE, NOISE = range(3)

# Longest wait for a line of progress: points of the history are hours apart in a long training.
PROGRESS_SECONDS = 60.0

# Steps between two checks that the weights are still finite.
FINITE_EVERY = 200


@dataclass
class TrainingResult:
    """What a training leaves.

    Attributes:
        state: the model's tensors by name, on the CPU.
        history: one row per recorded point.
        snapshots: stacked flat weights (snapshots, P), or None.
        snapshot_samples: samples seen at each snapshot.
        moves: where it went on from a state of another device or precision.
        seconds: wall-clock spent training, over all resumed parts.
        core_seconds: processor time, likewise.
    """

    state: dict[str, Tensor]
    history: list[dict[str, float]]
    snapshots: Tensor | None
    snapshot_samples: list[int]
    moves: list[Move]
    seconds: float
    core_seconds: float


class Trainer:
    """One training: a specification and a seed in, weights and a history out.

    Args:
        name: the run's id, for messages.
        spec: what to train.
        seed: RNG seed.
        dataset: images uint8 and labels.
        compute: device and precision.

    Attributes:
        model: the network, with the present weights.
        progress: how far the training is.
        snapshots: flat weights (P,) kept on the way.
    """

    def __init__(
        self, name: str, spec: RunSpec, seed: int, dataset: Dataset, compute: Compute
    ) -> None:
        self.name, self.spec, self.seed, self.compute = name, spec, seed, compute
        self.identity = Identity(
            fingerprint(spec, seed, dataset.sha256),
            lineage(spec, seed, dataset.sha256),
            compute.precision,
            compute.device.type,
        )
        images = dataset.train_images[: spec.data.train_subset]

        # The network and what updates it.
        self.model = build(spec, torch.Generator().manual_seed(stream_seed(seed, INIT)))
        if spec.recipe.output_bias:
            self.model.start_output_at(images.mean(axis=0, dtype=np.float64) / 255.0)
        self.model.to(compute.device)
        algorithm = gradients_for(spec.method, self.model)
        products = torch.float32 if algorithm.float32 else compute.dtype
        self.flat = FlatParameters(self.model, products)
        self.optimizer = fastest_optimizer(spec.recipe.optimizer, self.flat, spec.recipe.adam_beta2)
        self.noise = torch.Generator(compute.device).manual_seed(stream_seed(seed, NOISE))
        self.gradients: Gradients = algorithm(
            self.model, self.flat, spec.objective.beta, compute.dtype
        )
        self.gradients.start(len(images), self.noise)

        # The data, on the device.
        self.dynamic = spec.data.binarize == "dynamic"
        exact = self.model.exact_pixels or self.dynamic
        self.images = in_unit_interval(images, compute.device, torch.float32 if exact else products)
        self.labels: Tensor | None = None
        if self.model.conditional:
            assert dataset.train_labels is not None
            labels = self.model.embed(torch.from_numpy(dataset.train_labels.copy()))
            self.labels = labels.to(compute.device)
        if self.dynamic:
            dataset = dataset.binarized()
        self.history = History(spec, self.model, dataset, compute)

        # Where it stands.
        self.progress = Progress()
        self.snapshots: list[Tensor] = []
        self.recording = 0.0  # seconds of this process that evaluations took
        self.order = self._shuffle(0)
        # CUDA graphs by batch size: epochs may end with a smaller one.
        self.graphed: dict[int, GraphedSteps] = {}

    def run(
        self,
        *,
        resume: Path,
        resume_seconds: float = 60.0,
        shorter: Sequence[Path] = (),
        keep: Path | None = None,
    ) -> TrainingResult:
        """Train to the end, from the resume file if there is one that fits.

        Args:
            resume: file of the resumable state; written about every `resume_seconds` and when
                the process is asked to end, deleted by the caller once results are stored.
            resume_seconds: wall-clock between two states. It does not change the result.
            shorter: kept states that may be of the same training with a smaller budget; without
                a resume file it goes on from the last of those that are.
            keep: file for the state at the end, for a training of which this is the beginning.

        Raises:
            VaelabError: loss or weights are no longer finite, or the resume file is damaged.
            SystemExit: the process was asked to end; the state is saved.
        """
        used = _core_seconds()
        self._begin(resume, shorter)
        progress, spec = self.progress, self.spec
        # Both grids end at the budget.
        pending = [point for point in history_grid(spec) if point > progress.seen]
        snapshots = [point for point in snapshot_grid(spec) if point > progress.seen]
        last_line = last_save = clock = time.monotonic()
        recording = 0.0
        spent, spent_on_cores = progress.seconds, progress.core_seconds - used
        with ExitStack() as ending:
            ending.callback(self.release)
            asked = ending.enter_context(termination())
            while progress.seen < spec.budget.samples:
                self.advance(min(pending[:1] + snapshots[:1]))
                if progress.steps % FINITE_EVERY == 0:
                    self.check_finite()
                now = time.monotonic()
                progress.seconds = spent + now - clock
                self.recording = recording
                if pending and progress.seen >= pending[0]:
                    pending = [point for point in pending if point > progress.seen]
                    self.record()
                    recording += time.monotonic() - now
                    last_line = -math.inf
                if now - last_line >= PROGRESS_SECONDS and progress.history:
                    logger.info(self._progress())
                    last_line = now
                if snapshots and progress.seen >= snapshots[0]:
                    snapshots = snapshots[1:]
                    self._keep_snapshot()
                if asked or now - last_save >= resume_seconds:
                    progress.core_seconds = spent_on_cores + _core_seconds()
                    self.save(resume)
                    last_save = now
                end_if_asked()
        self.check_finite()
        progress.core_seconds = spent_on_cores + _core_seconds()
        if keep is not None and self.identity.lineage is not None and not self._cut():
            self.save(keep)
        return TrainingResult(
            state={key: value.cpu().clone() for key, value in self.model.state_dict().items()},
            history=progress.history,
            snapshots=torch.stack(self.snapshots) if self.snapshots else None,
            snapshot_samples=progress.snapshot_samples,
            moves=progress.moves,
            seconds=progress.seconds,
            core_seconds=progress.core_seconds,
        )

    # --- Steps ----------------------------------------------------------------------------

    def advance(self, until: int = 0) -> None:
        """Do the next step; with CUDA graphs as many as one launch has, up to `until` samples."""
        graphs = self.compute.graphs
        index, rates = self._next(until if graphs else 0)
        if graphs:
            size = index.shape[1]
            if size not in self.graphed:
                self.graphed[size] = GraphedSteps(self._update, size, self.noise)
            self.graphed[size].run(index, self._on_device(torch.tensor(rates)))
            return
        # One step; on a GPU its rate is in float32, as in a graph, so that both come out alike.
        on_gpu = self.compute.device.type == "cuda"
        rate = self._on_device(torch.tensor(rates))[0] if on_gpu else rates[0]
        self._update(index[0], rate)

    def _next(self, until: int) -> tuple[Tensor, list[float]]:
        """Go on to the next batches, all of one size: their images (n, B) by number, their rates.

        They end with the epoch, with the step that reaches `until` samples or with one after
        which the weights are checked; there is at least one.
        """
        progress, samples = self.progress, self.spec.budget.samples
        if progress.position == len(self.images):
            progress.epoch, progress.position = progress.epoch + 1, 0
            self.order = self._shuffle(progress.epoch)
        left = min(len(self.images) - progress.position, samples - progress.seen)
        size = min(self.spec.recipe.batch_size, left)
        steps = min(
            left // size,
            max(1, math.ceil((until - progress.seen) / size)),
            FINITE_EVERY - progress.steps % FINITE_EVERY,
            LAUNCHES[0],
        )
        index = self.order[progress.position : progress.position + steps * size]
        rates = [learning_rate(self.spec, progress.seen + (i + 1) * size) for i in range(steps)]
        progress.position += steps * size
        progress.seen += steps * size
        progress.steps += steps
        return index.view(steps, size), rates

    def _shuffle(self, epoch: int) -> Tensor:
        """The order of an epoch, from the seed and the epoch's number alone."""
        generator = torch.Generator().manual_seed(stream_seed(self.seed, SHUFFLE, epoch))
        return self._on_device(torch.randperm(len(self.images), generator=generator))

    def _update(self, index: Tensor, rate: float | Tensor) -> None:
        """Process a batch: one optimiser step, or several where the method has it so.

        Args:
            index: images (B,) by number.
            rate: learning rate, on a GPU a tensor ().
        """
        x, c, drawn = self.batch(index)
        for _ in range(self.gradients.updates):
            self.gradients(x, c, *drawn)
            self.optimizer.step(rate)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
        """Images (B, P) by number, their conditions or None, and all that is random about them."""
        x = self.images.index_select(0, index)
        if self.dynamic:
            x = (torch.empty_like(x).uniform_(generator=self.noise) < x).to(x.dtype)
        c = None if self.labels is None else self.labels.index_select(0, index)
        return x, c, self.gradients.draw(x, index, self.noise)

    def _on_device(self, values: Tensor) -> Tensor:
        """Copy to the device; through pinned memory, so that nothing waits for a GPU."""
        device = self.compute.device
        if device.type == "cuda":
            values = values.pin_memory()
        return values.to(device, non_blocking=True)

    def release(self) -> None:
        """Let go of CUDA graphs, in whose memory nothing may be under way then.

        A graph refers to the training and the training to it, so both would live, with all that
        is on the GPU, until Python looks for garbage.
        """
        if self.graphed:
            torch.cuda.current_stream(self.compute.device).synchronize()
            self.graphed.clear()

    # --- Records --------------------------------------------------------------------------

    def record(self) -> dict[str, float]:
        """Measure the model, append the row to the history and return it."""
        row: dict[str, float] = {
            "samples": self.progress.seen,
            "seconds": round(self.progress.seconds, 3),
            **self.history.measure(),
        }
        if not all(math.isfinite(value) for value in row.values()):
            raise self._diverged()
        self.progress.history.append(row)
        return row

    def _keep_snapshot(self) -> None:
        """Copy the weights (P,), in the order of the model's parameters, to the CPU."""
        weights = [parameter.detach().flatten() for parameter in self.model.parameters()]
        self.snapshots.append(torch.cat(weights).cpu())
        self.progress.snapshot_samples.append(self.progress.seen)

    def _progress(self) -> Told:
        progress = self.progress
        row = progress.history[-1]
        key = "train_neg_elbo" if "train_neg_elbo" in row else "train_objective"
        return Told(
            self.name,
            progress.seen,
            self.spec.budget.samples,
            # Evaluations come often at first: with them the rest would look hours long.
            progress.seen / max(progress.seconds - self.recording, 1e-9),
            key.removeprefix("train_"),
            row[key],
        )

    def check_finite(self) -> None:
        """Stop a run whose weights are no longer numbers."""
        if not math.isfinite(self.flat.master.detach().sum().item()):
            raise self._diverged()

    def _diverged(self) -> VaelabError:
        recipe = self.spec.recipe
        return VaelabError(
            f"{self.name} diverged: its loss is not finite after {self.progress.seen} samples "
            f"(optimizer {recipe.optimizer}, learning_rate {recipe.learning_rate:g}). "
            "Lower the learning rate or change the recipe of this run."
        )

    # --- States ---------------------------------------------------------------------------

    def _begin(self, resume: Path, shorter: Sequence[Path]) -> None:
        """Go on from the resume file or, without one that fits, from the longest kept state."""
        samples = self.spec.budget.samples
        if resume.exists():
            if self.load(resume):
                logger.info(f"{self.name}: resumed at {self.progress.seen} of {samples} samples")
                if self.progress.seen:
                    return
            else:
                logger.info(
                    f"{self.name}: {resume} is of another specification or device; starting anew"
                )
        for path in shorter:
            if self.load(path, shorter=True):
                logger.info(
                    f"{self.name}: going on from {self.progress.seen} of {samples} samples "
                    f"of {path}"
                )

    def _tensors(self) -> dict[str, Tensor]:
        """The tensors that a step changes in place, by their names in a state."""
        return {
            "master": self.flat.master.detach(),
            **{f"optimizer.{key}": value for key, value in self.optimizer.state.items()},
            **{f"buffer.{name}": buffer for name, buffer in self.model.named_buffers()},
            **{f"method.{key}": value for key, value in self.gradients.state.items()},
        }

    def save(self, path: Path) -> None:
        """Write everything the rest of the training depends on."""
        tensors = {name: self.flat.packed(tensor) for name, tensor in self._tensors().items()}
        tensors["noise"] = self.noise.get_state()
        if self.snapshots:
            tensors["snapshots"] = torch.stack(self.snapshots)
        save_tensors(path, tensors, {**self.identity._asdict(), **vars(self.progress)})

    def load(self, path: Path, *, shorter: bool = False) -> bool:
        """Restore a state of this training.

        Args:
            path: the state.
            shorter: take one of the same training with a smaller budget, too, from any device,
                if it is further along than this training.
        """
        tensors, metadata = load_tensors(path)
        found = Identity(*(metadata.pop(key, None) for key in Identity._fields))
        progress, ours = Progress(**metadata), self.identity
        same_place = (found.precision, found.device) == (ours.precision, ours.device)
        if shorter:
            continues = ours.lineage is not None and found.lineage == ours.lineage
            fits = continues and progress.seen > self.progress.seen
        else:
            fits = same_place and found.fingerprint == ours.fingerprint
        if not fits or progress.seen > self.spec.budget.samples:
            return False
        # A shorter training also records its own last step, which may be no point of this grid.
        before = [0.0, *(row["samples"] for row in progress.history)]
        grid = history_grid(self.spec)
        progress.history = [
            row
            for row, last in zip(progress.history, before, strict=False)
            if any(last < point <= row["samples"] for point in grid)
        ]
        self.progress = progress
        with torch.no_grad():
            for name, tensor in self._tensors().items():
                self.flat.unpack(tensors[name], tensor)
        self.flat.publish()
        if same_place:
            self.noise.set_state(tensors["noise"])
        else:
            # Another device's generator cannot go on here.
            progress.moves.append(
                {"samples": progress.seen, "device": found.device, "precision": found.precision}
            )
            self.noise.manual_seed(stream_seed(self.seed, NOISE, progress.seen))
        self.snapshots = list(tensors["snapshots"]) if "snapshots" in tensors else []
        self.order = self._shuffle(progress.epoch)
        return True

    def _cut(self) -> bool:
        """Whether the last step was smaller because the budget ended within a batch."""
        position = self.progress.position
        return position % self.spec.recipe.batch_size != 0 and position != len(self.images)


def learning_rate(spec: RunSpec, seen: int) -> float:
    """Rate of the step that ends at `seen` samples: linear warm-up, then the schedule."""
    recipe, samples = spec.recipe, spec.budget.samples
    warm = recipe.warmup * samples
    if seen < warm:
        return recipe.learning_rate * seen / warm
    if recipe.schedule == "constant":
        return recipe.learning_rate
    progress = min(1.0, (seen - warm) / max(1.0, samples - warm))
    if recipe.schedule == "linear":
        return recipe.learning_rate * (1.0 - progress)
    return recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))


def _core_seconds() -> float:
    """Processor time of the process or, beside other runs, of the thread that works on this one."""
    alone = threading.current_thread() is threading.main_thread()
    usage = resource.getrusage(resource.RUSAGE_SELF if alone else resource.RUSAGE_THREAD)
    return usage.ru_utime + usage.ru_stime
