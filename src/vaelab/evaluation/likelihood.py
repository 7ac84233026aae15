"""Figure 3: marginal likelihoods along the training and, at its end, by every estimator."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pkgutil import resolve_name

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import vector_to_parameters

from vaelab.data import Dataset
from vaelab.estimators.estimate import Estimate
from vaelab.estimators.fitted import FittedAdapter
from vaelab.estimators.model import VAEAdapter
from vaelab.estimators.reductions import estimates_over_images
from vaelab.estimators.registry import ESTIMATORS
from vaelab.models.vae import LatentVariableModel
from vaelab.settings.config import LikelihoodSettings
from vaelab.settings.spec import RunSpec
from vaelab.training.device import Compute
from vaelab.training.methods import METHODS
from vaelab.util.rng import representative, stream_seed

logger = logging.getLogger(__name__)

Row = dict[str, object]

# Streams of random numbers, disjoint from those of training and evaluation.
CURVE, FINAL = 200, 201


def likelihood_tables(
    name: str,
    spec: RunSpec,
    model: LatentVariableModel,
    snapshots: Tensor,
    samples: Sequence[int],
    dataset: Dataset,
    settings: LikelihoodSettings,
    compute: Compute,
) -> tuple[list[Row], list[Row]]:
    """Estimates of mean log p(x) over stratified subsets of training and test images.

    The images and the noise are the same for every snapshot, so the curves show the models'
    change and not a new draw of images, as the report's do.

    Args:
        name: the run's id, for messages.
        spec: the run.
        model: its network; left with the weights of the last snapshot.
        snapshots: flat weights (S, P) in the order of `model.parameters()`.
        samples: training images seen at each snapshot.
        dataset: images.
        settings: how many images and latent samples.
        compute: device; the networks run in float32, sums in float64.

    Returns:
        Rows of the curve (samples, split, estimator, nats, se, images, z_samples) and of the
        estimates at the end (split, estimator, nats, se, images, z_samples, diagnostic;
        over_elbo and over_elbo_se: difference to the ELBO, and its paired standard error).
    """
    splits = {"train": dataset.train_images[: spec.data.train_subset], "test": dataset.test_images}
    along, at_end = (
        {
            split: _batch(pixels, dataset.image_shape, images, compute.device)
            for split, pixels in splits.items()
        }
        for images in (settings.images, settings.final_images)
    )
    model = model.to(compute.device).eval()
    encoder = METHODS[spec.method].encoder
    fitted = FittedAdapter(model, encoder=encoder)
    q = VAEAdapter(model) if encoder else fitted
    curve: list[Row] = []
    final: list[Row] = []
    for seen, weights in zip(samples, snapshots.to(compute.device), strict=True):
        with torch.no_grad():
            vector_to_parameters(weights, model.parameters())
        for split, x in along.items():
            estimates = _cheap(
                q, fitted, x, settings.curve_samples, settings.importance_samples, CURVE
            )
            curve += [
                {"samples": seen, "split": split, **_row(estimator, estimate)}
                for estimator, estimate in estimates.items()
            ]
        logger.info(f"{name}: log p(x) after {seen} samples, of {samples[-1]}")
    for split, x in at_end.items():
        generator = _generator(FINAL, compute.device)
        estimates = _cheap(q, fitted, x, settings.final_samples, settings.final_samples, FINAL)
        for estimator, entry in ESTIMATORS.items():
            if entry.draws == "own":
                estimates[estimator] = resolve_name(entry.function)(fitted, x, generator, settings)
        for estimator, estimate in estimates.items():
            over, over_se = estimate.over(estimates["elbo"])
            row = {"split": split, **_row(estimator, estimate), "diagnostic": estimate.note()}
            final.append(row | {"over_elbo": over, "over_elbo_se": over_se})
    return curve, final


def _cheap(
    q: VAEAdapter,
    fitted: FittedAdapter,
    x: Tensor,
    samples: int,
    importance_samples: int,
    stream: int,
) -> dict[str, Estimate]:
    """The reductions of draws from q, with importance sampling from fitted posteriors."""
    found = estimates_over_images(fitted, x, importance_samples, _generator(stream, x.device))
    if q is fitted:
        return found
    estimates = estimates_over_images(q, x, samples, _generator(stream, x.device))
    own = {name: found[name] for name, entry in ESTIMATORS.items() if entry.draws == "fitted"}
    return estimates | own


def _row(name: str, estimate: Estimate) -> Row:
    return {
        "estimator": name,
        "nats": estimate.mean,
        "se": estimate.se,
        "images": estimate.images,
        "z_samples": estimate.z_samples,
    }


def _batch(pixels: np.ndarray, shape: tuple[int, int], images: int, device: torch.device) -> Tensor:
    chosen = pixels[representative(pixels, shape, images, CURVE)]
    return torch.from_numpy(chosen.astype(np.float32) / 255.0).to(device)


def _generator(stream: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(stream_seed(0, stream))
