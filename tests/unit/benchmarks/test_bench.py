"""The benchmarks: what is counted, in which order it is measured, what the tables say."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from benchmarks import budgets, presets, speed, ways
from benchmarks.budgets import quality_row, quality_table, reached, science_table
from benchmarks.machine import cores, describe, processor
from benchmarks.networks import (
    COMPARED,
    NEEDS,
    NETWORKS,
    Way,
    missing_packages,
    products,
    specs,
    ways_to_time,
)
from benchmarks.pipeline import core_time, pipeline_table
from benchmarks.planning import enlarged, planning_table
from benchmarks.presets import extrapolated
from benchmarks.rounds import Measurement, _Pool, measure, median_ratio, schedule
from toys import heard, pixels_of, toy_images, toy_spec, toy_vqvae_spec
from vaelab.cli import main
from vaelab.models.families import build
from vaelab.settings.config import Config, load_config
from vaelab.settings.runs import Run, read_rows, resolve
from vaelab.training.trainer import Trainer
from vaelab.util.errors import VaelabError
from workflow_project import ROOT, copy_project

TABLE = ROOT / "config/runs.tsv"
OURS, BOUND = Way("vae", "ours", "bf16"), Way("vae", "bound", "bf16")


# --- what is timed ---------------------------------------------------------------------------


def test_products_of_the_compared_network() -> None:
    """1.29 million weights, three products a weight and image but for the first layers."""
    spec = specs(TABLE)[COMPARED]
    weights = 2 * (784 * 500 + 500 * 500 + 500 * 3) + 3 * 500 + 500 * 500 + 500 * 784
    first = 2 * 784 * 500
    flops = sum(product.flops for product in products(spec))
    assert flops == 2 * 100 * (3 * weights - first)
    assert spec.model.architecture == (500, 500, 3)
    assert (spec.model.trunks, spec.recipe.batch_size, spec.recipe.optimizer) == (
        "separate",
        100,
        "adagrad",
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden": (7, 5), "trunks": "shared"},
        {"hidden": (7, 5), "trunks": "separate"},
        {"hidden": (7,), "condition": "onehot"},
        {"dataset": "frey", "hidden": (7,), "likelihood": "gaussian", "trunks": "shared"},
    ],
    ids=["shared", "separate", "conditional", "gaussian"],
)
def test_products_are_those_of_the_model(changes: dict[str, Any]) -> None:
    """Forward, weights and inputs of every linear layer of the built network."""
    spec = toy_spec(**changes)
    model = build(spec, torch.Generator().manual_seed(0))
    first_inputs = pixels_of(spec) + model.condition_dim
    flops = 0
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            first = "encoder" in name and weight.shape[1] == first_inputs
            flops += 2 * spec.recipe.batch_size * weight.numel() * (2 if first else 3)
    assert sum(product.flops for product in products(spec)) == flops


def test_products_of_a_layer_are_forward_weights_and_input() -> None:
    shapes = [tuple(p) for p in products(toy_spec(hidden=(16,), trunks="shared", batch_size=50))]
    assert shapes == [
        *[(50, 784, 16), (16, 50, 784)],  # images need no gradient
        *[(50, 16, 6), (6, 50, 16), (50, 6, 16)],
        *[(50, 3, 16), (16, 50, 3), (50, 16, 3)],
        *[(50, 16, 784), (784, 50, 16), (50, 784, 16)],
    ]


def test_bound_multiplies_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call of a step of the bound, against the list of products."""
    spec = toy_spec(hidden=(16, 8), trunks="separate")
    made: list[tuple[int, int, int]] = []
    real = torch.mm

    def counted(left: torch.Tensor, right: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        made.append((left.shape[0], left.shape[1], right.shape[1]))
        assert out.dtype == left.dtype == right.dtype == torch.float32
        return real(left, right, out=out)

    monkeypatch.setattr(torch, "mm", counted)
    run = ways.prepare(Way("vae", "bound", "fp32"), spec, Path("none"))
    assert run(250) > 0
    assert made == [tuple(product) for product in products(spec)] * 3  # 2.5 batches of 100


def test_bound_of_the_vqvae_has_all_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[tuple[int, ...], list[bool]]] = []
    real = torch.ops.aten.convolution_backward

    def counted(dy: torch.Tensor, *arguments: Any) -> Any:
        made.append((tuple(dy.shape), arguments[-1]))
        return real(dy, *arguments)

    monkeypatch.setattr(torch.ops.aten, "convolution_backward", counted)
    ways.prepare(Way("vqvae", "bound", "fp32"), toy_vqvae_spec(batch_size=5), Path("none"))(5)
    channels = [(64, 14), (256, 7), (2, 7), (256, 7), (64, 14), (1, 28)]
    assert [shape for shape, _ in made] == [(5, c, side, side) for c, side in channels]
    assert [mask for _, mask in made] == [[False, True, False]] + [[True, True, False]] * 5


