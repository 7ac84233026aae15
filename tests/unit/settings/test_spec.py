"""Specs, their fingerprints, and the run table: what it says and what it refuses."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from toys import toy_spec, toy_vqvae_spec
from vaelab.original import numbers
from vaelab.output.catalogue import CATALOGUE
from vaelab.search.algorithm import run_name
from vaelab.settings.config import Config, load_config, validate
from vaelab.settings.runs import ROW_COLUMNS, SPEC_COLUMNS, Runs, read_rows, resolve
from vaelab.settings.spec import (
    FLAT_ORDER,
    MODEL_PARTS,
    BudgetPart,
    RecipePart,
    RunSpec,
    VaePart,
    fingerprint,
    flat_fields,
)
from vaelab.util.errors import VaelabError
from workflow_project import PRESETS, ROOT

TABLE = ROOT / "config" / "runs.tsv"
SHA = "0" * 64


def runs_of(preset: str, **changes: Any) -> Runs:
    return resolve(load_config(overrides={"preset": preset} | changes, root=ROOT), ROOT)


@pytest.fixture(scope="module")
def paper() -> Runs:
    return runs_of("paper")


def spec_of(runs: Runs, name: str) -> RunSpec:
    return runs.by_id[runs.alias[name][0]].spec


# --- Fingerprints ---------------------------------------------------------------------------


def another_value(field: str, value: Any) -> Any:
    """A different value of the same type, whatever fields a spec has."""
    choices = get_args(flat_fields()[field].annotation)
    if field == "method":
        return "mcem"
    if isinstance(value, str):
        return next((choice for choice in choices if choice != value), "another")
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [*value, 7]
    if isinstance(value, float):
        return value / 2 or 0.5
    return 5 if value is None else value * 2 or 5


@pytest.mark.parametrize("field", [n for n in FLAT_ORDER if n not in ("model", "codebook_size")])
def test_fingerprint_changes_with_every_field(field: str) -> None:
    spec = toy_spec()
    changed = spec.changed(**{field: another_value(field, spec.flat()[field])})
    assert fingerprint(changed, 0, SHA) != fingerprint(spec, 0, SHA)


def test_fingerprint_changes_with_family_seed_data_and_training_schema(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = toy_spec()
    found = {fingerprint(spec, 0, SHA), fingerprint(spec, 1, SHA), fingerprint(spec, 0, "1" * 64)}
    found |= {fingerprint(s, 0, SHA) for s in (toy_vqvae_spec(), toy_vqvae_spec(codebook_size=11))}
    monkeypatch.setattr("vaelab.settings.spec.TRAINING_SCHEMA", 10**6)
    assert len(found | {fingerprint(spec, 0, SHA)}) == 6


def test_equal_specs_have_equal_fingerprints_however_they_are_written() -> None:
    a = toy_spec(learning_rate="2e-2", beta=1, hidden=["16"], samples="300")
    b = toy_spec(samples=300, hidden=(16,), beta=1.0, learning_rate=0.02)
    assert a == b
    assert fingerprint(a, 0, SHA) == fingerprint(b, 0, SHA)
    assert RunSpec.from_flat(json.loads(a.canonical())) == a


def test_canonical_json_is_stable() -> None:
    """A changed text retrains everything; change it together with TRAINING_SCHEMA only."""
    spec = RunSpec.from_flat(
        {"dataset": "mnist", "hidden": (500, 500), "latent_dim": 3}
        | {"learning_rate": 0.01, "samples": 60_000_000}
    )
    assert spec.canonical() == (
        '{"dataset":"mnist","train_subset":null,"model":"vae","trunks":"separate",'
        '"activation":"relu","hidden":[500,500],"latent_dim":3,"likelihood":"bernoulli",'
        '"beta":1.0,"condition":"none","method":"aevb","optimizer":"adagrad",'
        '"learning_rate":0.01,"adam_beta2":0.999,"batch_size":100,"init":"normal",'
        '"output_bias":false,"schedule":"constant","warmup":0.0,"samples":60000000,'
        '"codebook_size":0,"binarize":"none","history_points":30,"history_images":1000,"snapshots":0}'
    )
    assert tuple(json.loads(spec.canonical())) == FLAT_ORDER[:-1]
    dense = spec.changed(history_per_decade=9)
    assert tuple(json.loads(dense.canonical())) == FLAT_ORDER


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": float("inf")},
        {"learning_rate": float("nan")},
        {"likelihood": "gaussian", "binarize": "dynamic"},
    ],
)
def test_impossible_specs_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        toy_spec(**changes)


def test_a_family_has_its_own_fields_alone() -> None:
    vae, vqvae = toy_spec(hidden=(324, 284), latent_dim=3), toy_vqvae_spec()
    assert isinstance(vae.model, VaePart)
    assert vae.model.architecture == (324, 284, 3)
    assert not hasattr(vae.model, "codebook_size")
    assert not hasattr(vqvae.model, "hidden")
    assert vqvae.flat()["hidden"] == []
    assert vqvae.changed(latent_dim=5).model.latent_dim == 5


class WidePart(VaePart):
    """A family with a field of its own."""

    width: int = 3


def test_a_family_from_outside_has_its_own_columns(tmp_path: Path) -> None:
    MODEL_PARTS.add("wide", WidePart)
    try:
        spec = toy_spec(model="wide", width=7, hidden=(5,))
        assert isinstance(spec.model, WidePart)
        assert spec.model.width == 7
        assert list(spec.flat()) == [*FLAT_ORDER, "width"]
        assert RunSpec.from_flat(json.loads(spec.canonical())) == spec
        rows = [row | {"width": ""} for row in list(true_rows().values())[:2]]
        rows[1] |= {"model": "wide", "width": "9"}
        read = read_rows(write_table(tmp_path / "runs.tsv", rows))
        assert read[1].spec.flat()["width"] == 9
        with pytest.raises(ValidationError, match="family vae has no width"):
            toy_spec(width=7)
    finally:
        MODEL_PARTS.remove("wide")
    with pytest.raises(ValidationError, match="unknown key"):
        toy_spec(width=7)


# --- Bad tables -----------------------------------------------------------------------------


def write_table(path: Path, rows: list[Mapping[str, str]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def true_rows() -> dict[str, dict[str, str]]:
    with open(TABLE, newline="", encoding="utf-8") as stream:
        return {row["run"]: row for row in csv.DictReader(stream, delimiter="\t")}


# run, cells to change, then what the error must contain.
BAD_ROWS = {
    "no dataset": ("vae", {"dataset": ""}, ["dataset", "equired"]),
    "model": ("vae", {"model": "gan"}, ["model", "known: vae, vqvae", "'gan'"]),
    "trunks": ("vae", {"trunks": "two"}, ["trunks", "'shared' or 'separate'"]),
    "hidden text": ("vae", {"hidden": "500,500"}, ["hidden", "valid integer", "'500,500'"]),
    "hidden open": ("vae", {"hidden": "500-"}, ["hidden", "valid integer"]),
    "hidden zero": ("vae", {"hidden": "500-0"}, ["hidden", "greater than or equal to 1", "'0'"]),
    "no latent": ("vae", {"latent_dim": ""}, ["latent_dim", "equired"]),
    "fraction": ("vae", {"latent_dim": "2.5"}, ["latent_dim", "valid integer"]),
    "beta": ("vae", {"beta": "-1"}, ["beta", "greater than or equal to 0", "'-1'"]),
    "rate": ("vae", {"learning_rate": "0"}, ["learning_rate", "greater than 0"]),
    "infinite": ("vae", {"learning_rate": "inf"}, ["learning_rate", "finite"]),
    "samples": ("vae", {"samples": "many"}, ["samples", "valid integer", "'many'"]),
    "empty subset": ("ml_n1000", {"train_subset": "0"}, ["train_subset", "or equal to 1"]),
    "group": ("vae", {"group": "extra"}, ["group", "'aevb'", "'benchmark'", "'extra'"]),
    "when": ("vae", {"when": "never"}, ["when", "'always', 'baselines', 'extras' or 'by_name'"]),
    "vq hidden": ("vqvae", {"hidden": "500"}, ["family vqvae has no hidden"]),
    "vq codes": ("vqvae", {"codebook_size": "1"}, ["codebook_size", "or equal to 2"]),
    "vae codes": ("vae", {"codebook_size": "10"}, ["family vae has no codebook_size"]),
    "vae mse": ("vae", {"likelihood": "mse"}, ["likelihood", "'gaussian'"]),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_row_gives_one_readable_error(name: str, tmp_path: Path) -> None:
    run, changes, expected = BAD_ROWS[name]
    rows = true_rows()
    rows[run] |= changes
    path = write_table(tmp_path / "runs.tsv", list(rows.values()))
    with pytest.raises(VaelabError) as caught:
        read_rows(path)
    message = str(caught.value)
    lines = message.splitlines()
    assert len(lines) == 2, message
    assert len(lines[1]) - len(str(path)) < 200, message
    for part in (str(path), repr(run), *expected):
        assert part in lines[1], message
    assert "{" not in message, "the whole row is not what is wrong"


def test_all_bad_rows_are_named_at_once(tmp_path: Path) -> None:
    rows = true_rows()
    rows["vae"]["run"] = "VAE 1"
    rows["beta5"]["activation"] = "elu"
    with pytest.raises(VaelabError) as caught:
        read_rows(write_table(tmp_path / "runs.tsv", [*rows.values(), true_rows()["beta50"]]))
    _, *lines = str(caught.value).splitlines()
    expected = (
        r"run 'beta5': activation",
        r"run 'VAE 1': run: .*pattern",
        r"run 'beta50' is listed",
    )
    for line, pattern in zip(lines, expected, strict=True):
        assert re.search(pattern, line)


def test_misspelt_column(tmp_path: Path) -> None:
    text = TABLE.read_text().replace("latent_dim", "latents", 1)
    path = tmp_path / "runs.tsv"
    path.write_text(text)
    with pytest.raises(VaelabError) as caught:
        read_rows(path)
    message = str(caught.value)
    assert f"{path}: the columns must be run, group" in message
    assert message.endswith("; unknown: latents; missing: latent_dim")


@pytest.mark.parametrize("change", ["cell too many", "cells missing"])
def test_row_of_the_wrong_length(change: str, tmp_path: Path) -> None:
    lines = TABLE.read_text().splitlines()
    last = lines[-1].rstrip("\t").split("\t")
    columns = len(ROW_COLUMNS) + len(SPEC_COLUMNS)
    cells = last[:10] if change == "cells missing" else last + [""] * (columns - len(last)) + ["9"]
    path = tmp_path / "runs.tsv"
    path.write_text("\n".join([*lines[:-1], "\t".join(cells)]))
    with pytest.raises(VaelabError) as caught:
        read_rows(path)
    assert str(path) in str(caught.value)
    assert repr(last[0]) in str(caught.value)


def test_table_without_architectures_has_no_probes(tmp_path: Path) -> None:
    path = write_table(tmp_path / "runs.tsv", [true_rows()["vae"]])
    runs = resolve(load_config(overrides={"runs": str(path)}, root=ROOT))
    assert runs.run("vae-s0").name == "vae"
    with pytest.raises(
        VaelabError, match="arch_7_3-s0 is a probe.*first run of group architecture"
    ):
        runs.run("arch_7_3-s0")


def test_what_a_preset_says_of_single_runs_is_nothing_to_another_table(tmp_path: Path) -> None:
    rows = true_rows()
    mine = [rows["vae"] | {"run": "mine"}, rows["bvae_beta2"]]
    path = write_table(tmp_path / "runs.tsv", mine)

    def resolved(**changes: Any) -> Runs:
        return resolve(load_config(overrides={"runs": str(path)} | changes, root=ROOT))

    quick = runs_of("quick")
    assert spec_of(resolved(), "bvae_beta2") == spec_of(quick, "bvae_beta2")
    assert spec_of(resolved(), "mine") == spec_of(quick, "vae")
    settings = {"runs": {"mine": {"samples": 7}}}
    assert spec_of(resolved(training=settings), "mine").budget.samples == 7
    for changes in ({"training": {"runs": {"nobody": {}}}}, {"baselines": ["nobody"]}):
        with pytest.raises(VaelabError, match=r"names nobody; .*runs\.tsv has: "):
            resolved(**changes)


# --- What the table says --------------------------------------------------------------------

ADAGRAD = {"optimizer": "adagrad", "init": "normal", "batch_size": 100, "schedule": "constant"}
FACTS = {
    "mnist_d20": ADAGRAD
    | {"trunks": "shared", "activation": "tanh", "hidden": (500,), "latent_dim": 20}
    | {"learning_rate": 0.02, "samples": 120_000_000, "likelihood": "bernoulli"},
    "frey_d10": {"dataset": "frey", "optimizer": "adam", "learning_rate": 1e-3}
    | {"hidden": (200,), "trunks": "shared", "activation": "tanh", "likelihood": "gaussian"}
    | {"samples": 1_565_000, "batch_size": 100, "init": "normal"},
    "frey_adagrad002_d5": {"optimizer": "adagrad", "learning_rate": 0.02, "latent_dim": 5},
    "ml_n1000": ADAGRAD
    | {"train_subset": 1000, "hidden": (100,), "latent_dim": 3, "learning_rate": 3e-3}
    | {"trunks": "shared", "activation": "tanh", "samples": 60_000_000},
    "ml_n50000": ADAGRAD | {"train_subset": 50_000, "learning_rate": 0.02, "samples": 60_000_000},
    "ml_n1000_lr002": {"train_subset": 1000, "learning_rate": 0.02},
    "beta50": ADAGRAD
    | {"beta": 50.0, "hidden": (500,), "latent_dim": 20, "trunks": "separate"}
    | {"activation": "relu", "learning_rate": 0.01, "samples": 120_000_000},
    "vae": ADAGRAD
    | {"trunks": "separate", "activation": "relu", "hidden": (500, 500), "latent_dim": 3}
    | {"learning_rate": 0.01, "samples": 120_000_000, "beta": 1.0, "condition": "none"},
    "bvae_beta2": {"beta": 2.0, "hidden": (500, 500), "latent_dim": 3},
    "bvae_beta5": {"beta": 5.0, "hidden": (500, 500), "latent_dim": 3},
    "cvae_onehot": {"condition": "onehot", "hidden": (500, 500), "latent_dim": 3},
    "cvae_scalar": {"condition": "scalar", "hidden": (500, 500), "latent_dim": 3},
    "vqvae": {"model": "vqvae", "optimizer": "adam", "learning_rate": 1e-2, "init": "default"}
    | {"codebook_size": 10, "latent_dim": 2, "beta": 0.25, "samples": 120_000_000},
    "cvae_onehot_d2": {"condition": "onehot", "latent_dim": 2, "hidden": (500, 500)},
    "arch_500_500_3": ADAGRAD
    | {"hidden": (500, 500), "learning_rate": 0.01, "samples": 60_000_000, "beta": 1.0},
}


@pytest.mark.parametrize("name", FACTS)
def test_paper_preset_is_the_reports_protocol(name: str, paper: Runs) -> None:
    spec = spec_of(paper, name)
    flat = spec.flat() | {"hidden": tuple(spec.flat()["hidden"])}
    assert {key: flat[key] for key in FACTS[name]} == FACTS[name]


@pytest.mark.parametrize(
    ("prefix", "dimensions"),
    [("mnist_d", {2, 3, 5, 10, 20, 200}), ("frey_d", {2, 5, 10, 20})],
)
def test_latent_dimensions_are_in_the_names(prefix: str, dimensions: set[int], paper: Runs) -> None:
    found = {name: spec_of(paper, name) for name in paper.alias if name.startswith(prefix)}
    assert {spec.model.latent_dim for spec in found.values()} == dimensions
    assert all(name == f"{prefix}{spec.model.latent_dim}" for name, spec in found.items())


def test_names_of_architectures_are_their_widths(paper: Runs) -> None:
    probes = [name for name in paper.alias if name.startswith("arch_")]
    for name in probes:
        widths = tuple(int(width) for width in name.split("_")[1:])
        assert spec_of(paper, name).model.architecture == widths
    assert len(probes) == 11 + 16  # Table 3, and Table 2 less the row they share


@pytest.mark.parametrize("preset", PRESETS)
def test_every_figure_and_table_has_runs_in_every_preset(preset: str) -> None:
    runs = runs_of(preset)
    for item in CATALOGUE.values():
        ids = runs.ids(item.among([*runs.alias, *runs.apart_alias]))
        assert ids
        assert all(runs.run(run_id).id == run_id for run_id in ids)


TARGETS = {
    "figure_01": {"mnist_d3", "mnist_d5", "mnist_d10", "mnist_d20", "mnist_d200"},
    "figure_02": {
        *(f"frey_d{d}" for d in (2, 5, 10, 20)),
        *(f"frey_adagrad{rate}_d{d}" for rate in ("001", "002", "01") for d in (2, 5, 10, 20)),
    },
    "figure_03": {"ml_n1000", "ml_n1000_lr002", "ml_n50000"},
    "figure_04": {"mnist_d2", "mnist_d5", "mnist_d10", "mnist_d20"},
    "figure_05": {"mnist_d2", "mnist_d5", "mnist_d10", "mnist_d20", "frey_d2"},
    "figure_06": {"beta1", "beta2", "beta5", "beta50"},
    "figure_07": {"beta1", "beta2", "beta5", "beta50"},
    "figure_08": {"beta1", "beta2", "beta5", "beta50"},
    "figure_09": {"cvae_scalar"},
    "figure_10": {"cvae_onehot"},
    "figure_11": {"vae", "bvae_beta2", "bvae_beta5", "cvae_onehot", "vqvae"},
    "figure_12": {"vae", "bvae_beta2", "bvae_beta5", "cvae_onehot", "vqvae"},
    "figure_13": {"vae_d2", "bvae_beta2_d2", "bvae_beta5_d2", "cvae_onehot_d2"},
    "figure_14": {"vae", "bvae_beta2", "bvae_beta5", "cvae_onehot", "vqvae"},
    "figure_15": {"arch_324_284_3"},
    "table_1": {"vae", "bvae_beta2", "bvae_beta5", "cvae_onehot", "cvae_scalar", "vqvae"},
    "table_2": {run_name(row.architecture) for row in numbers.TABLE_2},
    "table_3": {run_name(row.architecture) for row in numbers.TABLE_3},
}


@pytest.mark.parametrize("target", TARGETS)
def test_targets_have_the_reports_models_and_their_ablations(target: str, paper: Runs) -> None:
    assert set(CATALOGUE[target].among(paper.alias)) - BASELINES == TARGETS[target]


BASELINES = {
    *(f"wakesleep_mnist_d{d}" for d in (3, 5, 10, 20, 200)),
    *(f"wakesleep_frey_d{d}" for d in (2, 5, 10, 20)),
    *("wakesleep_n1000", "wakesleep_n50000", "mcem_n1000"),
}


def test_baselines_are_all_switched_on_or_none_or_those_named() -> None:
    for preset in ("modern", "paper"):
        assert set(runs_of(preset).alias) >= BASELINES
    for switch in (False, "false"):  # Snakemake's --config gives text
        assert not BASELINES & set(runs_of("paper", baselines=switch).alias)
    for switch in (True, "true"):
        assert set(runs_of("quick", baselines=switch).alias) >= BASELINES
    some = runs_of("paper", baselines=["mcem_n1000", "wakesleep_frey_d5"])
    assert BASELINES & set(some.alias) == {"mcem_n1000", "wakesleep_frey_d5"}
    shown = CATALOGUE["figure_02"].among(some.alias)
    assert BASELINES & set(shown) == {"wakesleep_frey_d5"}


def test_faithful_trains_beginnings_of_the_paper_preset(paper: Runs) -> None:
    faithful = runs_of("faithful")
    assert set(faithful.by_id) == set(paper.by_id)
    for run_id, run in faithful.by_id.items():
        whole = paper.by_id[run_id].spec
        assert run.spec.budget.samples <= whole.budget.samples
        assert run.spec.endless() == whole.endless()
        if run.spec.endless() is None and run.name != "mcem_n1000":
            assert run.spec == whole, run_id


def test_published_fingerprints_are_those_of_their_specifications() -> None:
    published = sorted((ROOT / "results/modern/runs").glob("*/provenance.json"))
    assert len(published) > 70
    for path in published:
        record = json.loads(path.read_text())
        spec = RunSpec.from_flat(record["spec"])
        assert (
            fingerprint(spec, record["seed"], record["dataset"]["sha256"])
            == (record["fingerprint"])
        ), path


def test_small_presets_train_some_baselines() -> None:
    for preset, methods in (("smoke", {"wake_sleep", "mcem"}), ("quick", {"wake_sleep"})):
        runs = runs_of(preset)
        found = {spec_of(runs, name).method for name in BASELINES & set(runs.alias)}
        assert found == methods, preset
    smoke = runs_of("smoke").alias
    targets = {name for name, item in CATALOGUE.items() if BASELINES & set(item.among(smoke))}
    assert targets == {"figure_01", "figure_02", "figure_03", "table_likelihood"}


def test_baselines_have_the_networks_and_the_optimiser_of_their_figure(paper: Runs) -> None:
    for name in BASELINES:
        kind, _, rest = name.partition("_")
        model = f"ml_{rest}" if rest.startswith("n") else rest
        method = {"wakesleep": "wake_sleep", "mcem": "mcem"}[kind]
        expected = spec_of(paper, model).changed(method=method)
        assert spec_of(paper, name) == expected


def test_unknown_baseline_is_named_with_the_known_ones() -> None:
    with pytest.raises(VaelabError, match=r"baselines names vae; .*wakesleep_mnist_d3"):
        runs_of("paper", baselines=["mcem_n1000", "vae"])


@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_extras_wait_for_their_switch_and_keep_what_they_are_about(preset: str) -> None:
    assert "ml_n1000_lr002" not in runs_of(preset, extras=False).alias
    runs = runs_of(preset, extras=True)
    for name, rate in (("frey_adagrad01_d2", 0.1), ("ml_n1000_lr002", 0.02)):
        recipe = spec_of(runs, name).recipe
        assert (recipe.optimizer, recipe.learning_rate) == ("adagrad", rate)
        assert (recipe.schedule, recipe.warmup) == ("constant", 0.0)
    samples = {spec_of(runs, name).budget.samples for name in ("frey_adagrad01_d2", "frey_d2")}
    assert len(samples) == 1
    changed = {"runs": {"ml_n1000_lr002": {"learning_rate": 0.05}}}
    runs = runs_of(preset, extras=True, training=changed)
    assert spec_of(runs, "ml_n1000_lr002").recipe.learning_rate == 0.05


# --- Presets, layers, aliases ---------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_change_recipe_and_budget_but_never_the_science(preset: str) -> None:
    science = set(FLAT_ORDER) - set(RecipePart.model_fields) - set(BudgetPart.model_fields)
    rows = {row.run: row.spec for row in read_rows(TABLE)}
    runs = runs_of(preset)
    for name in runs.alias:
        spec = spec_of(runs, name)
        found, stated = spec.flat(), rows[name].flat()
        assert {key: found[key] for key in science} == {key: stated[key] for key in science}


def test_paper_preset_changes_no_recipe(paper: Runs) -> None:
    bookkeeping = set(BudgetPart.model_fields) - {"samples"}
    for row in (row for row in read_rows(TABLE) if row.when != "by_name"):
        changed = {key: row.spec.flat()[key] for key in bookkeeping}
        assert spec_of(paper, row.run).changed(**changed) == row.spec


def config_with(training: dict[str, Any], **changes: Any) -> Config:
    real = {"preset": "paper", "data": {"frey": {"fallback": "none"}}}
    return validate([("test", real | {"training": training} | changes)])


def test_overrides_apply_by_default_then_group_then_run() -> None:
    config = config_with(
        {
            "default": {"samples": 1000, "learning_rate": 0.5, "batch_size": 10},
            "groups": {"benchmark": {"samples": 2000, "learning_rate": 0.25}},
            "runs": {"vae": {"samples": 3000}},
        }
    )
    runs = resolve(config, ROOT)

    def recipe(name: str) -> tuple[int, float, int]:
        spec = spec_of(runs, name)
        return spec.budget.samples, spec.recipe.learning_rate, spec.recipe.batch_size

    assert recipe("beta1") == (1000, 0.5, 10)
    assert recipe("cvae_onehot") == (2000, 0.25, 10)
    assert recipe("vae") == (3000, 0.25, 10)


def test_only_likelihood_runs_keep_snapshots() -> None:
    runs = resolve(config_with({}, likelihood={"snapshots": 9}, history={"points": 11}), ROOT)
    for name in runs.alias:
        spec = spec_of(runs, name)
        kept = name.startswith(("ml_", "mcem_", "wakesleep_n"))
        assert spec.budget.snapshots == (9 if kept else 0)
        assert spec.budget.history_points == 11


def test_override_that_makes_a_run_impossible_names_preset_and_run() -> None:
    config = config_with({}).model_copy(
        update={"history": config_with({}).history.model_copy(update={"points": 1})}
    )
    with pytest.raises(VaelabError, match=r"preset paper, run 'mnist_d2': history_points: .* 2"):
        resolve(config, ROOT)


def test_readme_says_how_many_trainings_a_preset_has() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| (\d+) \|[^|]*\|$", text, re.MULTILINE)
    assert {name: int(count) for name, count in rows} == {
        preset: len(runs_of(preset).by_id) for preset in PRESETS
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_no_two_runs_are_the_same_training(preset: str) -> None:
    runs = runs_of(preset, seeds=[0, 1])
    trainings = [(run.spec.canonical(), run.seed) for run in runs.by_id.values()]
    assert len(trainings) == len(set(trainings))
    for ids in runs.alias.values():
        assert [runs.by_id[i].seed for i in ids] == [0, 1]


def test_equal_specs_are_one_training_under_two_names() -> None:
    apart = {"groups": {"benchmark": {"samples": 20}}, "default": {"samples": 10}}
    runs = resolve(config_with(apart, seeds=[0, 3]), ROOT)
    assert runs.alias["arch_500_500_3"] == ("arch_500_500_3-s0", "arch_500_500_3-s3")
    runs = resolve(config_with({"default": {"samples": 10}}, seeds=[0, 3]), ROOT)
    assert runs.alias["arch_500_500_3"] == runs.alias["vae"] == ("vae-s0", "vae-s3")
    assert "arch_500_500_3-s0" not in runs.by_id
    assert runs.ids(["vae", "arch_500_500_3", "beta1"])[:2] == ["vae-s0", "vae-s3"]
    assert len(runs.ids(["vae", "arch_500_500_3", "beta1"])) == 4


# --- Probes of the search -------------------------------------------------------------------


def test_probe_ids_are_architectures() -> None:
    runs = runs_of("quick")
    probe = runs.run("arch_400_30_7-s5")
    assert (probe.name, probe.seed, probe.id) == ("arch_400_30_7", 5, "arch_400_30_7-s5")
    assert probe.spec.model.architecture == (400, 30, 7)
    table = spec_of(runs, "arch_500_3")
    same = table.changed(**{"hidden": (400, 30), "latent_dim": 7})
    assert probe.spec == same
    assert RunSpec.from_flat(probe.spec.flat()) == probe.spec
    assert runs.run("arch_9-s0").spec.model.architecture == (9,)


def test_an_override_of_a_listed_architecture_is_not_one_of_the_probes() -> None:
    first = next(row.run for row in read_rows(TABLE) if row.group == "architecture")
    config = config_with({"default": {"samples": 1000}, "runs": {first: {"samples": 7}}})
    runs = resolve(config, ROOT)
    assert runs.run(f"{first}-s0") is runs.by_id[f"{first}-s0"]
    assert runs.run(f"{first}-s0").spec.budget.samples == 7
    assert runs.run("arch_400_30_7-s0").spec.budget.samples == 1000


def test_a_run_under_another_name_is_asked_for_by_its_own() -> None:
    """In quick the first network of Table 1 and the largest of Table 2 are one training."""
    runs = runs_of("quick", seeds=[0, 3])
    with pytest.raises(VaelabError, match=r"arch_500_500_3-s3 is the same training as vae-s3"):
        runs.run("arch_500_500_3-s3")
    with pytest.raises(VaelabError, match=r"vae is trained with seeds \[0, 3\] \(setting seeds\)"):
        runs.run("vae-s7")


def test_unknown_run_lists_the_known_ones() -> None:
    runs = runs_of("quick")
    for run_id in ("vea-s0", "vae", "arch_-s0", "arch_0_3-s0", "arch_500_3", "arch_5_-s0"):
        with pytest.raises(VaelabError, match=f"no run '{run_id}'; .* has: .*mnist_d20"):
            runs.run(run_id)
