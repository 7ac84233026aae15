"""The benchmarks: what is counted, how it is measured, what the tables say."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from benchmarks import networks, presets, science, speed, ways
from benchmarks.machine import cores, describe, processor
from benchmarks.networks import COMPARED, NETWORKS, RIVALS, Way, layers, missing, ways_to_time
from benchmarks.pipeline import core_time, pipeline_table
from benchmarks.presets import extrapolated
from benchmarks.rounds import Measured, measure, median_ratio
from benchmarks.science import science_table
from toys import pixels_of, toy_images, toy_spec, toy_vqvae_spec
from vaelab.cli import main
from vaelab.models.families import build
from vaelab.settings.config import Config, load_config
from vaelab.settings.runs import Run, resolve
from vaelab.training.trainer import Trainer
from vaelab.util.errors import VaelabError
from workflow_project import ROOT, copy_project

TABLE = ROOT / "config/runs.tsv"
OURS, BOUND = Way("vae", "ours", "bf16"), Way("vae", "bound", "bf16")


# --- what is timed ---------------------------------------------------------------------------


def products(spec: Any) -> list[tuple[int, int, int]]:
    """Rows, inner and columns of each: forward, weights and, where needed, inputs."""
    b, found = spec.recipe.batch_size, []
    for i, o, needed in layers(spec):
        found += [(b, i, o), (o, b, i)] + [(b, o, i)] * needed
    return found


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
    assert sum(2 * rows * inner * columns for rows, inner, columns in products(spec)) == flops


def test_products_of_a_layer_are_forward_weights_and_input() -> None:
    shapes = products(toy_spec(hidden=(16,), trunks="shared", batch_size=50))
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
    run = ways.prepare(Way("vae", "products", "fp32"), spec, Path("none"))
    assert run(250) > 0
    assert made == products(spec) * 3  # 2.5 batches of 100


def test_bound_of_the_vqvae_has_all_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[tuple[int, ...], list[bool]]] = []
    real = torch.ops.aten.convolution_backward

    def counted(dy: torch.Tensor, *arguments: Any) -> Any:
        made.append((tuple(dy.shape), arguments[-1]))
        return real(dy, *arguments)

    monkeypatch.setattr(torch.ops.aten, "convolution_backward", counted)
    ways.prepare(Way("vqvae", "products", "fp32"), toy_vqvae_spec(batch_size=5), Path("none"))(5)
    channels = [(64, 14), (256, 7), (2, 7), (256, 7), (64, 14), (1, 28)]
    assert [shape for shape, _ in made] == [(5, c, side, side) for c, side in channels]
    assert [mask for _, mask in made] == [[False, True, False]] + [[True, True, False]] * 5


@pytest.mark.parametrize(("precision", "passes"), [("fp32", 28), ("bf16", 28)])
def test_bound_passes_once_over_what_the_optimiser_needs(
    monkeypatch: pytest.MonkeyPatch, precision: str, passes: int
) -> None:
    """Bytes a weight: 12 read and 12 written of weights and moments, and the gradient.

    In float32 the gradient has 4 bytes; in bf16 it has 2, as has the second copy of the weights.
    """
    spec = toy_spec(hidden=(16, 8), optimizer="adam")
    moved = 0

    def counted(self: torch.Tensor, other: Any) -> torch.Tensor:
        nonlocal moved
        moved += 2 * self.nbytes + (other.nbytes if isinstance(other, torch.Tensor) else 0)
        return self

    def copied(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        nonlocal moved
        moved += self.nbytes + other.nbytes
        return self

    step = ways._traffic(spec, ways.DTYPES[precision])
    monkeypatch.setattr(torch.Tensor, "mul_", counted)
    monkeypatch.setattr(torch.Tensor, "add_", counted)
    monkeypatch.setattr(torch.Tensor, "copy_", copied)
    step()
    model = build(spec, torch.Generator().manual_seed(0))
    assert moved == passes * sum(parameter.numel() for parameter in model.parameters())


def test_rivals_train_the_networks_that_they_know() -> None:
    timed = networks.specs(TABLE)
    found = ways_to_time(timed, ("bf16", "fp32"), tuple(RIVALS))
    by_network = {
        name: {way.kind for way in found if way.network == name} & set(RIVALS) for name in NETWORKS
    }
    assert by_network["vae"] == by_network["mnist_d20"] == by_network["ml_n50000"] == set(RIVALS)
    assert by_network["frey_d10"] == {"tuned", "compiled"}
    assert by_network["vqvae"] == {"tuned"}
    assert len(found) == len(set(found))
    assert {w.precision for w in found if w.kind in speed.PUBLISHED} == {"fp32"}
    # Where nothing is fast but fp32 there is no compiled step and one precision.
    plain = ways_to_time(timed, ("fp32",), ())
    assert {way.precision for way in plain} == {"fp32"}
    assert "stepwise" not in {way.kind for way in plain}


def test_a_rival_that_cannot_be_timed_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(networks.NEEDS, "pythae", ("no_such_package",))
    assert missing("pythae") == "no_such_package not installed (`make bench` does)"
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert missing("compiled") == "there is no C++ compiler (no-such-compiler)"
    assert missing("tuned") is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["autograd", "parted", "stepwise"])
def test_a_layer_switched_off_trains_the_same(
    monkeypatch: pytest.MonkeyPatch, kind: str, precision: str
) -> None:
    """What the ablation times is the same training: weights move alike, but for rounding."""
    trainers: list[Trainer] = []

    class Kept(Trainer):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            trainers.append(self)

    monkeypatch.setattr(ways, "Trainer", Kept)
    spec = toy_spec(hidden=(16, 8), optimizer="adam", learning_rate=1e-3, init="default")
    for way in ("ours", kind):
        run = ways._ours(way, spec, toy_images("mnist"), ways.DTYPES[precision])
        assert run(10 * spec.recipe.batch_size) > 0
    ours, other = trainers
    start = Kept("start", spec, 0, toy_images("mnist"), ours.compute).flat.master
    moved = (ours.flat.master - start).norm()
    assert (ours.flat.master - other.flat.master).norm() < 0.05 * moved
    assert torch.equal(other.flat.compute, other.flat.master.to(other.flat.compute.dtype))
    assert ours.progress.steps == other.progress.steps == 10


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_tuned_rival_has_our_objective(
    monkeypatch: pytest.MonkeyPatch, likelihood: str
) -> None:
    """Its loss at our weights and noise is that of the model, but for a Gaussian's constant."""
    dataset = "frey" if likelihood == "gaussian" else "mnist"
    spec = toy_spec(dataset=dataset, likelihood=likelihood, hidden=(7,), trunks="shared")
    ours = build(spec, torch.Generator().manual_seed(0))
    losses: list[float] = []

    class Same(ways._PlainVAE):
        def __init__(self, given: Any) -> None:
            super().__init__(given)
            with torch.no_grad():
                for mine, its in zip(self.parameters(), ours.parameters(), strict=True):
                    mine.copy_(its)

    x = torch.rand(spec.recipe.batch_size, pixels_of(spec))
    noise = torch.randn(len(x), spec.model.latent_dim)
    monkeypatch.setattr(ways, "_PlainVAE", Same)
    monkeypatch.setattr(ways, "_images", lambda name, root: x)
    monkeypatch.setattr(torch, "randperm", torch.arange)
    monkeypatch.setattr(torch, "randn_like", lambda like: noise)
    backward = torch.Tensor.backward

    def heard_loss(loss: torch.Tensor, *arguments: Any, **options: Any) -> None:
        losses.append(loss.item())
        backward(loss, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "backward", heard_loss)
    run = ways.prepare(Way("vae", "tuned", "fp32"), spec, Path("none"))
    assert run(len(x)) > 0
    constant = 0.5 * math.log(2 * math.pi) * x.shape[1] * (likelihood == "gaussian")
    expected = ours.loss(x, None, (noise,), 1.0).item() - constant
    assert losses == [pytest.approx(expected, rel=1e-4)]


