"""A few steps on a GPU before the first real one: what fails or differs there is not used.

The gradient of a batch is computed on the GPU and on the CPU, from the same weights and random
numbers; both must agree up to rounding. The first steps are made one by one and as CUDA graphs;
they must agree to the last bit.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from vaelab.data import Dataset
from vaelab.settings.spec import RunSpec
from vaelab.training.device import Compute, first_line
from vaelab.training.trainer import Trainer

# With CUDA graphs a single step, a graph of ten and a graph of one.
STEPS = 12
# Largest difference of two gradients, relative to their size. A kernel that is wrong differs by all
# of it; rounding moves a VQ-VAE's images to other codes.
TOLERANCE = {"fp32": 0.01, "bf16": 0.3}


class UnsoundGpu(RuntimeError):
    """A GPU that computes something else than the CPU; the message says what."""


def checked(spec: RunSpec, seed: int, dataset: Dataset, compute: Compute) -> Compute:
    """The GPU without what does not work on it for a run; `left_out` says what that is.

    Raises:
        UnsoundGpu: not even single steps are right.
        RuntimeError: single steps fail.
    """
    plain = replace(compute, graphs=False)
    on_cpu = replace(plain, device=torch.device("cpu"))
    there, here = (Trainer("check", spec, seed, dataset, it) for it in (plain, on_cpu))
    x, c, drawn = here.batch(here.order[: spec.recipe.batch_size])
    here.gradients(x, c, *drawn)
    on_gpu = [value.to(compute.device) for value in (x, *drawn)]
    there.gradients(on_gpu[0], None if c is None else c.to(compute.device), *on_gpu[1:])
    expected, found = (
        torch.cat([view.flatten().cpu().float() for view in trainer.flat.gradients.values()])
        for trainer in (here, there)
    )
    difference = float((found - expected).norm() / expected.norm())
    # Not a number is no agreement either.
    if not difference <= TOLERANCE[compute.precision]:
        raise UnsoundGpu(f"its gradient differs from the CPU's by {difference:.2g} of its size")
    if not compute.graphs:
        return compute
    single = _weights(there)
    try:
        many = _weights(Trainer("check", spec, seed, dataset, compute))
        problem = (
            None if torch.equal(many, single) else "their weights are not those of single steps"
        )
    except RuntimeError as error:
        problem = first_line(error)
    if problem is None:
        return compute
    return replace(plain, left_out=f"no CUDA graphs: {problem}")


def _weights(trainer: Trainer) -> Tensor:
    """The weights after a few steps."""
    try:
        end = min(STEPS * trainer.spec.recipe.batch_size, trainer.spec.budget.samples)
        while trainer.progress.seen < end:
            trainer.advance(end)
        return trainer.flat.master.detach().cpu()
    finally:
        trainer.release()
