"""Another workflow that trains its own runs with this one, as module_example shows."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from vaelab.util.io import one_at_a_time
from workflow_project import Plan, Project, commit, copy_project

RUNS = ("narrow-s1", "wide-s1")


@pytest.fixture(scope="module")
def vaelab(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of this workflow, with the other one in its folder tests/workflow/module_example."""
    return copy_project(tmp_path_factory.mktemp("module") / "vaelab")


@pytest.fixture(scope="module")
def example(vaelab: Project) -> Project:
    """The other workflow after a run; it uses the sources beside the Snakefile it imports."""
    project = Project(vaelab.folder / "tests/workflow/module_example")
    project.snakemake()
    return project


@pytest.fixture(scope="module")
def plans(example: Project) -> dict[str, Plan]:
    """Dry runs of the other workflow after its run."""
    return example.plans(
        {
            "again": (),
            "figure": ("vaelab_figure_04",),
            "quick": ("vaelab_models", "--config", "vaelab={preset: quick}"),
            "key": ("--config", "vaelab={sedes: [0]}"),
            "preset": ("--config", "vaelab={preset: fast}"),
            "table": ("--config", "vaelab={runs: none.tsv}"),
            "extension": ("--config", "vaelab={extensions: [none.py]}"),
        }
    )


def test_own_runs_are_trained_and_compared(example: Project) -> None:
    results = example.folder / "results/smoke"
    assert {path.name for path in (results / "runs").iterdir()} == set(RUNS)
    with (example.folder / "comparison.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["run"] for row in rows] == list(RUNS)
    for row in rows:
        metrics = json.loads((results / f"runs/{row['run']}/metrics.json").read_text())
        assert float(row["test_neg_elbo"]) == metrics["test"]["neg_elbo"]
        spec = json.loads((results / f"runs/{row['run']}/provenance.json").read_text())["spec"]
        # The method of the wide runs is from an extension, which every job imports.
        narrow = row["run"].startswith("narrow")
        assert (spec["hidden"], spec["method"]) == (([50], "aevb") if narrow else ([200], "plain"))


def test_everything_stays_in_the_other_project(vaelab: Project, example: Project) -> None:
    assert (example.folder / "data/raw/mnist/source.json").is_file()
    # Over there is only what is in git: pointers to the data.
    assert {path.suffix for path in (vaelab.folder / "data/raw").iterdir()} == {".dvc"}
    assert not (vaelab.folder / "results").exists()
    assert not (vaelab.folder / ".snakemake").exists()


def test_run_is_repeated_by_nothing(plans: dict[str, Plan]) -> None:
    assert plans["again"].jobs == []


def test_second_workflow_on_its_preset_is_refused(example: Project) -> None:
    with one_at_a_time(example.folder / "results/smoke"):
        done = example.command("snakemake", "--cores", "1", "--force", "compare")
    assert done.returncode == 1
    assert "another workflow is at work on results/smoke; wait for it to end" in done.stdout


def test_figures_of_the_report_can_be_had_too(plans: dict[str, Plan]) -> None:
    """Rules, captions and presets are found from the other folder; the table is its own."""
    assert plans["figure"].rules["vaelab_figure_04"] == 1
    # The quick preset has recipes of single runs, none of which are in this table.
    assert plans["quick"].trained == set(RUNS)


def test_deployed_from_a_repository_it_uses_the_copied_config(
    vaelab: Project, tmp_path: Path
) -> None:
    """What `snakedeploy` makes: config and profiles are copies, the rules come from a commit."""
    commit(vaelab.folder, "deployed", start=True)
    for name in ("config", "profiles"):
        shutil.copytree(vaelab.folder / name, tmp_path / name)
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow/Snakefile").write_text(f"""
configfile: "config/config.yaml"
module vaelab:
    snakefile: gitfile("{vaelab.folder}", path="workflow/Snakefile", ref="HEAD")
    config: config
use rule * from vaelab
""")
    row = "mine\tbenchmark\talways\tmnist\t\tvae\tseparate\trelu\t50\t3\tbernoulli\t1\tnone\taevb"
    with (tmp_path / "config/runs.tsv").open("a") as table:
        table.write(f"{row}\tadagrad\t0.01\t100\tnormal\t1.2e8\t\t\n")
    plan = Project(tmp_path).plan("figure_04", "models", "--config", "preset=smoke")
    assert plan.rules["figure_04"] == 1
    assert "mine-s0" in plan.trained


def test_mistakes_are_named(plans: dict[str, Plan]) -> None:
    for name, message in {
        "key": "the module's config: sedes: unknown key",
        "preset": "unknown preset 'fast'",
        "table": "none.tsv does not exist",
        "extension": "extensions: none.py does not exist",
    }.items():
        assert plans[name].status == 1
        assert message in plans[name].text
        assert "Traceback (most recent call last)" not in plans[name].text