def test_run_table_without_a_timed_network_is_named(tmp_path: Path) -> None:
    lines = TABLE.read_text().splitlines(keepends=True)
    path = tmp_path / "runs.tsv"
    path.write_text("".join(line for line in lines if not line.startswith("vqvae\t")))
    with pytest.raises(VaelabError, match=r"runs\.tsv lacks vqvae"):
        networks.specs(path)


# --- rounds ----------------------------------------------------------------------------------


def test_ratios_are_taken_within_a_round() -> None:
    """A slow second round halves both: the ratio of medians would be 1.5, the ratio is 0.75."""
    rates = {OURS: [75.0, 37.5, 75.0], BOUND: [100.0, 50.0, 100.0]}
    assert median_ratio(rates, OURS, BOUND) == pytest.approx(0.75)
    uneven = {OURS: [10.0, 90.0, 80.0], BOUND: [100.0, 100.0, 160.0]}
    assert median_ratio(uneven, OURS, BOUND) == pytest.approx(0.5)
    assert median_ratio(rates, OURS, Way("vqvae", "bound", "bf16")) is None


@pytest.mark.slow
def test_a_rival_that_fails_is_a_note_and_what_fails_of_ours_an_error(tmp_path: Path) -> None:
    """In processes of their own; what those are told stays with them."""
    before = dict(os.environ)
    bound, tuned = Way("vae", "bound", "fp32"), Way("vae", "tuned", "fp32")
    options: Any = {"data_root": tmp_path, "rounds": 2, "seconds": 0.02}
    found = measure([bound, tuned], {"vae": toy_spec(hidden=(8,))}, **options)
    assert list(found.rates) == [bound]
    assert len(found.rates[bound]) == 2
    assert all(rate > 0 and math.isfinite(rate) for rate in found.rates[bound])
    assert re.match("vae, tuned PyTorch: .*vaelab fetch mnist", found.notes[0])
    assert dict(os.environ) == before
    with pytest.raises(VaelabError, match=r"(?s)vae, ours: .*vaelab fetch mnist"):
        measure([Way("vae", "ours", "fp32")], {"vae": toy_spec()}, **options)


