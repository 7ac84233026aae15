"""The search for the minimal architecture (report, section 5) as a pure state machine.

An architecture is the report's h = [h1, ..., hn]: hidden widths in encoder order, then the
latent dimension; n is its depth. An architecture is good if recon and kl of its trained model
are both at most their thresholds. What to train next is a function of the measurements so far.
So the search can stop anywhere, continue from what is on disk, and be replayed on the report's
numbers.

For depths n = n_min, n_min + 1, ...:

1. Upper bound. Measure U = [width_max, ..., width_max, latent_max]. If its recon is above the
   threshold, no smaller model reaches the threshold either (assumption 5.1): next depth.
2. Shrink, only if U's kl is above the threshold. The report only says that this mirrors
   Algorithm 1. Here a mirrored binary search looks for the largest value of a layer whose kl
   passes. It starts from U with the latent dimension and goes left. A layer in which even 1
   fails stays at 1. The first layer with a passing value ends this pass: the layers left of it
   may keep their bound. The layers right of it, which are at 1, are then raised in order, each
   up to its own bound or its left neighbour. If kl is monotone, the result m is the
   lexicographically largest architecture that passes, hence also maximal in each coordinate.
3. Minimise (Algorithm 1). From h = m: find the smallest good latent dimension in [1, m_n], then
   for i = n - 1, ..., 1 the smallest good width in [h_{i+1}, m_i]; the layers left of i stay
   at m. Bounds are inclusive and the middle is rounded down. With these conventions the search
   reproduces the report's Table 2.

With a resolution r above 1, phase 3 settles widths coarsely: the search of a layer ends when
fewer than r candidates are left. The result is the smallest good width found so far, or the
upper bound, which is good too. The latent layer is always settled exactly.

If a layer has no good value, the whole search ends with "not found", as the report's does. (This
includes the latent layer, which Algorithm 1 forgets to check.) Deeper models are tried only if
monotonicity has ruled out a depth. In phase 3 a layer without a good value can only be the
latent one, and only if m is not good: every later layer ends at the upper bound of its interval
at the latest, and that model is the one the previous layer has found good.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean
from typing import NamedTuple

from vaelab.results.records import Metrics, SearchDecision, Split
from vaelab.settings.config import SearchSettings
from vaelab.util.errors import VaelabError

Architecture = tuple[int, ...]


def run_name(architecture: Architecture) -> str:
    """Name of the run that trains an architecture: (500, 500, 3) -> arch_500_500_3."""
    return "_".join(["arch", *map(str, architecture)])


def architecture_of(run: str) -> Architecture:
    """The inverse of `run_name`: arch_500_500_3 -> (500, 500, 3)."""
    return tuple(int(width) for width in run.removeprefix("arch_").split("_"))


def brackets(architecture: Architecture) -> str:
    """The report's notation: (500, 500, 3) -> [500, 500, 3]."""
    return str(list(architecture))


@dataclass(frozen=True)
class Measurement:
    """What the trained models of one architecture reach, one value per seed.

    Attributes:
        recon_values: reconstruction losses, nats per image.
        kl_values: KL losses, nats per image.

    Raises:
        VaelabError: no values, unequally many, or one that is not finite.
    """

    recon_values: tuple[float, ...]
    kl_values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.recon_values or len(self.recon_values) != len(self.kl_values):
            raise VaelabError("a measurement needs recon and kl of the same seeds, at least one")
        if not all(map(math.isfinite, (*self.recon_values, *self.kl_values))):
            raise VaelabError(
                f"recon {self.recon_values}, kl {self.kl_values}: a training has diverged; "
                "the search cannot judge it"
            )

    @classmethod
    def from_metrics(cls, metrics: Iterable[Metrics], split: Split) -> Measurement:
        """From the metrics.json of every seed, on the split that the thresholds apply to."""
        parts = [seed[split] for seed in metrics]
        return cls(tuple(p["recon"] for p in parts), tuple(p["kl"] for p in parts))

    @property
    def recon(self) -> float:
        """Mean recon over seeds, which verdicts use."""
        return fmean(self.recon_values)

    @property
    def kl(self) -> float:
        """Mean kl over seeds, which verdicts use."""
        return fmean(self.kl_values)


class Verdict(NamedTuple):
    """Which of the two thresholds an architecture meets."""

    recon_ok: bool
    kl_ok: bool

    @property
    def good(self) -> bool:
        """Both, as definition 5.1 requires."""
        return self.recon_ok and self.kl_ok


def judge(measurement: Measurement, settings: SearchSettings) -> Verdict:
    """Compare the means with the thresholds, inclusively."""
    return Verdict(measurement.recon <= settings.recon, measurement.kl <= settings.kl)