def test_ways_are_the_compared_network_in_every_way_and_the_rest_in_ours() -> None:
    found = ways_to_time(("bf16", "fp32"), ("report", "pythae"))
    assert [way for way in found if way.network == COMPARED] == [
        OURS,
        BOUND,
        Way("vae", "ours", "fp32"),
        Way("vae", "bound", "fp32"),
        Way("vae", "report", "fp32"),
        Way("vae", "pythae", "fp32"),
    ]
    others = {(way.network, way.kind) for way in found if way.network != COMPARED}
    assert others == {(n, k) for n in list(NETWORKS)[1:] for k in ("ours", "bound")}
    # Where nothing is fast but fp32 there is one precision.
    assert {way.precision for way in ways_to_time(("fp32",), ())} == {"fp32"}


def test_run_table_without_a_timed_network_is_named(tmp_path: Path) -> None:
    lines = TABLE.read_text().splitlines(keepends=True)
    path = tmp_path / "runs.tsv"
    path.write_text("".join(line for line in lines if not line.startswith("vqvae\t")))
    with pytest.raises(VaelabError, match=r"runs\.tsv lacks vqvae"):
        specs(path)


def test_our_way_trains_that_many_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = Trainer.run

    def spy(trainer: Trainer, **options: Any) -> Any:
        asked.append(trainer.spec.budget.samples)
        return real(trainer, **options)

    monkeypatch.setattr(Trainer, "run", spy)
    monkeypatch.setattr(ways, "_dataset", lambda name, root: toy_images(name))
    run = ways.prepare(Way("vae", "ours", "fp32"), toy_spec(), Path("none"))
    assert run(400) > 0
    assert asked == [400]


# --- rounds ----------------------------------------------------------------------------------


def test_ways_take_turns_in_every_round() -> None:
    turns = list(schedule([OURS, BOUND], 2, 4))
    expected = [(r, way, n) for r in (0, 1) for n in (1, 4) for way in (OURS, BOUND)]
    assert [tuple(turn) for turn in turns] == expected
    # One core is not measured twice.
    assert len(list(schedule([OURS, BOUND], 2, 1))) == 4


def rates(kind: str, precision: str, processes: int, *values: float) -> list[Measurement]:
    return [
        Measurement(number, "vae", kind, precision, processes, value)
        for number, value in enumerate(values)
    ]


def test_ratios_are_taken_within_a_round() -> None:
    """A slow second round halves both: the ratio of medians would be 1.5, the ratio is 0.75."""
    ours = rates("ours", "bf16", 1, 75.0, 37.5, 75.0)
    bound = rates("bound", "bf16", 1, 100.0, 50.0, 100.0)
    both = [*ours, *bound, *rates("ours", "bf16", 2, 1.0, 1.0, 1.0)]
    ways_ = (("ours", "bf16"), ("bound", "bf16"))
    assert median_ratio(both, *ways_, "vae", 1) == pytest.approx(0.75)
    uneven = [*rates("ours", "bf16", 1, 10, 90, 80), *rates("bound", "bf16", 1, 100, 100, 160)]
    assert median_ratio(uneven, *ways_, "vae", 1) == pytest.approx(0.5)
    assert median_ratio(both, *ways_, "vae", 2) is None
    assert median_ratio(both, *ways_, "vqvae", 1) is None