# --- what is said of it ----------------------------------------------------------------------


def test_tables_from_made_up_timings() -> None:
    """The strongest rival leads; a network that a rival does not know is an empty cell."""
    rates = {
        OURS: [30_000.0, 28_000.0],
        BOUND: [40_000.0, 40_000.0],
        Way("vae", "ours", "fp32"): [9_000.0, 9_000.0],
        Way("vae", "compiled", "bf16"): [25_000.0, 20_000.0],
        Way("vae", "tuned", "bf16"): [15_000.0, 14_000.0],
        Way("vae", "report", "fp32"): [5_000.0, 7_000.0],
        Way("vae", "parted", "bf16"): [25_000.0, 28_000.0],
        Way("vae", "late", "bf16"): [27_000.0, 27_000.0],
        Way("vae", "denormals", "bf16"): [18_000.0, 18_000.0],
        Way("vqvae", "ours", "bf16"): [1_000.0, 1_000.0],
        Way("vqvae", "tuned", "bf16"): [800.0, 1_000.0],
    }
    lines = speed.markdown(Measured(rates, {"vae": 33.3}, []), "bf16").splitlines()
    assert lines[0].startswith("| vaelab (bf16), times the speed of | [500, 500, 3], two trunks |")
    assert lines[2] == "| its strongest rival | 1.30 |  |  |  | 1.12 |"
    assert "| the report's way | 5.00 |  |  |  |  |" in lines
    assert "| products and one pass over the optimiser's memory | 0.72 |  |  |  |  |" in lines
    assert not any("pythae" in line for line in lines)
    assert "| vaelab | 29 000 |  |  |  | 1 000 |" in lines
    compiled = "| tuned PyTorch with torch.compile | 22 500 (compiled in 33 s) |  |  |  |  |"
    assert compiled in lines
    assert lines[-3:] == [
        "| flat parameters | 26 500 | 1.10 |",
        "| flushed denormals | 18 000 | 1.50 |",
        "| bf16 weights and products | 9 000 | 3.22 |",
    ]


