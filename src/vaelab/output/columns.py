"""The columns of all tables, each defined once: for the Markdown twins and for the results page.

A CSV file has every column of its table; the Markdown twin has those that are listed here; the page
has those that the catalogue names. What is listed here without a page label is not on the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vaelab.output.formatting import absent, number, signed, significant
from vaelab.results.reader import grouped


@dataclass(frozen=True)
class Column:
    """A column, and how its cells are printed.

    Attributes:
        heading: in Markdown, where every column stands for itself; None keeps it out of there.
        label: on the page, below `group`.
        group: on the page, heading of several columns.
        kind: what the cells hold.
        decimals: of a number or a difference.
        scale: factor for reading.
        theirs: whether the numbers are the report's.
        judged: whether a negative difference is good and a positive one bad.
    """

    heading: str | None
    label: str = ""
    group: str = ""
    kind: Literal["text", "truth", "count", "number", "significant", "difference"] = "number"
    decimals: int = 1
    scale: float = 1.0
    theirs: bool = False
    judged: bool = False

    @property
    def numeric(self) -> bool:
        """Whether cells align to the right and sort as numbers."""
        return self.kind not in ("text", "truth")

    def text(self, value: Any) -> str:
        """A value as it is read; empty where there is none."""
        if absent(value):
            return ""
        if self.kind == "text":
            return str(value)
        if self.kind == "truth":
            return "yes" if str(value) == "True" else "no"
        if self.kind == "count":
            return grouped(int(value))
        if self.kind == "significant":
            return significant(float(value))
        write = signed if self.kind == "difference" else number
        return write(self.scale * float(value), self.decimals)

    def spread(self, row: Mapping[Any, Any], key: str) -> str:
        """The spread of a cell, from the column beside it; empty where there is none."""
        value: Any = row.get(f"{key}_spread")
        if absent(value):
            return ""
        if self.kind == "significant":
            return significant(float(value))
        return number(self.scale * float(value), self.decimals)


def _losses(quantity: str, name: str, group: str, judged: bool) -> dict[str, Column]:
    return {
        f"train_{quantity}": Column(f"train {name}", "train", group),
        f"test_{quantity}": Column(f"test {name}", "test", group),
        f"report_{quantity}": Column(f"report {name}", "report", group, theirs=True),
        f"diff_{quantity}": Column(f"Δ {name}", "Δ", group, "difference", judged=judged),
    }


COLUMNS: dict[str, Column] = {
    # Claims
    "id": Column("", kind="text"),
    "statement": Column("claim", kind="text"),
    "tag": Column("whose", kind="text"),
    "verdict": Column("verdict", kind="text"),
    "elsewhere": Column("under other recipes", kind="text"),
    "where": Column("rests on", kind="text"),
    "reason": Column("evidence", kind="text"),
    # What a row is
    "step": Column("step", "report", "Step", "count", theirs=True),
    "our_step": Column("our step", "ours", "Step", "count"),
    "path": Column("path", kind="text"),
    "model": Column("model", "Model", kind="text"),
    "architecture": Column("h", "h", kind="text"),
    "init": Column("initial weights", "Initial weights", kind="text"),
    "optimizer": Column("optimiser", "Optimiser", kind="text"),
    "output_bias": Column("output bias", "Output bias", kind="truth"),
    "seeds": Column("seeds", "Seeds", kind="count"),
    "parameters": Column("parameters", "Parameters", kind="count"),
    "samples": Column("samples", "Samples", kind="count"),
    "budget_percent": Column("% of the report's samples", "Budget, %"),
    # Losses
    **_losses("recon", "recon", "recon", judged=True),
    **_losses("kl", "KL", "KL", judged=False),
    **_losses("neg_elbo", "−ELBO", "−ELBO", judged=True),
    **_losses("objective", "objective", "Objective, with β", judged=True),
    "diff_objective": Column(None, "Δ", "Objective, with β", "difference", judged=True),
    "diff_neg_elbo_percent": Column("Δ −ELBO, %", kind="difference"),
    "test_objective": Column(None, "test", "Objective, with β"),
    "within_tolerance": Column("replica within ±2, ±0.4", "Replica within ±2, ±0.4", kind="truth"),
    "test_nll": Column("test NLL", "−log p(x)", "Test set"),
    "test_mse": Column("test MSE × 1000", "MSE × 1000", "Test set", scale=1000.0),
    "report_minutes": Column("report minutes", decimals=0),
    # The search
    "good": Column("good", "ours", "Good", "truth"),
    "front": Column("front", "Front", kind="truth"),
    "report_good": Column("report: good", "report", "Good", "truth", theirs=True),
    "flip_probability": Column("P(flip)", "P(flip)", decimals=2),
    # Estimates of log p(x)
    "split": Column("set", "Set", kind="text"),
    "estimator": Column("estimator", "Estimator", kind="text"),
    "nats": Column("log p(x)", "log p(x)"),
    "over_elbo": Column("− ELBO", "at the end", "− ELBO", decimals=2),
    "over_elbo_short": Column("− ELBO, 50 draws", "50 draws", "− ELBO", decimals=2),
    "images": Column("images", "Images", kind="count"),
    "z_samples": Column("z per image", "Samples of z", kind="count"),
    "diagnostic": Column("diagnostic", "Diagnostic", kind="text"),
    "note": Column("note", kind="text"),
    # Points of curves
    "figure": Column("figure", "Figure", kind="text"),
    "series": Column("run", "Run", kind="text"),
    "quantity": Column("quantity", "Quantity", kind="text"),
    "report_value": Column("report", "report", "Value", "significant", theirs=True),
    "smoothed": Column("ours, smoothed", "ours, smoothed", "Value", "significant"),
    "unsmoothed": Column("ours", "ours", "Value", "significant"),
    "diff_smoothed": Column("Δ smoothed", "Δ smoothed", "Value", "significant"),
}
