"""Figure 3: marginal likelihoods along the training and, at its end, by every estimator."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import vector_to_parameters

from vaelab.config import LikelihoodSettings
from vaelab.data import Dataset
from vaelab.estimators import (
    Annealing,
    Estimate,
    VAEAdapter,
    annealed,
    estimates_over_images,
    kw_appendix_d,
)
from vaelab.models import VAE
from vaelab.spec import RunSpec
from vaelab.training.device import Compute
from vaelab.training.loop import random_pick, stream_seed

Row = dict[str, object]

# Standard deviations of the importance proposal over those of q, for these models' d = 3.
STRETCH = 2.0

# Streams of random numbers, disjoint from those of training and evaluation.
CURVE, FINAL = 200, 201


def likelihood_tables(
    spec: RunSpec,
    model: VAE,
    snapshots: Tensor,
    samples: Sequence[int],
    dataset: Dataset,
    settings: LikelihoodSettings,
    compute: Compute,
) -> tuple[list[Row], list[Row]]:
    """Estimates of mean log p(x) over training and test images picked at random.

    The images and the noise are the same for every snapshot, so the curves show the models'
    change and not a new draw of images, as the report's do.

    Args:
        spec: the run.
        model: its network; left with the weights of the last snapshot.
        snapshots: flat weights (S, P) in the order of `model.parameters()`.
        samples: training images seen at each snapshot.
        dataset: images.
        settings: how many images and latent samples.
        compute: device; the networks run in float32, sums in float64.

    Returns:
        Rows of the curve (samples, split, estimator, nats, se, images, z_samples) and of the
        estimates at the end (split, estimator, nats, se, images, z_samples, diagnostic).
    """
    images = {
        "train": dataset.train_images[: spec.train_subset],
        "test": dataset.test_images,
    }
    model = model.to(compute.device).eval()
    curve, final = [], []
    for seen, weights in zip(samples, snapshots.to(compute.device), strict=True):
        with torch.no_grad():
            vector_to_parameters(weights, model.parameters())
        for split, pixels in images.items():
            x = _batch(pixels, settings.images, compute.device)
            estimates = _cheap(
                model, x, settings.curve_samples, settings.importance_samples, compute.device, CURVE
            )
            curve += [
                {"samples": seen, "split": split, **_row(name, estimate)}
                for name, estimate in estimates.items()
            ]
    for split, pixels in images.items():
        x = _batch(pixels, settings.final_images, compute.device)
        generator = _generator(FINAL, compute.device)
        adapter = VAEAdapter(model)
        estimates = _cheap(
            model, x, settings.final_samples, settings.final_samples, compute.device, FINAL
        )
        estimates["kw_d"] = kw_appendix_d(adapter, x, generator)
        estimates["ais"] = annealed(
            adapter,
            x,
            generator,
            settings=Annealing(
                # From the prior: started at q it would miss the modes that q misses.
                start="prior",
                temperatures=settings.temperatures,
                chains=settings.chains,
                pilot_chains=2,
            ),
        )
        final += [
            {"split": split, **_row(name, estimate), "diagnostic": estimate.note()}
            for name, estimate in estimates.items()
        ]
    return curve, final


def _cheap(
    model: VAE, x: Tensor, samples: int, importance_samples: int, device: torch.device, stream: int
) -> dict[str, Estimate]:
    """The reductions of draws from q, with importance sampling from a wider q.

    An overfitted encoder is too sure of test images: importance sampling from q itself is then
    nats too low, which would widen the very gap that the figure is about.
    """
    estimates = estimates_over_images(VAEAdapter(model), x, samples, _generator(stream, device))
    wider = estimates_over_images(
        VAEAdapter(model, stretch=STRETCH), x, importance_samples, _generator(stream, device)
    )
    return estimates | {"importance": wider["importance"]}


def _row(name: str, estimate: Estimate) -> Row:
    return {
        "estimator": name,
        "nats": estimate.mean,
        "se": estimate.se,
        "images": estimate.images,
        "z_samples": estimate.z_samples,
    }


def _batch(pixels: np.ndarray, images: int, device: torch.device) -> Tensor:
    chosen = pixels[random_pick(len(pixels), images, CURVE)]
    return torch.from_numpy(chosen.astype(np.float32) / 255.0).to(device)


def _generator(stream: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(stream_seed(0, stream))