class Phase(StrEnum):
    """What a probe decides."""

    UPPER_BOUND = "upper bound"
    SHRINK = "shrink"
    MINIMISE = "minimise"

    def passed(self, verdict: Verdict) -> bool:
        """Whether the criterion of the phase holds: recon, kl, or both."""
        if self is Phase.UPPER_BOUND:
            return verdict.recon_ok
        return verdict.kl_ok if self is Phase.SHRINK else verdict.good


# The verdicts that lead to different next steps; used to look ahead.
_OUTCOMES = {
    Phase.UPPER_BOUND: (Verdict(False, True), Verdict(True, True), Verdict(True, False)),
    Phase.SHRINK: (Verdict(True, True), Verdict(False, True), Verdict(True, False)),
    Phase.MINIMISE: (Verdict(True, True), Verdict(False, True)),
}


@dataclass(frozen=True)
class Question:
    """One verdict that the search needs: `architecture` is the middle of [lo, hi] at `layer`.

    Layers count from 1; layer n is the latent one. An upper bound belongs to no layer: its layer
    is 0 and its interval [0, 0].
    """

    phase: Phase
    architecture: Architecture
    layer: int = 0
    lo: int = 0
    hi: int = 0

    def narrowed(self, verdict: Verdict) -> tuple[int, int]:
        """The interval after the verdict; empty (lo > hi) if the layer is settled."""
        if self.phase is Phase.UPPER_BOUND:
            return self.lo, self.hi
        middle = self.architecture[self.layer - 1]
        # Minimise looks for the smallest width, so a pass moves down. Shrink looks for the
        # largest, so a pass moves up.
        if self.phase.passed(verdict) == (self.phase is Phase.MINIMISE):
            return self.lo, middle - 1
        return middle + 1, self.hi


@dataclass(frozen=True)
class Answer:
    """The end of a search: the minimal architecture, or None and the reason."""

    architecture: Architecture | None
    reason: str


_Walk = Generator[Question, Verdict, Answer]


def _with(architecture: Architecture, layer: int, width: int) -> Architecture:
    return (*architecture[: layer - 1], width, *architecture[layer:])


def _search_layer(
    phase: Phase, around: Architecture, layer: int, lo: int, hi: int, resolution: int = 1
) -> Generator[Question, Verdict, int | None]:
    """Binary search over one layer until fewer than `resolution` widths are left to try.

    Returns:
        The last width that passed, or None.
    """
    found = None
    while hi - lo + 1 >= resolution:
        middle = (lo + hi) // 2
        question = Question(phase, _with(around, layer, middle), layer, lo, hi)
        verdict = yield question
        if question.phase.passed(verdict):
            found = middle
        lo, hi = question.narrowed(verdict)
    return found


def _shrink(upper: Architecture) -> Generator[Question, Verdict, Architecture | None]:
    """Phase 2: the largest architecture below `upper` whose kl passes."""
    current = upper
    for layer in range(len(upper), 0, -1):
        width = yield from _search_layer(Phase.SHRINK, current, layer, 1, upper[layer - 1])
        current = _with(current, layer, width or 1)
        if width is not None:
            break
    else:
        return None
    for later in range(layer + 1, len(upper) + 1):
        highest = min(upper[later - 1], current[later - 2])
        width = yield from _search_layer(Phase.SHRINK, current, later, 1, highest)
        # Width 1 is `current` itself, which has passed.
        current = _with(current, later, width or 1)
    return current


def _minimise(largest: Architecture, resolution: int) -> _Walk:
    """Phase 3: Algorithm 1 below `largest`."""
    current, lower, latent = largest, 1, len(largest)
    for layer in range(latent, 0, -1):
        upper = largest[layer - 1]
        width = yield from _search_layer(
            Phase.MINIMISE, current, layer, lower, upper, 1 if layer == latent else resolution
        )
        if width is None and layer < latent and resolution > 1:
            # Not tried, but the previous layer has found this very model good.
            width = upper
        if width is None:
            around = ", ".join(
                "h" if i == layer else str(w) for i, w in enumerate(current, start=1)
            )
            return Answer(
                None,
                f"layer {layer}: [{around}] is not good for any h from {lower} to {upper}",
            )
        current, lower = _with(current, layer, width), width
    within = f" to within {resolution}" if resolution > 1 else ""
    return Answer(current, f"smallest good width{within} in every layer below {brackets(largest)}")


def _walk(settings: SearchSettings) -> _Walk:
    """The whole search: yields the verdict it needs next, returns the answer."""
    for depth in range(settings.n_min, settings.n_max + 1):
        # The constraint h_{i+1} <= h_i binds the latent dimension as well.
        latent = settings.latent_max if depth == 1 else min(settings.latent_max, settings.width_max)
        upper = (settings.width_max,) * (depth - 1) + (latent,)
        verdict = yield Question(Phase.UPPER_BOUND, upper)
        if not verdict.recon_ok:
            continue
        largest = upper if verdict.kl_ok else (yield from _shrink(upper))
        if largest is None:
            return Answer(None, f"depth {depth}: kl stays above {settings.kl:g} at every width")
        return (yield from _minimise(largest, settings.resolution))
    return Answer(
        None,
        f"depths {settings.n_min} to {settings.n_max}: recon of the largest model is above "
        f"{settings.recon:g}",
    )


