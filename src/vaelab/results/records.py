"""What the JSON files of a run and of a preset hold, as types. Losses are nats per image.

The runner writes metrics.json and provenance.json of each run, the measures write measures.json,
and the search writes decisions.json. Their readers use these types.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NotRequired, TypedDict

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")

# The losses of `Losses` and of history.csv; mse, embedding and perplexity are per pixel or code.
Loss = Literal["recon", "kl", "neg_elbo", "objective", "mse", "nll", "embedding", "perplexity"]
LossError = Literal["recon_se", "neg_elbo_se", "nll_se"]
# The standard error over images of a loss, where one is measured.
ERRORS: dict[Loss, LossError] = {"recon": "recon_se", "neg_elbo": "neg_elbo_se", "nll": "nll_se"}


class Losses(TypedDict, total=False):
    """Means over the images of one split; `<loss>_se` is the standard error over images.

    A VAE has recon, kl, neg_elbo, objective and mse, on the test set also nll. A VQ-VAE has
    objective, mse, embedding and perplexity.
    """

    recon: float
    recon_se: float
    kl: float
    neg_elbo: float
    neg_elbo_se: float
    objective: float
    mse: float
    embedding: float
    perplexity: float
    images: int
    z_samples: int
    nll: float
    nll_se: float
    nll_images: int
    nll_z_samples: int


class FlatSpec(TypedDict, total=False):
    """A run's specification as the files have it: the fields of `RunSpec.flat`."""

    dataset: str
    train_subset: int | None
    model: str
    hidden: list[int]
    latent_dim: int
    beta: float
    condition: str
    method: str
    optimizer: str
    learning_rate: float
    init: str
    schedule: str


class Measured(TypedDict):
    """What an evaluation finds of a trained model."""

    parameters: int
    image_shape: list[int]
    train: Losses
    test: Losses
    kl_per_dim: NotRequired[list[float]]
    active_units: NotRequired[int]


class Metrics(Measured):
    """metrics.json of a run."""

    run: str
    name: str
    seed: int
    preset: str
    spec: FlatSpec
    samples: int
    evaluation: str


class DatasetRecord(TypedDict):
    """The data that a run was trained on."""

    name: str
    sha256: str
    synthetic: bool


class GitState(TypedDict):
    """The checkout that a run was trained with; both None outside a checkout."""

    revision: str | None
    dirty: bool | None


class Move(TypedDict):
    """At how many samples a training went on from a state of another device or precision."""

    samples: int
    device: str
    precision: str


class Provenance(TypedDict):
    """provenance.json of a run. Seconds are the training's own, the wall clock's, the cores'."""

    run: str
    fingerprint: str
    checkpoint_sha256: str
    files: NotRequired[dict[str, str]]
    spec: FlatSpec
    seed: int
    dataset: DatasetRecord
    git: GitState
    versions: dict[str, str]
    device: str
    precision: str
    left_out: NotRequired[str]
    moves: NotRequired[list[Move]]
    threads: int
    samples: int
    train_seconds: float
    wall_seconds: float
    core_seconds: float
    evaluate_seconds: NotRequired[float]


class FittedLikelihood(TypedDict):
    """An entry of nll.json: -log p(x), nats; how much higher it is from the encoder's draws."""

    nll: float
    nll_se: float
    encoder_excess: float
    encoder_excess_se: float
    images: int
    z_samples: int


class Reference(TypedDict, total=False):
    """Measures of the real images."""

    fid: float
    confidence: float
    sharpness: float
    entropy: float
    pixel_variance: float
    constant_image_recon: float
    constant_pixels: int
    mig_ceiling: float
    gaussian_floor: dict[str, float]


class Judged(TypedDict, total=False):
    """Measures of a dataset's classifier and of its real images."""

    classifier: dict[str, float]
    reference: Reference


class Measures(Judged, total=False):
    """measures.json: of the digits, of other labelled datasets, and of every run, one a seed.

    `ids` are the runs' ids in the order of their seeds; older files have those of the settings.
    """

    datasets: dict[str, Judged]
    runs: dict[str, list[dict[str, float]]]
    ids: dict[str, list[str]]


class SearchAnswer(TypedDict):
    """What the search ended with; without `architecture` it goes on, with None it found nothing."""

    finished: bool
    architecture: NotRequired[Sequence[int] | None]
    run: NotRequired[str | None]
    reason: NotRequired[str]


class SearchDecision(TypedDict):
    """A verdict of the search and what followed.

    Attributes:
        phase: what was being decided, a `vaelab.search.algorithm.Phase`.
        recon: mean over seeds, nats per image; as kl.
        good: both thresholds are met; `passed`: the phase's own criterion is.
        layer: layer being searched, from 1; 0 for an upper bound.
        interval: widths possible before the verdict, both ends included.
        narrowed: widths left to try after it; if none is left, the first exceeds the second.
        reused: the search has met this architecture before, so nothing was trained for it.
        reason: the verdict in words.
    """

    run: str
    step: int
    phase: str
    architecture: Sequence[int]
    recon: float
    kl: float
    good: bool
    passed: bool
    layer: int
    interval: Sequence[int]
    narrowed: Sequence[int]
    reused: bool
    reason: str


class SearchProbe(TypedDict):
    """A network that the search measured, with the errors of its losses."""

    run: str
    architecture: Sequence[int]
    seeds: int
    recon: float
    recon_se: float
    recon_fit: NotRequired[float]
    kl: float
    kl_se: float
    good: bool
    flip_probability: float


class SearchedAnswer(TypedDict):
    """How often the repeated search ended with an architecture."""

    architecture: Sequence[int] | None
    probability: float


class SearchDistribution(TypedDict):
    """The search repeated with networks trained anew.

    `undetermined` is the share of repeats that needed a depth or a layer without measurements;
    `intervals` are 90 % of the widths, layer by layer, at the depth of the most frequent answer.
    """

    repeats: int
    undetermined: float
    distinct: int
    answers: list[SearchedAnswer]
    intervals: NotRequired[list[list[int]]]


class AnswerLine(TypedDict):
    """Train recon against the logarithm of one width of the answer, by a straight line.

    `networks` is the answer with None at that layer; `points` are pairs of width and recon, one a
    training; `band` has width, recon, and the limits for a further training. Between `low` and
    `high` the line may meet the threshold; None where that end is open.
    """

    layer: int
    networks: list[int | None]
    points: list[list[float]]
    sd: float
    df: int
    level: float
    crossing: float | None
    low: int | None
    high: int | None
    band: list[list[float]]


class SearchMonotonicity(TypedDict):
    """Pairs of networks that contradict the report's assumption 5.1."""

    architectures: int
    pairs: int
    recon: list[dict[str, Any]]
    kl: list[dict[str, Any]]
    recon_ties: int
    kl_ties: int


class Decisions(TypedDict):
    """decisions.json: the log of the search. `wasted` are names of runs."""

    settings: dict[str, Any]
    noise: dict[str, dict[str, float]]
    answer: SearchAnswer
    decisions: list[SearchDecision]
    probes: list[SearchProbe]
    needed: int
    wasted: list[str]
    distribution: SearchDistribution
    line: NotRequired[AnswerLine | None]
    monotonicity: SearchMonotonicity