@pytest.mark.slow
def test_processes_work_side_by_side(tmp_path: Path) -> None:
    """Rounds on one process and on two; what the processes are told stays with them."""
    spec = toy_spec(hidden=(8,))
    before = dict(os.environ)
    lines: list[str] = []
    with heard(lines.append, "benchmarks"):
        found = measure(
            [Way("vae", "bound", "fp32")],
            {"vae": spec},
            data_root=tmp_path,
            rounds=2,
            seconds=0.02,
            cores=2,
        )
    assert [(m.round, m.processes) for m in found] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert all(m.rate > 0 and math.isfinite(m.rate) for m in found)
    assert lines[0] == "preparing vae, bound, fp32"
    # The allocator's settings were for the processes, not for this one.
    assert dict(os.environ) == before


def test_a_way_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(VaelabError, match=r"(?s)vae, ours: .*vaelab fetch mnist"):
        measure(
            [Way("vae", "ours", "fp32")],
            {"vae": toy_spec()},
            data_root=tmp_path,
            rounds=1,
            seconds=0.01,
            cores=1,
        )


def test_a_process_that_is_killed_is_an_error_for_the_user() -> None:
    near, far = Pipe()
    far.close()
    pool = _Pool(1, Path(), {})
    pool.workers[False] = [near]
    with pytest.raises(VaelabError, match="vae, bound: its process was killed"):
        pool.run(Way("vae", "bound", "fp32"), 100, 1)


# --- what is said of it ----------------------------------------------------------------------


@pytest.fixture
def measured() -> list[Measurement]:
    rows = []
    for processes in (1, 2):
        rows += rates("ours", "bf16", processes, 30_000 * processes, 28_000 * processes)
        rows += rates("bound", "bf16", processes, 40_000 * processes, 40_000 * processes)
        rows += rates("ours", "fp32", processes, 9_000 * processes, 9_000 * processes)
        rows += rates("bound", "fp32", processes, 10_000 * processes, 10_000 * processes)
        rows += rates("report", "fp32", processes, 5_000 * processes, 7_000 * processes)
    return rows


def test_summary_and_table_from_made_up_timings(measured: list[Measurement]) -> None:
    note = "pythae is left out: pythae not installed (`make bench` does)"
    result = speed.summary(measured, describe(), "bf16", [note])
    ratios = {(row["what"], row["processes"]): row["ratio"] for row in result["ratios"]}
    assert ratios["ours / bound", 1] == pytest.approx((0.75 + 0.7) / 2)
    assert ratios["ours / bound, fp32", 2] == pytest.approx(0.9)
    assert ratios["ours / the report's way", 1] == pytest.approx((6 + 4) / 2)
    assert ratios["ours / pythae", 1] is None
    json.dumps(result, allow_nan=False)

    lines = speed.markdown(result).splitlines()
    assert lines[0] == "| h = [500, 500, 3], separate trunks, batch 100 | 1 core | 2 cores |"
    assert lines[2] == "| ours / bound | 0.72 | 0.72 |"
    assert "| ours / the report's way | 5.00 | 5.00 |" in lines
    assert not any("pythae" in line for line in lines[:-1])
    assert lines[-1] == note
    assert "| vaelab, bf16 | 29 000 (72 %) | 58 000 (72 %) |" in lines
    assert "| the report's way | 6 000 | 12 000 |" in lines


def test_chart_shows_rates_and_shares(measured: list[Measurement]) -> None:
    result = speed.summary(measured, describe(), "bf16")
    left, right = speed.draw(result).axes
    widths = {
        label.get_text(): bar.get_width()
        for label, bar in zip(left.get_yticklabels(), left.patches, strict=True)
    }
    assert widths == {
        "the report's way": 6.0,
        "vaelab, fp32": 9.0,
        "matrix products alone, fp32": 10.0,
        "vaelab, bf16": 29.0,
        "matrix products alone, bf16": 40.0,
    }
    assert "29.0  (5.0×)" in "".join(text.get_text() for text in left.texts)
    assert sorted(bar.get_width() for bar in right.patches) == pytest.approx([72.5, 90.0])


