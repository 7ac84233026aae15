"""Every sentence that the report claims, judged by code over the measured results.

`CLAIMS` lists the claims in the report's numbering; `claims_frame` judges them all. Nothing
here imports torch. Verdicts come from the files of one preset, so each preset's recipe has
verdicts of its own.
"""

from __future__ import annotations

import json

import pandas as pd

from vaelab.original.claims import section2, section3, section4, section5
from vaelab.original.claims.evidence import MEASURES_FILE, Evidence
from vaelab.original.claims.judgement import Judgement, Verdict
from vaelab.original.claims.registry import Claim
from vaelab.results.reader import alarm_notes, provenance_line

CLAIMS: tuple[Claim, ...] = tuple(
    sorted(
        (
            value
            for module in (section2, section3, section4, section5)
            for value in vars(module).values()
            if isinstance(value, Claim)
        ),
        key=lambda claim: claim.order,
    )
)


def judge_all(evidence: Evidence) -> dict[str, Judgement]:
    """The judgement on every claim, by id."""
    return {claim.id: claim.judge(evidence) for claim in CLAIMS}


def claims_frame(evidence: Evidence) -> pd.DataFrame:
    """All claims with their verdicts, one a row, for claims.csv.

    Returns:
        Columns: id; statement; verdict; numbers (JSON object, name to value); where (figure,
        table or "text"); margin (from the threshold, not negative if the claim holds); its
        uncertainty; threshold and reason, in words; section of the report; item, the target
        that makes the figure or table.
    """
    rows = []
    for claim in CLAIMS:
        judgement = claim.judge(evidence)
        rows.append(
            {
                "id": claim.id,
                "statement": claim.statement,
                "verdict": judgement.verdict,
                "numbers": json.dumps(judgement.numbers, allow_nan=False),
                "where": claim.where,
                "margin": judgement.margin,
                "uncertainty": judgement.uncertainty or "",
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
        frame.attrs["notes"] = [
            *alarm_notes(results, names),
            f"Judged by {provenance_line(results, names)}.",
        ]
    return frame


__all__ = [
    "CLAIMS",
    "MEASURES_FILE",
    "Claim",
    "Evidence",
    "Judgement",
    "Verdict",
    "claims_frame",
    "judge_all",
]
