"""What the runs left behind, read lazily and without torch: for figures, tables and the page."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from vaelab.results.records import Decisions, FittedLikelihood, Loss, Metrics, Provenance, Split
from vaelab.settings.config import MEANINGLESS
from vaelab.util.errors import VaelabError
from vaelab.util.io import read_json

PROBE = "arch_"
NLL_FILE = "nll.json"


class Arrays(Mapping[str, np.ndarray]):
    """The arrays of one run; each is decompressed when it is first asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._archive = np.load(path, allow_pickle=False)
        except FileNotFoundError as error:
            raise VaelabError(f"{path} does not exist") from error
        except (OSError, ValueError, EOFError, BadZipFile) as error:
            raise VaelabError(f"{path} is not an archive of arrays: {error}") from error
        self._loaded: dict[str, np.ndarray] = {}

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self._loaded:
            if key not in self._archive.files:
                raise VaelabError(f"{self._path} has no array {key!r}")
            try:
                self._loaded[key] = self._archive[key]
            except (BadZipFile, zlib.error, ValueError) as error:
                raise VaelabError(f"{self._path}: array {key!r} is damaged: {error}") from error
        return self._loaded[key]

    def __contains__(self, key: object) -> bool:
        return key in self._archive.files

    def __iter__(self) -> Iterator[str]:
        return iter(self._archive.files)

    def __len__(self) -> int:
        return len(self._archive.files)


