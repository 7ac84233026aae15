"""What a claim is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from vaelab.original.claims.evidence import Evidence
from vaelab.original.claims.judgement import (
    Check,
    Judgement,
    NotComparable,
    NotEvaluated,
    Verdict,
    conclude,
)
from vaelab.util.errors import VaelabError
from vaelab.util.registry import Registry

ID = re.compile(r"C(\d+)([a-z]?)")
# Whose sentence it is: the report says it, it follows from what the report says, or we ask it.
Tag = Literal["report", "implied", "ours"]
Judge = Callable[[Evidence], Iterable[Check]]


@dataclass(frozen=True)
class Claim:
    """A sentence as a testable statement.

    Attributes:
        id: the report's claims are C1, C2 and so on; letters mark additions.
        section: section of the report.
        where: the figure or table it rests on, or "text".
        tag: see `Tag`.
        statement: what is tested, in one sentence.
        threshold: when it holds, in words.
        judge_by: from evidence to the conditions, which have to be met all; or a fact.
        same_as: the claim that it says once more, if any: the two count once.
    """

    id: str
    section: str
    where: str
    tag: Tag
    statement: str
    threshold: str
    judge_by: Judge | Judgement
    same_as: str = ""

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
        match = ID.fullmatch(self.id)
        assert match is not None
        return int(match[1]), match[2]

    def weigh(self, evidence: Evidence) -> Judgement:
        """The deciding condition and its p-values, or why there are none."""
        if isinstance(self.judge_by, Judgement):
            return self.judge_by
        evidence.clear()
        checks: list[Check] = []
        missing = ""
        try:
            for check in self.judge_by(evidence):
                checks.append(check)
        except NotComparable as forbidden:
            return Judgement("not comparable", f"{forbidden}.", numbers=evidence.numbers)
        except NotEvaluated as absent:
            missing = str(absent)
        if not checks:
            return Judgement("not evaluated", f"{missing}.")
        recipe = [evidence.recipe()] if evidence.runs else []
        return replace(
            conclude(checks, [*evidence.notes, *recipe]),
            numbers=evidence.numbers,
            missing=missing,
            incomparable=evidence.incomparable,
        )

    def judge(self, evidence: Evidence) -> Judgement:
        """The verdict that this claim would get if it were the only one."""
        return self.weigh(evidence).alone


CLAIMS: Registry[Claim] = Registry("claim")


def in_order() -> list[Claim]:
    """The claims in the report's numbering."""
    return sorted(CLAIMS.values(), key=lambda claim: claim.order)


def claim(
    id: str, section: str, where: str, tag: Tag, same_as: str = ""
) -> Callable[[Judge], Claim]:
    """Turn a generator of conditions into a claim.

    Its docstring is the statement, and after "Holds if: " the threshold in words.

    Raises:
        VaelabError: an id of another form, or one that is taken.
    """

    def register(judge: Judge) -> Claim:
        text = " ".join((judge.__doc__ or "").split())
        statement, _, threshold = text.partition(" Holds if: ")
        return _add(Claim(id, section, where, tag, statement, threshold, judge, same_as))

    return register


def fact(
    id: str, section: str, where: str, verdict: Verdict, statement: str, threshold: str, reason: str
) -> Claim:
    """A statement about the literature or the report, which no run can change."""
    judgement = Judgement(verdict, reason)
    return _add(Claim(id, section, where, "report", statement, threshold, judgement))


def _add(claim: Claim) -> Claim:
    if not ID.fullmatch(claim.id):
        raise VaelabError(f"a claim is called C and a number, such as C60; not {claim.id!r}")
    return CLAIMS.add(claim.id, claim)
