"""`vaelab bench`: samples/s of this project beside its bound, its rivals and itself with less."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import describe, in_words
from benchmarks.networks import (
    BOUNDS,
    COMPARED,
    LATE,
    LAYERS,
    NETWORKS,
    RIVALS,
    Way,
    missing,
    specs,
    ways_to_time,
)
from benchmarks.rounds import Measured, Rates, measure, median_ratio
from vaelab.settings.config import Config
from vaelab.util.io import atomic_write, write_json

logger = logging.getLogger(__name__)

PUBLISHED = ("report", "examples", "pythae")  # in float32


def bench_speed(config: Config, folder: Path, *, rounds: int, seconds: float) -> str:
    """Measure, and write bench.json and bench.md into a folder; returns the tables."""
    # Only this needs torch here, and only to ask it what the processor can do.
    from vaelab.training.device import resolve_compute

    fast = resolve_compute("cpu", "auto").precision
    reasons = {kind: missing(kind) for kind in RIVALS}
    notes = [f"{RIVALS[kind]} is left out: {why}" for kind, why in reasons.items() if why]
    for note in notes:
        logger.info(note)
    machine = describe()
    timed = specs(Path(config.runs))
    rivals = tuple(kind for kind, why in reasons.items() if not why)
    measured = measure(
        ways_to_time(timed, tuple(dict.fromkeys((fast, "fp32"))), rivals),
        timed,
        data_root=Path(config.data.root),
        rounds=rounds,
        seconds=seconds,
    )
    text = markdown(measured, fast)
    text += (
        f"\nOne core of {in_words(machine)}. Adam, batches of 100 (VQ-VAE: 10). Samples per second "
        f"of CPU time, medians of {rounds} interleaved rounds; ratios are taken within a round.\n"
    )
    for note in [*notes, *measured.notes]:
        text += f"\n{note}\n"
    rates = [{**vars(way), "rates": found} for way, found in measured.rates.items()]
    write_json(
        folder / "bench.json",
        {"machine": machine, "precision": fast, "seconds": seconds}
        | {"compilation": measured.compilation, "rates": rates},
    )
    with atomic_write(folder / "bench.md") as stream:
        stream.write(text)
    return text


def _way(network: str, kind: str, fast: str) -> Way:
    return Way(network, kind, "fp32" if kind in PUBLISHED else fast)


def strongest(rates: Rates, network: str, fast: str) -> Way | None:
    """The fastest rival on a network."""
    ours = Way(network, "ours", fast)
    ratios = {
        rival: ratio
        for rival in (_way(network, kind, fast) for kind in RIVALS)
        if (ratio := median_ratio(rates, ours, rival)) is not None
    }
    return min(ratios, key=lambda rival: ratios[rival], default=None)


def markdown(measured: Measured, fast: str) -> str:
    """Ratios, then samples/s, then what each layer buys."""
    rates = measured.rates
    lines: list[str] = []

    def table(title: str, heads: Sequence[str], rows: dict[str, list[str]]) -> None:
        lines.extend([""] * bool(lines))
        lines.append(f"| {title} | {' | '.join(heads)} |")
        lines.append("| --- |" + " ---: |" * len(heads))
        # A way that no network has is no row.
        shown = {name: cells for name, cells in rows.items() if any(cells)}
        lines.extend(f"| {name} | {' | '.join(cells)} |" for name, cells in shown.items())

    def ratio(network: str, kind: str) -> str:
        ours = Way(network, LATE if kind == "denormals" else "ours", fast)
        found = median_ratio(rates, ours, _way(network, kind, fast))
        return "" if found is None else f"{found:.2f}"

    best = {network: strongest(rates, network, fast) for network in NETWORKS}
    first = {
        "its strongest rival": [ratio(n, way.kind) if way else "" for n, way in best.items()],
        **{RIVALS[kind]: [ratio(n, kind) for n in NETWORKS] for kind in RIVALS},
        **{BOUNDS[kind]: [ratio(n, kind) for n in NETWORKS] for kind in BOUNDS},
    }
    table(f"vaelab ({fast}), times the speed of", list(NETWORKS.values()), first)

    def rate(network: str, kind: str, precision: str = fast) -> str:
        found = rates.get(_way(network, kind, precision))
        text = f"{statistics.median(found):,.0f}".replace(",", " ") if found else ""
        if kind == "compiled" and network in measured.compilation:
            text += f" (compiled in {measured.compilation[network]:.0f} s)"
        return text

    kinds = {"ours": "vaelab", **RIVALS, **BOUNDS}
    second = {title: [rate(n, kind) for n in NETWORKS] for kind, title in kinds.items()}
    table(f"samples/s, {fast}", list(NETWORKS.values()), second)

    third: dict[str, list[str]] = {}
    for kind, layer in LAYERS.items():
        third[layer] = [rate(COMPARED, kind), ratio(COMPARED, kind)]
    if fast != "fp32":
        slower = median_ratio(rates, Way(COMPARED, "ours", fast), Way(COMPARED, "ours", "fp32"))
        third["bf16 weights and products"] = [
            rate(COMPARED, "ours", "fp32"),
            f"{slower:.2f}" if slower else "",
        ]
    table(f"{NETWORKS[COMPARED]}: vaelab without", ["samples/s", "with it, times as fast"], third)
    return "\n".join(lines) + "\n"
