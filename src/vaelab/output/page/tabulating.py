"""The report's tables and the claims as rows of cells that the templates print."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd

from vaelab.original.claims import VERDICTS
from vaelab.output.catalogue import CATALOGUE, tables
from vaelab.output.columns import COLUMNS, Column
from vaelab.output.formatting import MISSING, absent
from vaelab.output.page.media import picture


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
