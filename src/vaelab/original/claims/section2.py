"""Claims of section 2: the reimplementation of Kingma & Welling's results."""

from __future__ import annotations

import numpy as np

from vaelab.original.claims.evidence import Curve, Evidence
from vaelab.original.claims.judgement import (
    ASSUMED,
    Check,
    Judgement,
    Quantity,
    at_least,
    clearly_above,
    conclude,
    falling,
    named,
    rising,
    stored,
)
from vaelab.original.claims.registry import claim
from vaelab.results.records import SPLITS, Split

NATS = "nats"
FREY = {f"d={d}": f"frey_d{d}" for d in (2, 5, 10, 20)}
SAMPLED = {f"d={d}": f"mnist_d{d}" for d in (2, 5, 10, 20)}
# The report smooths Figure 3 over a thirtieth of the training.
SMOOTHING = 1 / 30
# It compares 5 and 60 million samples; shorter trainings are compared at the same shares.
EARLY = 5 / 60


def _elbo(evidence: Evidence, runs: dict[str, str], split: Split) -> dict[str, Quantity]:
    return {k: -q for k, q in evidence.quantities(runs, split, "neg_elbo").items()}


def _gaps(evidence: Evidence, runs: dict[str, str]) -> dict[str, Quantity]:
    """Train minus test ELBO."""
    return {k: evidence.gap(run, "neg_elbo") for k, run in runs.items()}


@claim(
    "C1",
    section="2.1",
    where="Figure 1",
    statement="On MNIST the final test ELBO rises with the latent dimension from 3 to 20, and "
    "200 dimensions are no worse than 20.",
    threshold="each step above 2 SE; d=200 at most 1 nat below d=20",
)
def _c1(e: Evidence) -> Judgement:
    runs = {f"d={d}": f"mnist_d{d}" for d in (3, 5, 10, 20, 200)}
    elbo = _elbo(e, runs, "test")
    last = elbo.pop("d=200")
    checks = rising("test ELBO", elbo, NATS)
    checks.append(at_least("test ELBO, d=200 at least d=20 - 1", last, elbo["d=20"] - 1.0, NATS))
    return conclude(checks, named("test ELBO", {**elbo, "d=200": last}), e.recipe(runs.values()))


@claim(
    "C2",
    section="2.1",
    where="Figure 2",
    statement="On Frey Face the final ELBO rises with the latent dimension from 2 to 20, on "
    "training and on test images.",
    threshold="each step above 2 SE, on both sets",
)
def _c2(e: Evidence) -> Judgement:
    e.require_real_faces(FREY.values())
    train, test = _elbo(e, FREY, "train"), _elbo(e, FREY, "test")
    checks = rising("train ELBO", train, NATS) + rising("test ELBO", test, NATS)
    numbers = named("train ELBO", train) | named("test ELBO", test)
    return conclude(checks, numbers, e.recipe(FREY.values()))


@claim(
    "C3",
    section="2.1",
    where="Figure 1",
    statement="On MNIST more latent variables do not lead to more overfitting: the gap between "
    "train and test ELBO does not grow from 3 to 200 dimensions.",
    threshold="gap at d=200 at most the gap at d=3 plus 1 nat",
)
def _c3(e: Evidence) -> Judgement:
    runs = {f"d={d}": f"mnist_d{d}" for d in (3, 5, 10, 20, 200)}
    gap = _gaps(e, runs)
    what = "gap at d=3, plus 1, at least that at d=200"
    check = at_least(what, gap["d=3"] + 1.0, gap["d=200"], NATS)
    return conclude([check], named("gap", gap), e.recipe(runs.values()))


@claim(
    "C3b",
    section="2.1",
    where="Figure 2",
    statement="The same on Frey Face, for which the report does not claim it: the gap between "
    "train and test ELBO does not grow from 2 to 20 dimensions.",
    threshold="gap at d=20 at most the gap at d=2 plus 10 nats",
)
def _c3b(e: Evidence) -> Judgement:
    e.require_real_faces(FREY.values())
    gap = _gaps(e, FREY)
    what = "gap at d=2, plus 10, at least that at d=20"
    check = at_least(what, gap["d=2"] + 10.0, gap["d=20"], NATS)
    return conclude([check], named("gap", gap), e.recipe(FREY.values()))


