"""The search for the minimal architecture as a decision path: ours and the report's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle, groupby
from pathlib import Path
from typing import Any

import pandas as pd

from vaelab.original import numbers
from vaelab.output.catalogue import CATALOGUE
from vaelab.results.reader import grouped
from vaelab.results.records import AnswerLine, Decisions
from vaelab.search.algorithm import Measurement, architecture_of, brackets
from vaelab.search.noise import search_summary
from vaelab.search.smooth import REPORT
from vaelab.settings.config import SearchSettings

GOOD, BAD, INTERVAL, LINE = "#2f9e6a", "#d0574e", "#9aa3b2", "#4c72b0"
# Height of a probe's row and of the space around a layer, in rem.
ROW, LAYER, MARGIN = 1.35, 3.4, 2.5
FRONT = "search-front"
# Most frequent answers of the repeated search that are listed.
ANSWERS = 6


@dataclass(frozen=True)
class Walk:
    """One walk down the decision tree, as the template reads it.

    Attributes:
        key: name of its drawing in the page's data.
        title: whose search it is.
        answer: the architecture in brackets, or None.
        line: recon against a width of the answer, if enough was measured.
        threshold: of recon, nats.
        summary: how it ended.
        decisions: as `SearchDecision`; with "flip", the probability that
            a repeated measurement would decide otherwise.
        answers: what the search answers when its networks are trained anew, with probabilities,
            most frequent first.
        intervals: 90 % of the widths of these answers, layer by layer.
        wasted: probes trained ahead that no decision needed, in brackets.
        violations: comparable pairs that contradict the report's assumption 5.1, and all pairs.
    """

    key: str
    title: str
    answer: str | None
    line: AnswerLine | None
    threshold: float
    summary: str
    decisions: tuple[dict[str, Any], ...]
    answers: tuple[tuple[str, float], ...]
    intervals: str
    wasted: tuple[str, ...]
    violations: tuple[int, int]

    @property
    def stages(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """Runs of decisions on one layer, with a title; upper bounds narrow nothing."""
        narrowing = [decision for decision in self.decisions if decision["layer"]]
        stages = []
        for (phase, layer), group in groupby(narrowing, lambda d: (d["phase"], d["layer"])):
            decisions = list(group)
            latent = layer == len(decisions[0]["widths"])
            title = "latent dimension" if latent else f"width of layer {layer}"
            stages.append((f"{title}, {phase}" if phase == "shrink" else title, decisions))
        return stages

    @property
    def told(self) -> str | None:
        """The answer as an interval, in words; None where too little was measured."""
        if self.line is None:
            return None
        networks = brackets_of(self.line)
        if self.line["crossing"] is None:
            return f"recon of {networks} does not fall with h"
        low, high = self.line["low"] or "?", self.line["high"] or "?"
        level = f"{100 * self.line['level']:.0f} %"
        return f"{networks}, h = {self.line['crossing']:.0f} ({level}: {low} to {high})"

    @property
    def height(self) -> float:
        """Height of the drawing, rem; 0 where no layer was searched."""
        return round(_height(self.stages) + MARGIN, 2) if self.stages else 0.0


def our_walk(summary: Decisions) -> Walk:
    """From the content of search/decisions.json."""
    reason = summary["answer"].get("reason", "the search has not ended")
    text = f"{_count(summary['needed'], 'probe')}; {reason}."
    return _walk("search-ours", "Ours", text, summary)


@cache
def report_walk() -> Walk:
    """The report's search, replayed on the numbers of its Tables 2 and 3."""
    measured = {
        architecture: Measurement((row.recon,), (row.kl,))
        for architecture, row in numbers.architecture_rows().items()
    }
    summary = search_summary(SearchSettings(), measured, shared=measured, spreads=REPORT)
    text = f"{_count(summary['needed'], 'probe')}, replayed on its Tables 2 and 3."
    return _walk("search-report", "The report’s", text, summary)