def test_missing_peers_are_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(NEEDS, "report", ("no_such_package",))
    assert missing_packages("report") == ["no_such_package"]
    assert missing_packages("ours") == []
    monkeypatch.setattr(speed, "missing_packages", lambda kind: ["gone"])
    timed: list[Way] = []

    def pretend(chosen: list[Way], *arguments: Any, **options: Any) -> list[Measurement]:
        timed.extend(chosen)
        return [
            Measurement(0, way.network, way.kind, way.precision, processes, 1000.0)
            for way in chosen
            for processes in (1, 2)
        ]

    monkeypatch.setattr(speed, "measure", pretend)
    lines: list[str] = []
    config = load_config((), {"runs": str(TABLE)})
    with heard(lines.append, "benchmarks"):
        speed.bench_speed(config, tmp_path, rounds=1, seconds=0.1)
    assert not any(way.peer for way in timed)
    assert lines[0] == "the report's way is left out: gone not installed (`make bench` does)"
    assert len(lines) == len(NEEDS)
    assert lines[-1] in (tmp_path / "bench.md").read_text()
    written = json.loads((tmp_path / "bench.json").read_text())
    assert len(written["measurements"]) == 2 * len(timed)
    assert written["notes"] == lines
    assert (tmp_path / "bench.png").stat().st_size > 10_000


def test_machine_is_read_from_cpuinfo() -> None:
    text = (
        "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 amx_bf16\n\nprocessor\t: 1\n"
    )
    assert processor(text) == ("Some CPU", ["avx2", "amx_bf16"])
    assert processor("Features\t: asimd bf16\n")[1] == ["bf16"]
    assert describe()["cores"] == cores() == len(os.sched_getaffinity(0))


# --- trainings -------------------------------------------------------------------------------


def test_same_science_compares_the_difference_with_the_seeds() -> None:
    table = science_table({"bf16": [130.0, 131.0], "fp32": [130.5, 131.5]}, [0, 1], 100_000)
    lines = table.splitlines()
    assert lines[0] == "| test -ELBO after 100 000 samples | seed 0 | seed 1 | mean | sd |"
    assert lines[2] == "| bf16 | 130.00 | 131.00 | 130.50 | 0.71 |"
    assert lines[4] == "| bf16 - fp32 | -0.50 | -0.50 | -0.50 | 0.00 |"
    assert lines[-1].endswith(
        "-0.50 nats, the seeds of one precision lie 1.00 nats apart: within the spread."
    )
    far = science_table({"bf16": [135.0, 136.0], "fp32": [130.5, 131.5]}, [0, 1], 1)
    assert "+4.50 nats" in far
    assert "NOT within" in far


def test_science_trains_every_seed_in_both_precisions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(budgets, "load", lambda name, root: toy_images(name))
    monkeypatch.setattr(budgets, "recipe", lambda config: toy_spec())
    config = load_config((), {})
    budgets.bench_science(config, tmp_path, seeds=[0, 1], samples=200)
    frame = pd.read_csv(tmp_path / "same_science.csv")
    assert list(zip(frame["seed"], frame["precision"], strict=True)) == [
        (0, "bf16"),
        (0, "fp32"),
        (1, "bf16"),
        (1, "fp32"),
    ]
    by_seed = frame.pivot(index="seed", columns="precision", values="test_neg_elbo")
    assert (by_seed["bf16"] - by_seed["fp32"]).abs().max() < 2.0
    assert by_seed["bf16"].nunique() == 2
    assert (by_seed["bf16"] != by_seed["fp32"]).all()


def test_quality_is_reached_at_the_first_good_point() -> None:
    values = [150.0, 124.7, 124.6, 125.0, 123.0]
    history = [
        {"train_neg_elbo": value, "seconds": 10.0 * i, "samples": 100 * i}
        for i, value in enumerate(values)
    ]
    assert reached(history, 124.6) is history[2]
    assert reached(history, 100.0) is None
    rows = [quality_row("quick", history, 124.6), quality_row("report's", history[:2], 124.6)]
    lines = quality_table(rows, 124.6).splitlines()
    assert lines[2] == "| quick | 0.3 min, 200 samples | 400 | 0.7 | 123.0 |"
    assert lines[3] == "| report's | not within its budget | 100 | 0.2 | 124.7 |"


