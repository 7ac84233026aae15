"""The run table, config/runs.tsv, and what a preset makes of it.

`config/runs.tsv` states the report's protocol, one row a trained model. A preset changes
recipe and budget through `training`; this module resolves both into frozen specs. Two runs
with equal specs are one training: `Runs.alias` maps every name to the run that holds it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vaelab.settings.config import Config, Group, Recipe, explain
from vaelab.settings.spec import FLAT_ORDER, RunSpec, flat_fields
from vaelab.util.errors import VaelabError
from vaelab.util.registry import nearest_first


class RunRow(BaseModel):
    """One row of config/runs.tsv: the report's protocol for one trained model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="Stable name of the run.")
    group: Group = Field(description="Group whose budget and recipe a preset may change.")
    when: Literal["always", "baselines", "extras", "by_name"] = Field(
        "always",
        description="Config switch that the run waits for; a run `by_name` is not part of `all`.",
    )
    spec: RunSpec


# The table that vaelab's presets are about, wherever results are made.
OWN_TABLE = Path(__file__).resolve().parents[3] / "config" / "runs.tsv"

# What the `extras` vary, each from the row of another run: left as the table has it.
ABLATED = {"optimizer", "learning_rate", "adam_beta2", "schedule", "warmup"}

# Columns of the table that are not fields of the spec.
ROW_COLUMNS = ("run", "group", "when")
SPEC_COLUMNS = (
    *("dataset", "train_subset", "model", "trunks", "activation", "hidden", "latent_dim"),
    *("likelihood", "beta", "condition", "method", "optimizer", "learning_rate", "batch_size"),
    *("init", "samples", "codebook_size", "binarize"),
)


def read_rows(path: str | Path) -> list[RunRow]:
    """Read and validate the run table.

    Raises:
        VaelabError: names the file, the row, the column and what is allowed.
    """
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, delimiter="\t")
            header, records = reader.fieldnames or [], list(reader)
    except FileNotFoundError as error:
        raise VaelabError(f"{path} does not exist") from error
    expected = [*ROW_COLUMNS, *SPEC_COLUMNS]
    # A family from outside brings columns of its own.
    own = [name for name in header if name in flat_fields() and name not in FLAT_ORDER]
    if list(header) != expected + own:
        unknown = sorted(set(header) - set(expected))
        missing = sorted(set(expected) - set(header))
        raise VaelabError(
            f"{path}: the columns must be {', '.join(expected)}"
            + (f"; unknown: {', '.join(unknown)}" if unknown else "")
            + (f"; missing: {', '.join(missing)}" if missing else "")
        )
    rows: list[RunRow] = []
    problems: list[str] = []
    for record in records:
        name = record["run"] or "?"
        if None in record:
            problems.append(f"  {path}, run {name!r}: more cells than columns")
            continue
        try:
            rows.append(_row(record))
        except ValidationError as error:
            problems.append(explain(error, RunRow, partial(_place, path, name)))
    names = [row.run for row in rows]
    problems += [f"  {path}: run {n!r} is listed twice" for n in {*names} if names.count(n) > 1]
    if problems:
        raise VaelabError("The run table is not valid.\n" + "\n".join(problems))
    return rows


def _place(path: str | Path, name: str, location: list[str]) -> str:
    """Where a problem with a row stands."""
    return f"{path}, run {name!r}"


def _row(record: Mapping[str, str | None]) -> RunRow:
    """A table row from its text cells; empty cells take the field's default."""
    cells = {k: v.strip() for k, v in record.items() if v is not None and v.strip()}
    spec: dict[str, Any] = {k: cells[k] for k in cells if k not in ROW_COLUMNS}
    if "hidden" in spec:
        spec["hidden"] = tuple(spec["hidden"].split("-"))
    for key in ("samples", "train_subset"):
        # 1.2e8 reads better than 120000000 in a table of budgets.
        if key in spec and re.fullmatch(r"[0-9.]+e[0-9]+", spec[key]):
            spec[key] = round(float(spec[key]))
    row: dict[str, Any] = {k: cells[k] for k in ("run", "group", "when") if k in cells}
    return RunRow.model_validate({**row, "spec": RunSpec.from_flat(spec)})


@dataclass(frozen=True)
class Run:
    """A spec and a seed under a name; `id` names its files."""

    name: str
    seed: int
    spec: RunSpec

    @property
    def id(self) -> str:
        """<name>-s<seed>."""
        return f"{self.name}-s{self.seed}"