def _walk(key: str, title: str, text: str, summary: Decisions) -> Walk:
    flips = {probe["run"]: probe["flip_probability"] for probe in summary["probes"]}
    decisions = tuple(
        {
            **decision,
            "widths": tuple(decision["architecture"]),
            "architecture": brackets(tuple(decision["architecture"])),
            "phase": str(decision["phase"]),
            "flip": flips[decision["run"]],
        }
        for decision in summary["decisions"]
    )
    answers = tuple(
        (_answer(row["architecture"]) or "none found", float(row["probability"]))
        for row in summary["distribution"]["answers"]
    )
    pairs = summary["monotonicity"]
    return Walk(
        key,
        title,
        _answer(summary["answer"].get("architecture")),
        summary.get("line"),
        summary["settings"]["recon"],
        text,
        decisions,
        answers[:ANSWERS],
        ", ".join(
            f"{low} to {high}" if low < high else str(low)
            for low, high in summary["distribution"].get("intervals", ())
        ),
        tuple(brackets(architecture_of(run)) for run in summary["wasted"]),
        (len(pairs["recon"]) + len(pairs["kl"]), 2 * pairs["pairs"]),
    )


def brackets_of(line: AnswerLine) -> str:
    """The networks of a line: [h, 6, 3]."""
    return f"[{', '.join('h' if w is None else str(w) for w in line['networks'])}]"


def _answer(architecture: Sequence[int] | None) -> str | None:
    return brackets(tuple(architecture)) if architecture else None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _height(stages: Sequence[tuple[str, Sequence[Any]]]) -> float:
    return sum(LAYER + ROW * len(decisions) for _, decisions in stages)


def panels(walk: Walk) -> list[dict[str, Any]]:
    """The drawings of a walk: its decisions, and the line behind its answer."""
    return [as_plotly(walk)] + ([_line_plotly(walk.line, walk.threshold)] if walk.line else [])


def _line_plotly(line: AnswerLine, threshold: float) -> dict[str, Any]:
    """Recon against one width of the answer: a point a training, the line and its band."""
    widths, mean, low, high = ([row[i] for row in line["band"]] for i in range(4))
    points = list(zip(*line["points"], strict=True))
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    traces: list[dict[str, Any]] = [
        {"x": widths, "y": high, **edge},
        {"x": widths, "y": low, **edge, "fill": "tonexty", "fillcolor": f"{LINE}33"},
        {"x": widths, "y": mean, "mode": "lines", "line": {"color": LINE}, "hoverinfo": "skip"},
        {
            "x": points[0],
            "y": points[1],
            "mode": "markers",
            "marker": {"color": [GOOD if y <= threshold else BAD for y in points[1]]},
            "hovertemplate": "h = %{x}, recon %{y:.2f}<extra></extra>",
        },
        {
            "x": [widths[0], widths[-1]],
            "y": [threshold, threshold],
            "mode": "lines",
            "line": {"color": INTERVAL, "dash": "dash"},
            "hoverinfo": "skip",
        },
    ]
    ticks = list(range(50, int(widths[-1]) + 51, 50))
    layout = _layout(f"h of {brackets_of(line)}", ticks, "recon, nats") | {"showlegend": False}
    return {"data": [{"type": "scatter", **trace} for trace in traces], "layout": layout}


def _layout(x: str, ticks: list[int], y: str) -> dict[str, Any]:
    """Titles of the axes, a logarithmic one with its ticks and a linear one."""
    return {
        "margin": {"l": 56, "r": 16, "t": 16, "b": 40},
        "hovermode": "closest",
        "xaxis": {"type": "log", "title": {"text": x}, "tickvals": ticks},
        "yaxis": {"title": {"text": y}, "zeroline": False},
    }


