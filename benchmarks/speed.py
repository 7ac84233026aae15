"""`vaelab bench`: samples/s of this project beside its bound and its peers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.machine import cores, describe, in_words
from benchmarks.networks import (
    COMPARED,
    NEEDS,
    NETWORKS,
    missing_packages,
    specs,
    ways_to_time,
)
from benchmarks.rounds import Measurement, measure, median_rates, median_ratio
from vaelab.output.figures.style import MUTED, RULE, STYLE, new_figure, save
from vaelab.output.plots import BLUE, SKY, VERMILION
from vaelab.settings.config import Config
from vaelab.util.io import atomic_write, write_json

logger = logging.getLogger(__name__)

TITLES = {
    "ours": "vaelab",
    "bound": "matrix products alone",
    "report": "the report's way",
    "examples": "PyTorch examples' VAE",
    "pythae": "pythae",
}
SHORT = {
    "vae": "[500, 500, 3]",
    "mnist_d20": "[500, 20] tanh",
    "ml_n50000": "[100, 3] tanh",
    "frey_d10": "Frey [200, 10]",
    "vqvae": "VQ-VAE",
}


def bench_speed(config: Config, folder: Path, *, rounds: int, seconds: float) -> str:
    """Measure, and write bench.json, bench.md and bench.png into a folder; returns the table."""
    # Only this needs torch here, and only to ask it what the processor can do.
    from vaelab.training.device import resolve_compute

    fast = resolve_compute("cpu", "auto").precision
    precisions = tuple(dict.fromkeys((fast, "fp32")))
    absent = {kind: missing_packages(kind) for kind in NEEDS}
    notes = [
        f"{TITLES[kind]} is left out: {', '.join(names)} not installed (`make bench` does)"
        for kind, names in absent.items()
        if names
    ]
    for note in notes:
        logger.info(note)
    machine = describe()
    measurements = measure(
        ways_to_time(precisions, tuple(kind for kind in NEEDS if not absent[kind])),
        specs(Path(config.runs)),
        data_root=Path(config.data.root),
        rounds=rounds,
        seconds=seconds,
        cores=cores(),
    )
    result = summary(measurements, machine, fast, notes)
    write_json(
        folder / "bench.json",
        {
            **result,
            "rounds": rounds,
            "seconds": seconds,
            "measurements": [asdict(m) for m in measurements],
        },
    )
    text = markdown(result)
    with atomic_write(folder / "bench.md") as stream:
        stream.write(text)
    with matplotlib.rc_context(STYLE):
        save(draw(result), folder / "bench.png", with_vector=False)
    return text


def summary(
    measurements: Sequence[Measurement],
    machine: dict[str, Any],
    fast: str,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Ratios and medians.

    Returns:
        machine; notes; ratios: rows (what, processes, ratio), None where a peer is missing;
        rates: rows (network, way, precision, processes, samples_per_second, of_bound,
        of_report), the latter two None where they say nothing.
    """
    rates = median_rates(measurements)
    processes = sorted({m.processes for m in measurements})
    wanted = [("ours / bound", ("ours", fast), ("bound", fast))]
    if fast != "fp32":
        wanted.append(("ours / bound, fp32", ("ours", "fp32"), ("bound", "fp32")))
    wanted += [(f"ours / {TITLES[kind]}", ("ours", fast), (kind, "fp32")) for kind in NEEDS]
    ratios = [
        {
            "what": what,
            "processes": number,
            "ratio": median_ratio(measurements, over, under, COMPARED, number),
        }
        for what, over, under in wanted
        for number in processes
    ]
    rows = []
    for (network, kind, precision, number), rate in rates.items():
        way, report = (kind, precision), ("report", "fp32")
        of_bound = median_ratio(measurements, way, ("bound", precision), network, number)
        rows.append(
            {
                "network": network,
                "way": kind,
                "precision": precision,
                "processes": number,
                "samples_per_second": rate,
                "of_bound": of_bound if kind == "ours" else None,
                "of_report": median_ratio(measurements, way, report, network, number),
            }
        )
    return {"machine": machine, "notes": list(notes), "ratios": ratios, "rates": rows}


