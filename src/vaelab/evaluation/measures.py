"""Numbers that the report lacks: how good generations are, and what latent codes hold.

Pure functions of arrays, without torch: images arrive as uint8 grey values, a classifier as
`Classified` results. `measure_runs` applies them to all runs of a preset and returns the
content of measures.json.

Frechet distances are computed on 64 features of a digit classifier, not on Inception's, and
on n generated images. Their finite-sample bias, about proportional to 1 / n, makes all of them
too large by nearly the same amount: compare them with each other and with the floor that as
many real images reach (`reference`), not with the literature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from vaelab.data import Dataset
from vaelab.data.registry import DIGITS
from vaelab.evaluation.factors import ceiling, disentanglement, measure_factors
from vaelab.results.reader import Arrays, Results
from vaelab.results.records import Measures

NEIGHBOURS = 10
# Variance floors, in units of squared [0, 1] pixels, for `gaussian_floor_losses`.
VARIANCE_FLOORS = (1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12)
# Features for precision and recall, neighbours that bound the manifold (Kynkaanniemi et al. 2019).
MANIFOLD_SIZE, MANIFOLD_NEIGHBOURS = 2000, 3
# Codes for `prior_auc`, half of them fitted, and neighbours that vote.
TWO_SAMPLE_SIZE, TWO_SAMPLE_NEIGHBOURS = 5000, 20
_ROWS = 1000
# What two classifiers measure differently.
CLASSIFIED = {
    f"{key}{uniform}"
    for key in ("fid", "precision", "recall", "confidence", "label_agreement")
    for uniform in ("", "_uniform")
}


@dataclass(frozen=True)
class Classified:
    """What a classifier says about N images.

    Attributes:
        probabilities: class probabilities, float64 (N, classes).
        features: penultimate activations, float64 (N, F).
    """

    probabilities: np.ndarray
    features: np.ndarray


# From uint8 images (N, P).
Classify = Callable[[np.ndarray], Classified]


@dataclass(frozen=True)
class Gaussian:
    """Mean (F,) and covariance (F, F) of a set of features."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray) -> Gaussian:
        """Sample mean and unbiased covariance of features (N, F), in float64."""
        features = np.asarray(features, dtype=np.float64)
        return cls(features.mean(0), np.atleast_2d(np.cov(features, rowvar=False)))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2) (Heusel et al. 2017).

    The symmetric product has the eigenvalues of C_a C_b but, unlike it, a symmetric root: no
    complex parts appear, and singular covariances (features that are never active) are fine.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(min=0.0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ b.covariance @ root).clip(min=0.0)
    means = np.square(a.mean - b.mean).sum()
    traces = np.trace(a.covariance) + np.trace(b.covariance)
    return float(max(means + traces - 2.0 * np.sqrt(cross).sum(), 0.0))


def confidence(probabilities: np.ndarray) -> float:
    """Mean over images of the largest class probability, 0.1 to 1."""
    return float(probabilities.max(-1).mean())


