"""What the workflow plans with: runs that are checked before any job starts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vaelab.output.catalogue import CATALOGUE
from vaelab.pipeline import planning
from vaelab.pipeline.planning import Plan, growing, load_runs, needed_datasets
from vaelab.settings.config import Config, load_config
from vaelab.settings.runs import Runs
from vaelab.util.errors import VaelabError
from workflow_project import ROOT


def config(**changes: Any) -> Config:
    return load_config(overrides={"preset": "smoke"} | changes, root=ROOT)


@pytest.fixture(scope="module")
def runs() -> Runs:
    return load_runs(config(), ROOT)


def test_runs_of_every_preset_are_possible() -> None:
    for path in sorted((ROOT / "config/presets").glob("*.yaml")):
        assert load_runs(config(preset=path.stem), ROOT).by_id


def test_sources_of_an_unknown_dataset_are_refused() -> None:
    with pytest.raises(VaelabError, match=r"data\.sources: there is no dataset named 'mnits'"):
        load_runs(config(data={"sources": {"mnits": []}}), ROOT)


def test_datasets_are_those_of_the_runs(runs: Runs, tmp_path: Path) -> None:
    assert needed_datasets(runs) == ["mnist", "frey"]
    header, *rows = (ROOT / "config/runs.tsv").read_text().splitlines()
    table = tmp_path / "runs.tsv"
    table.write_text("\n".join([header, *(row for row in rows if row.startswith("frey_d2\t"))]))
    assert needed_datasets(load_runs(config(runs=str(table)))) == ["frey"]


@pytest.fixture(scope="module")
def plan(runs: Runs) -> Plan:
    return Plan(config(), runs)


@pytest.mark.parametrize(
    ("device", "driver", "visible", "gpus"),
    [
        ("cpu", True, None, 0),
        ("cuda", False, None, 1),
        ("auto", False, None, 0),
        ("auto", True, None, 1),
        ("auto", True, "", 0),
        ("auto", True, "-1", 0),
        ("auto", True, "0", 1),
    ],
)
def test_gpu_is_asked_for_where_one_is_used(
    device: str,
    driver: bool,
    visible: str | None,
    gpus: int,
    runs: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "DRIVER", tmp_path if driver else tmp_path / "none")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert Plan(config(device=device), runs).gpus_per_run == gpus


def test_evaluations_of_a_run_with_snapshots_have_its_likelihood(plan: Plan) -> None:
    folder = "results/smoke/runs"
    names = ("metrics.json", "history.csv", "provenance.json", "arrays.npz")
    text = {f"{folder}/vae-s0/{name}" for name in names}
    assert {*plan.evaluations(["vae-s0"])} == text
    likelihood = {f"{folder}/ml_n1000-s0/{n}" for n in ("likelihood.csv", "likelihood_final.csv")}
    assert {*plan.evaluations(["vae-s0", "ml_n1000-s0"])} > text | likelihood


def test_caption_has_the_samples_of_each_run(runs: Runs) -> None:
    paper = config(preset="paper")
    assert Plan(paper, load_runs(paper, ROOT)).samples_of("figure_06") == "120 000 000"


def test_identity_holds_the_spec_the_seed_and_the_schema(plan: Plan, runs: Runs) -> None:
    identity = plan.training_identity("vae-s0")
    assert identity.startswith(runs.run("vae-s0").spec.canonical())
    assert identity.endswith(f" seed 0 schema {planning.TRAINING_SCHEMA}")
    assert plan.evaluation_identity.endswith(f"}} schema {planning.EVALUATION_SCHEMA}")
    assert plan.likelihood_identity.startswith(plan.evaluation_identity.partition(" ")[0])
    changed = Plan(config(likelihood={"chains": 7}), runs)
    assert changed.evaluation_identity == plan.evaluation_identity
    assert changed.likelihood_identity != plan.likelihood_identity


def test_time_grows_with_the_work_and_doubles_at_each_retry(plan: Plan) -> None:
    assert plan.training_minutes("vae-s0", 3) == 4 * plan.training_minutes("vae-s0")
    paper = config(preset="paper")
    long = Plan(paper, load_runs(paper, ROOT))
    minutes = {run: long.training_minutes(run) for run in ("arch_50_4-s0", "vae-s0", "vqvae-s0")}
    assert 15 < minutes["arch_50_4-s0"] < minutes["vae-s0"] < minutes["vqvae-s0"]
    assert [growing(1000)(None, attempt) for attempt in (1, 2, 3)] == [1000, 2000, 4000]


def test_short_trainings_share_groups_and_long_ones_queue_alone(plan: Plan, runs: Runs) -> None:
    groups = Counter(plan.training_group(run) for run in runs.by_id)
    assert None not in groups
    assert sum(groups.values()) == len(runs.by_id)
    assert set(groups.values()) <= {7, 8}
    assert plan.training_group("arch_9_8_7-s0") is None
    paper = config(preset="paper")
    long = Plan(paper, load_runs(paper, ROOT))
    alone = {run for run in long.runs.by_id if long.training_group(run) is None}
    assert alone == {run for run in long.runs.by_id if long.training_minutes(run) > 60}
    assert {"vqvae-s0", "vae-s0"} <= alone
    assert not {"frey_d2-s0", "frey_d20-s0"} & alone


def test_what_a_checkpoint_decides_is_in_no_group(plan: Plan) -> None:
    groups = {target: plan.drawing_group(target) for target in CATALOGUE}
    alone = [t for t, group in groups.items() if group is None]
    assert alone == ["figure_15", "table_2", "table_front"]
    assert {*groups.values()} == {None, "drawing_0", "drawing_1", "drawing_2"}


def test_search_needs_the_runs_behind_its_architectures(plan: Plan) -> None:
    step = {"measured": [[500, 500, 3]], "probes": [[9, 8, 7]]}
    assert plan.probe_metrics(step) == ["results/smoke/runs/arch_9_8_7-s0/metrics.json"]
    # The table's run has the architecture.
    assert plan.searched(step) == plan.evaluations(["vae-s0"])


def test_pattern_of_no_run_matches_none(plan: Plan) -> None:
    assert plan.ids_where(lambda run: run.name == "vae") == "vae-s0"
    assert plan.ids_where(lambda run: False) == "none"


def test_impossible_run_is_refused_by_name(tmp_path: Path) -> None:
    header, *rows = (ROOT / "config/runs.tsv").read_text().splitlines()
    row = next(row for row in rows if row.startswith("frey_d2\t"))
    cells = dict(zip(header.split("\t"), row.split("\t"), strict=True)) | {"train_subset": "1566"}
    table = tmp_path / "runs.tsv"
    table.write_text("\n".join([header, "\t".join(cells.values())]))
    with pytest.raises(VaelabError, match=r"run 'frey_d2': train_subset is at most 1565"):
        load_runs(config(runs=str(table)))
