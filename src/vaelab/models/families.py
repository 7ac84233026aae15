"""The model families. Importing this loads no torch: a network's module is imported when built.

A new family is one module with the network and one entry here, with a model part of its own
(`vaelab.settings.spec`). Nothing else needs to know its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from vaelab.data.registry import DATASETS, DatasetEntry
from vaelab.settings.spec import MODEL_PARTS, ModelPart, RunSpec, VaePart, VqVaePart
from vaelab.util.registry import Registry

if TYPE_CHECKING:
    import torch

    from vaelab.models.base import Model
    from vaelab.results.trained import CheckpointRecord

    # What a network has to know of its images: a dataset's entry says it, and a checkpoint.
    ImageFacts = DatasetEntry | CheckpointRecord

Own = TypeVar("Own", bound=ModelPart)


@dataclass(frozen=True)
class Family(Generic[Own]):
    """A kind of model: all that the rest of vaelab asks of it.

    Attributes:
        part: the class of its fields in a specification.
        network: its network, a `vaelab.models.base.Model`, as "module:name".
        arguments: the network's arguments, from a model part and the entry of a dataset.
        evaluation: what measures a trained model, a `vaelab.evaluation.evaluator.Evaluation`, as
            "module:name".
        label: what the report calls the model of a specification.
        problem: why it cannot be trained on a dataset; None where it can.
        multiply_adds: of a training step, for each image.
        kernels: that a training step launches on a GPU, roughly.
    """

    part: type[Own]
    network: str
    arguments: Callable[[Own, ImageFacts], dict[str, Any]]
    evaluation: str
    label: Callable[[RunSpec], str]
    problem: Callable[[Own, DatasetEntry], str | None]
    multiply_adds: Callable[[Own, DatasetEntry], float]
    kernels: Callable[[Own], float]


class _Families(Registry[Family[Any]]):
    """Families by name, and their model parts where specifications are read."""

    def add(self, name: str, entry: Family[Any]) -> Family[Any]:
        """Register a family, and its model part under the same name."""
        super().add(name, entry)
        if MODEL_PARTS.get(name) is not entry.part:
            MODEL_PARTS.add(name, entry.part)
        return entry

    def remove(self, name: str) -> None:
        """Take a family and its model part out again."""
        super().remove(name)
        if name in MODEL_PARTS:
            MODEL_PARTS.remove(name)


FAMILIES = _Families("model family")


def family_of(spec: RunSpec) -> Family[Any]:
    """The family of a specification's model."""
    return FAMILIES[spec.model.family]


def build(
    spec: RunSpec, generator: torch.Generator | None = None, images: ImageFacts | None = None
) -> Model:
    """The network of a specification, its weights drawn from `generator` as `init` says.

    Args:
        spec: what to build.
        generator: source of the initial weights.
        images: what the network has to know of its images; by default the dataset's entry.
    """
    family = family_of(spec)
    network: type[Model] = resolve_name(family.network)
    model = network(**family.arguments(spec.model, images or DATASETS[spec.data.dataset]))
    model.initialise(spec.recipe.init, generator)
    return model


def _vae_arguments(part: VaePart, images: ImageFacts) -> dict[str, Any]:
    return {"pixels": images.pixels, "classes": images.classes, **part.model_dump()}


def _vae_label(spec: RunSpec) -> str:
    if isinstance(spec.model, VaePart) and spec.model.condition != "none":
        return "CVAE"
    return "VAE" if spec.objective.beta == 1 else "BVAE"


def _vae_problem(part: VaePart, images: DatasetEntry) -> str | None:
    if part.condition != "none" and not images.classes:
        return f"{images.title} has no labels to condition on"
    return None


def _vae_multiply_adds(part: VaePart, images: DatasetEntry) -> float:
    products = sum(i * o for i, o in pairwise([images.pixels, *part.architecture]))
    return (3 if part.trunks == "separate" else 2) * products


FAMILIES.add(
    "vae",
    Family(
        part=VaePart,
        network="vaelab.models.vae:VAE",
        arguments=_vae_arguments,
        evaluation="vaelab.evaluation.vae:VaeEvaluation",
        label=_vae_label,
        problem=_vae_problem,
        multiply_adds=_vae_multiply_adds,
        kernels=lambda part: 30 + 20 * len(part.hidden),
    ),
)


def _vqvae_problem(part: VqVaePart, images: DatasetEntry) -> str | None:
    height, width = images.image_shape
    if height % 4 or width % 4:
        return f"a VQ-VAE needs image sides divisible by 4; {images.title} has {height} x {width}"
    return None


FAMILIES.add(
    "vqvae",
    Family(
        part=VqVaePart,
        network="vaelab.models.vqvae:VQVAE",
        arguments=lambda part, images: {
            "codes": part.codebook_size,
            "dim": part.latent_dim,
            "shape": images.image_shape,
        },
        evaluation="vaelab.evaluation.vqvae:VqVaeEvaluation",
        label=lambda spec: "VQ-VAE",
        problem=_vqvae_problem,
        multiply_adds=lambda part, images: 15e6 * images.pixels / 784,
        kernels=lambda part: 350,
    ),
)
