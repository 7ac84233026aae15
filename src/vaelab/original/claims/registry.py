"""What a claim is."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from vaelab.original.claims.evidence import Evidence
from vaelab.original.claims.judgement import Judgement, NotEvaluated

Judge = Callable[[Evidence], Judgement]


@dataclass(frozen=True)
class Claim:
    """A sentence of the report as a testable statement.

    Attributes:
        id: the report's claims are C1, C2 and so on; letters mark additions.
        section: section of the report.
        where: the figure or table it rests on, or "text".
        statement: what is tested, in one sentence.
        threshold: when it holds, in words.
        judge_by: from evidence to a judgement; may raise NotEvaluated.
    """

    id: str
    section: str
    where: str
    statement: str
    threshold: str
    judge_by: Judge

    @property
    def item(self) -> str:
        """Target that makes the figure or table (figure_01, table_1), or an empty string."""
        match = re.match(r"(Figure|Table) (\d+)", self.where)
        if match is None:
            return ""
        return f"figure_{int(match[2]):02d}" if match[1] == "Figure" else f"table_{match[2]}"

    @property
    def order(self) -> tuple[int, str]:
        """Sorts C3 before C3b before C4."""
        match = re.fullmatch(r"C(\d+)([a-z]?)", self.id)
        assert match is not None
        return int(match[1]), match[2]

    def judge(self, evidence: Evidence) -> Judgement:
        """The verdict; "not evaluated" with the reason where something is absent."""
        try:
            return self.judge_by(evidence)
        except NotEvaluated as missing:
            return Judgement("not evaluated", reason=f"{missing}.")


def claim(
    id: str, *, section: str, where: str, statement: str, threshold: str
) -> Callable[[Judge], Claim]:
    """Turn a judging function into a claim."""
    return lambda judge: Claim(id, section, where, statement, threshold, judge)
