"""results/<preset>/index.html, rendered from what the steps before it left behind.

The page is a pure function of its inputs: it carries no date and no random identifier, so the
same results give the same bytes. Everything it shows is inside the file, and its content
security policy forbids it to load anything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from latex2mathml.converter import convert
from markupsafe import Markup

from vaelab.original.claims import VERDICTS, Evidence
from vaelab.original.errata import ERRATA, Erratum
from vaelab.output.catalogue import CATALOGUE, figures
from vaelab.output.figures.style import DIGIT_COLOURS
from vaelab.output.formatting import FILTERS
from vaelab.output.page import charts, explorer, media, other, searching
from vaelab.output.page.accounting import RunRecord, all_provenance, cost, provenance
from vaelab.output.page.tabulating import (
    claim_rows,
    read_claims,
    resting_on,
    side_by_side,
    survival,
    table_score,
    table_views,
    verdict_counts,
)
from vaelab.output.plots import PLOTS, SMOOTHED
from vaelab.output.readings import COLUMNS, differences
from vaelab.results.reader import Results
from vaelab.settings.config import MEANINGLESS

SECTIONS = (
    ("summary", "Summary"),
    ("figures", "Figures"),
    ("tables", "Tables"),
    ("search", "Search"),
    ("claims", "Claims"),
    ("other", "Other runs"),
    ("explorer", "Explorer"),
    ("errata", "Errata"),
    ("cost", "Cost"),
    ("provenance", "Provenance"),
)
# Quantities that stand side by side, the first one also in the score.
COMPARED = {"neg_elbo": "−ELBO", "recon": "Reconstruction loss", "kl": "KL loss"}
HEADER_FACTS = ("Code revision", "Device", "Precision", "PyTorch")
FUNCTION = re.compile(r"<mi>log</mi>")
THIN_SPACE = '<mspace width="0.17em"/>'
# Digits whose colours are too dark on a dark background, with what they give way to.
DARK_DIGITS = {2: "#f06a50", 4: "#b685e0", 8: "#c3cad6"}


def page_context(
    results: Results,
    *,
    claims: pd.DataFrame,
    benchmarks: pd.DataFrame | None,
    config: Mapping[str, Any],
    others: Mapping[str, Path],
) -> dict[str, Any]:
    """Everything the templates name.

    Args:
        results: the runs, and the search if it has run.
        claims: claims.csv.
        benchmarks: jobs of the workflow, one a row: step, s, cpu_time, max_rss.
        config: the resolved configuration.
        others: results/<preset> of further presets, by preset: other recipes, same claims.
    """
    folder = results.folder
    drawn = charts.charts(results)
    search = results.decisions
    walks = [searching.our_walk(search), searching.report_walk()] if search else []
    probes = {decision["run"] for decision in search["decisions"]} if search else set()
    records = all_provenance(results, probes)
    rows = claim_rows(claims, {preset: read_claims(path) for preset, path in others.items()})
    everywhere = {results.preset: folder, **others}
    compared = [(title, side_by_side(everywhere, key)) for key, title in COMPARED.items()]
    origin = provenance(records, config)
    apart = other.other_runs(results)
    plotted = drawn | {run.key: run.chart for run in apart}
    front = searching.front(folder)
    return {
        "preset": results.preset,
        "sections": [section for section in SECTIONS if apart or section[0] != "other"],
        "banners": banners(results, records),
        "facts": facts(results, dict(origin["facts"])),
        "score": {"claims": verdict_counts(rows), "tables": table_score(compared[0][1])},
        "compared": compared,
        "presets": list(everywhere),
        "report_tag": charts.REPORT,
        "smoothed_tag": SMOOTHED,
        "seeds": len(results.seeds),
        "figures": figure_views(folder, drawn, rows),
        "tables": table_views(folder, rows),
        "walks": walks,
        "front": searching.FRONT if front else None,
        "search_settings": search["settings"] if search else None,
        "claims": rows,
        "verdicts": VERDICTS,
        "other_presets": list(others),
        "survival": survival(rows, results.preset),
        "errata": errata_views(ERRATA, Evidence.load(results)),
        "other": apart,
        "explorer": explorer.explorer_data(results),
        "cost": cost(records, benchmarks),
        "provenance": origin,
        "charts": {
            **{
                key: [charts.as_plotly(panel) for panel in one.panels]
                for key, one in plotted.items()
            },
            **{walk.key: searching.panels(walk) for walk in walks},
            **({searching.FRONT: [front]} if front else {}),
        },
        "css": Markup(style_sheet()),
        "scripts": [Markup(media.static(name)) for name in media.SCRIPTS],
        "plotly": media.plotly_source(),
    }


def render(context: Mapping[str, Any]) -> str:
    """The page as HTML. Whatever comes from data is escaped."""
    environment = Environment(
        loader=PackageLoader("vaelab.output.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    return environment.get_template("page.html.j2").render(context)


def style_sheet() -> str:
    """The style sheet with the digits' colours, which the figures share."""
    lines = [
        f"  --digit-{digit}: light-dark({colour}, {DARK_DIGITS.get(digit, colour)});"
        for digit, colour in enumerate(DIGIT_COLOURS)
    ]
    return "\n".join([media.static(media.STYLE_SHEET), ":root {", *lines, "}"])


