"""Claims of section 3: beta-VAE, conditional VAE and VQ-VAE."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from vaelab.original.claims.evidence import Evidence
from vaelab.original.claims.judgement import (
    ASSUMED,
    Check,
    Judgement,
    NotEvaluated,
    Quantity,
    at_least,
    at_most,
    clearly_above,
    conclude,
    falling,
    named,
    rising,
    stored,
)
from vaelab.original.claims.registry import claim
from vaelab.original.numbers import CODEBOOK_SIZE
from vaelab.results.records import SPLITS

NATS = "nats"
BETAS = {f"beta={b}": f"beta{b}" for b in (1, 2, 5, 50)}
MODERATE = {k: run for k, run in BETAS.items() if k != "beta=50"}
# A model is collapsed when its KL is below this, nats (the report's curve leaves its axis).
COLLAPSED_KL = 1e-4
# A decoder's samples are constant when they vary by less than this share of the real images.
CONSTANT_SHARE = 0.01
# The report's VQ-VAE codes an image on a grid of 7 x 7.
CODE_CELLS = 7 * 7


def _change(e: Evidence, run: str, column: str) -> Quantity:
    """End of training minus the end of the first epoch."""
    curves = e.curves_from_first_epoch(run, column)
    key = column.split("_", 1)[1]
    return Quantity.of([c.last - float(c.values[0]) for c in curves], ASSUMED[key])


@claim(
    "C11",
    section="3.1",
    where="Figure 6",
    statement="For beta = 1, 2 and 5 the KL loss rises during training, from the end of the "
    "first epoch to the end.",
    threshold="by 2 SE, on train and test images",
)
def _c11(e: Evidence) -> Judgement:
    change = {
        f"{k}, {split}": _change(e, run, f"{split}_kl")
        for k, run in MODERATE.items()
        for split in ("train", "test")
    }
    checks = [clearly_above(f"rise of KL, {k}", q, 0.0, NATS) for k, q in change.items()]
    return conclude(checks, named("change of KL", change), e.recipe(MODERATE.values()))


@claim(
    "C12",
    section="3.1",
    where="Figure 6",
    statement="Over beta = 1, 2, 5, 50 the final KL loss falls and the final reconstruction loss "
    "rises.",
    threshold="each step by 2 SE, test images",
)
def _c12(e: Evidence) -> Judgement:
    kl, recon = e.quantities(BETAS, "test", "kl"), e.quantities(BETAS, "test", "recon")
    checks = falling("test KL", kl, NATS) + rising("test recon", recon, NATS)
    numbers = named("test KL", kl) | named("test recon", recon)
    return conclude(checks, numbers, e.recipe(BETAS.values()))


@claim(
    "C13",
    section="3.1",
    where="Figure 6",
    statement="For beta = 50 the KL loss falls all the way to practically nothing.",
    threshold="from the first epoch on no rise above 5 % while it exceeds 1e-4 nats (mean of 3 "
    "logged points), and an end below 1e-4 nats, on train and test images",
)
def _c13(e: Evidence) -> Judgement:
    checks: list[Check] = []
    numbers: dict[str, Quantity | float | str] = {}
    for split in SPLITS:
        curves = e.curves_from_first_epoch("beta50", f"{split}_kl")
        end = Quantity.of([max(c.last, 0.0) for c in curves])
        rise = Quantity.of([100.0 * _largest_rise(c.values) for c in curves])
        decades = math.log10(COLLAPSED_KL / max(end.mean, 1e-12))
        checks += [
            Check(f"{split} KL below 1e-4 nats", decades, "decades"),
            at_most(f"largest rise of the {split} KL at most 5 %", rise, 5.0, "%"),
        ]
        numbers |= {f"final {split} KL": end, f"largest rise of {split} KL, %": rise}
    return conclude(checks, numbers, e.recipe(["beta50"]))


@claim(
    "C14",
    section="3.1",
    where="Figure 6",
    statement="For beta = 50 the reconstruction loss improves too, though less than for smaller "
    "beta: it ends at the loss of one constant mean image.",
    threshold="test recon falls after the first epoch by more than 1 SE of its mean over images, "
    "by less than for beta = 1, 2, 5, and ends within 1 nat of the constant mean image's",
)
def _c14(e: Evidence) -> Judgement:
    gain = {k: -_change(e, run, "test_recon") for k, run in BETAS.items()}
    recon = e.quantity("beta50", "test", "recon")
    image_se = e.quantity("beta50", "test", "recon_se").mean
    constant = float(e.reference("constant_image_recon"))
    collapsed = gain.pop("beta=50")
    checks = [
        at_least("improvement at beta=50 above 1 SE", collapsed, image_se, NATS),
        *(
            clearly_above(f"improvement at {k} above beta=50", q, collapsed, NATS)
            for k, q in gain.items()
        ),
        Check(
            "recon within 1 nat of the constant mean image", 1.0 - abs(recon.mean - constant), NATS
        ),
    ]
    numbers: dict[str, Quantity | float | str] = {
        **named("improvement", {**gain, "beta=50": collapsed}),
        "test recon, beta=50": recon,
        "constant mean image": constant,
        "SE over images": image_se,
    }
    return conclude(checks, numbers, e.recipe(BETAS.values()))


@claim(
    "C15",
    section="3.1",
    where="Figure 6",
    statement="KL and reconstruction loss conflict: over training they are negatively correlated "
    "for beta = 1, 2 and 5.",
    threshold="correlation over the logged points after the first epoch below 0, train images",
)
def _c15(e: Evidence) -> Judgement:
    correlation = {}
    for k, run in MODERATE.items():
        pairs = zip(
            e.curves_from_first_epoch(run, "train_kl"),
            e.curves_from_first_epoch(run, "train_recon"),
            strict=True,
        )
        correlation[k] = Quantity.of([_correlation(a.values, b.values) for a, b in pairs])
    checks = [clearly_above(f"{k}: correlation below 0", -q, 0.0) for k, q in correlation.items()]
    return conclude(checks, named("correlation", correlation), e.recipe(MODERATE.values()))


@claim(
    "C16",
    section="3.1",
    where="Figure 7",
    statement="Generation gets better with beta from 1 to 2 to 5: the Frechet distance falls.",
    threshold="each step by 2 SE",
)
def _c16(e: Evidence) -> Judgement:
    fid = e.measured(MODERATE, "fid")
    return conclude(falling("FID", fid, "%"), named("FID", fid), e.recipe(MODERATE.values()))


@claim(
    "C17",
    section="3.1",
    where="Figure 7",
    statement="For beta = 50 generation breaks down: all samples are the same image, and the "
    "Frechet distance is the worst of the four.",
    threshold="variance across samples at most 1 % of that of real images; FID above the others "
    "by 2 SE",
)
def _c17(e: Evidence) -> Judgement:
    fid = e.measured(BETAS, "fid")
    variance = e.measure("beta50", "pixel_variance")
    share = variance * (100.0 / float(e.reference("pixel_variance")))
    worst = fid["beta=50"]
    checks = [
        at_most("variance across samples at most 1 %", share, 100.0 * CONSTANT_SHARE, "%"),
        *(clearly_above(f"FID, beta=50 above {k}", worst, fid[k], "%") for k in MODERATE),
    ]
    numbers = named("FID", fid) | {"variance across samples, % of real": share}
    return conclude(checks, numbers, e.recipe(BETAS.values()))


@claim(
    "C18",
    section="3.1",
    where="Figure 8",
    statement="Reconstruction of test images gets worse with beta over 1, 2, 5, 50.",
    threshold="reconstruction loss and squared error both rise by 2 SE at each step",
)
def _c18(e: Evidence) -> Judgement:
    recon, mse = e.quantities(BETAS, "test", "recon"), e.quantities(BETAS, "test", "mse")
    checks = rising("test recon", recon, NATS) + rising("test squared error", mse, "%")
    numbers = named("test recon", recon) | named("test mse", mse)
    return conclude(checks, numbers, e.recipe(BETAS.values()))


@claim(
    "C19",
    section="3.1",
    where="text",
    statement="A larger beta gives disentangled latent factors.",
    threshold="none that is honest on this data",
)
def _c19(e: Evidence) -> Judgement:
    raise NotEvaluated(
        "Scores of disentanglement (MIG and its kin) compare codes with known factors of "
        "variation; MNIST comes with one, the digit, and the report measured none"
    )


@claim(
    "C20",
    section="3.2",
    where="Figure 9",
    statement="With the raw label as condition, samples often show another digit than the one "
    "asked for, and are blurrier than with one-hot labels.",
    threshold="classifier agreement at most 70 %; sharpness below one-hot's by 2 SE",
)
def _c20(e: Evidence) -> Judgement:
    raw = e.measure("cvae_scalar", "label_agreement") * 100.0
    sharp = {k: e.measure(f"cvae_{k}", "sharpness") for k in ("scalar", "onehot")}
    checks = [
        at_most("agreement at most 70 %", raw, 70.0, "points"),
        clearly_above("sharpness of one-hot above raw", sharp["onehot"], sharp["scalar"], "%"),
    ]
    numbers = {"agreement, raw label, %": raw} | named("sharpness", sharp)
    return conclude(checks, numbers, e.recipe(["cvae_scalar", "cvae_onehot"]))


@claim(
    "C21",
    section="3.2",
    where="Figure 10",
    statement="With one-hot labels nearly all samples show the digit asked for, far more than "
    "with the raw label.",
    threshold="classifier agreement at least 95 %, and at least 25 points above the raw label's",
)
def _c21(e: Evidence) -> Judgement:
    agreement = {k: e.measure(f"cvae_{k}", "label_agreement") * 100.0 for k in ("onehot", "scalar")}
    checks = [
        at_least("agreement at least 95 %", agreement["onehot"], 95.0, "points"),
        at_least(
            "at least 25 points above the raw label",
            agreement["onehot"] - agreement["scalar"],
            25.0,
            "points",
        ),
    ]
    numbers = {f"agreement, {k}, %": q for k, q in agreement.items()}
    return conclude(checks, numbers, e.recipe(["cvae_onehot", "cvae_scalar"]))


@claim(
    "C49",
    section="3.3",
    where="text",
    statement="The number of images that a VQ-VAE can generate is finite, at most K to the power "
    "of H times W.",
    threshold="exact: one image per code grid, and some may coincide",
)
def _c49(e: Evidence) -> Judgement:
    return stored(
        "holds",
        f"The decoder is deterministic and its input is one of {CODEBOOK_SIZE}^{CODE_CELLS} code "
        "grids. The report says that the number is exactly that; it is an upper bound.",
        {
            "K": CODEBOOK_SIZE,
            "H W": CODE_CELLS,
            "log10 of the bound": CODE_CELLS * math.log10(CODEBOOK_SIZE),
        },
    )


def _largest_rise(values: np.ndarray) -> float:
    """Largest relative step upwards of the smoothed curve, ignoring what is below collapse."""
    width = min(3, len(values))
    smooth = np.convolve(values, np.ones(width) / width, mode="valid")
    steps = [float(b / a - 1.0) for a, b in pairwise(smooth) if b > COLLAPSED_KL]
    return max([0.0, *steps])


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if a.std() == 0.0 or b.std() == 0.0:
        raise NotEvaluated("A loss stays constant over training, so there is no correlation")
    return float(np.corrcoef(a, b)[0, 1])