class Results:
    """A folder results/<preset>, addressed by run names.

    Args:
        folder: results/<preset>; its last part is the name of the preset.
        alias: for each run name, the ids `<name>-s<seed>` of the runs that hold its results, one
            per seed. Two names may share a run when their specifications are identical. Probes
            of the architecture search (`arch_...`) need no entry: they are their own runs.
        apart: the same for runs that are trained by name alone.

    Every reader raises VaelabError, naming the file, when something it needs is missing.
    """

    def __init__(
        self,
        folder: Path | str,
        alias: Mapping[str, Sequence[str]],
        apart: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.alias = {name: tuple(ids) for name, ids in alias.items()}
        self._ids = {**(apart or {}), **self.alias}
        self._cache: dict[Path, Any] = {}

    @property
    def preset(self) -> str:
        """Name of the preset."""
        return self.folder.name

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """All seeds of the runs, in ascending order."""
        ids = (run for runs in self.alias.values() for run in runs)
        return tuple(sorted({int(run.rsplit("-s", 1)[1]) for run in ids}))

    @cached_property
    def decisions(self) -> Decisions | None:
        """The log of the architecture search, or None before the search has run."""
        path = self.folder / "search" / "decisions.json"
        return cast(Decisions, read_json(path)) if path.is_file() else None

    @cached_property
    def fitted_likelihoods(self) -> dict[str, FittedLikelihood]:
        """What nll.json says, by run id; nothing where it was not written."""
        path = self.folder / NLL_FILE
        return cast(dict[str, FittedLikelihood], read_json(path)) if path.is_file() else {}

    def has(self, name: str) -> bool:
        """Whether every seed of a run has been evaluated."""
        known = name in self._ids or name.startswith(PROBE)
        return known and all(path.is_file() for path in self._paths(name, "metrics.json"))

    def metrics(self, name: str) -> list[Metrics]:
        """metrics.json of every seed."""
        return [self._read(path, read_json) for path in self._paths(name, "metrics.json")]

    def recorded(self, name: str) -> list[Metrics]:
        """metrics.json of every seed, and of further seeds of the same training on record."""
        own, paths = self.metrics(name), self._paths(name, "metrics.json")
        if not paths:
            return []
        stem = paths[0].parent.name.rpartition("-s")[0]
        further: Iterable[Metrics] = (
            self._read(path, read_json)
            for path in sorted((self.folder / "runs").glob(f"{stem}-s*/metrics.json"))
            if path not in paths
        )
        return own + [m for m in further if _training(m) == _training(own[0])]

    def provenance(self, name: str) -> list[Provenance]:
        """provenance.json of every seed."""
        return [self._read(path, read_json) for path in self._paths(name, "provenance.json")]

    def history(self, name: str) -> list[pd.DataFrame]:
        """history.csv of every seed: one row per evaluation during training."""
        return [self._read(path, _read_csv) for path in self._paths(name, "history.csv")]

    def likelihood(self, name: str) -> list[pd.DataFrame]:
        """likelihood.csv of every seed: estimates of log p(x), in nats, over training."""
        return [self._read(path, _read_csv) for path in self._paths(name, "likelihood.csv")]

    def likelihood_final(self, name: str) -> list[pd.DataFrame]:
        """likelihood_final.csv of every seed: all estimators at the end of training."""
        return [self._read(path, _read_csv) for path in self._paths(name, "likelihood_final.csv")]

    def arrays(self, name: str, seed_index: int = 0) -> Arrays:
        """arrays.npz of one seed: images are uint8, flattened to P pixels."""
        arrays: Arrays = self._read(self._paths(name, "arrays.npz")[seed_index], Arrays)
        return arrays

    def image_shape(self, name: str) -> tuple[int, int]:
        """Rows and columns of the images that a run was trained on."""
        rows, columns = self.metrics(name)[0]["image_shape"]
        return rows, columns

    def samples(self, names: Iterable[str]) -> list[int]:
        """Training samples seen by each of the named runs, ascending, without repeats."""
        return sorted({metrics["samples"] for name in names for metrics in self.metrics(name)})

    def synthetic(self, names: Iterable[str]) -> bool:
        """Whether any of the named runs was trained on stand-in data."""
        return any(
            provenance["dataset"]["synthetic"]
            for name in names
            for provenance in self.provenance(name)
        )

    def _paths(self, name: str, file: str) -> list[Path]:
        ids: Sequence[str]
        if name in self._ids:
            ids = self._ids[name]
        elif name.startswith(PROBE):
            ids = tuple(f"{name}-s{seed}" for seed in self.seeds)
        else:
            raise VaelabError(f"no run of {self.folder} is named {name!r}")
        return [self.folder / "runs" / run / file for run in ids]

    def _read(self, path: Path, reader: Any) -> Any:
        if path not in self._cache:
            self._cache[path] = reader(path)
        return self._cache[path]


def _training(metrics: Metrics) -> tuple[int, dict[str, Any]]:
    """What two seeds of one training have in common; older records lack fields that are empty."""
    spec = {k: v for k, v in metrics["spec"].items() if k != "seed" and v is not None}
    return metrics["samples"], spec


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except FileNotFoundError as error:
        raise VaelabError(f"{path} does not exist") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise VaelabError(f"{path} is not a valid table: {error}") from error


def seed_mean(metrics: Sequence[Metrics], split: Split, loss: Loss) -> float:
    """Mean over seeds of one loss of metrics.json."""
    return float(np.mean([run[split][loss] for run in metrics]))


def grouped(number: int) -> str:
    """An integer with its digits in groups of three, from five digits on: 1000, 60 000."""
    return f"{number:,}".replace(",", "\N{NO-BREAK SPACE}" if number >= 10_000 else "")


def alarms(results: Results, names: Iterable[str]) -> list[str]:
    """What a reader must know before believing anything drawn from the named runs."""
    lines = []
    if results.preset == MEANINGLESS:
        lines.append("smoke preset: numbers are meaningless")
    if results.synthetic(names):
        lines.append("synthetic faces, not Frey Face")
    return lines


def alarm_notes(results: Results, names: Iterable[str]) -> list[str]:
    """The alarms as sentences in bold, for Markdown."""
    return [f"**{alarm[0].upper()}{alarm[1:]}.**" for alarm in alarms(results, names)]


def provenance_line(
    results: Results, names: Iterable[str], counts: Iterable[int] | None = None
) -> str:
    """Preset, seeds and samples: "preset quick · 1 seed · 300 000 samples a run".

    Args:
        results: the runs.
        names: those that are shown.
        counts: their numbers of seeds, where these are not those of the settings.
    """
    names = list(names)
    found = sorted(set(counts or (len(results.metrics(name)) for name in names))) or [0]
    seeds = " to ".join(dict.fromkeys(map(str, (found[0], found[-1]))))
    seen = results.samples(names)
    samples = " to ".join(dict.fromkeys(map(grouped, (seen[0], seen[-1]))))
    plural = "" if seeds == "1" else "s"
    return f"preset {results.preset} · {seeds} seed{plural} · {samples} samples a run"
