"""What claims may look at: the runs' results and measures.json, as estimates with errors.

Everything absent raises NotEvaluated with a message that names it, so that a claim can ask for
what it needs without checking first. What it asked for is logged: these are the numbers and the
runs that the verdict rests on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cached_property
from typing import Any, cast

import pandas as pd

from vaelab.original.claims.judgement import Estimate, NotComparable, NotEvaluated, Verdict
from vaelab.original.numbers import reports_recipe
from vaelab.original.smoothing import MNIST_EPOCH, Curve
from vaelab.results.reader import PROBE, Results, grouped
from vaelab.results.records import Decisions, Measures, Metrics, Reference, Split
from vaelab.search.algorithm import Architecture, architecture_of, brackets
from vaelab.search.smooth import OWN_DF
from vaelab.search.spread import EXACT, Spreads, family, loss_values, measured, scale, table
from vaelab.util.errors import VaelabError
from vaelab.util.io import read_json

MEASURES_FILE = "measures.json"


class Evidence:
    """Results of one preset, and a log of what was asked for.

    Args:
        results: the runs.
        measures: the content of measures.json; empty before it is written.

    Attributes:
        numbers: what was asked for, by name.
        runs: whose results were asked for, in order.
        notes: sentences for the reason.
        incomparable: verdicts that recipe or budget forbid, each with its reason.
    """

    def __init__(self, results: Results, measures: Measures | None = None) -> None:
        self.results = results
        self.measures = measures or Measures()
        self.clear()

    def clear(self) -> None:
        """Forget what was asked for."""
        self.numbers: dict[str, Estimate] = {}
        self.runs: dict[str, None] = {}
        self.notes: list[str] = []
        self.incomparable: dict[Verdict, str] = {}

    @classmethod
    def load(cls, results: Results) -> Evidence:
        """With the measures that lie beside the runs, if any."""
        path = results.folder / MEASURES_FILE
        return cls(results, cast(Measures, read_json(path)) if path.is_file() else None)

    # Numbers of runs ---------------------------------------------------------------------

    def seeds(self, name: str) -> list[Metrics]:
        """metrics.json of every seed of a run, those beyond the preset's own included."""
        found = self.results.recorded(name) if self.results.has(name) else []
        if not found:
            raise NotEvaluated(f"Run {name} was not trained")
        self.runs[name] = None
        return found

    def loss(self, name: str, key: str) -> Estimate:
        """A loss of metrics.json: "test recon", or "gap recon" for test minus train."""
        seeds = [loss_values(seed) for seed in self.seeds(name)]
        if any(key not in seed for seed in seeds):
            raise NotEvaluated(f"metrics.json of run {name} has no {key}")
        return self._estimate(name, key, [seed[key] for seed in seeds])

    def losses(self, names: Iterable[str], key: str) -> dict[str, Estimate]:
        """The same loss of several runs, by label."""
        return {self.label(name): self.loss(name, key) for name in names}

    def measure(self, name: str, key: str, factor: float = 1.0) -> Estimate:
        """A number of measures.json for a run, times a factor."""
        self.seeds(name)
        seeds = self.measures.get("runs", {}).get(name, [])
        values = [seed[key] for seed in seeds if key in seed]
        if not values:
            raise NotEvaluated(f"{MEASURES_FILE} has no {key} of run {name}")
        # Of single factors no spread is on record: that of their mean.
        quantity = "mig" if key.startswith("mig_") else ""
        return self._estimate(name, key, values, quantity, factor)

    def measured(self, names: Iterable[str], key: str, factor: float = 1.0) -> dict[str, Estimate]:
        """The same number of measures.json for several runs, by label."""
        return {self.label(name): self.measure(name, key, factor) for name in names}

    def beside(self, names: Iterable[str], *keys: str) -> None:
        """Log numbers of measures.json that decide nothing, where there are any."""
        names = list(names)
        for key in keys:
            with suppress(NotEvaluated):
                self.measured(names, key)

    def reference(self, key: str) -> Any:
        """A number of measures.json about the real images."""
        found = self.measures.get("reference", Reference())
        if key not in found:
            raise NotEvaluated(f"{MEASURES_FILE} has no {key} of the real images")
        return found[key]  # type: ignore[literal-required]

    def number(self, name: str, value: Estimate | float) -> Estimate:
        """Log a number that was computed or is exact."""
        self.numbers[name] = value if isinstance(value, Estimate) else Estimate(value)
        return self.numbers[name]

    def label(self, name: str) -> str:
        """What a reader calls a run: [500, 3] for an architecture."""
        return brackets(architecture_of(name)) if name.startswith(PROBE) else name

    def _estimate(
        self,
        name: str,
        what: str,
        values: list[float],
        quantity: str = "",
        factor: float = 1.0,
        level: float = 0.0,
    ) -> Estimate:
        """Mean over seeds, with the spread of a quantity, by default the number's own."""
        if not all(map(math.isfinite, values)):
            raise NotEvaluated(f"{what} of run {name} is not finite: the training diverged")
        quantity = quantity or what.removesuffix("_uniform")
        kind = family(self.results.metrics(name)[0]["spec"])
        choices = ((kind, quantity), ("wide", quantity))
        known = (s[c] for c in choices for s in self._spreads if c in s)
        spread = EXACT.get(quantity) or next(known, None)
        if spread is None:
            raise NotEvaluated(f"Nothing is known of the spread of {quantity}")
        sd = spread.sd * scale(quantity, level or sum(values) / len(values))
        seeds = f"{len(values)} seed{'s' if len(values) > 1 else ''}"
        source = f"{self.label(name)}: {seeds}, SD from {spread.source}" if sd else ""
        estimate = Estimate.over(values, sd, spread.df, source) * factor
        return self.number(f"{what}, {self.label(name)}", estimate)

    @cached_property
    def _spreads(self) -> tuple[Spreads, Spreads]:
        """What this preset's own seeds say, where they are several, and the package's table."""
        results, names = self.results, [*self.results.alias, *self.architectures.values()]
        runs = {name: results.recorded(name) for name in names if results.has(name)}
        several = {name: seeds for name, seeds in runs.items() if len(seeds) > 1}
        own = measured(several, self.measures.get("runs", {}))
        return {key: s for key, s in own.items() if s.df >= OWN_DF}, table()

    # Curves ------------------------------------------------------------------------------

    def curves(self, name: str, column: str) -> list[Curve]:
        """A column of history.csv over training, one curve per seed."""
        frames = self._frames(self.results.history, name, "history.csv")
        if any(column not in frame for frame in frames):
            raise NotEvaluated(f"history.csv of run {name} has no column {column}")
        return [Curve.of(frame, column) for frame in frames]

    def over_curves(
        self, name: str, column: str, what: str, value: Callable[[Curve], float], level: float = 0.0
    ) -> Estimate:
        """A number of each seed's curve, with the spread of the curve's own loss.

        Seeds are compared at one point with themselves at another, so the spread of the loss is
        an upper bound. `level` is what a relative spread is a share of: 100 for numbers in %.
        """
        values = [value(curve) for curve in self.curves(name, column)]
        return self._estimate(name, what, values, column.replace("_", " ", 1), level=level)

    def change(self, name: str, column: str) -> Estimate:
        """End of training minus what the report's first epoch is in this budget."""
        what = f"change of {column.replace('_', ' ', 1)}"
        return self.over_curves(name, column, what, lambda c: c.last - c.first)

    def likelihood(
        self, name: str, split: Split, what: str, value: Callable[[Curve], float]
    ) -> Estimate:
        """A number of each seed's curve of log p(x), nats, which scatters as the ELBO does."""
        values = [value(curve) for curve in self.likelihood_curves(name, split)]
        return self._estimate(name, f"{what} {split}", values, "test neg_elbo")

    def likelihood_curves(
        self, name: str, split: Split, estimator: str = "importance"
    ) -> list[Curve]:
        """Estimated mean log p(x) over training, nats, one curve per seed."""
        frames = self._frames(self.results.likelihood, name, "likelihood.csv")
        chosen = [_rows(name, "likelihood.csv", f, split, estimator) for f in frames]
        return [Curve.of(frame.sort_values("samples"), "nats") for frame in chosen]

    def likelihood_final(self, name: str, split: Split, estimator: str) -> Estimate:
        """Estimated mean log p(x) at the end of training, nats."""
        frames = self._frames(self.results.likelihood_final, name, "likelihood_final.csv")
        chosen = [_rows(name, "likelihood_final.csv", f, split, estimator) for f in frames]
        values = [float(frame["nats"].iloc[0]) for frame in chosen]
        return self._estimate(name, f"{estimator} {split}", values, "test neg_elbo")

    def over_elbo(self, name: str, split: Split, estimator: str) -> Estimate:
        """An estimate of log p(x) less the ELBO of the same images, nats.

        The noise is that of the images, paired. Older evaluations lack it: then the number counts
        as exact, as it nearly is.
        """
        frames = self._frames(self.results.likelihood_final, name, "likelihood_final.csv")
        rows = [
            [_rows(name, "likelihood_final.csv", f, split, e).iloc[0] for e in (estimator, "elbo")]
            for f in frames
        ]
        values = [own["nats"] - elbo["nats"] for own, elbo in rows]
        sd = math.hypot(*(own.get("over_elbo_se", 0.0) for own, _ in rows)) / len(rows) ** 0.5
        estimate = Estimate.over(values, sd, source="paired over images" if sd else "")
        return self.number(f"{estimator} - elbo {split}, {name}", estimate)

    def _frames(
        self, reader: Callable[[str], list[pd.DataFrame]], name: str, file: str
    ) -> list[pd.DataFrame]:
        self.seeds(name)
        try:
            return reader(name)
        except VaelabError as error:
            raise NotEvaluated(f"{file} of run {name} is missing or damaged") from error

    # The architecture search -------------------------------------------------------------

    @cached_property
    def architectures(self) -> dict[Architecture, str]:
        """All trained architectures of the survey and the search, with their run names."""
        names = {name for name in self.results.alias if name.startswith(PROBE)}
        if (search := self.results.decisions) is not None:
            names |= {probe["run"] for probe in search["probes"]} | {*search["wasted"]}
        return {architecture_of(name): name for name in sorted(names) if self.results.has(name)}

    @property
    def decisions(self) -> Decisions:
        """The log of the search."""
        decisions = self.results.decisions
        if decisions is None:
            raise NotEvaluated("The search for the minimal architecture has not run")
        return decisions

    @property
    def answer(self) -> Architecture:
        """The architecture that the search ended with."""
        found = self.decisions["answer"].get("architecture")
        if not found:
            raise NotEvaluated("The search ended without an architecture")
        return tuple(found)

    # What forbids a comparison -------------------------------------------------------------

    def require_real_faces(self, names: Iterable[str]) -> None:
        """Claims about Frey Face cannot rest on the synthetic stand-in."""
        names = list(names)
        for name in names:
            self.seeds(name)
        if self.results.synthetic(names):
            raise NotEvaluated(
                "Trained on synthetic faces: the Frey Face data was not at hand, and this claim "
                "is about it"
            )

    def forbid(self, verdict: Verdict, reason: str) -> None:
        """This verdict would say nothing about the report, for a reason."""
        self.incomparable[verdict] = reason

    def forbid_short(self, names: Iterable[str], verdict: Verdict, why: str) -> None:
        """Forbid a verdict if a run made less than half the report's passes over its data."""
        for name in names:
            seed = self.seeds(name)[0]
            samples, images = _the_report_s_training(name, seed)
            if seed["samples"] < samples / 2:
                self.forbid(
                    verdict,
                    f"{why}: {self.label(name)} saw its images {seed['samples'] / images:.0f} "
                    f"times, the report's {samples / images:.0f} times",
                )

    def require_the_report_s_training(self, names: Iterable[str], why: str) -> None:
        """Refuse a comparison unless recipe and budget are the report's."""
        for name in names:
            seed = self.seeds(name)[0]
            share = seed["samples"] / _the_report_s_training(name, seed)[0]
            if not reports_recipe(seed["spec"]) or share < 0.5:
                recipe = "the report's" if reports_recipe(seed["spec"]) else "another"
                raise NotComparable(
                    f"{why}; here {self.label(name)} was trained by {recipe} recipe with "
                    f"{100.0 * share:.3g} % of the report's samples"
                )

    def recipe(self) -> str:
        """How the runs behind a verdict were trained, in a sentence.

        Some of the report's conclusions, those about depth above all, are properties of its
        recipe: N(0, 0.01) for every weight and a constant rate.
        """
        recipes: dict[str, None] = {}
        for name in self.runs:
            for seed in self.seeds(name):
                spec = seed["spec"]
                whose = "the report's" if reports_recipe(seed["spec"]) else "the modern"
                start = "N(0, 0.01)" if spec["init"] == "normal" else "fan-in"
                rate = json.dumps(spec["learning_rate"])
                recipes[
                    f"{whose} recipe ({spec['optimizer'].capitalize()} {rate}, {start} "
                    f"initialisation, {grouped(seed['samples'])} samples)"
                ] = None
        return f"Judged under {' and '.join(recipes)}."


def _rows(name: str, file: str, frame: pd.DataFrame, split: str, estimator: str) -> pd.DataFrame:
    rows = frame[(frame["split"] == split) & (frame["estimator"] == estimator)]
    if rows.empty:
        raise NotEvaluated(f"{file} of run {name} has no {estimator} estimate on {split} images")
    return rows


def _the_report_s_training(name: str, metrics: Metrics) -> tuple[float, int]:
    """The report's training samples for a run, and its training images."""
    spec = metrics["spec"]
    if spec.get("dataset", "mnist") == "frey":
        return 1.565e6, 1565
    subset = spec.get("train_subset", 0) or 0
    return (6e7 if subset or name.startswith(PROBE) else 1.2e8), subset or MNIST_EPOCH
