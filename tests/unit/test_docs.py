"""README and docs: links resolve, paths and commands exist, numbers are those of the results."""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from vaelab import __version__
from vaelab.cli import main
from vaelab.original.claims import CLAIMS
from vaelab.original.numbers import curves
from vaelab.original.smoothing import smoothing
from vaelab.output.catalogue import figures, tables
from vaelab.output.page import searching
from vaelab.util.io import read_json
from workflow_project import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "config" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
# Presets whose results are in git; each has a column and a row in the README.
PUBLISHED = [path.parent.name for path in sorted(ROOT.glob("results/*/publication.json"))]
# A code span that starts with one of these is a path of the repository.
FOLDERS = ("benchmarks", "config", "docs", "envs", "profiles", "src", "tests", "workflow")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> str:
    """What a page shows as code, in blocks and in lines."""
    blocks = re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", without_code(text))])


def anchors(path: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    text = without_code(path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows(text: str, header: str) -> Iterator[list[str]]:
    """Cells of the rows of the Markdown table whose header starts with the given text."""
    lines = iter(text.splitlines())
    assert any(line.startswith(f"| {header}") for line in lines), header
    next(lines)
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def read_csv(path: str) -> list[dict[str, str]]:
    with open(ROOT / path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@every_page
def test_relative_links_and_anchors_resolve(page: Path) -> None:
    text = without_code(page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


@every_page
def test_every_page_of_the_documentation_is_linked_from_the_readme(page: Path) -> None:
    name = page.relative_to(ROOT).as_posix()
    # Examples and history are linked from other pages, or found by their name.
    assert name in {"README.md", "CHANGELOG.md"} or f"]({name})" in README


@every_page
def test_paths_of_the_repository_exist(page: Path) -> None:
    text = without_code(page.read_text(encoding="utf-8"))
    for path in re.findall(rf"`((?:{'|'.join(FOLDERS)})/[^`\s<>*]*)`", text):
        # Exercises make new files; a test does them.
        new = page.name == "extending.md"
        assert ((ROOT / path).parent if new else ROOT / path).exists(), path


@every_page
def test_commands_and_make_targets_exist(page: Path) -> None:
    code = commands(page.read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[0].split())
    used = re.findall(r"^(?:\S+=\S+ )?make ([a-z-]+)", code, re.MULTILINE)
    assert set(used) <= targets
    assert set(re.findall(r"^vaelab ([a-z]+)", code, re.MULTILINE)) <= set(main.commands)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 200


@pytest.mark.parametrize("preset", PUBLISHED)
def test_headline_numbers_are_those_of_the_tables(preset: str) -> None:
    tables = {
        row["run"]: row
        for name in ("table_1", "table_3")
        for row in read_csv(f"results/{preset}/tables/{name}.csv")
    }
    reported = [row for row in tables.values() if row["report_neg_elbo"]]
    if not any(row["within_tolerance"] for row in reported):
        below = sum(float(row["diff_neg_elbo"]) <= 0 for row in reported)
        assert below == len(reported)
        assert f"All {below} rows of Tables 1 and 3 are *surpassed" in README
    header = next(line for line in README.splitlines() if line.startswith("| train −ELBO"))
    ours = header.strip("| ").split(" | ").index(f"ours, `{preset}`")
    shown = list(rows(README, "train −ELBO"))
    assert len(shown) >= 5
    for _, run, report, *cells in shown:
        row = tables[run.strip("`")]
        difference = f"{float(row['diff_neg_elbo']):+.1f}".replace("-", "−")
        assert float(report) == float(row["report_neg_elbo"]), run
        assert cells[ours - 3 : ours - 1] == [f"{float(row['train_neg_elbo']):.1f}", difference], (
            run
        )


@pytest.mark.parametrize("preset", PUBLISHED)
def test_headline_verdicts_are_those_of_the_claims(preset: str) -> None:
    claims = read_csv(f"results/{preset}/claims.csv")
    # What the report itself says; a repetition counts once.
    said = [row["verdict"] for row in claims if row["tag"] == "report" and not row["same_as"]]
    hold, fail = said.count("holds"), said.count("fails")
    header = f"the report's {len(said)} statements"
    (row,) = (row for row in rows(README, header) if f"`{preset}`" in row[0])
    counts = [hold, fail, len(said) - hold - fail]
    assert [int(cell) for cell in row[1:]] == counts
    line = " | ".join(map(str, counts))
    assert f"| `{preset}` | {line} |" in (ROOT / "docs/search-and-claims.md").read_text()
    assert f"Of the {len(said)} statements that the report makes, {hold} hold" in RESULTS


def test_the_packages_and_their_order_are_those_of_the_import_contract() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = contract["contracts"][0]["layers"][::-1]
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.partition("## The packages")[2].partition("## Decisions")[0]
    assert re.findall(r"^\*\*(\w+)\.\*\*", section, re.MULTILINE) == layers
    drawn = re.findall(r"^  ((?:\w+ --> )+\w+)$", section, re.MULTILINE)
    assert list(dict.fromkeys(" --> ".join(drawn).split(" --> "))) == layers
    shaded = re.search(r"class (\S+) light", section)[1]
    light = [name.removeprefix("vaelab.") for name in contract["contracts"][1]["source_modules"]]
    assert shaded.split(",") == [name for name in light if "." not in name]


def test_the_searches_are_told_as_they_came_out() -> None:
    page = (ROOT / "docs" / "search-and-claims.md").read_text(encoding="utf-8")
    modern = read_json(ROOT / "results" / "modern" / "search" / "decisions.json")
    for walk in (searching.our_walk(modern), searching.report_walk()):
        (row,) = [
            line for line in page.splitlines() if line.startswith("|") and str(walk.answer) in line
        ]
        assert str(walk.told).replace("90 %: ", "") in row
        assert walk.intervals in row


def test_the_number_of_figures_and_tables_is_right() -> None:
    numbered = [item for item in tables() if not (item.beside or item.apart)]
    assert f"draws all {len(figures())} figures, fills\nall {len(numbered)} tables" in README


def test_the_number_of_claims_is_right() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for count in re.findall(r"(\d+)\s+(?:claims\b|statements in code)", text):
            assert int(count) == len(CLAIMS)


def test_the_results_page_explains_each_claim_that_does_not_hold() -> None:
    section = RESULTS.partition("## Modern recipe")[2].partition("\n## ")[0]
    claims = read_csv("results/modern/claims.csv")
    failed = [row["id"] for row in claims if row["verdict"] == "fails"]
    left_open = [row["id"] for row in claims if row["verdict"] not in ("holds", "fails")]
    for heading, ids in (("### What fails", failed), ("### What is open", left_open)):
        table = section.partition(heading)[2]
        assert [row[0] for row in rows(table, "id | the claim")] == ids


def test_the_recipe_taken_apart_is_told_as_it_came_out() -> None:
    table = pd.read_csv(ROOT / "results/modern/tables/table_recipe.csv")
    table = table[~table["output_bias"]].set_index(["init", "architecture", "optimizer"])
    networks = ("[500, 500, 3]", "[500, 100, 50, 10, 5]")
    told = list(rows(RESULTS, "initial weights"))
    assert len(told) == 2
    for init, *cells in told:
        values = [
            table["train_neg_elbo"][init, network, optimizer]
            for network in networks
            for optimizer in ("Adagrad", "Adam")
        ]
        assert cells == [f"{value:.1f}" for value in values]


def test_the_first_trainings_by_the_report_s_recipe_are_told_as_they_came_out() -> None:
    section = RESULTS.partition("## The report's recipe")[2]
    folder, where = ROOT / "results/faithful/runs", "loss, images"
    history = pd.read_csv(folder / "vae-s0/history.csv")
    samples = history["samples"].to_numpy(float)
    losses = {"−ELBO": "objective", "recon": "recon", "KL": "kl"}
    printed = curves(14).set_index(["series", "quantity", "split", "samples"])["value"]
    for what, seen, report, ours, difference, plain in rows(section, where):
        loss, split = what.split(", ")
        at = float(seen.replace(" ", ""))
        values = history[f"{split}_{losses[loss]}"].to_numpy(float)
        both = "both" if loss == "KL" else split
        smoothed = smoothing(14, "vae").at(np.array([at]), samples, values)[0]
        assert float(report) == printed["vae", losses[loss], both, at]
        assert ours == f"{smoothed:.1f}"
        assert difference == f"{smoothed - float(report):+.1f}".replace("-", "−")
        assert plain == f"{np.interp(at, samples, values):.1f}"
    faces = curves(2).set_index(["series", "split", "samples"])["value"]
    for run, *cells in rows(section, "Frey Face"):
        name, expected = run.strip("`"), []
        history = pd.read_csv(folder / f"{name}-s0/history.csv")
        for split in ("train", "test"):
            elbo = -np.interp(1.5e6, history["samples"], history[f"{split}_neg_elbo"])
            report = faces[name, split, 1.5e6]
            expected += [f"{report:.0f}", f"{elbo:.0f}", f"{elbo - report:+.0f}".replace("-", "−")]
        assert cells == expected
    modern = ROOT / "results/modern/tables"
    known = pd.concat([pd.read_csv(modern / f"table_{n}.csv") for n in (2, 3, 1)])
    known["report_neg_elbo"] = known["report_neg_elbo"].fillna(
        known["report_recon"] + known["report_kl"]
    )
    known = known.drop_duplicates("run", keep="last").set_index("run")
    for _, run, *ours, report, other in rows(section, "network | run"):
        train = read_json(folder / f"{run.strip('`')}-s0/metrics.json")["train"]
        assert ours == [f"{train[key]:.1f}" for key in ("neg_elbo", "recon", "kl")]
        row = known.loc[run.strip("`")]
        assert [report, other] == [f"{row[f'{key}_neg_elbo']:.1f}" for key in ("report", "train")]


@pytest.mark.parametrize(
    "table", sorted((ROOT / "results/bench").glob("*.md")), ids=lambda p: p.stem
)
def test_speeds_are_those_of_the_benchmarks(table: Path) -> None:
    page = (ROOT / "docs/performance.md").read_text(encoding="utf-8").splitlines()
    lines = [
        line for line in table.read_text(encoding="utf-8").splitlines() if line.startswith("|")
    ]
    assert [line for line in lines if line not in page] == []


def test_one_version_everywhere() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    latest = re.search(r"^## \[(.+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert latest
    assert {cited, packaged, latest[1]} == {__version__}


def test_promises_name_tests_that_exist() -> None:
    page = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`(\w+\.py)::(\w+)`", page)
    assert len(named) > 15
    for path, name in named:
        (found,) = (ROOT / "tests").rglob(path)
        assert f"\ndef {name}(" in found.read_text(encoding="utf-8"), name
