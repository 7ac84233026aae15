"""What determines a trained model: the specification of a run, in parts, and its fingerprint.

A `RunSpec` consists of parts: the data, the model with the fields of its own family, the
objective, the training method, the recipe and the budget. A field that does not belong to a
family cannot be set: a VAE has no codebook, a VQ-VAE has no hidden widths.

Files hold a flat form of it, one level of keys: the rows of config/runs.tsv, provenance.json and
metrics.json. `RunSpec.from_flat` and `RunSpec.flat` translate.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError

from vaelab.util.registry import Registry, extensions_of

# Raised whenever the same spec and seed would train to different weights, so that
# checkpoints of the old semantics are not taken for the new ones.
TRAINING_SCHEMA = 4
# Raised whenever the same checkpoint and settings would give other numbers or arrays.
EVALUATION_SCHEMA = 5


class Part(BaseModel):
    """A part of a specification: immutable, finite numbers, no unknown field."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelPart(Part):
    """The model. Each family has a subclass with the fields of that family.

    Attributes:
        absent: the flat fields that the family lacks, with what the flat form says instead.
        report_init: the initial weights in the report's recipe.
        report_optimizer: the optimiser in the report's recipe, except on Frey Face.
    """

    absent: ClassVar[Mapping[str, Any]] = {}
    report_init: ClassVar[str] = "normal"
    report_optimizer: ClassVar[str] = "adagrad"

    latent_dim: int = Field(ge=1, description="Latent dimensions; for the VQ-VAE the code length.")

    @property
    def family(self) -> str:
        """The family's name."""
        return next(name for name, part in MODEL_PARTS.items() if part is type(self))


# The model part of each family; `vaelab.models.families` has the rest of a family.
MODEL_PARTS: Registry[type[ModelPart]] = Registry("model family")


class VaePart(ModelPart):
    """A VAE, beta-VAE or CVAE whose encoder and decoder are MLPs."""

    absent = {"codebook_size": 0}

    trunks: Literal["shared", "separate"] = Field(
        "separate",
        description="Encoder: one trunk with two heads (`shared`, the report's Figures 1 to 5) or "
        "two MLPs, for mean and log-variance (`separate`, all its later models).",
    )
    activation: Literal["tanh", "relu"] = Field("relu", description="Hidden activation.")
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="Hidden widths in encoder order, joined by `-`; the decoder mirrors them."
    )
    likelihood: Literal["bernoulli", "gaussian", "gaussian_fixed"] = Field(
        "bernoulli",
        description="Decoder: Bernoulli on logits, Gaussian with a learned variance per pixel, "
        "Gaussian with one fixed variance, or (VQ-VAE) mean squared error.",
    )
    condition: Literal["none", "scalar", "onehot"] = Field(
        "none", description="How the label enters encoder and decoder (CVAE)."
    )

    @property
    def architecture(self) -> tuple[int, ...]:
        """The report's h = [h1, ..., hn]: hidden widths, then the latent dimension."""
        return (*self.hidden, self.latent_dim)


class VqVaePart(ModelPart):
    """The report's convolutional VQ-VAE."""

    absent = {
        "trunks": "shared",
        "activation": "relu",
        "hidden": [],
        "likelihood": "mse",
        "condition": "none",
    }
    report_init = "default"
    report_optimizer = "adam"

    codebook_size: int = Field(ge=2, description="Codes of the VQ-VAE, else 0.")


MODEL_PARTS.add("vae", VaePart)
MODEL_PARTS.add("vqvae", VqVaePart)


class DataPart(Part):
    """The images that a model is trained on."""

    dataset: str = Field(
        description="Dataset: `mnist`, `fashion_mnist`, `kmnist`, `frey`, or one of `data.own`."
    )
    train_subset: int | None = Field(
        None, ge=1, description="Only the first n training images; empty for all."
    )
    binarize: Literal["none", "dynamic"] = Field(
        "none",
        description="Grey images as they are, or black and white ones drawn anew at every visit "
        "with the grey values as probabilities (`dynamic`).",
    )


