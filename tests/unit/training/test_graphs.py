"""Steps in CUDA graphs: the same numbers as steps launched one by one.

On a CPU with a stand-in that records operations; on a GPU with the real thing.
"""

from __future__ import annotations

import gc
import os
import signal
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from every_training import BUDGET, SPECS, assert_same
from recorded_graphs import RecordedGraph, recorded_graphs
from toys import FP32, needs_gpu, toy_images, toy_spec, train
from vaelab.settings.spec import RunSpec
from vaelab.training.device import Compute, configure_process
from vaelab.training.fast.graphs import LAUNCHES, GraphedSteps
from vaelab.training.trainer import FINITE_EVERY, Trainer, TrainingResult

__all__ = ["recorded_graphs"]

DATA = toy_images(train=135)
GRAPHED = replace(FP32, graphs=True)


def result(spec: RunSpec, compute: Compute, path: Path, **options: Any) -> TrainingResult:
    log = options.pop("log", lambda line: None)
    return train("a", spec, 0, DATA, compute, resume=path, log=log, **options)


@pytest.mark.parametrize("name", ["adam", "snapshots", "mcem"])
def test_recorded_steps_are_the_steps(
    name: str, tmp_path: Path, recorded_graphs: list[RecordedGraph]
) -> None:
    expected = result(SPECS[name], FP32, tmp_path / "r")
    assert not recorded_graphs
    assert_same(result(SPECS[name], GRAPHED, tmp_path / "r"), expected)
    launches = sum(graph.replays for graph in recorded_graphs)
    assert 0 < launches < SPECS[name].budget.samples / SPECS[name].recipe.batch_size


@pytest.mark.parametrize("name", ["adam", "binarized", "mcem"])
def test_recorded_training_resumes_to_the_identical_result(
    name: str, tmp_path: Path, recorded_graphs: list[RecordedGraph]
) -> None:
    """Ended after a logged point: launches then begin at other steps than in one go."""
    expected = result(SPECS[name], FP32, tmp_path / "r")

    def end(line: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        result(SPECS[name], GRAPHED, tmp_path / "r", log=end)
    assert (tmp_path / "r").exists()
    lines: list[str] = []
    assert_same(result(SPECS[name], GRAPHED, tmp_path / "r", log=lines.append), expected)
    assert "resumed at" in lines[0]


def test_launches_are_as_long_as_what_is_left(recorded_graphs: list[RecordedGraph]) -> None:
    """Any number of steps, in order, each with its own images and rate."""
    seen = torch.zeros(0, 3)
    counter = torch.zeros((), dtype=torch.int64)
    table = torch.zeros(500, 3)

    def update(images: torch.Tensor, rate: torch.Tensor) -> None:
        row = torch.stack([images[0].float(), images[1].float(), rate])
        table.index_copy_(0, counter.reshape(1), row.unsqueeze(0))
        counter.add_(1)

    steps = GraphedSteps(update, 2, torch.Generator())
    for count in (1, 5, 64, 73, 20):
        index = torch.randint(100, (count, 2))
        rates = torch.rand(count)
        steps.run(index, rates)
        seen = torch.cat([seen, torch.cat([index.float(), rates.unsqueeze(-1)], -1)])
    assert torch.equal(table[: len(seen)], seen)
    assert counter.item() == len(seen)
    # 1 singly; 5; 64 = 50 + 10 + 4 x 1; 73 = 50 + 2 x 10 + 3 x 1; 20 = 2 x 10.
    assert LAUNCHES == (50, 10, 5, 1)
    assert sorted(graph.replays for graph in recorded_graphs) == [1, 2, 5, 7]


def test_weights_are_looked_at_between_launches(
    tmp_path: Path, recorded_graphs: list[RecordedGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long a launch, none goes past the step after which weights must be finite."""
    looked: list[int] = []
    monkeypatch.setattr(
        "vaelab.training.trainer.Trainer.check_finite",
        lambda training: looked.append(training.progress.steps),
    )
    spec = toy_spec(**BUDGET | {"samples": 8 * 1000})
    result(spec, GRAPHED, tmp_path / "r")
    # 59 epochs of 17 steps, and 5 more; at the end once again.
    assert looked == [*range(FINITE_EVERY, 1009, FINITE_EVERY), 1008]


def test_finished_training_leaves_nothing_on_the_gpu(
    tmp_path: Path, recorded_graphs: list[RecordedGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: Python looks for garbage late, and a GPU's memory is no reason for it."""
    alive: list[weakref.ref[Trainer]] = []
    start = Trainer.__init__

    def noted(training: Trainer, *arguments: Any) -> None:
        start(training, *arguments)
        alive.append(weakref.ref(training))

    monkeypatch.setattr(Trainer, "__init__", noted)
    gc.disable()
    try:
        for compute in (FP32, GRAPHED):
            result(SPECS["adam"], compute, tmp_path / "r")
        # What the stand-in recorded are the tensors themselves.
        recorded_graphs.clear()
        assert [training() for training in alive] == [None, None]
    finally:
        gc.enable()


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", SPECS)
def test_graphs_on_a_gpu_give_what_single_launches_give(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    configure_process(1)
    single = Compute(torch.device("cuda"), dtype)
    with torch.cuda.stream(torch.cuda.Stream()):
        expected = result(SPECS[name], single, tmp_path / "r")
        assert_same(result(SPECS[name], replace(single, graphs=True), tmp_path / "r"), expected)


@needs_gpu
@pytest.mark.parametrize("name", ["adam", "binarized", "vqvae"])
def test_a_gpu_trains_to_what_a_cpu_trains_to(name: str, tmp_path: Path) -> None:
    """Other kernels and other noise, the same science: the bound, to a few per cent."""
    configure_process(1)
    spec = SPECS[name].changed(**{"samples": 16 * 1024})
    with torch.cuda.stream(torch.cuda.Stream()):
        found = result(spec, Compute(torch.device("cuda"), torch.float32, True), tmp_path / "r")
    expected = result(spec, FP32, tmp_path / "r2")
    key = "train_objective"
    assert found.history[-1][key] == pytest.approx(expected.history[-1][key], rel=0.05)
    assert found.history[-1][key] < 0.8 * found.history[0][key]
