"""RunSpec: everything that determines a trained model, and the table that lists the runs.

`config/runs.tsv` states the report's protocol, one row a trained model. A preset changes
recipe and budget through `training`; this module resolves both into frozen specs. Two runs
with equal specs are one training: `Runs.alias` maps every name to the run that holds it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Bumped whenever the same spec and seed would train to different weights, so that
# checkpoints of the old semantics are not taken for the new ones.
TRAINING_SCHEMA = 4
# Bumped whenever the same checkpoint and settings would give other numbers or arrays.
EVALUATION_SCHEMA = 5

MNIST_PIXELS, FREY_PIXELS = 784, 560
DIGITS = 10


class RunSpec(BaseModel):
    """One training, resolved. Field order is the order of the canonical JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    dataset: Literal["mnist", "frey"] = Field(description="Dataset.")
    train_subset: int | None = Field(
        None, ge=1, description="Only the first n training images; empty for all."
    )
    model: Literal["vae", "vqvae"] = Field("vae", description="Model family.")
    trunks: Literal["shared", "separate"] = Field(
        "separate",
        description="Encoder: one trunk with two heads (`shared`, the report's Figures 1 to 5) or "
        "two MLPs, for mean and log-variance (`separate`, all its later models).",
    )
    activation: Literal["tanh", "relu"] = Field("relu", description="Hidden activation.")
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="Hidden widths in encoder order, joined by `-`; the decoder mirrors them."
    )
    latent_dim: int = Field(ge=1, description="Latent dimensions; for the VQ-VAE the code length.")
    likelihood: Literal["bernoulli", "gaussian", "gaussian_fixed", "mse"] = Field(
        "bernoulli",
        description="Decoder: Bernoulli on logits, Gaussian with a learned variance per pixel, "
        "Gaussian with one fixed variance, or (VQ-VAE) mean squared error.",
    )
    beta: float = Field(
        1.0, ge=0, description="Weight of the KL term; for the VQ-VAE of the commitment loss."
    )
    condition: Literal["none", "scalar", "onehot"] = Field(
        "none", description="How the label enters encoder and decoder (CVAE)."
    )
    method: Literal["aevb", "wake_sleep", "mcem"] = Field(
        "aevb", description="Training algorithm; the others are Kingma & Welling's baselines."
    )
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
    samples: int = Field(ge=1, description="Training images seen in all.")
    codebook_size: int = Field(0, ge=0, description="Codes of the VQ-VAE, else 0.")
    binarize: Literal["none", "dynamic"] = Field(
        "none",
        description="Grey images as they are, or black and white ones drawn anew at every visit "
        "with the grey values as probabilities (`dynamic`).",
    )
    history_points: int = Field(30, ge=2, description="Evaluations along the training.")
    history_images: int = Field(1000, ge=1, description="Images per split and evaluation.")
    snapshots: int = Field(0, ge=0, description="Snapshots of the weights along the training.")
    history_per_decade: int | None = Field(
        None, ge=1, description="Evaluations for each factor of ten, in place of `history_points`."
    )

    @model_validator(mode="after")
    def _possible(self) -> RunSpec:
        if self.condition != "none" and self.dataset == "frey":
            raise ValueError("Frey Face has no labels to condition on")
        if self.model == "vqvae":
            if self.dataset != "mnist":
                raise ValueError("the VQ-VAE is defined for MNIST images only")
            if self.hidden or self.condition != "none" or self.likelihood != "mse":
                raise ValueError("a VQ-VAE takes no hidden widths and no condition, and uses mse")
            if self.codebook_size < 2:
                raise ValueError("a VQ-VAE needs a codebook_size of at least 2")
        elif self.likelihood == "mse" or self.codebook_size:
            raise ValueError("likelihood mse and codebook_size belong to the VQ-VAE")
        if self.method != "aevb" and (self.model != "vae" or self.condition != "none"):
            raise ValueError(f"method {self.method} trains unconditional VAEs only")
        if self.method != "aevb" and self.beta != 1.0:
            raise ValueError(f"method {self.method} has no KL term to weigh; beta must be 1")
        if self.binarize != "none" and self.likelihood != "bernoulli":
            raise ValueError("binarize needs likelihood bernoulli")
        limit = 60_000 if self.dataset == "mnist" else 1565
        if self.train_subset is not None and self.train_subset > limit:
            raise ValueError(f"train_subset is at most {limit} on {self.dataset}")
        return self

    @property
    def pixels(self) -> int:
        """Pixels of an image."""
        return MNIST_PIXELS if self.dataset == "mnist" else FREY_PIXELS

    @property
    def condition_dim(self) -> int:
        """Numbers that the condition adds to the encoder's and the decoder's input."""
        return {"none": 0, "scalar": 1, "onehot": DIGITS}[self.condition]

    @property
    def architecture(self) -> tuple[int, ...]:
        """The report's h = [h1, ..., hn]: hidden widths, then the latent dimension."""
        return (*self.hidden, self.latent_dim)

    def canonical(self) -> str:
        """Canonical JSON: fixed field order, no spaces; equal for equal specs."""
        return _compact(self._identity())

    def endless(self) -> str | None:
        """Canonical JSON of a training without its budget; None if the budget changes its steps.

        Trainings of which this is equal are beginnings of each other.
        """
        if self.schedule != "constant" or self.warmup or self.snapshots:
            return None
        budget = ("samples", "history_points")
        return _compact({k: v for k, v in self._identity().items() if k not in budget})

    def _identity(self) -> dict[str, Any]:
        fields = self.model_dump(mode="json")
        # Younger than the first published fingerprints, which have to stay as they are.
        if fields["history_per_decade"] is None:
            del fields["history_per_decade"]
        return fields


def _compact(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"))


def fingerprint(spec: RunSpec, seed: int, dataset_sha256: str) -> str:
    """SHA-256 over all that determines the trained weights on a given machine and precision."""
    return _sha256(spec.canonical(), str(seed), dataset_sha256, str(TRAINING_SCHEMA))


def lineage(spec: RunSpec, seed: int, dataset_sha256: str) -> str | None:
    """The fingerprint of a training without its budget; None if the budget changes its steps."""
    endless = spec.endless()
    return endless and _sha256(endless, str(seed), dataset_sha256, str(TRAINING_SCHEMA))


def _sha256(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