def test_quality_caps_the_reports_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trained: list[Any] = []

    def pretend(config: Any, spec: Any, seed: int, precision: str) -> list[dict[str, float]]:
        trained.append(spec)
        # 1000 samples/s; the modern recipe is good at its end.
        value = 120.0 if spec.recipe.optimizer == "adam" else 140.0
        return [
            {
                "samples": spec.budget.samples,
                "seconds": spec.budget.samples / 1000,
                "train_neg_elbo": value,
            }
        ]

    monkeypatch.setattr(budgets, "_train", pretend)
    text = budgets.bench_quality(
        load_config((), {"runs": str(TABLE)}),
        tmp_path,
        samples=7000,
        minutes=2.0,
        quality=124.6,
    )
    ours, report = trained[-2:]
    assert (ours.recipe.optimizer, ours.budget.samples) == ("adam", 7000)
    assert (report.recipe.optimizer, report.recipe.init, report.budget.samples) == (
        "adagrad",
        "normal",
        120_000,
    )
    assert report.recipe.batch_size == 100
    assert "| quick recipe | 0.1 min" in text
    assert "| report's | not within its budget | 1.2e+05 | 2.0 | 140.0 |" in text
    rows = json.loads((tmp_path / "quality.json").read_text())["rows"]
    assert [row["reached_samples"] for row in rows] == [7000, None]


# --- a whole preset --------------------------------------------------------------------------


def test_what_every_training_takes_is_extrapolated_once() -> None:
    """5 s of preparation and 1000 samples/s."""
    rate, seconds = extrapolated([(2000, 7.0), (6000, 11.0)], 1_000_000)
    assert rate == pytest.approx(1000.0)
    assert seconds == pytest.approx(5.0 + 1000.0)
    with pytest.raises(VaelabError, match="larger --share"):
        extrapolated([(2000, 7.0), (6000, 6.9)], 1_000_000)


def test_preset_is_trained_in_two_shares_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = [0.0]
    seen: list[list[tuple[str, int]]] = []

    def pretend(config: Config, runs: Sequence[Run], *, evaluation: bool) -> None:
        assert not evaluation
        assert Path(config.results) != Path("results")
        seen.append([(run.id, run.spec.budget.samples) for run in runs])
        # 2 s for each run, and 5000 samples/s.
        clock[0] += 2.0 * len(runs) + sum(run.spec.budget.samples for run in runs) / 5000

    monkeypatch.setattr(presets, "work_on_runs", pretend)
    monkeypatch.setattr(presets.time, "monotonic", lambda: clock[0])
    config = load_config((), {"runs": str(TABLE), "preset": "paper", "device": "cpu"})
    text = presets.bench_preset(config, tmp_path, share=0.001)

    runs = resolve(config).by_id
    assert seen[0] == [(next(iter(runs)), 100)]
    assert seen[1] == [(i, round(run.spec.budget.samples / 1000)) for i, run in runs.items()]
    assert seen[2] == [(i, round(3 * run.spec.budget.samples / 1000)) for i, run in runs.items()]
    samples = sum(run.spec.budget.samples for run in runs.values())
    found = json.loads((tmp_path / "preset_paper.json").read_text())
    assert found["samples"] == samples
    assert found["samples_per_second"] == pytest.approx(5000.0)
    assert found["hours"] == pytest.approx((2.0 * len(runs) + samples / 5000) / 3600)
    assert f"| paper | {len(runs)} | {samples:.3g} | one CPU core | 1 | 5 000 |" in text
    assert (tmp_path / "preset_paper.md").read_text() == text

    presets.bench_preset(config, tmp_path, share=None)
    assert sum(budget for _, budget in seen[4]) == pytest.approx(presets.ENOUGH, rel=0.01)


# --- the pipeline ----------------------------------------------------------------------------


def job(step: str, name: str, ended: float, seconds: float) -> dict[str, Any]:
    return {"step": step, "job": name, "ended": ended, "s": seconds, "max_rss": 100.0}