def label_agreement(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Share of images that the classifier takes for the digit they were asked to be."""
    return float((probabilities.argmax(-1) == labels).mean())


def sharpness(images: np.ndarray, shape: tuple[int, int]) -> float:
    """Mean squared difference of neighbouring pixels of uint8 images (N, P), in [0, 1] units.

    Horizontal and vertical neighbours count alike. Blur lowers it.
    """
    grey = (images.astype(np.float32) / 255.0).reshape(-1, *shape)
    down, right = np.diff(grey, axis=1), np.diff(grey, axis=2)
    total = np.square(down, dtype=np.float64).sum() + np.square(right, dtype=np.float64).sum()
    return float(total / (down.size + right.size))


def pixel_entropy(images: np.ndarray) -> float:
    """Mean entropy of pixels read as Bernoulli means, nats per pixel, at most log 2.

    The second view on blur: an undecided decoder gives grey pixels.
    """
    levels = np.arange(256) / 255.0
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -(levels * np.log(levels) + (1.0 - levels) * np.log1p(-levels))
    entropy[[0, -1]] = 0.0
    counts = np.bincount(images.ravel(), minlength=256)
    return float(counts @ entropy / images.size)


def pixel_variance(images: np.ndarray) -> float:
    """Variance across uint8 images (N, P), in [0, 1] units, averaged over pixels.

    Zero when a decoder ignores z and gives the same image every time.
    """
    return float(_variances(images).mean())


@dataclass(frozen=True)
class Manifold:
    """A set of features (N, F) and what lies near it: within the N distances to k-th neighbours."""

    features: np.ndarray
    radii: np.ndarray

    @classmethod
    def around(cls, features: np.ndarray) -> Manifold:
        """The manifold of at most `MANIFOLD_SIZE` features, evenly spaced among those given."""
        features = np.asarray(features, np.float64)[:: -(-len(features) // MANIFOLD_SIZE)]
        # The nearest of all is the feature itself.
        distances = np.sqrt(_squared_distances(features, features))
        nearest = min(MANIFOLD_NEIGHBOURS, len(features) - 1)
        return cls(features, np.partition(distances, nearest, axis=1)[:, nearest])

    def share_within(self, other: Manifold) -> float:
        """Share of these features that lie on another manifold."""
        distances = np.sqrt(_squared_distances(self.features, other.features))
        return float((distances <= other.radii).any(1).mean())


def prior_auc(codes: np.ndarray, rng: np.random.Generator) -> float:
    """How well a classifier tells codes (N, d) from draws of N(0, I): the area under its ROC.

    A classifier two-sample test (Lopez-Paz and Oquab 2017) of the aggregated posterior: 0.5 if it
    is the prior. The score is the share of codes among the nearest neighbours of a point; it is
    fitted to every other image and scored on the rest.
    """
    chosen = codes[:: -(-len(codes) // TWO_SAMPLE_SIZE)].astype(np.float64)
    prior = rng.standard_normal(chosen.shape)
    fitted = np.concatenate([chosen[::2], prior[::2]])
    scores = []
    for queries in (chosen[1::2], prior[1::2]):
        distances = _squared_distances(queries, fitted)
        nearest = np.argpartition(distances, TWO_SAMPLE_NEIGHBOURS, axis=1)
        scores.append((nearest[:, :TWO_SAMPLE_NEIGHBOURS] < len(chosen[::2])).mean(1))
    ranks = rankdata(np.concatenate(scores))[: len(scores[0])]
    size = len(scores[0])
    return float((ranks.mean() - (size + 1) / 2.0) / size)


def knn_accuracy(
    codes: np.ndarray,
    labels: np.ndarray,
    queries: np.ndarray,
    query_labels: np.ndarray,
    k: int = NEIGHBOURS,
) -> float:
    """Share of queries (M, d) whose k nearest codes (N, d) vote for their label.

    Euclidean distance; ties go to the smaller digit.
    """
    codes, queries = codes.astype(np.float64), queries.astype(np.float64)
    correct = 0
    for start in range(0, len(queries), _ROWS):
        block = queries[start : start + _ROWS]
        distances = _squared_distances(block, codes)
        nearest = labels[np.argpartition(distances, k - 1, axis=1)[:, :k]]
        votes = (nearest[:, :, None] == np.arange(labels.max() + 1)).sum(1)
        correct += int((votes.argmax(-1) == query_labels[start : start + _ROWS]).sum())
    return correct / len(queries)


def gaussian_label_accuracy(
    codes: np.ndarray, labels: np.ndarray, queries: np.ndarray, query_labels: np.ndarray
) -> float:
    """Accuracy of a classifier from z to label: one Gaussian per digit (quadratic discriminant).

    It sees whether means or covariances of z differ between digits. A covariance from n codes in
    d dimensions is shrunk towards the pooled variances by d / (d + n), so that 200 dimensions
    need no more codes than 2.
    """
    codes, queries = codes.astype(np.float64), queries.astype(np.float64)
    pooled = np.diag(codes.var(0) + 1e-12)
    classes = np.unique(labels)
    scores = np.empty((len(queries), len(classes)))
    for column, digit in enumerate(classes):
        own = codes[labels == digit]
        covariance = np.atleast_2d(np.cov(own, rowvar=False, bias=True))
        shrinkage = own.shape[1] / (own.shape[1] + len(own))
        covariance = (1.0 - shrinkage) * covariance + shrinkage * pooled
        factor = np.linalg.cholesky(covariance)
        residual = np.linalg.solve(factor, (queries - own.mean(0)).T)
        log_determinant = 2.0 * np.log(np.diag(factor)).sum()
        log_prior = np.log(len(own) / len(codes))
        scores[:, column] = log_prior - 0.5 * (np.square(residual).sum(0) + log_determinant)
    return float((classes[scores.argmax(-1)] == query_labels).mean())


def majority_accuracy(labels: np.ndarray, query_labels: np.ndarray) -> float:
    """Accuracy of always answering the most frequent label: what knowing z must beat."""
    return float((query_labels == np.bincount(labels).argmax()).mean())


def aggregate_kl(mean: np.ndarray, log_var: np.ndarray) -> np.ndarray:
    """KL(N(m_j, v_j) || N(0, 1)) per dimension (d,), nats: a Gaussian fit of all codes at once.

    m_j and v_j are the moments of the aggregated posterior, exactly: mean of the posterior
    means, and variance of the means plus mean of the variances.

    Args:
        mean: posterior means (N, d).
        log_var: posterior log-variances (N, d).
    """
    mean = mean.astype(np.float64)
    variance = mean.var(0) + np.exp(log_var.astype(np.float64)).mean(0)
    kl: np.ndarray = 0.5 * (np.square(mean.mean(0)) + variance - 1.0 - np.log(variance))
    return kl


def constant_image_recon(train_images: np.ndarray, test_images: np.ndarray) -> float:
    """Bernoulli loss of the best decoder that ignores z, nats per image on the test images.

    It always answers the mean training image. Half an observation of each colour keeps the
    loss finite where a pixel is black in all training images but not in every test image.
    """
    count = len(train_images)
    mean = (train_images.sum(0, dtype=np.float64) / 255.0 + 0.5) / (count + 1.0)
    target = test_images.sum(0, dtype=np.float64) / 255.0 / len(test_images)
    return float(-(target * np.log(mean) + (1.0 - target) * np.log1p(-mean)).sum())


def constant_pixels(images: np.ndarray) -> int:
    """Number of pixels with one and the same value in all images (N, P)."""
    return int((images.min(0) == images.max(0)).sum())


def gaussian_floor_losses(images: np.ndarray) -> dict[str, float]:
    """Least -log density of images (N, P) under one Gaussian per pixel, nats per image.

    Means and variances are the maximum-likelihood ones, variances not below a floor; one loss
    for each of `VARIANCE_FLOORS`. A decoder with a learned variance per pixel can do at least as
    well by ignoring z; where pixels are constant the loss therefore falls without end as the
    floor goes to 0.
    """
    variance = _variances(images)
    losses = {}
    for floor in VARIANCE_FLOORS:
        floored = np.maximum(variance, floor)
        loss = 0.5 * (np.log(2.0 * np.pi * floored) + variance / floored).sum()
        losses[f"{floor:.0e}"] = float(loss)
    return losses


def sampled_codes(arrays: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """One draw of z per test image (N, d) from the stored posteriors."""
    mean = arrays["test_mean"].astype(np.float64)
    deviation = np.exp(0.5 * arrays["test_log_var"].astype(np.float64))
    return mean + deviation * rng.standard_normal(mean.shape)


@dataclass(frozen=True)
class Reference:
    """What the generations of a dataset's models are compared with.

    Attributes:
        classify: the classifier of its images.
        shape: height and width of an image.
        features: Gaussian fit of the test images' features.
        manifold: where they lie, for precision and recall.
        numbers: the same measures of real images, and what the data alone determine.
        test_accuracy: of the classifier.
        factors: of variation, measured on the test images that runs are evaluated on; digits only.
    """

    classify: Classify
    shape: tuple[int, int]
    features: Gaussian
    manifold: Manifold
    numbers: dict[str, Any]
    test_accuracy: float
    factors: Mapping[str, np.ndarray]


def reference(
    classify: Classify, data: Dataset, generated: int, evaluated: int | None = None
) -> Reference:
    """Measure the real images once.

    Args:
        classify: the classifier.
        data: a labelled dataset. Some of its training images stand in for generations, its test
            images are what those are compared with.
        generated: images that a run generates, and that stand in for them.
        evaluated: the first test images that runs are evaluated on, if not all.
    """
    train_images, test_images = data.train_images, data.test_images
    assert data.test_labels is not None
    test = classify(test_images)
    fit, manifold = Gaussian.fit(test.features), Manifold.around(test.features)
    # Evenly spaced: the order of the training images follows their writers.
    real = train_images[:: max(1, len(train_images) // generated)][:generated]
    numbers = {
        "fid": frechet_distance(Gaussian.fit(classify(real).features), fit),
        "confidence": confidence(test.probabilities),
        "sharpness": sharpness(test_images, data.image_shape),
        "entropy": pixel_entropy(test_images),
        "pixel_variance": pixel_variance(test_images),
        "constant_image_recon": constant_image_recon(train_images, test_images),
        "constant_pixels": constant_pixels(train_images),
        "gaussian_floor": gaussian_floor_losses(train_images),
    }
    factors = (
        measure_factors(test_images[:evaluated], data.image_shape) if data.name == DIGITS else {}
    )
    if factors:
        numbers["mig_ceiling"] = ceiling(factors)
    accuracy = label_agreement(test.probabilities, data.test_labels)
    return Reference(classify, data.image_shape, fit, manifold, numbers, accuracy, factors)


def measure_generation(
    images: np.ndarray, labels: np.ndarray | None, real: Reference
) -> dict[str, float]:
    """Measures of generated images (N, P); `labels` are the conditions asked for, if any."""
    result = real.classify(images)
    manifold = Manifold.around(result.features)
    measured = {
        "fid": frechet_distance(Gaussian.fit(result.features), real.features),
        "precision": manifold.share_within(real.manifold),
        "recall": real.manifold.share_within(manifold),
        "confidence": confidence(result.probabilities),
        "sharpness": sharpness(images, real.shape),
        "entropy": pixel_entropy(images),
        "pixel_variance": pixel_variance(images),
    }
    if labels is not None:
        measured["label_agreement"] = label_agreement(result.probabilities, labels)
    return measured


def measure_codes(arrays: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Measures of a VAE's latent codes, from the arrays of its run.

    Codes are sampled, not means, as in the report's Figure 13. Labels are predicted on test
    codes: by the nearest of the 1000 training codes that the figure shows, and by a classifier
    fitted to every other test code and scored on the rest.
    """
    rng = np.random.default_rng(0)
    codes, labels = sampled_codes(arrays, rng), arrays["test_labels"]
    fitted, scored = (codes[::2], labels[::2]), (codes[1::2], labels[1::2])
    return {
        "knn_accuracy": knn_accuracy(arrays["train_codes"], arrays["train_labels"], codes, labels),
        "z_to_label_accuracy": gaussian_label_accuracy(*fitted, *scored),
        "majority_accuracy": majority_accuracy(fitted[1], scored[1]),
        "prior_auc": prior_auc(codes, rng),
        "aggregate_kl": float(aggregate_kl(arrays["test_mean"], arrays["test_log_var"]).sum()),
    }


def measure_run(arrays: Mapping[str, np.ndarray], real: Reference) -> dict[str, float]:
    """All measures that the arrays of one run on labelled images allow."""
    conditional = "generated_labels" in arrays
    labels = arrays["generated_labels"] if conditional else None
    measured = measure_generation(arrays["generated"], labels, real)
    if "generated_uniform" in arrays:
        uniform = measure_generation(arrays["generated_uniform"], None, real)
        measured |= {f"{key}_uniform": value for key, value in uniform.items()}
    if "test_mean" in arrays:
        measured |= measure_codes(arrays)
        # A model without an encoder is evaluated on fewer images, the first.
        factors = {k: v[: len(arrays["test_mean"])] for k, v in real.factors.items()}
        if factors:
            measured |= disentanglement(arrays["test_mean"], arrays["test_log_var"], factors)
    return measured


def measure_runs(
    results: Results, references: Mapping[str, Reference], before: Measures | None = None
) -> dict[str, Any]:
    """The content of measures.json: runs on labelled images, every seed on record.

    Of the search's networks only the answer is measured, beside those of the run table. Names that
    share a training share its measures, computed once. Seeds whose arrays are not at hand keep the
    measures that they have. If these rest on another classifier, what was measured by it is not
    measured anew: such numbers cannot be compared.

    Args:
        results: the runs.
        references: by dataset, that of the digits first.
        before: the file as it is.
    """
    before = before or Measures()
    kept = _on_record(before, results.alias)
    answer = results.decisions["answer"].get("run") if results.decisions else None
    anew: dict[str, dict[str, float]] = {}
    ids: dict[str, list[str]] = {}
    for name in filter(results.has, sorted({*results.alias, *([answer] if answer else [])})):
        real = references.get(results.metrics(name)[0]["spec"]["dataset"])
        if real is None:
            continue
        for run_id in (seed["run"] for seed in results.recorded(name)):
            path = results.folder / "runs" / run_id / "arrays.npz"
            if run_id not in anew and path.is_file():
                anew[run_id] = measure_run(Arrays(path), real)
            if run_id in anew or run_id in kept:
                ids.setdefault(name, []).append(run_id)
    digits, *others = (
        {"classifier": {"test_accuracy": real.test_accuracy}, "reference": real.numbers}
        for real in references.values()
    )
    staying = [numbers for run_id, numbers in kept.items() if run_id not in anew]
    if staying and digits["classifier"] != before.get("classifier"):
        taken = CLASSIFIED & {key for numbers in staying for key in numbers}
        anew = {i: {k: v for k, v in n.items() if k not in taken} for i, n in anew.items()}
        old = {**before.get("reference", {})}
        digits = {"classifier": before["classifier"], "reference": digits["reference"] | old}
    numbers = kept | anew
    runs = {name: [numbers[run_id] for run_id in found] for name, found in ids.items()}
    measured: dict[str, Any] = digits | {"runs": runs, "ids": ids}
    if others:
        measured["datasets"] = dict(zip(list(references)[1:], others, strict=True))
    return measured


def _on_record(before: Measures, alias: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    """The numbers of an earlier measures.json by run id; an old file does not give the ids."""
    ids = before.get("ids", {})
    return {
        run_id: numbers
        for name, seeds in before.get("runs", {}).items()
        for run_id, numbers in zip(ids.get(name) or alias.get(name, ()), seeds, strict=False)
    }


def _variances(images: np.ndarray) -> np.ndarray:
    """Variance of each pixel (P,) over uint8 images (N, P), in [0, 1] units.

    From integer sums, so that a constant pixel has a variance of exactly 0.
    """
    count = len(images)
    total = images.sum(0, dtype=np.int64)
    squares = np.square(images, dtype=np.uint16).sum(0, dtype=np.int64)
    variance: np.ndarray = (count * squares - np.square(total)) / (count * 255.0) ** 2
    return variance


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a_i - b_j|^2, (N, M), not below 0."""
    squares = np.square(a).sum(-1)[:, None] + np.square(b).sum(-1)
    distances: np.ndarray = np.maximum(squares - 2.0 * (a @ b.T), 0.0)
    return distances