def _columns(result: dict[str, Any]) -> dict[int, str]:
    """Number of processes -> heading."""
    numbers = sorted({row["processes"] for row in result["rates"]})
    return {n: "1 core" if n == 1 else f"{n} cores" for n in numbers}


def _way(row: dict[str, Any]) -> str:
    title = TITLES[row["way"]]
    return f"{title}, {row['precision']}" if row["way"] in ("ours", "bound") else title


def markdown(result: dict[str, Any]) -> str:
    """Ratios first, then samples/s, then the machine."""
    columns = _columns(result)
    head = " | ".join(columns.values())
    rule = " | ".join(["---:"] * len(columns))
    ratios = pd.DataFrame(result["ratios"]).dropna(subset="ratio")
    lines = [f"| {NETWORKS[COMPARED]}, batch 100 | {head} |", f"| --- | {rule} |"]
    for what, group in ratios.groupby("what", sort=False):
        values = group.set_index("processes")["ratio"]
        lines.append(f"| {what} | " + " | ".join(f"{values[n]:.2f}" for n in columns) + " |")
    tables = {
        f"{NETWORKS[COMPARED]}: samples/s": {
            _way(row): row for row in result["rates"] if row["network"] == COMPARED
        },
        "vaelab on other networks: samples/s": {
            f"{NETWORKS[row['network']]}, {row['precision']}": row
            for row in result["rates"]
            if row["network"] != COMPARED and row["way"] == "ours"
        },
    }
    for title, titled in tables.items():
        lines += ["", f"| {title} | {head} |", f"| --- | {rule} |"]
        for name, row in titled.items():
            same = ("network", "way", "precision")
            cells = {
                other["processes"]: _cell(other)
                for other in result["rates"]
                if all(other[key] == row[key] for key in same)
            }
            lines.append(f"| {name} | " + " | ".join(cells[n] for n in columns) + " |")
    lines += [
        "",
        f"Measured on {in_words(result['machine'])}. Medians of interleaved rounds, ratios "
        "taken within a round. In brackets: share of the network's own bound.",
    ]
    return "\n".join(lines + [""] * bool(result["notes"]) + list(result["notes"])) + "\n"


def _cell(row: dict[str, Any]) -> str:
    rate = f"{row['samples_per_second']:,.0f}".replace(",", " ")
    return rate if row["of_bound"] is None else f"{rate} ({100 * row['of_bound']:.0f} %)"


def draw(result: dict[str, Any]) -> Figure:
    """Bars of samples/s on one core: the compared network's ways, and the share of the bound."""
    rows = [row for row in result["rates"] if row["processes"] == 1]
    compared = [row for row in rows if row["network"] == COMPARED]
    ours = [row for row in rows if row["way"] == "ours" and row["of_bound"] is not None]
    figure = new_figure(7.2, 0.9 + 0.27 * max(len(compared), len(ours)))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))

    compared.sort(key=lambda row: row["samples_per_second"])
    colours = {"ours": BLUE, "bound": RULE}
    left.barh(
        [_way(row) for row in compared],
        [row["samples_per_second"] / 1000 for row in compared],
        color=[colours.get(row["way"], VERMILION) for row in compared],
        height=0.7,
    )
    for position, row in enumerate(compared):
        rate = row["samples_per_second"]
        times = "" if row["of_report"] is None else f"  ({row['of_report']:.1f}×)"
        text = f" {rate / 1000:.1f}{times}"
        left.text(rate / 1000, position, text, va="center", fontsize=7, color=MUTED)
    left.set_title("h = [500, 500, 3], one core")
    against = any(row["of_report"] is not None for row in compared)
    left.set_xlabel("thousand samples/s" + "  (times the report's way)" * against)
    left.set_xlim(0, 1.3 * max(row["samples_per_second"] for row in compared) / 1000)

    labels = [f"{SHORT[row['network']]}, {row['precision']}" for row in ours]
    right.barh(labels[::-1], [100 * row["of_bound"] for row in ours][::-1], color=SKY, height=0.7)
    for position, row in enumerate(ours[::-1]):
        share = 100 * row["of_bound"]
        right.text(share, position, f" {share:.0f} %", va="center", fontsize=7, color=MUTED)
    right.set_xlim(0, 115)
    right.set_title("Share of the bound")
    right.set_xlabel("% of the products alone")
    for axes in (left, right):
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
    return figure
