"""The training methods, and what a training asks and costs. Importing this loads no torch.

A new method is one module with its gradients and one entry here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, NamedTuple

from vaelab.data.registry import DATASETS
from vaelab.models.families import family_of
from vaelab.settings.spec import RunSpec, VaePart
from vaelab.util.errors import VaelabError
from vaelab.util.registry import Registry

if TYPE_CHECKING:
    from vaelab.models.base import Model
    from vaelab.training.gradients import Gradients


@dataclass(frozen=True)
class Method:
    """A training method.

    Attributes:
        gradients: the gradients that it follows, a `vaelab.training.gradients.Gradients`, as
            "module:name".
        cost: of a step, relative to AEVB on the same network.
        fast: the same gradients written out for the networks that they serve, as "module:name".
        encoder: whether it trains an encoder. Where it does not, Gaussians are fitted to the
            posterior of each image that is evaluated.
        problem: why it cannot train a specification; None where it can.
    """

    gradients: str
    cost: float = 1.0
    fast: str | None = None
    encoder: bool = True
    problem: Callable[[RunSpec], str | None] = lambda spec: None


METHODS: Registry[Method] = Registry("training method")


def _baseline_problem(spec: RunSpec) -> str | None:
    # Both are written on the layers of the MLP VAE.
    if type(spec.model) is not VaePart or spec.model.condition != "none":
        return f"method {spec.method} trains unconditional VAEs only"
    if spec.objective.beta != 1.0:
        return f"method {spec.method} has no KL term to weigh; beta must be 1"
    return None


METHODS.add(
    "aevb",
    Method(
        gradients="vaelab.training.gradients:AutogradGradients",
        fast="vaelab.training.fast.gradients:FusedGradients",
    ),
)
METHODS.add(
    "wake_sleep",
    Method(
        gradients="vaelab.training.baselines:WakeSleepGradients",
        cost=1.5,
        problem=_baseline_problem,
    ),
)
METHODS.add(
    "mcem",
    Method(
        # The decoder is evaluated 11 times to move a chain and 5 times for the weights.
        gradients="vaelab.training.baselines:McemGradients",
        cost=9.0,
        encoder=False,
        problem=_baseline_problem,
    ),
)


def gradients_for(method: str, model: Model) -> type[Gradients]:
    """The gradients of a method: the fast ones where they serve the model."""
    entry = METHODS[method]
    if entry.fast is not None:
        fast: type[Gradients] = resolve_name(entry.fast)
        if fast.serves(model):
            return fast
    plain: type[Gradients] = resolve_name(entry.gradients)
    return plain


def check(spec: RunSpec) -> None:
    """Refuse a specification that its dataset, its family or its method makes impossible.

    Raises:
        VaelabError: what does not go together, or a name that is not registered.
    """
    images = DATASETS[spec.data.dataset]
    limit = images.train_images
    problem = None
    if spec.data.train_subset is not None and spec.data.train_subset > limit:
        problem = f"train_subset is at most {limit} on {spec.data.dataset}"
    problem = (
        problem or family_of(spec).problem(spec.model, images) or METHODS[spec.method].problem(spec)
    )
    if problem is not None:
        raise VaelabError(problem)


class Cost(NamedTuple):
    """What a training costs.

    Attributes:
        multiply_adds: in all; on a CPU they take the time.
        kernels: launches in all; on a GPU, for which these networks are small, they take the time.
    """

    multiply_adds: float
    kernels: float


def training_cost(spec: RunSpec) -> Cost:
    """A first estimate of the work in a training, from its family, its method and its budget."""
    family, slower = family_of(spec), METHODS[spec.method].cost
    samples = spec.budget.samples
    return Cost(
        slower * samples * family.multiply_adds(spec.model, DATASETS[spec.data.dataset]),
        slower * samples / spec.recipe.batch_size * family.kernels(spec.model),
    )
