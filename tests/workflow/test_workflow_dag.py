"""The workflow's plans: which jobs a target needs, and what is refused before any job starts."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from vaelab.output.catalogue import CATALOGUE, FRONT
from workflow_project import ROOT, Job, Plan, Project, copy_project, holders, preset_rows

FIGURE_TARGETS = [f"figure_{number:02d}" for number in range(1, 16)]
TABLE_TARGETS = ["table_1", "table_2", "table_3"]
COMPANION, CURVES = "table_likelihood", "table_curves"
SMOKE = ("--config", "preset=smoke")

# Targets that are planned by their names; the plan of `all` says what each of the others needs. It
# does not say so of the search, whose inputs are not known before its first step.
BY_NAME = ("figure_05", "figure_15", "table_1", "table_2")

# Settings that cannot be, and what the message must say. The other settings and the rows of the
# run table are refused by the same code, which test_config, test_spec and test_cli test.
BAD_SETTINGS = {
    "unknown key": ("sedes=[0]", r"--config: sedes: unknown key"),
    "unknown preset": ("preset=fast", r"unknown preset 'fast'.*modern, .*quick"),
    "bad row": ("runs=config/row.tsv", r"config/row\.tsv, run 'vae': \S*beta: .*'-1'"),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A fresh copy: no data, no results."""
    return copy_project(tmp_path_factory.mktemp("dag"))


def write_bad_table(folder: Path) -> None:
    """A run table with an impossible cell."""
    header, *lines = (ROOT / "config/runs.tsv").read_text().splitlines()
    rows = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
    next(row for row in rows if row["run"] == "vae")["beta"] = "-1"
    text = [header, *("\t".join(row.values()) for row in rows)]
    (folder / "row.tsv").write_text("\n".join(text) + "\n")


@pytest.fixture(scope="module")
def plans(project: Project) -> dict[str, Plan]:
    """Every dry run of this file, by name."""
    targets = [*BY_NAME, "yardstick", "data", "models", "all"]
    queries: dict[str, tuple[str, ...]] = {target: (target, *SMOKE) for target in targets}
    queries["no target"] = SMOKE
    queries["quick models"] = ("models",)
    queries["paper models"] = ("models", "--configfile", "config/presets/paper.yaml")
    queries["table_front"] = ("table_front", *SMOKE)
    queries["table_recipe"] = ("table_recipe", *SMOKE, "recipe_seeds=[0, 1, 2]")
    queries["two seeds"] = ("figure_06", *SMOKE, "seeds=[0, 7]")
    queries["retried"] = ("all", *SMOKE, "--attempt", "2")
    queries["on cpu"] = ("models", *SMOKE, "device=cpu")
    queries["on cuda"] = ("models", *SMOKE, "device=cuda")
    for name, (setting, _) in BAD_SETTINGS.items():
        queries[f"bad: {name}"] = ("all", "--config", setting)
    write_bad_table(project.folder / "config")
    (project.folder / "config/overlay.yaml").write_text("preset: smoke\nsearch: {kl: none}\n")
    queries["bad overlay"] = ("all", "--configfile", "config/overlay.yaml")
    for name, path in {
        "unknown run": "results/smoke/runs/vea-s0/metrics.json",
        "no seed": "results/smoke/runs/vae/metrics.json",
        "outside": "results/smoke/runs/../vae-s0/metrics.json",
        "no number": "results/smoke/search/step_last.json",
        "other preset": "results/quick/figures/figure_04.png",
    }.items():
        queries[f"no such file: {name}"] = (path, *SMOKE)
    queries["a probe"] = ("results/smoke/runs/arch_17_5_2-s3/metrics.json", *SMOKE)
    return project.plans(queries)


def expected_runs(target: str, preset: str = "smoke") -> set[str]:
    """Ids of the runs that a target shows, as far as the preset has them, each trained once."""
    holder = holders(preset_rows(preset))
    return {f"{holder[name]}-s0" for name in CATALOGUE[target].among(holder)}


def expected_data(runs: set[str]) -> Counter[str]:
    """The fetching jobs for runs, where no data are there."""
    return Counter({f"fetch_{'frey' if 'frey' in run else 'mnist'}" for run in runs})


