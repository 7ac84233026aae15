"""The report's tables and the claims as rows of cells that the templates print."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from vaelab.output.page.formatting import MISSING, absent, number, signed
from vaelab.results.reader import grouped

VERDICTS = ("holds", "fails", "not evaluated")


@dataclass(frozen=True)
class Column:
    """A column of a table: where it comes from and how it is shown.

    Attributes:
        key: column of the CSV file.
        label: its heading.
        kind: text, count, loss, difference, share, or truth.
        group: heading above several columns.
        theirs: whether the numbers are the report's.
        judged: whether a negative difference is good and a positive one bad.
        scale: factor for reading.
    """

    key: str
    label: str
    kind: str = "loss"
    group: str = ""
    theirs: bool = False
    judged: bool = False
    scale: float = 1.0

    @property
    def numeric(self) -> bool:
        """Whether cells align to the right and sort as numbers."""
        return self.kind not in ("text", "truth")


@dataclass(frozen=True)
class Cell:
    """One cell: what is read, what it sorts by, and how it is set."""

    text: str
    value: str = ""
    spread: str = ""
    note: str = ""
    numeric: bool = False
    tone: str = ""


def _compared(quantity: str, label: str, judged: bool = True) -> tuple[Column, ...]:
    return (
        Column(f"train_{quantity}", "ours", group=label),
        Column(f"report_{quantity}", "report", group=label, theirs=True),
        Column(f"diff_{quantity}", "Δ", "difference", label, judged=judged),
    )


def _tested(*quantities: tuple[str, str]) -> tuple[Column, ...]:
    return tuple(Column(f"test_{key}", label, group="Test set") for key, label in quantities)


_RECON, _KL, _NEG_ELBO = ("recon", "recon"), ("kl", "KL"), ("neg_elbo", "−ELBO")
COLUMNS: Mapping[int, tuple[Column, ...]] = {
    1: (
        Column("model", "Model", "text"),
        *_compared("recon", "recon"),
        *_compared("kl", "KL", judged=False),
        *_compared("neg_elbo", "−ELBO"),
        *_compared("objective", "Objective, with β"),
        *_tested(_RECON, _KL, _NEG_ELBO, ("nll", "−log p(x)")),
        Column("test_mse", "MSE × 1000", group="Test set", scale=1000.0),
    ),
    2: (
        Column("architecture", "h", "text"),
        Column("step", "report", "count", "Step", theirs=True),
        Column("our_step", "ours", "count", "Step"),
        Column("parameters", "Parameters", "count"),
        *_compared("recon", "recon"),
        *_compared("kl", "KL", judged=False),
        *_tested(_RECON, _KL),
        Column("good", "ours", "truth", "Good"),
        Column("report_good", "report", "truth", "Good", theirs=True),
        Column("flip_probability", "P(flip)", "share"),
    ),
    3: (
        Column("architecture", "h", "text"),
        Column("parameters", "Parameters", "count"),
        *_compared("recon", "recon"),
        *_compared("kl", "KL", judged=False),
        *_compared("neg_elbo", "−ELBO"),
        *_tested(_RECON, _KL, _NEG_ELBO),
    ),
}
TITLES = {
    1: "Loss after convergence",
    2: "Search for the minimal architecture",
    3: "Performance of different networks",
}
NOTES = {
    1: "The objective contains β; −ELBO is recon + KL whatever β was.",
    2: "P(flip) is the chance that repeating the trainings would turn the verdict.",
    3: "",
}
LIKELIHOOD_COLUMNS = (
    Column("model", "Run", "text"),
    Column("split", "Set", "text"),
    Column("estimator", "Estimator", "text"),
    Column("nats", "log p(x)"),
    Column("images", "Images", "count"),
    Column("z_samples", "Samples of z", "count"),
    Column("diagnostic", "Diagnostic", "text"),
)
LIKELIHOOD_NOTE = (
    "The report’s formula and its notebook’s are biased, see the errata. MCEM trains no encoder: "
    "Gaussians fitted to each image’s posterior stand in for it. R-hat, a mean over images, is "
    "near 1 where an image’s chains agree; far above it, they have not mixed, as between separate "
    "modes of a posterior."
)


def table_views(folder: Path, claims: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Tables 1 to 3 and the companion of Figure 3, from their CSV files."""
    views = []
    for index, columns in COLUMNS.items():
        label = f"Table {index}"
        frame = _read(folder / f"table_{index}.csv")
        view = _view(f"table-{index}", label, TITLES[index], frame, columns)
        views.append(view | {"note": NOTES[index], "claims": resting_on(claims, label)})
    view = _view(
        "table-likelihood",
        "Beside Figure 3",
        "Estimates of log p(x) at the end of training",
        _read(folder / "likelihood.csv"),
        LIKELIHOOD_COLUMNS,
    )
    return [*views, view | {"note": LIKELIHOOD_NOTE, "claims": []}]