@claim(
    "C4",
    section="2.1",
    where="Figure 1",
    statement="Kingma & Welling attribute the absence of overfitting to the regularising effect "
    "of the bound.",
    threshold="citation check",
)
def _c4(e: Evidence) -> Judgement:
    return stored(
        "holds",
        "Kingma & Welling (arXiv 1312.6114) say so in section 5 and in the caption of their "
        "Figure 2.",
    )


@claim(
    "C5",
    section="2.2",
    where="Figure 3",
    statement="Trained on 50 000 images, the estimated test log-likelihood rises from a twelfth "
    "of the training (the report's 5 of 60 million samples) to its end.",
    threshold="by at least 2 nats, importance sampling",
)
def _c5(e: Evidence) -> Judgement:
    curves = e.likelihood_curves("ml_n50000", "test", "importance")
    early = _over_seeds([curve.at(EARLY * curve.end) for curve in curves])
    end = _over_seeds([curve.last for curve in curves])
    check = at_least("rise of the test log-likelihood", end - early, 2.0, NATS)
    numbers = {"test, at 1/12": early, "test, at the end": end}
    return conclude([check], numbers, e.recipe(["ml_n50000"]))


@claim(
    "C6",
    section="2.2",
    where="Figure 3",
    statement="Trained on 1000 images the model overfits strongly: train and test log-likelihood "
    "end far apart, and much further than with 50 000 images.",
    threshold="gap at least 10 nats and at least 3 times that of N=50000, importance sampling",
)
def _c6(e: Evidence) -> Judgement:
    gap = {n: _likelihood_gap(e, f"ml_n{n}") for n in (1000, 50_000)}
    checks = [
        at_least("gap at N=1000 at least 10", gap[1000], 10.0, NATS),
        at_least("gap at N=1000 at least 3 times N=50000", gap[1000], gap[50_000] * 3.0, NATS),
    ]
    numbers = {f"train - test, N={n}": g for n, g in gap.items()}
    return conclude(checks, numbers, e.recipe(["ml_n1000", "ml_n50000"]))


@claim(
    "C7",
    section="2.2",
    where="Figure 3",
    statement="Trained on 1000 images, the test log-likelihood falls again towards the end.",
    threshold="its maximum over training, smoothed over 1/30 of it, is at least 1 nat above its "
    "end, importance sampling",
)
def _c7(e: Evidence) -> Judgement:
    curves = [_smoothed(c) for c in e.likelihood_curves("ml_n1000", "test", "importance")]
    top = _over_seeds([float(curve.values.max()) for curve in curves])
    end = _over_seeds([curve.last for curve in curves])
    check = at_least("fall from the maximum to the end", top - end, 1.0, NATS)
    return conclude([check], {"maximum": top, "end": end}, e.recipe(["ml_n1000"]))


@claim(
    "C7b",
    section="2.2",
    where="Figure 3",
    statement="The final test log-likelihood is lower with 1000 training images than with 50 000.",
    threshold="by 2 SE, importance sampling",
)
def _c7b(e: Evidence) -> Judgement:
    end = {
        n: _over_seeds([c.last for c in e.likelihood_curves(f"ml_n{n}", "test", "importance")])
        for n in (1000, 50_000)
    }
    check = clearly_above("N=50000 above N=1000", end[50_000], end[1000], NATS)
    numbers = {f"test, N={n}": q for n, q in end.items()}
    return conclude([check], numbers, e.recipe(["ml_n1000", "ml_n50000"]))


@claim(
    "C7c",
    section="6.1.2",
    where="Figure 3",
    statement="A valid estimate of log p(x) is at or above the ELBO of the same images, while the "
    "report's formula stays at or below it.",
    threshold="importance sampling at least the ELBO, and the report's formula at most the ELBO, "
    "for both training sizes on train and test images",
)
def _c7c(e: Evidence) -> Judgement:
    checks: list[Check] = []
    numbers: dict[str, Quantity | float | str] = {}
    for n in (1000, 50_000):
        for split in SPLITS:
            values = {
                estimator: e.likelihood_final(f"ml_n{n}", split, estimator)
                for estimator in ("report", "elbo", "importance")
            }
            # All three are of the same images, so that their differences carry little of the
            # noise of each.
            where = f"{split}, N={n}"
            checks += [
                Check(
                    f"{where}: {high} at or above {low}", values[high].mean - values[low].mean, NATS
                )
                for low, high in (("elbo", "importance"), ("report", "elbo"))
            ]
            numbers |= {f"{k}, {where}": v for k, v in values.items()}
    return conclude(checks, numbers, e.recipe(["ml_n1000", "ml_n50000"]))