def job(plan: Plan, rule: str) -> Job:
    (found,) = [job for job in plan.jobs if job.rule == rule]
    return found


def needed(plan: Plan, rule: str) -> list[Job]:
    """A job and all that has to be made for it."""
    makers = {path: job for job in plan.jobs if "output" in job.fields for path in job.outputs}
    found: list[Job] = []
    wanted = [job(plan, rule)]
    while wanted:
        if (one := wanted.pop()) not in found:
            found.append(one)
            wanted += [makers[path] for path in one.inputs if path in makers]
    return found


# Targets


@pytest.mark.parametrize("target", [*FIGURE_TARGETS, *TABLE_TARGETS])
def test_target_plans_its_runs_and_nothing_else(plans: dict[str, Plan], target: str) -> None:
    jobs = plans[target].jobs if target in BY_NAME else needed(plans["all"], target)
    runs = expected_runs(target)
    assert runs
    assert {job.run for job in jobs if job.run} == runs
    rest = Counter([target]) + expected_data(runs)
    if target in ("table_2", "figure_15"):
        rest += Counter(["search", "search_step"])
    if target == "table_1":
        rest += Counter(["nll"])
    rules = Counter(job.rule for job in jobs if not job.run)
    assert rules == rest
    assert len(jobs) == rules.total() + len(runs)


def test_companion_of_figure_3_needs_what_the_figure_needs(plans: dict[str, Plan]) -> None:
    runs = {job.run for job in needed(plans["all"], COMPANION) if job.run}
    assert runs == expected_runs("figure_03")
    assert job(plans["all"], COMPANION).outputs == [
        "results/smoke/tables/likelihood.csv",
        "results/smoke/tables/likelihood.md",
    ]


def test_yardstick_is_trained_for_itself_alone(plans: dict[str, Plan]) -> None:
    plan = plans["yardstick"]
    assert plan.rules == Counter(["yardstick", "train", "fetch_mnist"])
    assert plan.trained == {"yardstick-s0"}
    for target in ("models", "all", "paper models"):
        assert "yardstick-s0" not in plans[target].trained
        assert "yardstick" not in plans[target].rules


def test_studies_train_their_runs_apart_from_all(plans: dict[str, Plan]) -> None:
    recipe, front = plans["table_recipe"], plans["table_front"]
    assert recipe.rules == Counter({"table_recipe": 1, "train": 48, "fetch_mnist": 1})
    assert len(recipe.trained) == 48
    assert "recipe_500_100_50_10_5_default_adam_bias-s2" in recipe.trained
    assert {f"{name}-s0" for name in FRONT} < front.trained
    assert not (recipe.trained | {f"{name}-s0" for name in FRONT}) & plans["all"].trained


def test_data_fetches_both_datasets_and_trains_nothing(plans: dict[str, Plan]) -> None:
    assert plans["data"].rules == Counter(["data", "fetch_mnist", "fetch_frey"])


def test_models_trains_every_distinct_spec_once(plans: dict[str, Plan]) -> None:
    for preset, plan in (
        ("smoke", plans["models"]),
        ("quick", plans["quick models"]),
        ("paper", plans["paper models"]),
    ):
        names = set(holders(preset_rows(preset)).values())
        assert plan.trained == {f"{name}-s0" for name in names}, preset
        assert plan.rules["train"] == len(names), preset
    # [500, 500, 3] of Tables 2 and 3 is Table 1's VAE where both have the same budget.
    assert "vae-s0" in plans["models"].trained
    assert "arch_500_500_3-s0" not in plans["models"].trained
    assert {"vae-s0", "arch_500_500_3-s0"} <= plans["paper models"].trained


def test_all_is_the_default_and_plans_everything(plans: dict[str, Plan]) -> None:
    plan = plans["all"]
    assert plan.rules == Counter(
        [
            *FIGURE_TARGETS,
            *TABLE_TARGETS,
            COMPANION,
            CURVES,
            "all",
            "claims",
            "page",
            "metrics",
            "measures",
            "nll",
        ]
        + ["classifier", "search", "search_step", "fetch_mnist", "fetch_frey"]
    ) + Counter({"train": len(plans["models"].trained)})
    assert plan.trained == plans["models"].trained
    assert plans["no target"].rules == plan.rules
    assert plans["no target"].trained == plan.trained