def follow(
    settings: SearchSettings, lookup: Callable[[Architecture], Verdict | None]
) -> tuple[list[tuple[Question, Verdict]], Question | Answer]:
    """Walk the decision tree as far as verdicts are known.

    Args:
        settings: bounds and thresholds.
        lookup: the verdict on an architecture, or None where there is none.

    Returns:
        The questions met so far with their verdicts, in order; then the first question without
        a verdict, or the answer.
    """
    met: list[tuple[Question, Verdict]] = []
    walk = _walk(settings)
    try:
        question = next(walk)
        while (verdict := lookup(question.architecture)) is not None:
            met.append((question, verdict))
            question = walk.send(verdict)
    except StopIteration as stop:
        return met, stop.value
    walk.close()
    return met, question


@dataclass(frozen=True)
class Step:
    """What to do next: train `probes` (the needed one first). If there are none, see `answer`."""

    probes: tuple[Architecture, ...]
    answer: Answer | None


def _verdicts(
    settings: SearchSettings, measurements: Mapping[Architecture, Measurement]
) -> dict[Architecture, Verdict]:
    return {a: judge(m, settings) for a, m in measurements.items()}


def next_step(settings: SearchSettings, measurements: Mapping[Architecture, Measurement]) -> Step:
    """The next probes or the answer, given everything measured so far.

    The first probe is the one that the search needs. With `settings.speculate` = k, the probes
    of the next k levels of the decision tree follow, nearest level first. Whatever the verdicts
    will be, the next k + 1 needed probes are among them. Extra measurements are only looked up,
    so neither the answer nor the sequence of needed probes depends on k.
    """
    branches: list[dict[Architecture, Verdict]] = [_verdicts(settings, measurements)]
    probes: dict[Architecture, None] = {}
    for _ in range(settings.speculate + 1):
        ahead: list[dict[Architecture, Verdict]] = []
        for known in branches:
            _, end = follow(settings, known.get)
            if isinstance(end, Answer):
                if not probes:
                    return Step((), end)
                continue
            probes[end.architecture] = None
            ahead += [known | {end.architecture: v} for v in _OUTCOMES[end.phase]]
        branches = ahead
    return Step(tuple(probes), None)


def decision_log(
    settings: SearchSettings, measurements: Mapping[Architecture, Measurement]
) -> list[SearchDecision]:
    """Every decision that the measurements allow, in order, also before the search is over."""
    met, _ = follow(settings, _verdicts(settings, measurements).get)
    decisions: list[SearchDecision] = []
    seen: set[Architecture] = set()
    for step, (question, verdict) in enumerate(met, start=1):
        probe = question.architecture
        decisions.append(
            {
                "run": run_name(probe),
                "step": step,
                "phase": question.phase,
                "architecture": probe,
                "recon": measurements[probe].recon,
                "kl": measurements[probe].kl,
                "good": verdict.good,
                "passed": question.phase.passed(verdict),
                "layer": question.layer,
                "interval": (question.lo, question.hi),
                "narrowed": question.narrowed(verdict),
                "reused": probe in seen,
                "reason": _reason(settings, question, verdict, measurements[probe]),
            }
        )
        seen.add(probe)
    return decisions


def _reason(
    settings: SearchSettings, question: Question, verdict: Verdict, measurement: Measurement
) -> str:
    # Two decimals, because a verdict may depend on less than a tenth.
    recon = f"recon {measurement.recon:.2f} {'<=' if verdict.recon_ok else '>'} {settings.recon:g}"
    kl = f"kl {measurement.kl:.2f} {'<=' if verdict.kl_ok else '>'} {settings.kl:g}"
    if question.phase is Phase.UPPER_BOUND:
        if not verdict.recon_ok:
            depth = len(question.architecture)
            return f"{recon}: by monotonicity no model of depth {depth} is good"
        if not verdict.kl_ok:
            return f"{recon}, but {kl}: shrink until kl passes"
        return f"{recon}, {kl}: the upper end of the search"
    lo, hi = question.narrowed(verdict)
    exact = question.phase is Phase.SHRINK or question.layer == len(question.architecture)
    going_on = hi - lo + 1 >= (1 if exact else settings.resolution)
    rest = f"layer {question.layer} in {lo} to {hi}" if going_on else f"layer {question.layer} done"
    if question.phase is Phase.SHRINK:
        return f"{kl}: {rest}"
    failed = [text for text, ok in ((recon, verdict.recon_ok), (kl, verdict.kl_ok)) if not ok]
    return f"{', '.join(failed)}: not good, {rest}" if failed else f"{recon}, {kl}: good, {rest}"