@dataclass(frozen=True)
class Runs:
    """The resolved run table.

    Attributes:
        by_id: every training there is, by id; specs are distinct per seed.
        alias: run name -> ids (one per seed) that hold its results.
        seeds: RNG seeds.
        probe: the spec that the search's probes are made from; a table without a run of group
            architecture has none.
        apart: runs that are trained by name alone, by id; no part of `by_id` and `alias`.
    """

    by_id: dict[str, Run]
    alias: dict[str, tuple[str, ...]]
    seeds: tuple[int, ...]
    probe: RunSpec | None
    apart: dict[str, Run]

    @property
    def apart_alias(self) -> dict[str, tuple[str, ...]]:
        """Name -> ids of the runs apart, one per seed."""
        found: dict[str, tuple[str, ...]] = {}
        for run_id, run in self.apart.items():
            found[run.name] = (*found.get(run.name, ()), run_id)
        return found

    def ids(self, names: Iterable[str]) -> list[str]:
        """The distinct ids behind names of the table or of probes, in order."""
        found: dict[str, None] = {}
        known = self.apart_alias | self.alias
        for name in names:
            own = tuple(f"{name}-s{seed}" for seed in self.seeds)
            found |= dict.fromkeys(known.get(name, own))
        return list(found)

    def run(self, run_id: str) -> Run:
        """The run behind an id: one of the table, or a probe `arch_<widths>-s<seed>`.

        Raises:
            VaelabError: neither, with the list of known names; a run that is trained under another
                name, or not with that seed; or a probe, and no run to make it from.
        """
        for runs in (self.by_id, self.apart):
            if run_id in runs:
                return runs[run_id]
        name, _, seed = run_id.rpartition("-s")
        if name in self.alias:
            twins = dict(zip(map(str, self.seeds), self.alias[name], strict=True))
            if seed in twins:
                raise VaelabError(f"{run_id} is the same training as {twins[seed]}; ask for that")
            raise VaelabError(f"{name} is trained with seeds {list(self.seeds)} (setting seeds)")
        match = re.fullmatch(r"arch_((?:[1-9]\d*_)*)([1-9]\d*)-s(\d+)", run_id)
        if match is None:
            known = ", ".join(nearest_first(name or run_id, sorted(self.alias)))
            raise VaelabError(f"there is no run {run_id!r}; config/runs.tsv has: {known}")
        if self.probe is None:
            raise VaelabError(
                f"{run_id} is a probe of the search, made from the first run of group "
                "architecture; the run table has none"
            )
        hidden = tuple(int(width) for width in match[1].split("_") if width)
        spec = self.probe.changed(hidden=hidden, latent_dim=int(match[2]))
        return Run(name, int(seed), spec)


def resolve(config: Config, root: Path = Path()) -> Runs:
    """Apply the preset's recipe and budget to every row of the run table.

    What a preset says of single runs of vaelab's own table is nothing to another table.

    Raises:
        VaelabError: a bad table, or settings that name a run which neither table has.
    """
    rows = read_rows(root / config.runs)
    own = []
    if OWN_TABLE.is_file() and not OWN_TABLE.samefile(root / config.runs):
        own = read_rows(OWN_TABLE)
    unknown = sorted(set(config.training.runs) - {row.run for row in (*rows, *own)})
    if unknown:
        raise VaelabError(
            f"training.runs names {', '.join(unknown)}; "
            f"{config.runs} has: {', '.join(sorted(row.run for row in rows))}"
        )
    baselines = _baselines(config, rows, own)
    by_id: dict[str, Run] = {}
    apart: dict[str, Run] = {}
    alias: dict[str, tuple[str, ...]] = {}
    holders: dict[str, str] = {}
    probe: RunSpec | None = None
    for row in rows:
        if (row.when == "extras" and not config.extras) or (
            row.when == "baselines" and row.run not in baselines
        ):
            continue
        spec = _apply(config, row)
        if row.when == "by_name":
            seeds = config.recipe_seeds if row.group == "recipe" else config.seeds
            apart |= {run.id: run for run in (Run(row.run, seed, spec) for seed in seeds)}
            continue
        if row.group == "architecture" and probe is None:
            probe = _apply(config, row, own=False)
        holder = holders.setdefault(spec.canonical(), row.run)
        if holder == row.run:
            for seed in config.seeds:
                run = Run(row.run, seed, spec)
                by_id[run.id] = run
        alias[row.run] = tuple(f"{holder}-s{seed}" for seed in config.seeds)
    return Runs(by_id, alias, tuple(config.seeds), probe, apart)


def _baselines(config: Config, rows: Iterable[RunRow], own: Iterable[RunRow]) -> set[str]:
    """Names of the baselines that are switched on."""
    known, elsewhere = (
        {row.run for row in table if row.when == "baselines"} for table in (rows, own)
    )
    if isinstance(config.baselines, bool):
        return known if config.baselines else set()
    unknown = sorted(set(config.baselines) - known - elsewhere)
    if unknown:
        raise VaelabError(
            f"baselines names {', '.join(unknown)}; {config.runs} has: {', '.join(sorted(known))}"
        )
    return set(config.baselines)


def _apply(config: Config, row: RunRow, *, own: bool = True) -> RunSpec:
    """The row's spec with the preset's overrides: default, then group, then (if `own`) run."""
    training = config.training
    changes: dict[str, Any] = {
        "history_points": config.history.points,
        "history_images": config.history.images,
        "history_per_decade": config.history.per_decade,
        "snapshots": config.likelihood.snapshots if row.group == "likelihood" else 0,
    }
    kept = ABLATED if row.when == "extras" else set()
    for layer in (training.default, training.groups.get(row.group, Recipe())):
        changes |= layer.model_dump(exclude_none=True, exclude=kept)
    if own and row.run in training.runs:
        changes |= training.runs[row.run].model_dump(exclude_none=True)
    try:
        return row.spec.changed(**changes)
    except ValidationError as error:
        problems = explain(error, RunSpec, lambda _: f"preset {config.preset}, run {row.run!r}")
        raise VaelabError("The run is not possible.\n" + problems) from error