def test_all_writes_the_files_of_the_contract(plans: dict[str, Plan]) -> None:
    written = {path for job in plans["all"].jobs if "output" in job.fields for path in job.outputs}
    top = {
        "claims.csv",
        "claims.md",
        "metrics.json",
        "index.html",
        "measures.json",
        "nll.json",
        "search/decisions.json",
    }
    figures = {f"figures/figure_{number:02d}.png" for number in range(1, 16)}
    names = ("table_1", "table_2", "table_3", "likelihood")
    tables = {f"tables/{name}.{kind}" for name in names for kind in ("csv", "md")}
    run = ("history.csv", "metrics.json", "provenance.json", "arrays.npz")
    runs = {f"runs/{i}/{name}" for i in plans["models"].trained for name in run}
    weights = {f"checkpoints/{i}.safetensors" for i in plans["models"].trained}
    for path in top | figures | tables | runs | weights:
        assert f"results/smoke/{path}" in written


def test_search_begins_with_one_step_that_waits_for_nothing(plans: dict[str, Plan]) -> None:
    step = job(plans["table_2"], "search_step")
    assert step.outputs == ["results/smoke/search/step_0.json"]
    assert "input" not in step.fields
    assert job(plans["table_2"], "search").outputs == ["results/smoke/search/decisions.json"]


def test_every_seed_is_a_run_of_its_own(plans: dict[str, Plan]) -> None:
    betas = ("beta1", "beta2", "beta5", "beta50")
    assert plans["two seeds"].trained == {f"{name}-s{seed}" for name in betas for seed in (0, 7)}
    assert plans["two seeds"].rules["train"] == 8


def test_likelihood_runs_also_keep_snapshots(plans: dict[str, Plan]) -> None:
    jobs = {job.run: job for job in plans["models"].jobs if job.run}
    rows = {row["run"]: row for row in preset_rows("smoke")}
    for run, trained in jobs.items():
        snapshots = f"results/smoke/checkpoints/{run}.snapshots.safetensors" in trained.outputs
        curves = f"results/smoke/runs/{run}/likelihood.csv" in trained.outputs
        assert snapshots == curves == (rows[run.removesuffix("-s0")]["group"] == "likelihood"), run


def test_preset_with_other_fallback_plans_everything_where_the_data_are(tmp_path: Path) -> None:
    """Snakemake forgets what comes after an `ancient` file whose job has another setting."""
    project = copy_project(tmp_path / "project")
    project.snakemake("data", *SMOKE, cores=1)
    plan = project.plan("models", "--config", "preset=modern")
    assert not {"fetch_frey", "fetch_mnist"} & set(plan.rules)
    assert plan.rules["train"] > 40


def test_a_probe_of_the_search_is_an_ordinary_run(plans: dict[str, Plan]) -> None:
    plan = plans["a probe"]
    assert plan.rules == Counter(["train", "fetch_mnist"])
    assert plan.trained == {"arch_17_5_2-s3"}


# Figures and sections


def test_files_of_figures_and_tables_are_those_of_the_catalogue(plans: dict[str, Plan]) -> None:
    for target, item in CATALOGUE.items():
        if item.apart:
            assert target not in plans["all"].rules
            continue
        expected = [f"results/smoke/{path}" for path in item.files.values()]
        assert job(plans["all"], target).outputs == expected


# Resources, logs, imports


def test_training_asks_for_a_gpu_only_where_one_is_used(plans: dict[str, Plan]) -> None:
    here = "1" if Path("/dev/nvidiactl").exists() else "0"
    for name, gpus in (("on cpu", "0"), ("on cuda", "1"), ("models", here)):
        trainings = [job for job in plans[name].jobs if job.run]
        assert {job.resources["gpu"] for job in trainings} == {gpus}, name
        others = [job for job in plans[name].jobs if not job.run and "resources" in job.fields]
        assert all(job.resources.get("gpu", "0") == "0" for job in others), name