def test_bench_writes_every_rate_and_says_what_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(speed, "missing", lambda kind: "gone" if kind == "pythae" else None)

    def pretend(chosen: list[Way], *arguments: Any, **options: Any) -> Measured:
        return Measured({way: [1000.0, 2000.0] for way in chosen}, {}, ["vae, tuned PyTorch: no"])

    monkeypatch.setattr(speed, "measure", pretend)
    text = speed.bench_speed(load_config((), {"runs": str(TABLE)}), tmp_path, rounds=2, seconds=0.1)
    assert text == (tmp_path / "bench.md").read_text()
    assert "\npythae is left out: gone\n" in text
    assert text.endswith("\nvae, tuned PyTorch: no\n")
    written = json.loads((tmp_path / "bench.json").read_text())
    fast = written["precision"]
    mine = {"network": "vae", "kind": "ours", "precision": fast, "rates": [1000.0, 2000.0]}
    assert mine in written["rates"]
    assert not any(row["kind"] == "pythae" for row in written["rates"])


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
    monkeypatch.setattr(science, "load", lambda name, root: toy_images(name))
    table = tmp_path / "runs.tsv"
    lines = TABLE.read_text().splitlines()
    model = next(line for line in lines if line.startswith(COMPARED + "\t"))
    table.write_text("\n".join([lines[0], model.replace("500-500", "16")]) + "\n")
    config = load_config((), {"runs": str(table)})
    science.bench_science(config, tmp_path, seeds=[0, 1], samples=200)
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
    lines = pipeline_table(list(parts.values()), "quick", 2).splitlines()
    assert lines[0] == "| `quick`, 2 cores, 0.8 minutes | jobs | core-s | share |"
    assert lines[-1] == "Neither training nor evaluation: 57.0 % of the cores' time."


# --- planning --------------------------------------------------------------------------------


def repeated(table: str, rows: int) -> str:
    """A run table of one run of the given one, and of copies of it with other budgets."""
    header, *lines = table.splitlines()
    model = next(line for line in lines if line.startswith(f"{COMPARED}\t"))
    cells = dict(zip(header.split("\t"), model.split("\t"), strict=True))
    text = [header, model]
    for number in range(rows - 1):
        extra = {"run": f"extra_{number}", "samples": str(1_000_000 + number)}
        text.append("\t".join((cells | extra).values()))
    return "\n".join(text) + "\n"


@pytest.mark.slow
def test_planning_grows_linearly_in_calls(tmp_path: Path) -> None:
    """Python calls of three dry runs: a further row costs no more in the larger table."""
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
    for size in (20, 40, 60):
        path = project.folder / f"config/runs_{size}.tsv"
        path.write_text(repeated(table, size))
        done = project.command(
            *("python", str(script), "--dry-run", "--quiet", "all", "--cores", "1", "all"),
            *("--config", "preset=paper", f"runs=config/runs_{size}.tsv"),
        )
        assert done.returncode == 0, done.stdout
        calls.append(int(re.search(r"^calls (\d+)", done.stdout, re.MULTILINE)[1]))
    first, second = calls[1] - calls[0], calls[2] - calls[1]
    # Each row is planned, in some thousands of calls.
    assert first > 20 * 1000
    assert second < 1.15 * first


# --- commands --------------------------------------------------------------------------------


def test_commands_are_listed() -> None:
    listed = CliRunner().invoke(main, ["bench", "--help"]).output.partition("Commands:")[2]
    found = [line.split()[0] for line in listed.splitlines() if re.match(r"  \w", line)]
    assert found == ["pipeline", "preset", "science"]


def test_pipeline_without_results_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["bench", "pipeline", "--config", f"results={tmp_path}"])
    assert done.exit_code == 2
    assert "holds no training; make the preset first" in done.output
