"""Every sentence that the report claims, judged by code over the measured results.

`in_order` lists the claims in the report's numbering; `claims_frame` judges them all. Nothing
here imports torch. Verdicts come from the files of one preset, so each preset's recipe has
verdicts of its own.
"""

from __future__ import annotations

import json
import math
from collections import Counter

import pandas as pd

from vaelab.original.claims import section2, section3, section4, section5  # noqa: F401
from vaelab.original.claims.evidence import MEASURES_FILE, Evidence
from vaelab.original.claims.judgement import (
    LEVEL,
    VERDICTS,
    Estimate,
    Judgement,
    Verdict,
    holm,
    uncertainty,
)
from vaelab.original.claims.registry import CLAIMS, Claim, in_order
from vaelab.results.reader import alarm_notes, provenance_line


def judge_all(evidence: Evidence) -> dict[str, Judgement]:
    """The judgement on every claim, by id, corrected for their number."""
    return holm({claim.id: claim.weigh(evidence) for claim in in_order()})


def claims_frame(evidence: Evidence) -> pd.DataFrame:
    """All claims with their verdicts, one a row, for claims.csv.

    Returns:
        Columns: id; statement; tag; same_as (the claim that it repeats); verdict; margin (of the
        deciding condition, in standard errors, positive if it is met; empty for exact numbers);
        numbers (JSON object: name to value, or to value and standard error); where (figure, table
        or "text"); uncertainty, threshold and reason, in words; section of the report; item, the
        target that makes the figure or table.
    """
    judgements = judge_all(evidence)
    rows = []
    for claim in in_order():
        judgement = judgements[claim.id]
        margin = judgement.check.margin if judgement.check else math.inf
        rows.append(
            {
                "id": claim.id,
                "statement": claim.statement,
                "tag": claim.tag,
                "same_as": claim.same_as,
                "verdict": judgement.verdict,
                "margin": float(f"{margin:.4g}") if math.isfinite(margin) else None,
                "numbers": json.dumps({k: _plain(v) for k, v in judgement.numbers.items()}),
                "where": claim.where,
                "uncertainty": uncertainty(judgement.check),
                "threshold": claim.threshold,
                "reason": judgement.reason,
                "section": claim.section,
                "item": claim.item,
            }
        )
    frame = pd.DataFrame(rows)
    frame.attrs["title"] = "The report's claims"
    results = evidence.results
    if names := [name for name in results.alias if results.has(name)]:
        noisy = sum(bool(j.check and j.check.noisy) for j in judgements.values())
        frame.attrs["notes"] = [
            *alarm_notes(results, names),
            counts_in_words(frame),
            f"{noisy} verdicts rest on numbers with noise. With Holm's correction the probability "
            f"that one or more of them are wrong is at most {100 * LEVEL:.0f} %, as far as the "
            f"standard errors are right; without it {noisy * LEVEL:.1f} wrong ones could be "
            "expected at most.",
            f"Judged by {provenance_line(results, names)}.",
        ]
    return frame


def counts(frame: pd.DataFrame) -> dict[str, Counter[str]]:
    """Verdicts by tag; a claim that repeats another one is not counted again."""
    once = frame[frame["same_as"].fillna("") == ""]
    return {str(tag): Counter(rows["verdict"]) for tag, rows in once.groupby("tag")}


def counts_in_words(frame: pd.DataFrame) -> str:
    """Verdicts on what the report says, and apart from them on what follows and what we ask."""
    by_tag = counts(frame)
    whose = {"report": "The report says", "implied": "It implies", "ours": "We ask"}
    plural = {"holds": "hold", "fails": "fail"}
    return " ".join(
        f"{words} {by_tag[tag].total()}: "
        f"{', '.join(f'{by_tag[tag][v]} {plural.get(v, v)}' for v in VERDICTS if by_tag[tag][v])}."
        for tag, words in whose.items()
        if tag in by_tag
    )


def _plain(value: Estimate) -> float | list[float]:
    """A number with six significant digits, and its standard error with two, if it has one."""
    mean = float(f"{value.mean:.6g}")
    return [mean, float(f"{value.se:.2g}")] if value.se else mean


__all__ = [
    "CLAIMS",
    "MEASURES_FILE",
    "VERDICTS",
    "Claim",
    "Evidence",
    "Judgement",
    "Verdict",
    "claims_frame",
    "counts",
    "in_order",
    "judge_all",
]
