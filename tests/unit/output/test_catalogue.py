"""The catalogue of figures and tables, and the numbers that its captions state."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from vaelab.original.errata import CODE_CELLS
from vaelab.original.numbers import BENCHMARK_ARCHITECTURE, CODEBOOK_SIZE, MINIMAL_ARCHITECTURE
from vaelab.output.catalogue import CATALOGUE, SECTIONS, figures, tables
from vaelab.output.columns import COLUMNS
from vaelab.output.plots import PLOTS
from vaelab.search.algorithm import run_name
from vaelab.settings.runs import read_rows
from workflow_project import ROOT

ROWS = {row.run: row for row in read_rows(ROOT / "config/runs.tsv")}


def test_figures_and_tables_name_runs_of_the_run_table() -> None:
    for item in CATALOGUE.values():
        assert set(item.runs) <= ROWS.keys(), item.target
        assert item.among(ROWS) == tuple(name for name in ROWS if name in item.runs)
        assert item.among([]) == ()
        assert item.function.__name__ == item.target
    shown = {name for item in CATALOGUE.values() for name in item.runs}
    assert ROWS.keys() - shown == {"yardstick"}


def test_plots_draw_baselines_and_extras_where_they_ran_and_the_other_runs_always() -> None:
    for target, plot in PLOTS.items():
        assert plot.runs == CATALOGUE[target].runs
        for series in (series for panel in plot.panels for series in panel.series):
            assert series.optional == (ROWS[series.run].when != "always"), series.run


def test_figures_follow_the_sections_of_the_report() -> None:
    sections = [item.section.split(" ")[0] for item in figures()]
    assert sections == sorted(sections)
    assert sections[0] == "2.1"
    assert sections[-1] == "5.2"
    for item in CATALOGUE.values():
        assert item.caption.endswith(".")
        assert item.category in SECTIONS.values()


def test_names_files_and_labels() -> None:
    found = {
        target: (item.label, item.key, item.anchor, list(item.files.values()))
        for target, item in CATALOGUE.items()
        if target in ("figure_01", "table_3", "table_likelihood")
    }
    assert found == {
        "figure_01": (
            *("Figure 1", "1", "figure-1"),
            ["figures/figure_01.png", "figures/figure_01.svg"],
        ),
        "table_3": (
            *("Table 3", "3", "table-3"),
            ["tables/table_3.csv", "tables/table_3.png", "tables/table_3.md"],
        ),
        "table_likelihood": (
            *("Companion of Figure 3", "likelihood", "table-likelihood"),
            ["tables/likelihood.csv", "tables/likelihood.md"],
        ),
    }


def test_columns_of_the_page_have_a_label() -> None:
    for item in tables():
        assert item.columns
        assert all(COLUMNS[key].label for key in item.columns), item.target


@pytest.mark.parametrize("module", ["catalogue", "plots", "columns"])
def test_snakemake_can_read_it_fast(module: str) -> None:
    heavy = "torch", "matplotlib", "scipy", "PIL"
    heavy += ("pandas", "numpy") if module != "columns" else ()
    code = f"import sys, vaelab.output.{module}; print({{*{heavy}}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_numbers_in_captions_are_those_of_the_code() -> None:
    parameters = {
        widths: json.loads(
            (ROOT / f"results/modern/runs/{run}-s0/metrics.json").read_text(encoding="utf-8")
        )["parameters"]
        for widths, run in (
            (BENCHMARK_ARCHITECTURE, "vae"),
            (MINIMAL_ARCHITECTURE, run_name(MINIMAL_ARCHITECTURE)),
        )
    }
    whole = parameters[BENCHMARK_ARCHITECTURE]
    assert f"half of the {whole:,} parameters".replace(",", " ") in CATALOGUE["figure_15"].caption
    assert 0.45 < parameters[MINIMAL_ARCHITECTURE] / whole < 0.55
    nats = CODE_CELLS * math.log(CODEBOOK_SIZE)
    assert f"up to {nats:.0f} nats" in CATALOGUE["figure_11"].caption