def test_jobs_ask_for_one_core_and_reasonable_memory_and_time(
    plans: dict[str, Plan],
) -> None:
    computing = [j for j in plans["all"].jobs if "benchmark" in j.fields]
    # The plan has eight cores to give; one is not printed.
    assert [j.rule for j in computing if "threads" in j.fields] == []
    for planned in computing:
        assert 500 <= int(planned.resources["mem_mb"]) <= 8000, planned.rule
        assert 5 <= int(planned.resources["runtime"]) <= 24 * 60, planned.rule
    # The report's 1.2e8 samples take hours on one core, a smoke run a minute.
    smoke = {j.run: int(j.resources["runtime"]) for j in plans["models"].jobs if j.run}
    paper = {j.run: int(j.resources["runtime"]) for j in plans["paper models"].jobs if j.run}
    assert smoke["vae-s0"] <= 60
    assert paper["vae-s0"] >= 600
    assert paper["vae-s0"] > paper["arch_50_4-s0"]


def test_retries_have_twice_the_memory_and_time(plans: dict[str, Plan]) -> None:
    first, again = (
        {
            planned.outputs[0]: planned
            for planned in plans[name].jobs
            if "benchmark" in planned.fields
        }
        for name in ("all", "retried")
    )
    assert len(first) > 70
    for output, planned in first.items():
        for resource in ("mem_mb", "runtime"):
            doubled = 2 * int(planned.resources[resource])
            assert int(again[output].resources[resource]) == doubled, (output, resource)


def test_training_comes_before_drawing(plans: dict[str, Plan]) -> None:
    priority = {
        j.rule if not j.run else "train": int(j.fields.get("priority", "0"))
        for j in plans["all"].jobs
    }
    assert priority["train"] > priority["classifier"] > priority["figure_01"] == 0


def test_whatever_computes_has_a_log_and_a_benchmark(plans: dict[str, Plan]) -> None:
    for planned in plans["all"].jobs:
        if planned.rule in ("all", "data", "models"):
            continue
        assert planned.fields["log"].startswith("results/smoke/logs/"), planned.rule
        glue = ("fetch_mnist", "fetch_frey", "search_step", "search", "metrics")
        assert ("benchmark" in planned.fields) == (planned.rule not in glue), planned.rule


def test_planning_imports_neither_torch_nor_matplotlib(plans: dict[str, Plan]) -> None:
    loaded = plans["all"].modules
    assert "vaelab.settings.spec" in loaded
    assert not {"torch", "matplotlib", "plotly", "sklearn"} & loaded
    for path in [ROOT / "Snakefile", *(ROOT / "workflow").rglob("*.smk")]:
        assert not re.search(r"^\s*(import|from)\s+(torch|matplotlib)", path.read_text(), re.M)


# What is refused


def assert_refused(plan: Plan, message: str) -> None:
    """A short error, no traceback, and nothing planned."""
    assert plan.status == 1, plan.text
    assert re.search(message, plan.text), plan.text
    assert "Traceback (most recent call last)" not in plan.text
    assert "Job stats" not in plan.text
    assert len(plan.text.splitlines()) <= 24, plan.text


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_bad_setting_is_refused(plans: dict[str, Plan], name: str) -> None:
    """While the workflow is read, which a dry run does as any other."""
    assert_refused(plans[f"bad: {name}"], BAD_SETTINGS[name][1])


def test_bad_overlay_is_named(plans: dict[str, Plan]) -> None:
    assert_refused(plans["bad overlay"], r"config/overlay\.yaml: search\.kl: .*'none'")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unknown run", r"there is no run 'vea-s0'; config/runs.tsv has: .*vqvae"),
        ("no seed", r"No rule to produce"),
        ("outside", r"No rule to produce"),
        ("no number", r"No rule to produce"),
        ("other preset", r"No rule to produce"),
    ],
)
def test_no_rule_makes_a_file_that_is_none(plans: dict[str, Plan], name: str, message: str) -> None:
    plan = plans[f"no such file: {name}"]
    assert plan.status == 1, plan.text
    assert re.search(message, plan.text), plan.text
    assert "Traceback (most recent call last)" not in plan.text


# Style


def test_snakemake_lint_is_content(project: Project) -> None:
    done = project.command("snakemake", "--lint")
    assert done.returncode == 0, done.stdout
    assert "Congratulations" in done.stdout