def test_core_time_adds_up() -> None:
    jobs = pd.DataFrame(
        [
            job("train", "a-s0", 1020.0, 20.0),
            job("train", "b-s0", 1030.0, 25.0),
            job("train", "old-s0", 1033.0, 3.0),
            job("classifier", "classifier", 1040.0, 5.0),
            job("figures", "figure_01", 1050.0, 4.0),
        ]
    )
    records = {
        "a-s0": {"wall_seconds": 15.0, "evaluate_seconds": 2.0},
        "b-s0": {"wall_seconds": 20.0, "evaluate_seconds": 1.0},
        # Trained long ago: this job reused it.
        "old-s0": {"wall_seconds": 60.0, "evaluate_seconds": 6.0},
    }
    parts = {part["part"]: part for part in core_time(records, jobs, 2)}
    seconds = {name: part["core_seconds"] for name, part in parts.items()}
    assert seconds == {
        "training": 35.0,
        "evaluation of runs": 3.0,
        "classifier and measures": 5.0,
        "start-up of the runs' jobs": 48.0 - 38.0,
        "figures, tables, claims, page": 4.0,
        "DAG, search, idle cores": 100.0 - 57.0,
    }
    assert sum(part["share"] for part in parts.values()) == pytest.approx(1.0)
    text = pipeline_table(list(parts.values()), "quick", 2, {"mnist": 700.0, "frey": None}, 1)
    assert text.startswith("| `quick`, 2 cores, 0.8 minutes | jobs | core-s | share |")
    assert "Neither training nor evaluation: 57.0 % of the cores' time." in text
    assert "1 runs have no record of their evaluation" in text
    assert "on mnist: 700 MB" in text
    assert "frey" not in text


# --- planning --------------------------------------------------------------------------------


def test_enlarged_table_has_distinct_runs(tmp_path: Path) -> None:
    path = tmp_path / "runs.tsv"
    path.write_text(enlarged(TABLE.read_text(), 120))
    rows = read_rows(path)
    assert len(rows) == 120
    runs = resolve(load_config((), {"runs": str(path), "preset": "paper"}))
    assert runs.alias["extra_0"] != runs.alias["extra_1"]
    assert runs.run("extra_0-s0").spec.model.hidden == (500, 500)


def test_planning_table_says_what_a_further_row_costs() -> None:
    rows = [
        {"rows": 100, "jobs": 130, "cpu_seconds": 3.0, "wall_seconds": 3.1},
        {"rows": 1000, "jobs": 1030, "cpu_seconds": 12.0, "wall_seconds": 12.5},
    ]
    assert planning_table(rows).splitlines()[2:] == [
        "| 100 | 130 | 3.0 | 3.1 | – |",
        "| 1000 | 1030 | 12.0 | 12.5 | 10.0 |",
    ]


@pytest.mark.slow
def test_planning_grows_linearly_in_calls(tmp_path: Path) -> None:
    """Python calls of two dry runs: a further row costs no more in the larger table."""
    project = copy_project(tmp_path)
    script = tmp_path / "count.py"
    script.write_text(
        "import cProfile, pstats, sys\n"
        "from snakemake.cli import main\n"
        "profile = cProfile.Profile()\n"
        "try:\n"
        "    profile.runcall(main, sys.argv[1:])\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "print('calls', pstats.Stats(profile).total_calls)\n"
    )
    table = (project.folder / "config/runs.tsv").read_text()
    calls = []
    for size in (100, 200, 300):
        path = project.folder / f"config/runs_{size}.tsv"
        path.write_text(enlarged(table, size))
        done = project.command(
            *("python", str(script), "--dry-run", "--quiet", "all", "--cores", "1", "all"),
            *("--config", "preset=paper", f"runs=config/runs_{size}.tsv"),
        )
        assert done.returncode == 0, done.stdout
        calls.append(int(re.search(r"^calls (\d+)", done.stdout, re.MULTILINE)[1]))
    first, second = calls[1] - calls[0], calls[2] - calls[1]
    assert second < 1.15 * first


# --- commands --------------------------------------------------------------------------------


def test_commands_are_listed() -> None:
    listed = CliRunner().invoke(main, ["bench", "--help"]).output.partition("Commands:")[2]
    found = [line.split()[0] for line in listed.splitlines() if re.match(r"  \w", line)]
    assert found == ["pipeline", "planning", "preset", "quality", "science"]


def test_pipeline_without_results_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["bench", "pipeline", "--config", f"results={tmp_path}"])
    assert done.exit_code == 2
    assert "holds no training; make the preset first" in done.output