def _read(path: Path) -> pd.DataFrame:
    """A table as it was written; empty where it has not been."""
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def _view(
    id: str, label: str, title: str, frame: pd.DataFrame, columns: Sequence[Column]
) -> dict[str, Any]:
    shown = [c for c in columns if c.key in frame and frame[c.key].notna().any()]
    groups: list[tuple[str, int]] = []
    for column in shown:
        if column.group and groups and groups[-1][0] == column.group:
            groups[-1] = (column.group, groups[-1][1] + 1)
        else:
            groups.append((column.group, 1))
    return {
        "id": id,
        "label": label,
        "title": title,
        "columns": shown,
        "groups": groups if any(group for group, _ in groups) else [],
        "rows": [[_cell(row, column) for column in shown] for row in frame.to_dict("records")],
    }


def _cell(row: Mapping[str, Any], column: Column) -> Cell:
    value = row[column.key]
    tone = "theirs" if column.theirs else ""
    if absent(value):
        return Cell("" if column.kind == "text" else MISSING, numeric=column.numeric, tone=tone)
    if column.kind == "text":
        note = row.get("note") if column.key == "model" else None
        return Cell(str(value), note="" if absent(note) else str(note), tone=tone)
    if column.kind == "truth":
        return Cell("yes" if str(value) == "True" else "no", tone=tone)
    value = float(value) * column.scale
    if column.kind == "count":
        return Cell(grouped(int(value)), f"{value:.0f}", numeric=True, tone=tone)
    if column.kind == "difference":
        if column.judged:
            tone = "better" if value <= 0 else "worse"
        return Cell(signed(value, 1), repr(value), numeric=True, tone=tone)
    spread = row.get(f"{column.key}_spread")
    return Cell(
        number(value, 2 if column.kind == "share" else 1),
        repr(value),
        "" if absent(spread) else f"±\u202f{number(float(spread) * column.scale, 1)}",
        numeric=True,
        tone=tone,
    )


def claim_rows(claims: pd.DataFrame, others: Mapping[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """Claims with their evidence, and their verdicts under the other presets' recipes."""
    elsewhere = {
        preset: dict(zip(frame["id"], frame["verdict"], strict=True))
        for preset, frame in others.items()
    }
    rows = []
    for record in claims.to_dict("records"):
        row = {key: "" if absent(value) else value for key, value in record.items()}
        verdicts = {preset: known.get(row["id"], MISSING) for preset, known in elsewhere.items()}
        rows.append(
            {
                **row,
                "numbers": list(json.loads(row["numbers"] or "{}").items()),
                "anchor": item_anchor(row["item"]),
                "others": verdicts,
            }
        )
    return rows


def item_anchor(item: str) -> str:
    """The page's anchor of a workflow target: figure_01 -> figure-1; empty for none."""
    match = re.fullmatch(r"(figure|table)_0*(\d+)", item)
    return f"{match[1]}-{match[2]}" if match else ""


def resting_on(claims: Sequence[Mapping[str, Any]], label: str) -> list[str]:
    """Ids of the claims that name a figure or table among what they rest on."""
    pattern = re.compile(rf"\b{re.escape(label)}\b")
    return [claim["id"] for claim in claims if pattern.search(claim["where"])]


def verdict_counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Claims by verdict, and in all."""
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in VERDICTS}
    return counts | {"total": len(rows)}


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