class ObjectivePart(Part):
    """The objective that training minimises."""

    beta: float = Field(
        1.0, ge=0, description="Weight of the KL term; for the VQ-VAE of the commitment loss."
    )


class RecipePart(Part):
    """How the weights are initialised and updated."""

    optimizer: Literal["adagrad", "adam"] = Field("adagrad", description="Optimiser.")
    learning_rate: float = Field(gt=0, description="(Peak) learning rate.")
    adam_beta2: float = Field(0.999, gt=0, lt=1, description="Decay of Adam's second moment.")
    batch_size: int = Field(100, ge=1, description="Images per step.")
    init: Literal["normal", "default"] = Field(
        "normal", description="Initial weights: N(0, sd 0.01), or PyTorch's default."
    )
    output_bias: bool = Field(
        False, description="Start the output at the mean training image (VQ-VAE: mean grey)."
    )
    schedule: Literal["constant", "cosine", "linear"] = Field(
        "constant", description="Learning rate."
    )
    warmup: float = Field(0.0, ge=0, lt=1, description="Share of samples with a rising rate.")


class BudgetPart(Part):
    """How long training goes on, and what is recorded on the way."""

    samples: int = Field(ge=1, description="Training images seen in all.")
    history_points: int = Field(30, ge=2, description="Evaluations along the training.")
    history_images: int = Field(1000, ge=1, description="Images per split and evaluation.")
    snapshots: int = Field(0, ge=0, description="Snapshots of the weights along the training.")
    history_per_decade: int | None = Field(
        None, ge=1, description="Evaluations for each factor of ten, in place of `history_points`."
    )


# What the flat form calls `model`: the family, which the part's class stands for elsewhere.
FAMILY = FieldInfo(annotation=str, default="vae", description="Model family.")

PARTS: dict[str, type[Part]] = {
    "data": DataPart,
    "objective": ObjectivePart,
    "recipe": RecipePart,
    "budget": BudgetPart,
}

# The order of the canonical JSON, which fingerprints depend on. Fields that only another family
# has follow after these.
FLAT_ORDER = (
    *("dataset", "train_subset", "model", "trunks", "activation", "hidden", "latent_dim"),
    *("likelihood", "beta", "condition", "method", "optimizer", "learning_rate", "adam_beta2"),
    *("batch_size", "init", "output_bias", "schedule", "warmup", "samples", "codebook_size"),
    *("binarize", "history_points", "history_images", "snapshots", "history_per_decade"),
)


