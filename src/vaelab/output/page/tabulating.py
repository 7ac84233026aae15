"""The report's tables and the claims as rows of cells that the templates print."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path
from typing import Any

import pandas as pd

from vaelab.original import numbers
from vaelab.original.claims import VERDICTS
from vaelab.output.catalogue import CATALOGUE, tables
from vaelab.output.columns import COLUMNS, Column
from vaelab.output.formatting import MISSING, absent
from vaelab.output.page.media import picture
from vaelab.util.errors import VaelabError

# A row counts as near where our train −ELBO is at most this much above the report's.
MARGIN = 0.05


@dataclass(frozen=True)
class Cell:
    """One cell: what is read, what it sorts by, and how it is set."""

    text: str
    value: str = ""
    spread: str = ""
    note: str = ""
    numeric: bool = False
    tone: str = ""


def table_views(folder: Path, claims: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The tables of the catalogue in order, from their files under results/<preset>."""
    views = []
    for item in tables():
        files = {form: folder / path for form, path in item.files.items()}
        frame = pd.read_csv(files["csv"]) if files["csv"].is_file() else pd.DataFrame()
        shown = {
            key: COLUMNS[key] for key in item.columns if key in frame and frame[key].notna().any()
        }
        views.append(
            {
                "id": item.anchor,
                "label": item.label,
                "title": item.title,
                "columns": list(shown.values()),
                "groups": _groups(shown.values()),
                "rows": [
                    [_cell(row, key, column) for key, column in shown.items()]
                    for row in frame.to_dict("records")
                ],
                "notes": _notes(files["md"]),
                "claims": resting_on(claims, item.label),
                "pictures": picture(files["png"]) if "png" in files else None,
            }
        )
    return views


def _groups(columns: Iterable[Column]) -> list[tuple[str, int]]:
    """Headings above several columns with their widths; none where there is no such heading."""
    groups = [(name, len(list(part))) for name, part in groupby(c.group for c in columns)]
    return groups if any(name for name, _ in groups) else []


def _notes(path: Path) -> list[str]:
    """The paragraphs below a table in its Markdown twin; the page has banners for the bold ones."""
    if not path.is_file():
        return []
    paragraphs = path.read_text(encoding="utf-8").rpartition("|\n")[2].strip().split("\n\n")
    return [text for text in paragraphs if not text.startswith("**")]


def _cell(row: Mapping[Any, Any], key: str, column: Column) -> Cell:
    value = row[key]
    tone = "theirs" if column.theirs else ""
    if absent(value):
        return Cell("" if column.kind == "text" else MISSING, numeric=column.numeric, tone=tone)
    text = column.text(value)
    if not column.numeric:
        note = row.get("note") if key == "model" else None
        return Cell(text, note="" if absent(note) else str(note), tone=tone)
    if column.judged:
        tone = "better" if value <= 0 else "worse"
    spread = column.spread(row, key)
    sorting = repr(float(value) * column.scale)
    return Cell(text, sorting, f"±\u202f{spread}" if spread else "", numeric=True, tone=tone)


def read_claims(folder: Path) -> pd.DataFrame:
    """claims.csv of a preset.

    Raises:
        VaelabError: there is none; the message says how to make it.
    """
    path = folder / "claims.csv"
    if not path.is_file():
        raise VaelabError(f"{path} does not exist; run `vaelab claims` first")
    return pd.read_csv(path, keep_default_na=False)


