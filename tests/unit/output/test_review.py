"""The results page without a browser: what it holds, that it is whole, and that it is safe."""

from __future__ import annotations

import gzip
import json
import re
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import save_file

from result_folders import alias, curve, write_run
from review_folder import (
    EXPLORED,
    HOSTILE,
    claims,
    decode,
    decoder_weights,
    make_page,
    provenance,
    search,
    write_folder,
)
from vaelab.output import formatting
from vaelab.output.page import accounting, explorer, media, searching, tabulating
from vaelab.output.page.charts import as_plotly, charts
from vaelab.output.page.collect import write_page
from vaelab.output.page.page import facts, style_sheet
from vaelab.output.readings import OURS
from vaelab.results.reader import Results
from vaelab.settings.config import Config
from vaelab.util.errors import VaelabError
from vaelab.util.io import write_csv, write_json

VOID = {"meta", "link", "img", "input", "br", "hr"}
LOADING_ATTRIBUTES = {"src", "href", "srcset", "poster", "data", "action", "background"}


class Node:
    """An element of a parsed page."""

    def __init__(self, tag: str, attributes: dict[str, str | None], parent: Node | None) -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.content: list[Node | str] = []

    def text(self) -> str:
        """All text inside, with single spaces."""
        parts = [part.text() if isinstance(part, Node) else part for part in self.content]
        return " ".join(" ".join(parts).split())

    def all(self, tag: str = "", **attributes: str) -> list[Node]:
        """Descendants of a tag with the given attributes, in order; class_ tests one class."""
        found = []
        for child in (part for part in self.content if isinstance(part, Node)):
            if tag in ("", child.tag) and all(child.has(k, v) for k, v in attributes.items()):
                found.append(child)
            found += child.all(tag, **attributes)
        return found

    def has(self, key: str, value: str) -> bool:
        """Whether an attribute has a value."""
        if key == "class_":
            return value in (self.attributes.get("class") or "").split()
        return self.attributes.get(key.replace("_", "-")) == value

    def one(self, tag: str = "", **attributes: str) -> Node:
        """The only such descendant."""
        (node,) = self.all(tag, **attributes)
        return node