class RunSpec(Part):
    """One training, resolved."""

    data: DataPart
    model: SerializeAsAny[ModelPart]
    objective: ObjectivePart
    method: str = Field(
        "aevb", description="Training method: `aevb`, or a baseline (`wake_sleep`, `mcem`)."
    )
    recipe: RecipePart
    budget: BudgetPart

    @model_validator(mode="after")
    def _possible(self) -> RunSpec:
        likelihood = getattr(self.model, "likelihood", None)
        if self.data.binarize != "none" and likelihood != "bernoulli":
            raise ValueError("binarize needs likelihood bernoulli")
        return self

    @classmethod
    def from_flat(cls, fields: Mapping[str, Any]) -> RunSpec:
        """The specification of a flat mapping; a field left out takes its default.

        A field that the family lacks may be there with the value that `flat` gives it.

        Raises:
            ValidationError: located at the flat fields.
        """
        rest = dict(fields)
        family = rest.pop("model", FAMILY.default)
        if family not in MODEL_PARTS:
            raise _refusal("model", family, MODEL_PARTS.unknown(family))
        model = MODEL_PARTS[family]
        nested: dict[str, Any] = {
            name: {key: rest.pop(key) for key in part.model_fields if key in rest}
            for name, part in (PARTS | {"model": model}).items()
        }
        if "method" in rest:
            nested["method"] = rest.pop("method")
        absent = _absent_from(model)
        for key, value in rest.items():
            if key not in flat_fields():
                raise _refusal(key, value, f"unknown key; allowed are {', '.join(flat_fields())}")
            value = list(value) if isinstance(value, tuple) else value
            if value not in (absent.get(key), str(absent.get(key))):
                raise _refusal(key, value, f"a model of family {family} has no {key}")
        try:
            nested["model"] = model.model_validate(nested["model"])
            return cls.model_validate(nested)
        except ValidationError as error:
            raise _relocated(error) from None

    def flat(self) -> dict[str, Any]:
        """The flat form, of values that JSON has, in the order of the canonical JSON."""
        parts = self.model_dump(mode="json")
        found = _absent_from(type(self.model))
        found |= {"model": self.model.family, "method": self.method}
        for name in (*PARTS, "model"):
            found |= parts[name]
        return {name: found.get(name) for name in (*FLAT_ORDER, *found)}

    def changed(self, **fields: Any) -> RunSpec:
        """A copy with other values of flat fields."""
        return RunSpec.from_flat(self.flat() | fields)

    def canonical(self) -> str:
        """Canonical JSON: fixed field order, no spaces; equal for equal specs."""
        return _compact(self._identity())

    @property
    def extensions(self) -> list[str]:
        """Digests of the extensions that the model family, the method or the dataset is from."""
        used = {"model family": self.model.family, "training method": self.method}
        return extensions_of([*used.items(), ("dataset", self.data.dataset)])

    def endless(self) -> str | None:
        """Canonical JSON of a training without its budget; None if the budget changes its steps.

        Of two trainings for which this is equal, the shorter is the beginning of the longer.
        """
        if self.recipe.schedule != "constant" or self.recipe.warmup or self.budget.snapshots:
            return None
        budget = ("samples", "history_points")
        return _compact({k: v for k, v in self._identity().items() if k not in budget})

    def _identity(self) -> dict[str, Any]:
        fields = self.flat()
        # Younger than the first published fingerprints, which have to stay as they are.
        if fields["history_per_decade"] is None:
            del fields["history_per_decade"]
        return fields


def flat_fields() -> dict[str, FieldInfo]:
    """Every field of the flat form, of all families, with its description and default."""
    found = {"model": FAMILY, "method": RunSpec.model_fields["method"]}
    for part in (*PARTS.values(), *MODEL_PARTS.values()):
        found = part.model_fields | found
    return {name: found[name] for name in (*FLAT_ORDER, *found)}


def _absent_from(model: type[ModelPart]) -> dict[str, Any]:
    """What the flat form of a model says of the fields that other families have."""
    found: dict[str, Any] = {}
    for part in (model, *MODEL_PARTS.values()):
        found = {**part.absent, **found}
    return {name: value for name, value in found.items() if name not in model.model_fields}


def _refusal(key: str, value: Any, message: str) -> ValidationError:
    return ValidationError.from_exception_data("RunSpec", [_problem(message, (key,), value)])


def _relocated(error: ValidationError) -> ValidationError:
    """The same problems, located at the flat fields instead of at those of a part."""
    return ValidationError.from_exception_data(
        "RunSpec",
        [
            _problem(
                p["msg"], p["loc"][1:] if p["loc"][:1] in _PART_NAMES else p["loc"], p["input"]
            )
            for p in error.errors()
        ],
    )


_PART_NAMES = [(name,) for name in PARTS]


def _problem(message: str, location: tuple[int | str, ...], value: Any) -> InitErrorDetails:
    kind = PydanticCustomError("flat_field", "{message}", {"message": message})
    return InitErrorDetails(type=kind, loc=location, input=value)


def _compact(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"))


def fingerprint(spec: RunSpec, seed: int, dataset_sha256: str) -> str:
    """SHA-256 over all that determines the trained weights on a given machine and precision."""
    return _sha256(spec.canonical(), *_rest(spec, seed, dataset_sha256))


def lineage(spec: RunSpec, seed: int, dataset_sha256: str) -> str | None:
    """The fingerprint of a training without its budget; None if the budget changes its steps."""
    endless = spec.endless()
    return endless and _sha256(endless, *_rest(spec, seed, dataset_sha256))


def _rest(spec: RunSpec, seed: int, dataset_sha256: str) -> list[str]:
    return [str(seed), dataset_sha256, str(TRAINING_SCHEMA), *spec.extensions]


def _sha256(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
