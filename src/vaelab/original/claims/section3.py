"""Claims of section 3: beta-VAE, conditional VAE and VQ-VAE."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from vaelab.evaluation.factors import FACTORS
from vaelab.original.claims.evidence import Evidence
from vaelab.original.claims.judgement import (
    Check,
    NotEvaluated,
    above,
    below,
    falling,
    rising,
)
from vaelab.original.claims.registry import claim, fact
from vaelab.original.numbers import CODEBOOK_SIZE
from vaelab.original.smoothing import Curve
from vaelab.results.records import SPLITS

NATS = "nats"
MODERATE, COLLAPSED = ("beta1", "beta2", "beta5"), "beta50"
BETAS = (*MODERATE, COLLAPSED)
SCALAR, ONEHOT = "cvae_scalar", "cvae_onehot"
# A model is collapsed when its KL is below this, nats (the report's curve leaves its axis).
COLLAPSED_KL = 1e-4
# The report smooths Figure 6 over 50 of 2000 epochs.
SMOOTHING = 1 / 40
# The report's VQ-VAE codes an image on a grid of 7 x 7.
CODE_CELLS = 7 * 7


@claim("C11", "3.1", "Figure 6", "report")
def _c11(e: Evidence) -> Iterator[Check]:
    """For beta = 1, 2 and 5 the KL loss rises during training.

    Holds if: end above the first 1/2000 of the training, which is one epoch of the report's, on
    train and test images.
    """
    for run in MODERATE:
        for split in SPLITS:
            yield above(f"rise of {split} KL, {run}", e.change(run, f"{split}_kl"), 0.0, NATS)


@claim("C12", "3.1", "Figure 6", "report")
def _c12(e: Evidence) -> Iterator[Check]:
    """Over beta = 1, 2, 5, 50 the final KL loss falls and the final reconstruction loss rises.

    Holds if: each step, test images.
    """
    yield from falling("test KL", e.losses(BETAS, "test kl"), NATS)
    yield from rising("test recon", e.losses(BETAS, "test recon"), NATS)


@claim("C13", "3.1", "Figure 6", "report")
def _c13(e: Evidence) -> Iterator[Check]:
    """For beta = 50 the KL loss falls all the way to practically nothing.

    Holds if: after the first 1/2000 of the training, which is one epoch of the report's, and
    smoothed over 1/40 of it, no rise above 5 % while it exceeds 1e-4 nats, and an end below 1e-4
    nats, in every seed on train and test images.
    """
    for split in SPLITS:
        curves = e.curves(COLLAPSED, f"{split}_kl")
        end = e.number(f"largest final {split} KL", max(curve.last for curve in curves))
        rise = e.number(f"largest rise of {split} KL, %", max(map(_largest_rise, curves)))
        yield below(f"{split} KL below 1e-4", end, COLLAPSED_KL, NATS)
        yield below(f"largest rise of the {split} KL below 5 %", rise, 5.0, "%")


@claim("C14", "3.1", "Figure 6", "report")
def _c14(e: Evidence) -> Iterator[Check]:
    """For beta = 50 the reconstruction loss improves too, though less than for smaller beta: it
    ends at the loss of one constant mean image.

    Holds if: test recon falls after the first 1/2000 of the training, which is one epoch of the
    report's, by less than for beta = 1, 2, 5, and ends within 1 nat of the constant mean image's.
    """
    *gains, collapsed = (-e.change(run, "test_recon") for run in BETAS)
    yield above("improvement at beta=50", collapsed, 0.0, NATS)
    for run, gain in zip(MODERATE, gains, strict=True):
        yield above(f"improvement, {run} above beta50", gain, collapsed, NATS)
    constant = e.number("constant mean image", float(e.reference("constant_image_recon")))
    distance = e.loss(COLLAPSED, "test recon") - constant
    yield below("recon at most 1 above the constant mean image's", distance, 1.0, NATS)
    yield above("recon at most 1 below the constant mean image's", distance, -1.0, NATS)


@claim("C15", "3.1", "Figure 6", "report", same_as="C11")
def _c15(e: Evidence) -> Iterator[Check]:
    """KL and reconstruction loss conflict: over training they are negatively correlated for beta =
    1, 2 and 5.

    Holds if: correlation over the logged points after the first 1/2000 of the training, which is
    one epoch of the report's below 0 in every seed, train images.
    """
    for run in MODERATE:
        kl, recon = (e.curves(run, f"train_{loss}") for loss in ("kl", "recon"))
        pairs = [(a.later, b.later) for a, b in zip(kl, recon, strict=True)]
        if any(values.std() == 0.0 for pair in pairs for values in pair):
            raise NotEvaluated("A loss stays constant over training, so there is no correlation")
        largest = max(float(np.corrcoef(*pair)[0, 1]) for pair in pairs)
        yield below(f"correlation below 0, {run}", e.number(f"correlation, {run}", largest), 0.0)


@claim("C16", "3.1", "Figure 7", "report")
def _c16(e: Evidence) -> Iterator[Check]:
    """Generation gets better with beta from 1 to 2 to 5: the Frechet distance on classifier
    features falls, precision and recall rise.

    Holds if: each step, in all three.
    """
    yield from falling("Frechet distance", e.measured(MODERATE, "fid"))
    precision, recall = (e.measured(MODERATE, key) for key in ("precision", "recall"))
    up, down = rising("precision", precision), falling("recall", recall)
    if all(check.margin > 0.0 for check in up + down):
        e.notes.append("Mixed: precision rises with beta and recall falls.")
    yield from up + rising("recall", recall)


@claim("C17", "3.1", "Figure 7", "report")
def _c17(e: Evidence) -> Iterator[Check]:
    """For beta = 50 generation breaks down: all samples are the same image, and the Frechet
    distance on classifier features is the worst of the four.

    Holds if: variance across samples at most 1 % of that of real images; distance above the others.
    """
    variance = e.measure(COLLAPSED, "pixel_variance", 100.0 / e.reference("pixel_variance"))
    yield below("variance across samples at most 1 % of real images'", variance, 1.0, "%")
    distance = e.measured(BETAS, "fid")
    for run in MODERATE:
        yield above(f"Frechet distance above {run}", distance[COLLAPSED], distance[run])


@claim("C18", "3.1", "Figure 8", "report")
def _c18(e: Evidence) -> Iterator[Check]:
    """Reconstruction of test images gets worse with beta over 1, 2, 5, 50.

    Holds if: reconstruction loss and squared error both rise at each step.
    """
    yield from rising("test recon", e.losses(BETAS, "test recon"), NATS)
    yield from rising("test squared error", e.losses(BETAS, "test mse"))


@claim("C19", "3.1", "text", "report")
def _c19(e: Evidence) -> Iterator[Check]:
    """A larger beta gives disentangled latent factors.

    Holds if: over beta = 1, 2, 5 the mutual information gap rises, on average over slant,
    thickness, width, height and ink of the test images, and the total correlation of the codes
    falls.
    """
    e.beside(MODERATE, *(f"mig_{factor}" for factor in FACTORS))
    yield from rising("mutual information gap", e.measured(MODERATE, "mig"))
    yield from falling("total correlation", e.measured(MODERATE, "total_correlation"), NATS)


@claim("C20", "3.2", "Figure 9", "report")
def _c20(e: Evidence) -> Iterator[Check]:
    """With the raw label as condition, samples often show another digit than the one asked for, and
    are blurrier than with one-hot labels.

    Holds if: classifier agreement at most 70 %; sharpness below one-hot's.
    """
    agreement = e.measure(SCALAR, "label_agreement", 100.0)
    yield below("agreement at most 70 %", agreement, 70.0, "points")
    yield from rising("sharpness", e.measured((SCALAR, ONEHOT), "sharpness"))


@claim("C21", "3.2", "Figure 10", "report")
def _c21(e: Evidence) -> Iterator[Check]:
    """With one-hot labels nearly all samples show the digit asked for, far more than with the raw
    label.

    Holds if: classifier agreement at least 95 %, and at least 25 points above the raw label's.
    """
    raw, onehot = e.measured((SCALAR, ONEHOT), "label_agreement", 100.0).values()
    yield above("agreement at least 95 %", onehot, 95.0, "points")
    yield above("at least 25 points above the raw label", onehot - raw, 25.0, "points")


_c49 = fact(
    "C49",
    "3.3",
    "text",
    "holds",
    "The number of images that a VQ-VAE can generate is finite, at most K to the power "
    "of H times W.",
    "exact: one image per code grid, and some may coincide",
    f"The decoder is deterministic and its input is one of {CODEBOOK_SIZE}^{CODE_CELLS} code "
    "grids. The report says that the number is exactly that; it is an upper bound.",
)


def _largest_rise(curve: Curve) -> float:
    """Largest relative step upwards of the smoothed curve, %, ignoring what is below collapse."""
    smooth = curve.smoothed(SMOOTHING).later
    steps = [100.0 * (b / a - 1.0) for a, b in pairwise(smooth) if b > COLLAPSED_KL]
    return float(max([0.0, *steps]))