class TreeBuilder(HTMLParser):
    """Parses a page and refuses end tags that close nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.root = self.at = Node("", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, dict(attrs), self.at)
        self.at.content.append(node)
        if tag not in VOID:
            self.at = node

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.at.content.append(Node(tag, dict(attrs), self.at))

    def handle_endtag(self, tag: str) -> None:
        assert self.at.tag == tag, f"</{tag}> closes <{self.at.tag}>"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.content.append(data)


def parse(html: str) -> Node:
    builder = TreeBuilder()
    builder.feed(html)
    assert builder.at is builder.root, f"<{builder.at.tag}> is never closed"
    return builder.root


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_page(tmp_path_factory.mktemp("page") / "quick")


@pytest.fixture(scope="module")
def html(page_path: Path) -> str:
    return page_path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Node:
    return parse(html)


@pytest.fixture(scope="module")
def chart_data(page: Node) -> dict[str, Any]:
    return json.loads("".join(page.one("script", id="chart-data").content))


def rows_of(table: Node) -> list[list[str]]:
    return [
        [cell.text() for cell in row.content if isinstance(cell, Node)]
        for row in table.one("tbody").all("tr")
    ]


# One file ----------------------------------------------------------------------------------


def test_nothing_is_loaded_from_outside_the_file(page: Node) -> None:
    for node in page.all():
        for key, value in node.attributes.items():
            if key in LOADING_ATTRIBUTES:
                assert value is not None
                assert value.startswith(("#", "data:")), (node.tag, key, value[:80])
            assert not key.startswith("on"), (node.tag, key)
    assert {node.attributes.get("rel") for node in page.all("link")} == {"icon"}


def test_scripts_and_styles_hold_no_address_and_no_request(page: Node) -> None:
    own = [s for s in page.all("script") if "type" not in s.attributes] + page.all("style")
    assert len(own) == 4
    for node in own:
        source = node.text()
        assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", source)
        assert not re.search(r"\bfetch\(|XMLHttpRequest|sendBeacon|WebSocket|\bimport\b", source)


def test_policy_forbids_every_request(page: Node) -> None:
    policy = page.one("meta", http_equiv="Content-Security-Policy").attributes["content"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives.pop("default-src") == "'none'"
    sources = " ".join(directives.values()).split()
    assert set(sources) == {"'none'", "'unsafe-inline'", "data:", "blob:"}


def test_same_results_give_the_same_bytes(page_path: Path, tmp_path: Path) -> None:
    again = make_page(tmp_path / "quick")
    assert again.read_bytes() == page_path.read_bytes()


def test_machine_settings_stay_out(html: str) -> None:
    assert "/secret/mirror" not in html
    assert str(Path.home()) not in html


def test_full_size_decoders_and_the_library_leave_room(page: Node, tmp_path: Path) -> None:
    save_file(decoder_weights(0, 5, hidden=(500, 500)), tmp_path / "w.safetensors")
    packed = explorer.pack(tmp_path / "w.safetensors")
    library = len(page.one("script", id="plotly-source").text())
    # Pictures and everything else take about 2.5 MB in the quick preset.
    assert 3 * len(packed["data"]) + library < 6.5e6


# Numbers -----------------------------------------------------------------------------------


def test_scorecard_counts_verdicts(page: Node) -> None:
    cards = [card.text() for card in page.one("section", id="summary").all("div", class_="card")]
    assert cards[0].startswith(
        "What the report claims 1 of 3 hold 1 fail, 1 not evaluated. 1 more are implied, ours or"
    )


def side_tables(folder: Path, train: float, within: bool | None) -> None:
    """Tables 1 and 3 of a preset, one row each."""
    for table, name, report in (("table_1", "model", 124.2), ("table_3", "architecture", 137.9)):
        row = {name: "VAE" if table == "table_1" else "[500, 3]", "run": "vae"}
        row |= {"within_tolerance": within, "budget_percent": 2.5}
        for quantity in ("recon", "kl", "neg_elbo"):
            ours = {"train": train, "test": train + 3, "report": report, "diff": train - report}
            row |= {f"{kind}_{quantity}": value for kind, value in ours.items()}
        write_csv(folder / "tables" / f"{table}.csv", pd.DataFrame([row]))


def test_other_presets_stand_side_by_side(tmp_path: Path) -> None:
    results = write_folder(tmp_path / "modern")
    verdicts = claims()[["id", "verdict"]].iloc[:3]
    verdicts["verdict"] = ["fails", "fails", "holds"]
    others = {name: tmp_path / name for name in ("faithful", "quick")}
    for name, folder in others.items():
        side_tables(folder, 125.0, True if name == "faithful" else None)
        write_csv(folder / "claims.csv", verdicts)
    side_tables(tmp_path / "modern", 120.0, None)
    path = make_page(tmp_path / "modern", results=results, others=others)
    page = parse(path.read_text(encoding="utf-8"))
    summary, section = (page.one("section", id=id) for id in ("summary", "claims"))
    own, modern, quick = [card.text() for card in summary.all("div", class_="card")][1:4]
    assert own.startswith("Reproduced under the report’s own recipe, faithful 2 of 2 rows")
    assert modern.startswith("Surpassed under another recipe, modern 2 of 2 rows")
    assert quick.startswith("Surpassed under another recipe, quick 1 of 2 rows")
    assert "2 at most 5 % above it. Rows of Tables 1 and 3: [500, 3]." in quick
    first = rows_of(summary.all("table")[0])[0]
    assert first[0].startswith("Table 1 VAE")
    # The report's on both sets; train with the budget, difference and test of each preset.
    assert first[1:6] == ["124.2", "131.0", "120.0 2.5 %", "−4.2", "123.0"]
    assert first[6:8] == ["125.0 2.5 %", "+0.8"]
    assert "0 hold in both; only under modern: C1." in section.text()
    shown = [
        [span.text() for span in row.all("span", class_="verdict")]
        for row in section.one("tbody").all("tr")
    ]
    assert shown[0] == ["holds", "fails", "fails"]
    assert shown[2] == ["not evaluated", "holds", "holds"]
    assert shown[3][1:] == ["–", "–"]


def test_a_preset_alone_says_that_the_report_s_recipe_is_missing(tmp_path: Path) -> None:
    results = write_folder(tmp_path / "quick")
    side_tables(tmp_path / "quick", 120.0, None)
    path = make_page(tmp_path / "quick", results=results)
    summary = parse(path.read_text(encoding="utf-8")).one("section", id="summary")
    assert "faithful , which has no results here" in summary.text()
    assert len(rows_of(summary.all("table")[0])[0]) == 6


def test_tables_show_ours_the_reports_and_the_difference(page: Node) -> None:
    table = page.one(id="table-1").one("table")
    headings = [node.text() for node in table.all("th", scope="col")]
    assert headings == [
        *("Model", "recon: train", "recon: report", "recon: Δ"),
        *("KL: train", "KL: report", "KL: Δ", "Test set: MSE × 1000"),
    ]
    rows = rows_of(table)
    assert rows[0] == ["VAE", "114.6 ± 0.2", "115.1", "−0.5", "9.1", "9.1", "0.0", "6.1"]
    assert rows[1][0] == "BVAE, β = 2 implied"
    assert rows[1][1:4] == ["117.2 ± 0.2", "116.1", "+1.1"]
    assert rows[2][1:] == [*"––––––", "5.9"]
    differences = [row.all("td")[2] for row in table.one("tbody").all("tr")]
    assert [cell.has("class_", "better") for cell in differences] == [True, False, False]
    assert [cell.has("class_", "worse") for cell in differences] == [False, True, False]
    # Cells sort by values that are not rounded.
    cells = table.one("tbody").all("tr")[0].all("td")
    assert [float(cells[i].attributes["data-value"]) for i in (0, 3)] == [114.6, 9.14]


def test_likelihood_estimates_are_listed(page: Node) -> None:
    rows = rows_of(page.one(id="table-likelihood").one("table"))
    assert rows[1][:3] == ["ml_n1000", "train", "importance"]
    assert rows[1][3].startswith("−150.0")
    assert rows[-1][2:4] == ["report", "−156.0 ± 0.5"]


def test_claims_show_verdict_evidence_and_where(page: Node) -> None:
    first, second, hostile, last = page.one("tbody", id="claim-rows").all("tr")
    assert first.attributes["data-verdict"] == "holds"
    assert first.text() == (
        "C1 ELBO rises with d each step above 2 SE holds Decided by C1. Noise: SE 0.5 nats. "
        "1 number d = 3 −121.5 Figure 1"
    )
    assert first.all("a")[0].attributes["href"] == "#figure-1"
    assert "Noise" not in second.text()
    assert "Ours, not the report’s." in second.text()
    assert "minutes 2.5 ± 0.25" in last.text()
    assert not hostile.all("a")
    assert last.one("span", class_="verdict").has("class_", "fails")


def test_figures_name_the_claims_that_rest_on_them(page: Node) -> None:
    assert "Claims that rest on it: C1 ." in page.one("figure", id="figure-1").text()
    assert "Claims" not in page.one("figure", id="figure-4").text()
    assert "C34" in page.one(id="table-1").text()


def test_label_is_matched_whole() -> None:
    rows = [{"id": "a", "where": "Figure 1; Table 3"}, {"id": "b", "where": "Figure 11"}]
    assert tabulating.resting_on(rows, "Figure 1") == ["a"]
    assert tabulating.resting_on(rows, "Table 3") == ["a"]


def test_missing_figure_is_said_to_be_missing(page: Node) -> None:
    assert "has not been drawn" in page.one("figure", id="figure-15").text()
    assert not page.one("figure", id="figure-15").all("img")


def test_cost_adds_up(page: Node) -> None:
    section = page.one("section", id="cost")
    # 12 runs of 36 core-seconds.
    assert (
        "12 trainings took 0.12 core-hours of processor time for 3 600 000 samples."
        in section.text()
    )
    steps, trainings = section.all("table")
    assert rows_of(steps) == [
        ["train", "2", "2.00", "1.50", "900"],
        ["page", "1", "0.10", "0.10", "1"],
    ]
    run = rows_of(trainings)[0]
    assert run[0] == "mnist_d3-s0"
    assert run[2:] == ["300 000", "10 000", "0.50", "0.60", "cpu, fp32"]


def test_provenance_names_revision_data_and_configuration(page: Node) -> None:
    text = page.one("section", id="provenance").text()
    assert "Code revision 0123456789ab" in text
    assert "mnist dddddddddddddddd , frey dddddddddddddddd" in text
    assert "preset: quick" in page.one("section", id="provenance").one("pre").text()


def test_run_shared_by_two_names_is_counted_once(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    for name in ("vae", "arch_324_284_3"):
        write_run(folder, name)
        write_json(folder / "runs" / f"{name}-s0" / "provenance.json", provenance(name))
    shared = Results(folder, alias(["vae"]) | {"arch_500_500_3": ("vae-s0",)})
    # The second is a probe of the search, which the run table does not list.
    records = accounting.all_provenance(shared, ["arch_324_284_3", "arch_500_500_3"])
    assert [(run, record["names"]) for run, record in records.items()] == [
        ("vae-s0", ["vae", "arch_500_500_3"]),
        ("arch_324_284_3-s0", ["arch_324_284_3"]),
    ]


def test_header_says_several_where_runs_differ(tmp_path: Path) -> None:
    results = Results(tmp_path / "quick", alias(["vae"]))
    one, other = provenance("vae"), provenance("cvae") | {"device": "cuda"}
    shared = dict(
        accounting.provenance({"a": one | {"names": []}, "b": other | {"names": []}}, {})["facts"]
    )
    header = dict(facts(results, shared))
    assert (header["Device"], header["PyTorch"]) == ("several", "2.13.0")
    assert header["Code revision"] == "0123456789ab"


def test_errata_are_mathml_with_measured_effects(page: Node) -> None:
    first = page.one("article", id="erratum-F1")
    assert len(first.all("math")) == 2
    assert "512.8 nats" in first.one("p", class_="effect").text()
    assert not page.one("article", id="erratum-F8").all("math")


# Warnings and absences ---------------------------------------------------------------------


def test_smoke_and_synthetic_faces_are_announced(tmp_path: Path, page: Node) -> None:
    folder = tmp_path / "smoke"
    results = write_folder(folder, synthetic=True)
    loud = parse(make_page(folder, results=results).read_text(encoding="utf-8"))
    banners = [node.text() for node in loud.all("p", class_="banner") if node.has("role", "note")]
    assert len(banners) == 2
    assert banners[0].startswith("These numbers are meaningless.")
    assert banners[1].startswith("Synthetic faces, not Frey Face.")
    assert not [node for node in page.all("p", class_="banner") if node.has("role", "note")]


def test_page_without_search_pictures_and_two_dimensional_models(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    write_run(folder, "vae")
    write_json(folder / "runs" / "vae-s0" / "provenance.json", provenance("vae"))
    results = Results(folder, alias(["vae", "vae_d2"]))
    path = make_page(folder, results=results, search=None, benchmarks=pd.DataFrame())
    page = parse(path.read_text(encoding="utf-8"))
    assert "The search has not run." in page.one("section", id="search").text()
    assert "have not been trained" in page.one("section", id="explorer").text()
    assert len(page.one("section", id="cost").all("table")) == 1
    assert "This table has not been made." in page.one(id="table-1").text()
    assert not page.all("script", id="explorer-data")


# Files -------------------------------------------------------------------------------------


def test_page_of_a_preset_is_built_from_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    results = write_folder(folder)
    config = Config(preset="quick", results=str(tmp_path))
    with pytest.raises(VaelabError, match="run `vaelab claims` first"):
        write_page(config, results)
    judged = claims()
    judged.to_csv(folder / "claims.csv", index=False)
    for preset in ("paper", "smoke"):
        (tmp_path / preset).mkdir()
        judged.to_csv(tmp_path / preset / "claims.csv", index=False)
    benchmarks = folder / "benchmarks"
    (benchmarks / "train").mkdir(parents=True)
    (benchmarks / "train" / "vae-s0.jsonl").write_text('{"s": 60, "cpu_time": 30, "max_rss": 5}\n')
    (benchmarks / "page.jsonl").write_text('{"s": 9, "cpu_time": 9, "max_rss": 9}\n')
    (benchmarks / "claims.jsonl").write_text('{"s": 0.1, "cpu_time": "NA", "max_rss": "NA"}\n')
    path = write_page(config, results)
    assert path == folder / "index.html"
    page = parse(path.read_text(encoding="utf-8"))
    assert "Of 3 claims judged under both quick and paper, 1 hold in both." in (
        page.one("section", id="claims").text()
    )
    assert "smoke" not in page.one("section", id="claims").text()
    assert rows_of(page.one("section", id="cost").all("table")[0]) == [
        ["claims", "1", "0.00", "0.00", "–"],
        ["train", "1", "1.00", "0.50", "5"],
    ]


def test_smoke_is_compared_with_nothing(tmp_path: Path) -> None:
    for preset in ("paper", "smoke"):
        (tmp_path / preset).mkdir()
        claims().to_csv(tmp_path / preset / "claims.csv", index=False)
    for preset, elsewhere in (("smoke", []), ("paper", []), ("quick", ["paper"])):
        found = Config(preset=preset, results=str(tmp_path)).judged_elsewhere
        assert [path.parent.name for path in found] == elsewhere


# Hostile text ------------------------------------------------------------------------------


def test_hostile_text_stays_text(page: Node, html: str) -> None:
    assert "<img src=x" not in html
    assert "<script>alert" not in html
    plain = " ".join(HOSTILE.split())
    assert plain in page.one("tr", id="claim-C10").text()
    assert plain in page.one(id="table-1").text()
    assert plain in page.one("section", id="search").text()


def test_json_survives_hostile_text_and_refuses_nan() -> None:
    text = formatting.as_json({"a": HOSTILE})
    assert "</" not in text
    assert json.loads(text) == {"a": HOSTILE}
    with pytest.raises(ValueError, match="not JSON compliant"):
        formatting.as_json([float("nan")])


@pytest.mark.parametrize(
    ("value", "digits", "plain", "difference"),
    [
        (1.26, 1, "1.3", "+1.3"),
        (-1.26, 1, "−1.3", "−1.3"),
        (-0.04, 1, "0.0", "0.0"),
        (0.04, 1, "0.0", "0.0"),
        (None, 1, "–", "–"),
        (float("nan"), 1, "–", "–"),
    ],
)
def test_numbers_are_set_with_care(
    value: float | None, digits: int, plain: str, difference: str
) -> None:
    assert formatting.number(value, digits) == plain
    assert formatting.signed(value, digits) == difference


# Charts ------------------------------------------------------------------------------------


def test_chart_holds_the_history_with_the_sign_of_an_elbo(chart_data: dict[str, Any]) -> None:
    traces = {trace["name"]: trace for trace in chart_data["figure_01"][0]["data"]}
    history = curve("mnist_d3")
    assert traces["AEVB, train"]["x"] == history["samples"].tolist()
    for split in ("train", "test"):
        expected = (-history[f"{split}_neg_elbo"]).tolist()
        assert traces[f"AEVB, {split}"]["y"] == pytest.approx(expected, rel=1e-5)
    assert traces["AEVB, test"]["line"]["dash"] == "dash"
    assert traces["The report, AEVB, test"]["y"][-1] == -137.3
    assert traces["The report, AEVB, test"]["meta"]["tags"] == ["The report", "AEVB", "test"]
    assert traces["wake-sleep, train"]["meta"]["tags"] == ["train", "wake-sleep"]
    thin = traces["AEVB, train, smoothed"]
    assert thin["meta"]["tags"] == ["train", "AEVB", "ours, smoothed"]
    assert thin["x"] == [60_000, 120_000, 180_000, 240_000, 300_000]
    # At the second epoch the mean of the first two.
    steps = np.interp([60_000, 120_000], history["samples"], -history["train_neg_elbo"])
    assert thin["y"][1] == pytest.approx(steps.mean(), rel=1e-4)


def test_chart_of_several_seeds_is_their_mean_with_a_band(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    for seed in (0, 1):
        run = write_run(folder, "beta1", seed)
        history = curve("beta1")
        history["train_kl"] += [0.0, 1.0, 2.0 * seed]
        history.to_csv(run / "history.csv", index=False)
    figure = charts(Results(folder, alias(["beta1"], (0, 1))))["figure_06"]
    kl = next(line for line in figure.panels[0].lines if line.split == "train")
    assert kl.values.tolist() == [1e-6, 6.0, 10.0]
    assert kl.spread == pytest.approx([0.0, 0.0, 2**0.5])
    band, line = as_plotly(figure.panels[0])["data"][:2]
    assert line["mode"] == "lines"
    assert band["y"] == pytest.approx([1e-6, 6, 10 + 2**0.5, 10 - 2**0.5, 6, 1e-6], rel=1e-4)


def test_switches_are_what_tells_curves_apart(page: Node) -> None:
    labels = {
        number: [
            b.text()
            for b in page.one("figure", id=f"figure-{number}").all("button")
            if "data-tag" in b.attributes
        ]
        for number in (1, 2, 3, 6, 14)
    }
    assert labels[1] == ["train", "test", "AEVB", "wake-sleep", "ours, smoothed", "The report"]
    assert labels[2] == ["train", "test", "The report"]
    assert labels[3] == [
        "train",
        "test",
        "AEVB, importance sampling",
        "AEVB, report's notebook",
        "ours, smoothed",
        "The report",
    ]
    assert labels[6] == ["train", "test", "β = 1", "β = 50", "ours, smoothed", "The report"]
    assert labels[14][2:5] == ["objective, with β", "recon", "KL"]


def test_vq_vae_is_not_squeezed_by_its_first_points(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    run = write_run(folder, "vqvae")
    history = curve("vqvae")
    history.loc[0, "train_objective"] = 9.0
    history.to_csv(run / "history.csv", index=False)
    (vqvae,) = charts(Results(folder, alias(["vqvae"])))["figure_14"].panels
    assert as_plotly(vqvae)["layout"]["yaxis"]["range"] == [0, 0.045]


def test_figures_say_what_is_smoothing_and_what_is_left(tmp_path: Path, page: Node) -> None:
    assert not page.one("figure", id="figure-6").all("table")  # without the table of the points
    folder = tmp_path / "quick"
    results = write_folder(folder)
    points = [
        ("Figure 6", "beta1", "kl", 1.0, 0.1, 1.5, np.nan, 3.0, 0.5),
        ("Figure 6", "beta50", "kl", 1.0, 0.3, 0.0, np.nan, -1.0, -1.0),
        ("Figure 14", "beta1", "kl", 7.0, 7.0, 7.0, 7.0, 7.0, 7.0),
    ]
    columns = ("figure", "series", "quantity", "report_value", "report_error", *OURS)
    write_csv(folder / "tables/curves.csv", pd.DataFrame(points, columns=columns))
    made = parse(make_page(folder, results=results).read_text(encoding="utf-8"))
    (table,) = made.one("figure", id="figure-6").all("table")
    # Points, ours minus the report's, smoothing, left, noise, reading.
    assert rows_of(table) == [["KL", "2", "2", "1.2", "0.75", "–", "0.2"]]


def test_every_chart_is_a_valid_plotly_figure(chart_data: dict[str, Any], page: Node) -> None:
    from plotly.graph_objects import Figure

    drawn = {
        (n.attributes["data-figure"], n.attributes["data-panel"])
        for n in page.all("div", class_="plot")
    }
    assert drawn == {
        (key, str(i)) for key, panels in chart_data.items() for i in range(len(panels))
    }
    for panels in chart_data.values():
        for panel in panels:
            Figure(panel)


# The search --------------------------------------------------------------------------------


def test_reports_search_is_replayed_probe_by_probe() -> None:
    walk = searching.report_walk()
    assert walk.answer == "[324, 284, 3]"
    stages = walk.stages
    assert [title for title, _ in stages] == [
        "latent dimension",
        "width of layer 2",
        "width of layer 1",
    ]
    assert [d["widths"][1] for d in stages[1][1]] == [251, 376, 313, 282, 297, 289, 285, 283, 284]
    assert [d["widths"][0] for d in stages[2][1]] == [392, 337, 310, 323, 330, 326, 324]


def test_drawing_has_a_bar_and_a_mark_for_each_probe() -> None:
    walk = searching.report_walk()
    figure = searching.as_plotly(walk)
    bars, marks = figure["data"][2:4]
    assert bars["base"][:3] == [2.5, 251.5, 251.5]
    assert bars["x"][:3] == [498, 249, 124]
    assert marks["x"][:3] == [251, 376, 313]
    assert marks["marker"]["symbol"][:3] == ["x", "circle", "circle"]
    assert figure["layout"]["yaxis2"]["ticktext"][0] == "[500, 251, 3]"
    domains = [figure["layout"][f"yaxis{i}"]["domain"] for i in ("", 2, 3)]
    assert domains[0][1] == 1.0
    assert all(0 <= low < high for low, high in domains)
    assert all(below[1] < above[0] for above, below in zip(domains, domains[1:], strict=False))


def test_the_answer_is_an_interval_read_off_a_line() -> None:
    walk = searching.report_walk()
    assert walk.told == "[h, 284, 3], h = 320 (90 %: 288 to 341)"
    _, drawn = searching.panels(walk)
    *_, line, points, threshold = drawn["data"]
    assert len(points["x"]) == len(points["marker"]["color"]) == 8
    assert line["y"][0] > 120 > line["y"][-1]
    assert threshold["y"] == [120.0, 120.0]


def test_search_that_found_nothing_says_why() -> None:
    summary = search()
    summary["answer"] = {"finished": True, "architecture": None, "reason": "recon is above 120"}
    summary["decisions"] = summary["decisions"][:1]
    walk = searching.our_walk(summary)
    assert walk.answer is None
    assert walk.summary.endswith("recon is above 120.")
    assert walk.height == 0


# The explorer ------------------------------------------------------------------------------


def unpack(packed: dict[str, Any]) -> dict[str, np.ndarray]:
    """The decoder's tensors as the page's script unpacks them."""
    payload = np.frombuffer(gzip.decompress(b64decode(packed["data"])), dtype=np.uint8)
    tensors, steps, offset = {}, [], 0
    for i, (out, _) in enumerate(packed["shapes"]):
        values = payload[offset : offset + 8 * out].view("<f4")
        steps.append(values[:out])
        tensors[f"decoder.layers.{i}.bias"] = values[out:]
        offset += 8 * out
    low, high = np.split(payload[offset:], 2)
    whole = low + 256 * high.view(np.int8).astype(np.int16)
    for i, ((out, width), step) in enumerate(zip(packed["shapes"], steps, strict=True)):
        rows, whole = whole[: out * width].reshape(out, width), whole[out * width :]
        tensors[f"decoder.layers.{i}.weight"] = rows * step[:, None]
    return tensors


@pytest.mark.parametrize("labels", [0, 10])
def test_packed_decoder_is_within_half_a_grey_level(tmp_path: Path, labels: int) -> None:
    weights = decoder_weights(labels, labels, hidden=(500, 500))
    save_file(weights, tmp_path / "w.safetensors")
    packed = json.loads(json.dumps(explorer.pack(tmp_path / "w.safetensors")))
    assert packed["labels"] == labels
    again = unpack(packed)
    for code in np.random.default_rng(1).uniform(-3, 3, (5, 2)):
        inputs = [*code, *np.eye(10)[3][:labels]]
        exact = decode(weights, inputs)
        assert np.ptp(exact) > 0.5  # the picture is not one grey
        assert 0 < np.abs(decode(again, inputs) - exact).max() < 0.5 / 255


def test_unusable_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(VaelabError, match=r"gone\.safetensors"):
        explorer.pack(tmp_path / "gone.safetensors")
    save_file(decoder_weights(3, 0), tmp_path / "cvae.safetensors")
    with pytest.raises(VaelabError, match="no decoder of two-dimensional codes"):
        explorer.pack(tmp_path / "cvae.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10")
    with pytest.raises(VaelabError, match=r"torn\.safetensors"):
        explorer.pack(tmp_path / "torn.safetensors")


def test_explorer_offers_the_models_in_order_with_their_codes(page: Node) -> None:
    data = json.loads("".join(page.one("script", id="explorer-data").content))
    assert [model["name"] for model in data["models"]] == list(EXPLORED)
    assert data["digits"] == [digit for digit in range(10) for _ in range(2)]
    model = data["models"][0]
    assert len(model["examples"]) == 20
    assert model["reach"] > 2
    choices = page.one("section", id="explorer").all("input", name="model")
    assert [choice.attributes["value"] for choice in choices] == list(EXPLORED)


def test_examples_are_the_first_images_of_each_digit() -> None:
    labels = np.array([9, 9, 9, 0, 1, 0, 0])
    assert explorer.example_indices(labels) == [3, 5, 4, 0, 1]


# Pictures ----------------------------------------------------------------------------------


def test_plots_keep_their_pixels_and_sheets_nearly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plot = Image.new("RGB", (40, 30), "white")
    plot.putpixel((3, 4), (0, 114, 178))
    plot.save(tmp_path / "figure_01.png")
    (tmp_path / "figure_01.svg").write_text("<svg/>")
    smooth = np.kron(rng.integers(0, 256, (4, 4)), np.ones((16, 16))).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "figure_04.png")
    again = {n: decoded(media.picture(tmp_path / f"figure_{n:02d}.png")) for n in (1, 4)}
    assert np.array_equal(again[1], np.asarray(plot))
    assert again[4].shape == (64, 64, 3)
    assert np.abs(again[4].mean(-1) - smooth).mean() < 6
    assert media.picture(tmp_path / "figure_02.png") is None


def decoded(picture: media.Picture | None) -> np.ndarray:
    assert picture is not None
    kind, content = picture.uri.split(";base64,")
    assert kind == "data:image/webp"
    with Image.open(BytesIO(b64decode(content))) as image:
        assert image.size == (picture.width, picture.height)
        return np.asarray(image.convert("RGB"))


# Accessibility -----------------------------------------------------------------------------


def test_structure_serves_assistive_technology(page: Node) -> None:
    assert page.one("html").attributes["lang"] == "en"
    assert len(page.all("h1")) == 1
    ids = [node.attributes["id"] for node in page.all() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    for landmark in ("header", "nav", "main", "footer"):
        assert page.all(landmark), landmark
    for node in page.all():
        for reference in ("aria-labelledby", "aria-describedby"):
            if reference in node.attributes:
                assert node.attributes[reference] in ids
        if node.tag == "a" and (node.attributes.get("href") or "").startswith("#"):
            assert node.attributes["href"][1:] in ids
        if node.tag == "canvas":
            assert node.attributes.get("aria-label")
        if node.tag == "button":
            assert node.text() or node.attributes.get("aria-label")
    for figure in page.all("figure"):
        for image in figure.all("img"):
            assert len(image.attributes["alt"] or "") > 20
    for head in (cell for table in page.all("table") for cell in table.all("th")):
        assert head.attributes.get("scope") in ("col", "row", "colgroup")
    assert page.all("a")[0].has("class_", "skip")


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2)."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1])
def test_text_has_contrast_in_both_schemes(scheme: int) -> None:
    pairs = re.findall(r"--([a-z0-9-]+): light-dark\((#\w+), (#\w+)\)", style_sheet())
    colour = {name: schemes[scheme] for name, *schemes in pairs}
    for ground in ("paper", "card"):
        for text in ("ink", "muted", "accent", "report", "holds", "fails"):
            assert contrast(colour[text], colour[ground]) >= 4.5, (text, ground)
    for verdict in ("holds", "fails", "open", "accent"):
        assert contrast(colour[verdict], colour[f"{verdict}-soft"]) >= 4.5, verdict
    assert contrast(colour["strong-rule"], colour["card"]) >= 3


def test_digits_are_visible_on_the_dark_plane() -> None:
    pairs = re.findall(r"--digit-(\d): light-dark\((#\w+), (#\w+)\)", style_sheet())
    assert [int(digit) for digit, _, _ in pairs] == list(range(10))
    for _, _, dark in pairs:
        assert contrast(dark, "#1c1f24") >= 3
    assert len({dark for _, _, dark in pairs}) == 10