def claim_rows(claims: pd.DataFrame, others: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Claims with their evidence, and their verdicts under the other presets' recipes."""
    elsewhere = {
        preset: dict(zip(frame["id"], frame["verdict"], strict=True))
        for preset, frame in others.items()
    }
    rows = []
    for record in claims.to_dict("records"):
        row = {str(key): "" if absent(value) else value for key, value in record.items()}
        verdicts = {preset: known.get(row["id"], MISSING) for preset, known in elsewhere.items()}
        rows.append(
            {
                **row,
                "numbers": list(json.loads(row["numbers"] or "{}").items()),
                "anchor": CATALOGUE[row["item"]].anchor if row["item"] in CATALOGUE else "",
                "others": verdicts,
            }
        )
    return rows


def resting_on(claims: Sequence[Mapping[str, Any]], label: str) -> list[str]:
    """Ids of the claims that name a figure or table among what they rest on."""
    pattern = re.compile(rf"\b{re.escape(label)}\b")
    return [claim["id"] for claim in claims if pattern.search(claim["where"])]


def verdict_counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Verdicts on what the report itself says, repetitions left out; in all, and left open."""
    said = [row["verdict"] for row in rows if row["tag"] == "report" and not row["same_as"]]
    counts = {verdict: said.count(verdict) for verdict in VERDICTS}
    return counts | {
        "total": len(said),
        "open": len(said) - counts["holds"] - counts["fails"],
        "beside": len(rows) - len(said),
    }


def survival(rows: Sequence[Mapping[str, Any]], preset: str) -> list[str]:
    """What becomes of the claims under the recipe of each other preset, a sentence a preset."""
    sentences = []
    for other in rows[0]["others"] if rows else ():
        judged = [
            (row["id"], row["verdict"], row["others"][other])
            for row in rows
            if {row["verdict"], row["others"][other]} <= {"holds", "fails"}
        ]
        both = sum(here == there == "holds" for _, here, there in judged)
        only_here = [id for id, here, there in judged if (here, there) == ("holds", "fails")]
        only_there = [id for id, here, there in judged if (here, there) == ("fails", "holds")]
        text = (
            f"Of {len(judged)} claims judged under both {preset} and {other}, {both} hold in both"
        )
        if only_here:
            text += f"; only under {preset}: {', '.join(only_here)}"
        if only_there:
            text += f"; only under {other}: {', '.join(only_there)}"
        sentences.append(f"{text}.")
    return sentences


def side_by_side(folders: Mapping[str, Path], quantity: str) -> list[dict[str, Any]]:
    """The rows of Tables 1 and 3 that have numbers in the report, with ours of every preset.

    Args:
        folders: results/<preset> by preset; of each, the tables that were made are read.
        quantity: recon, kl or neg_elbo.

    Returns:
        One a row: table, title, report (on train), report_test (read off Figure 14, or None), and
        `presets`, by preset: train, test, spread, diff, budget (percent of the report's samples),
        within (whether a replica's tolerance is kept; None under another recipe), tone (of diff).
    """
    theirs = {row.run: (row.test_recon, row.test_neg_elbo) for row in numbers.TABLE_1}
    ends = {
        run: {"recon": recon, "kl": elbo - recon, "neg_elbo": elbo}
        for run, (recon, elbo) in theirs.items()
    }
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for preset, target in product(folders, ("table_1", "table_3")):
        item = CATALOGUE[target]
        path = folders[preset] / item.files["csv"]
        frame = pd.read_csv(path) if path.is_file() else pd.DataFrame()
        if "report_neg_elbo" not in frame:
            continue
        for row in frame[frame["report_neg_elbo"].notna()].to_dict("records"):
            diff, within = row[f"diff_{quantity}"], row.get("within_tolerance")
            within = None if absent(within) else str(within) == "True"
            tone = "better" if (diff <= 0 if within is None else within) else "worse"
            if quantity == "kl" and within is None:
                tone = ""
            new: dict[str, Any] = {
                "table": item.label,
                "title": row["model" if target == "table_1" else "architecture"],
                "report": row[f"report_{quantity}"],
                "report_test": ends.get(row["run"], {}).get(quantity),
                "presets": {},
            }
            rows.setdefault((target, row["run"]), new)["presets"][preset] = {
                "train": row[f"train_{quantity}"],
                "test": row[f"test_{quantity}"],
                "spread": row.get(f"train_{quantity}_spread"),
                "diff": diff,
                "budget": row.get("budget_percent"),
                "within": within,
                "tone": tone,
            }
    return list(rows.values())


def table_score(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each preset comes to in Tables 1 and 3, those of the report's own recipe first.

    A row is reproduced where the report's own recipe keeps a replica's tolerance, and surpassed
    where another recipe's train −ELBO is at or below the report's.
    """
    scores = []
    for preset in dict.fromkeys(preset for row in rows for preset in row["presets"]):
        found = [(row, row["presets"][preset]) for row in rows if preset in row["presets"]]
        own = any(ours["within"] is not None for _, ours in found)
        good = [row for row, ours in found if (ours["within"] if own else ours["diff"] <= 0)]
        near = sum(ours["diff"] <= MARGIN * row["report"] for row, ours in found)
        names = [row["title"] for row in good]
        scores.append({"preset": preset, "own": own, "good": names, "near": near, "of": len(found)})
    return sorted(scores, key=lambda score: not score["own"])