def banners(results: Results, records: Mapping[str, RunRecord]) -> list[tuple[str, str]]:
    """What a reader must know before believing anything below."""
    found = []
    if results.preset == MEANINGLESS:
        found.append(
            (
                "These numbers are meaningless.",
                "The smoke preset trains every model for moments, to test that all steps work. "
                "Judge nothing by it.",
            )
        )
    synthetic = {n for r in records.values() if r["dataset"]["synthetic"] for n in r["names"]}
    if synthetic:
        items = [item.label for item in CATALOGUE.values() if item.among(synthetic)]
        found.append(
            (
                "Synthetic faces, not Frey Face.",
                "No source of Frey Face answered, so the pipeline drew faces of its own. "
                f"{', '.join(items)} and the claims about faces rest on them.",
            )
        )
    return found


def facts(results: Results, shared: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """The line under the title, with what all runs have in common."""
    return [
        ("Preset", results.preset),
        ("Seeds", ", ".join(map(str, results.seeds))),
        *(
            (label, values[0] if len(values) == 1 else "several")
            for label, values in shared.items()
            if label in HEADER_FACTS
        ),
    ]


def figure_views(
    folder: Path,
    drawn: Mapping[str, charts.Chart],
    claims: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The figures of the catalogue in order, drawn or not."""
    table = folder / CATALOGUE["table_curves"].files["csv"]
    points = pd.read_csv(table) if table.is_file() else pd.DataFrame(columns=COLUMNS)
    return [
        {
            "id": item.anchor,
            "target": item.target,
            "label": item.label,
            "title": item.title,
            "section": item.section,
            "caption": item.caption,
            "alt": f"{item.title}. {item.caption}",
            "picture": media.picture(folder / item.files["png"]),
            "chart": drawn.get(item.target),
            "differences": differences(item.target, points) if item.target in PLOTS else [],
            "claims": resting_on(claims, item.label),
        }
        for item in figures()
    ]


def errata_views(errata: Iterable[Erratum], evidence: Evidence) -> list[dict[str, Any]]:
    """The report's errors with their formulas as MathML and their effect on our runs."""
    return [
        {
            "id": erratum.id,
            "where": f"{erratum.where[0].upper()}{erratum.where[1:]}",
            "printed": _formula(erratum.printed_tex) or erratum.printed,
            "correct": _formula(erratum.correct_tex) or erratum.correct,
            "why": erratum.why,
            "effect": erratum.effect(evidence),
        }
        for erratum in errata
    ]


def _formula(tex: str | None) -> Markup | None:
    """TeX as MathML; a thin space sets functions apart, as TeX would."""
    if not tex:
        return None
    return Markup(FUNCTION.sub(rf"{THIN_SPACE}\g<0>{THIN_SPACE}", convert(tex, display="block")))