@claim(
    "C8",
    section="2.3",
    where="Figure 4",
    statement="Reconstructions get better with the latent dimension: test reconstruction loss "
    "and squared error fall over d = 2, 5, 10, 20.",
    threshold="each step by 2 SE, in both measures",
)
def _c8(e: Evidence) -> Judgement:
    recon, mse = e.quantities(SAMPLED, "test", "recon"), e.quantities(SAMPLED, "test", "mse")
    checks = falling("test recon", recon, NATS) + falling("test squared error", mse, "%")
    numbers = named("test recon", recon) | named("test mse", mse)
    return conclude(checks, numbers, e.recipe(SAMPLED.values()))


@claim(
    "C9",
    section="2.4",
    where="Figure 5",
    statement="Prior samples get blurrier with the latent dimension: their sharpness (gradient "
    "energy) falls over d = 2, 5, 10, 20.",
    threshold="each step by 2 SE",
)
def _c9(e: Evidence) -> Judgement:
    sharpness = e.measured(SAMPLED, "sharpness")
    confidence = e.measured(SAMPLED, "confidence")
    entropy = e.measured(SAMPLED, "entropy")
    falls = all(check.holds for check in falling("confidence", confidence))
    note = (
        f"The classifier's confidence in the samples, the other reading of blurry, "
        f"{'falls' if falls else 'does not fall'} at every step. {e.recipe(SAMPLED.values())}"
    )
    numbers = (
        named("sharpness", sharpness)
        | named("confidence", confidence)
        | named("pixel entropy", entropy)
    )
    return conclude(falling("sharpness", sharpness, "%"), numbers, note)


@claim(
    "C9b",
    section="2.4",
    where="Figure 5",
    statement="That samples get blurrier with the latent dimension is a finding of the original "
    "paper.",
    threshold="citation check",
)
def _c9b(e: Evidence) -> Judgement:
    return stored(
        "fails",
        "Kingma & Welling (arXiv 1312.6114) show samples for d = 2, 5, 10, 20 in their Figure 5 "
        "and say nothing about blur.",
    )


@claim(
    "C10",
    section="2.4",
    where="Figure 5",
    statement="The mismatch between the aggregated posterior and the prior grows with the latent "
    "dimension, the report's first explanation of bad samples.",
    threshold="the KL of a Gaussian fit per dimension, summed, rises by 2 SE at each step of "
    "d = 2, 5, 10, 20",
)
def _c10(e: Evidence) -> Judgement:
    mmd = e.measured(SAMPLED, "mmd")
    kl = e.measured(SAMPLED, "aggregate_kl")
    # The kernel of MMD^2 widens with d, so that the same mismatch in every dimension lowers it.
    note = f"MMD^2 is not comparable between latent dimensions. {e.recipe(SAMPLED.values())}"
    numbers = named("KL of the Gaussian fit", kl) | named("MMD^2", mmd)
    return conclude(rising("KL of the Gaussian fit", kl, NATS), numbers, note)


@claim(
    "C50",
    section="2",
    where="text",
    statement="All results of the original paper were reimplemented.",
    threshold="every figure of Kingma & Welling, with its baselines, has a counterpart",
)
def _c50(e: Evidence) -> Judgement:
    return stored(
        "fails",
        "The report has no wake-sleep curves, no Monte Carlo EM, no Frey Face manifold and no "
        "marginal likelihood by Hamiltonian Monte Carlo (Kingma & Welling, Figures 2 to 4 and "
        "appendices D and E). This project adds them.",
    )


def _over_seeds(values: list[float]) -> Quantity:
    return Quantity.of(values, ASSUMED["log_likelihood"])


def _likelihood_gap(e: Evidence, run: str) -> Quantity:
    train, test = (e.likelihood_curves(run, split, "importance") for split in ("train", "test"))
    return _over_seeds([a.last - b.last for a, b in zip(train, test, strict=True)])


def _smoothed(curve: Curve) -> Curve:
    """Trailing mean over a fixed share of the training."""
    starts = np.searchsorted(curve.samples, curve.samples - SMOOTHING * curve.end, side="right")
    values = [curve.values[a : i + 1].mean() for i, a in enumerate(starts)]
    return Curve(curve.samples, np.array(values))
