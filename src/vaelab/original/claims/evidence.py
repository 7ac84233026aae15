"""What claims may look at: the runs' results and measures.json, as quantities with errors.

Everything absent raises NotEvaluated with a message that names it, so that a judge can ask
for what it needs without checking first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np

from vaelab.original.claims.judgement import ASSUMED, ASSUMED_FREY, NotEvaluated, Quantity, Spread
from vaelab.results.reader import PROBE, Results, grouped
from vaelab.results.records import Decisions, Loss, LossError, Measures, Metrics, Reference, Split
from vaelab.search.algorithm import Architecture, Measurement, architecture_of
from vaelab.util.errors import VaelabError
from vaelab.util.io import read_json

MEASURES_FILE = "measures.json"
# Training images in one of the report's epochs, where its curves start.
EPOCH = 60_000


@dataclass(frozen=True)
class Curve:
    """A quantity over training: `samples` ascending, both (T,)."""

    samples: np.ndarray
    values: np.ndarray

    def at(self, samples: float) -> float:
        """The value at a number of samples, interpolated linearly, constant outside."""
        return float(np.interp(samples, self.samples, self.values))

    @property
    def end(self) -> float:
        """Samples of the last point."""
        return float(self.samples[-1])

    @property
    def last(self) -> float:
        """The last value."""
        return float(self.values[-1])

    def since(self, samples: float) -> Curve:
        """The curve from a number of samples on, starting with the value there."""
        later = self.samples > samples
        return Curve(
            np.concatenate([[samples], self.samples[later]]),
            np.concatenate([[self.at(samples)], self.values[later]]),
        )


@dataclass(frozen=True)
class Evidence:
    """Results of one preset.

    Attributes:
        results: the runs.
        measures: the content of measures.json; empty before it is written.
    """

    results: Results
    measures: Measures = field(default_factory=Measures)

    @classmethod
    def load(cls, results: Results) -> Evidence:
        """With the measures that lie beside the runs, if any."""
        path = results.folder / MEASURES_FILE
        return cls(results, cast(Measures, read_json(path)) if path.is_file() else Measures())

    # Numbers of runs ---------------------------------------------------------------------

    def metrics(self, name: str) -> list[Metrics]:
        """metrics.json of every seed of a run."""
        metrics = self.results.metrics(name) if self.results.has(name) else []
        if not metrics:
            raise NotEvaluated(f"Run {name} was not trained")
        return metrics

    def quantity(self, name: str, split: Split, loss: Loss | LossError) -> Quantity:
        """A loss of metrics.json."""
        return self._quantity(name, f"{split}.{loss}", self._losses(name, split, loss))

    def quantities(self, runs: Mapping[str, str], split: Split, loss: Loss) -> dict[str, Quantity]:
        """The same loss of several runs, by label."""
        return {label: self.quantity(name, split, loss) for label, name in runs.items()}

    def gap(self, name: str, key: Loss) -> Quantity:
        """Test minus train of one run, seed by seed."""
        pairs = zip(self._losses(name, "test", key), self._losses(name, "train", key), strict=True)
        return self._quantity(name, key, [test - train for test, train in pairs])

    def _losses(self, name: str, split: Split, loss: Loss | LossError) -> list[float]:
        """A loss of every seed."""
        metrics = self.metrics(name)
        if any(loss not in seed[split] for seed in metrics):
            raise NotEvaluated(f"metrics.json of run {name} has no {split}.{loss}")
        return [float(cast(dict[str, float], seed[split])[loss]) for seed in metrics]

    def measure(self, name: str, key: str) -> Quantity:
        """A number of measures.json for a run."""
        self.metrics(name)
        seeds = self.measures.get("runs", {}).get(name, [])
        if not seeds or any(key not in seed for seed in seeds):
            raise NotEvaluated(f"{MEASURES_FILE} has no {key} of run {name}")
        return self._quantity(name, key.removesuffix("_uniform"), [seed[key] for seed in seeds])

    def measured(self, runs: Mapping[str, str], key: str) -> dict[str, Quantity]:
        """The same number of measures.json for several runs, by label."""
        return {label: self.measure(name, key) for label, name in runs.items()}

    def reference(self, key: str) -> Any:
        """A number of measures.json about the real images."""
        found = self.measures.get("reference", Reference())
        if key not in found:
            raise NotEvaluated(f"{MEASURES_FILE} has no {key} of the real images")
        return found[key]  # type: ignore[literal-required]

    def _quantity(self, name: str, path: str, values: list[float]) -> Quantity:
        if not all(map(math.isfinite, values)):
            raise NotEvaluated(f"{path} of run {name} is not finite: the training diverged")
        spread = ASSUMED.get(path.rsplit(".", 1)[-1], Spread())
        return Quantity.of(values, ASSUMED_FREY if name.startswith("frey_") else spread)

    # Curves ------------------------------------------------------------------------------

    def curves(self, name: str, column: str) -> list[Curve]:
        """A column of history.csv over training, one curve per seed."""
        self.metrics(name)
        curves = []
        for frame in self._read(self.results.history, name, "history.csv"):
            if column not in frame:
                raise NotEvaluated(f"history.csv of run {name} has no column {column}")
            curves.append(Curve(frame["samples"].to_numpy(float), frame[column].to_numpy(float)))
        return curves

    def curves_from_first_epoch(self, name: str, column: str) -> list[Curve]:
        """The same from the end of the first epoch on, where the report's curves start."""
        curves = self.curves(name, column)
        if any(curve.end <= EPOCH for curve in curves):
            raise NotEvaluated(f"Run {name} was trained for no more than one epoch")
        return [curve.since(EPOCH) for curve in curves]

    def likelihood_curves(self, name: str, split: str, estimator: str) -> list[Curve]:
        """Estimated mean log p(x) over training, nats, one curve per seed."""
        self.metrics(name)
        curves = []
        for frame in self._read(self.results.likelihood, name, "likelihood.csv"):
            rows = frame[(frame["split"] == split) & (frame["estimator"] == estimator)]
            if rows.empty:
                raise NotEvaluated(
                    f"likelihood.csv of run {name} has no {estimator} estimate on {split} images"
                )
            rows = rows.sort_values("samples")
            curves.append(Curve(rows["samples"].to_numpy(float), rows["nats"].to_numpy(float)))
        return curves

    def likelihood_final(self, name: str, split: str, estimator: str) -> Quantity:
        """Estimated mean log p(x) at the end of training, nats."""
        self.metrics(name)
        values = []
        for frame in self._read(self.results.likelihood_final, name, "likelihood_final.csv"):
            rows = frame[(frame["split"] == split) & (frame["estimator"] == estimator)]
            if rows.empty:
                raise NotEvaluated(
                    f"likelihood_final.csv of run {name} has no {estimator} estimate on "
                    f"{split} images"
                )
            values.append(float(rows["nats"].iloc[0]))
        return self._quantity(name, "log_likelihood", values)

    @staticmethod
    def _read(reader: Any, name: str, file: str) -> Any:
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

    def measurements(self) -> dict[Architecture, Measurement]:
        """Training losses of all trained architectures, the data that the report judges by."""
        found = {
            a: Measurement.from_metrics(self.metrics(name), "train")
            for a, name in self.architectures.items()
        }
        if not found:
            raise NotEvaluated("No architecture was trained")
        return found

    @property
    def decisions(self) -> Decisions:
        """The log of the search."""
        decisions = self.results.decisions
        if decisions is None:
            raise NotEvaluated("The search for the minimal architecture has not run")
        return decisions

    # Provenance --------------------------------------------------------------------------

    def require_real_faces(self, names: Iterable[str]) -> None:
        """Claims about Frey Face cannot rest on the synthetic stand-in."""
        names = list(names)
        for name in names:
            self.metrics(name)
        if self.results.synthetic(names):
            raise NotEvaluated(
                "Trained on synthetic faces: the Frey Face data was not at hand, and this claim "
                "is about it"
            )

    def recipe(self, names: Iterable[str]) -> str:
        """How the runs behind a verdict were trained, in a sentence.

        Some of the report's conclusions, those about depth above all, are properties of its
        recipe: N(0, 0.01) for every weight and a constant rate.
        """
        recipes: dict[str, None] = {}
        for name in names:
            for metrics in self.metrics(name):
                spec = metrics["spec"]
                as_printed = spec["schedule"] == "constant" and (
                    spec["init"] == "normal" or spec["model"] == "vqvae"
                )
                whose = "the report's" if as_printed else "the modern"
                start = "N(0, 0.01)" if spec["init"] == "normal" else "fan-in"
                optimizer = spec["optimizer"].capitalize()
                rate = json.dumps(spec["learning_rate"])
                recipes[
                    f"{whose} recipe ({optimizer} {rate}, {start} initialisation, "
                    f"{grouped(metrics['samples'])} samples)"
                ] = None
        return f"Judged under {' and '.join(recipes)}."