def front(folder: Path) -> dict[str, Any] | None:
    """Recon against parameters, a colour a budget, from table_front; None if it was not made."""
    path = folder / CATALOGUE["table_front"].files["csv"]
    if not path.is_file():
        return None
    traces: list[dict[str, Any]] = []
    budgets = pd.read_csv(path).groupby("samples")
    for (samples, networks), colour in zip(
        budgets, cycle((LINE, GOOD, BAD, INTERVAL)), strict=False
    ):
        spread = networks["train_recon_spread"].where(networks["seeds"] > 1)
        best = networks[networks["front"]]
        name = f"{grouped(int(str(samples)))} samples"
        group = {"type": "scatter", "legendgroup": name, "name": name}
        traces += [
            {
                **group,
                "x": networks["parameters"].tolist(),
                "y": networks["train_recon"].tolist(),
                "error_y": {"array": spread.fillna(0.0).tolist(), "thickness": 1},
                "text": networks["architecture"].tolist(),
                "mode": "markers",
                "marker": {
                    "symbol": ["circle" if g else "x" for g in networks["good"]],
                    "color": colour,
                },
                "hovertemplate": "%{text}<br>%{x} parameters, recon %{y:.2f}<extra></extra>",
            },
            {
                **group,
                "x": best["parameters"].tolist(),
                "y": best["train_recon"].tolist(),
                "mode": "lines",
                "line": {"color": colour},
                "showlegend": False,
                "hoverinfo": "skip",
            },
        ]
    ticks = [n * 10**k for k in (4, 5, 6) for n in (1, 2, 5)]
    layout = _layout("parameters", ticks, "train recon, nats")
    return {"data": traces, "layout": layout | {"legend": {"orientation": "h", "y": 1.1}}}


def as_plotly(walk: Walk) -> dict[str, Any]:
    """One row a probe: the interval before it as a bar, the probe as a mark on it."""
    total = _height(walk.stages) or 1.0
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {
        "margin": {"l": 96, "r": 16, "t": 30, "b": 28},
        "showlegend": False,
        "hovermode": "closest",
        "barmode": "overlay",
        "annotations": [],
    }
    top = 1.0
    for index, (text, decisions) in enumerate(walk.stages, start=1):
        suffix = "" if index == 1 else str(index)
        bottom = top - ROW * len(decisions) / total
        layout[f"yaxis{suffix}"] = _rows_axis(decisions, suffix, [max(bottom, 0.0), top])
        layout[f"xaxis{suffix}"] = _widths_axis(decisions, suffix)
        place = {"xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
        title = {"text": text, "x": 0, "y": top} | place | {"showarrow": False}
        layout["annotations"].append(title)
        traces += _stage_traces(decisions, suffix)
        top = bottom - LAYER / total
    return {"data": traces, "layout": layout}


def _rows_axis(
    decisions: Sequence[Mapping[str, Any]], suffix: str, domain: list[float]
) -> dict[str, Any]:
    return {
        "domain": domain,
        "anchor": f"x{suffix}",
        "range": [len(decisions) - 0.4, -0.6],
        "tickvals": list(range(len(decisions))),
        "ticktext": [decision["architecture"] for decision in decisions],
        "showgrid": False,
        "zeroline": False,
        "fixedrange": True,
    }


def _widths_axis(decisions: Sequence[Mapping[str, Any]], suffix: str) -> dict[str, Any]:
    low, high = decisions[0]["interval"]
    margin = max(0.6, 0.04 * (high - low))
    axis: dict[str, Any] = {
        "anchor": f"y{suffix}",
        "range": [low - margin, high + margin],
        "zeroline": False,
    }
    return axis | ({"dtick": 1} if high - low < 10 else {})


def _stage_traces(decisions: Sequence[Mapping[str, Any]], suffix: str) -> list[dict[str, Any]]:
    rows = list(range(len(decisions)))
    axes = {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"}
    # A bar reaches half a unit beyond its ends, so that a single width is still a bar.
    starts = [decision["interval"][0] - 0.5 for decision in decisions]
    lengths = [d["interval"][1] - d["interval"][0] + 1 for d in decisions]
    middles = [decision["widths"][decision["layer"] - 1] for decision in decisions]
    return [
        {
            "type": "bar",
            "orientation": "h",
            "base": starts,
            "x": lengths,
            "y": rows,
            "width": 0.5,
            "marker": {"color": INTERVAL, "opacity": 0.4},
            "hoverinfo": "skip",
            **axes,
        },
        {
            "type": "scatter",
            "mode": "markers",
            "x": middles,
            "y": rows,
            "text": [
                f"{d['architecture']} {'good' if d['good'] else 'not good'}<br>"
                f"recon {d['recon']:.1f}, KL {d['kl']:.1f}<br>"
                f"still possible: {d['interval'][0]} to {d['interval'][1]}"
                for d in decisions
            ],
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {
                "size": 11,
                "color": [GOOD if d["good"] else BAD for d in decisions],
                "symbol": ["circle" if d["good"] else "x" for d in decisions],
            },
            **axes,
        },
    ]
