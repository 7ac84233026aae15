"""Leases of GPUs, and what happens where CUDA fails, on devices that are made up."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import re
import signal
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from reports import heard
from vaelab.settings.config import Config
from vaelab.training import lease as module
from vaelab.training.device import Compute
from vaelab.training.lease import compute_with, lease, places
from vaelab.training.termination import termination
from vaelab.util.errors import VaelabError

GPUS = ["GPU-a", "GPU-b"]


def hold(folder: Path, taken: Any) -> None:
    """Another process: lease a GPU, say which, keep it."""
    with lease(GPUS, 1, folder) as index:
        taken.put(index)
        time.sleep(60)


def test_each_run_has_a_gpu_of_its_own(tmp_path: Path) -> None:
    with lease(GPUS, 1, tmp_path) as first, lease(GPUS, 1, tmp_path) as second:
        assert {first, second} == {0, 1}
    with lease(GPUS, 1, tmp_path) as again:
        assert again == 0


def test_empty_gpus_are_taken_before_shared_ones(tmp_path: Path) -> None:
    with (
        lease(GPUS, 2, tmp_path) as first,
        lease(GPUS, 2, tmp_path) as second,
        lease(GPUS, 2, tmp_path) as third,
        lease(GPUS, 2, tmp_path) as fourth,
    ):
        assert [first, second, third, fourth] == [0, 1, 0, 1]


def test_hidden_gpus_are_not_leased_and_an_index_is_not_a_gpu(tmp_path: Path) -> None:
    """As under two values of CUDA_VISIBLE_DEVICES: the first GPU of one is the second's last."""
    with lease(["GPU-b"], 1, tmp_path) as only, lease(GPUS, 1, tmp_path) as other:
        assert (only, other) == (0, 0)
        assert module._take(GPUS, 1, tmp_path) is None


def test_wait_is_said_once_and_ends_with_a_killed_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("fork")
    taken = context.Queue()
    holders = [context.Process(target=hold, args=(tmp_path, taken)) for _ in GPUS]
    for holder in holders:
        holder.start()
    assert {taken.get(timeout=60) for _ in holders} == {0, 1}
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            holders[0].kill()
            holders[0].join()

    monkeypatch.setattr(module.time, "sleep", nap)
    said: list[str] = []
    try:
        with heard(said.append), lease(GPUS, 1, tmp_path) as index:
            assert index in (0, 1)
    finally:
        holders[1].kill()
    assert len(naps) == 3
    assert said == ["all 2 places on 2 GPUs are taken; waiting"]


def test_wait_ends_when_the_process_is_asked_to_end(tmp_path: Path) -> None:
    with (
        lease(["GPU-a"], 1, tmp_path),
        pytest.raises(SystemExit) as ended,
        termination(),
        heard(lambda line: os.kill(os.getpid(), signal.SIGTERM)),
        lease(["GPU-a"], 1, tmp_path),
    ):
        pass
    assert ended.value.code == 128 + signal.SIGTERM


def test_unusable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(VaelabError, match=r"cannot lock GPUs in .*file/locks"),
        lease(GPUS, 1, tmp_path / "file/locks"),
    ):
        pass


def test_visible_gpus_are_those_that_pytorch_was_left_by_their_uuids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CUDA_VISIBLE_DEVICES=2,0 of a machine of three: PyTorch counts them 0 and 1."""
    left = ["GPU-c", "GPU-a"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(left))
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=left[index])
    )
    assert module.visible_gpus() == left


# With PyTorch made to believe in CUDA


@pytest.fixture
def cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two make-believe GPUs; the devices that were made current, in order."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    numbers = itertools.count()
    monkeypatch.setattr(module, "_IDLE_STREAMS", {})
    monkeypatch.setattr(torch.cuda, "Stream", lambda GPU: f"{next(numbers)} of {GPU}")
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext(stream))
    monkeypatch.setattr(module, "visible_gpus", lambda: GPUS)
    monkeypatch.setattr(module, "lease_folder", lambda: tmp_path)
    monkeypatch.setattr(module, "configure_process", lambda threads: None)
    return chosen


def run(device: str, work: Callable[[Compute], Any], **settings: Any) -> tuple[Any, list[str]]:
    said: list[str] = []
    config = Config(device=device, **settings)
    with heard(said.append):
        return compute_with(config, 1, work), said


def test_auto_computes_on_a_leased_gpu_and_returns_it(cuda: list[int], tmp_path: Path) -> None:
    def work(compute: Compute) -> str:
        # The lease is held while the work is done.
        place = module._take(GPUS, 1, tmp_path)
        assert place is not None
        place[1].release()
        assert place[0] == 1
        return f"{compute.device} {compute.precision}"

    assert run("auto", work) == ("cuda:0 bf16", [])
    assert cuda == [0]
    with lease(GPUS, 1, tmp_path) as index:
        assert index == 0
        assert run("cuda", lambda compute: str(compute.device)) == ("cuda:1", [])


def test_places_are_those_of_all_gpus(cuda: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    assert places(Config(device="auto", runs_per_gpu=3)) == 6
    assert places(Config(device="cpu", runs_per_gpu=3)) == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert places(Config(device="auto", runs_per_gpu=3)) == 1


def test_work_has_a_queue_of_kernels_of_its_own(
    cuda: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[str] = []

    @contextmanager
    def stream(name: str) -> Iterator[None]:
        entered.append(name)
        yield
        entered.append("left")

    monkeypatch.setattr(torch.cuda, "stream", stream)
    run("auto", lambda compute: entered.append("work"))
    assert entered == ["0 of 0", "work", "left"]

    def inner(compute: Compute) -> None:
        entered.append(str(compute.device))

    entered.clear()
    run("auto", lambda compute: run("auto", inner, runs_per_gpu=2), runs_per_gpu=2)
    run("auto", lambda compute: run("auto", inner, runs_per_gpu=1), runs_per_gpu=1)
    # Used again when free, never by two at a time, and on each GPU its own.
    assert [line for line in entered if "of" in line] == ["0 of 0", "1 of 1", "0 of 0", "1 of 1"]


@pytest.mark.parametrize("graphs", [True, False])
def test_steps_are_graphs_on_a_gpu_unless_turned_off(cuda: list[int], graphs: bool) -> None:
    for device, expected in (("auto", graphs), ("cpu", False)):
        assert run(device, lambda c: c.graphs, cuda_graphs=graphs) == (expected, [])


def test_cpu_leases_nothing(cuda: list[int], tmp_path: Path) -> None:
    assert run("cpu", lambda compute: compute.device.type) == ("cpu", [])
    assert not list(tmp_path.iterdir())


FAILURES = {
    "memory": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "memory"),
    "driver": (RuntimeError("The NVIDIA driver on your system is too old"), "nvidia-smi"),
    "handle": (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED"), "memory"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_cuda_failure_sends_auto_to_the_cpu(cuda: list[int], tmp_path: Path, name: str) -> None:
    error, word = FAILURES[name]

    def work(compute: Compute) -> str:
        if compute.device.type == "cuda":
            raise error
        # The GPU is another run's by now.
        with lease(GPUS, 1, tmp_path) as index:
            assert index == 0
        return compute.device.type

    result, said = run("auto", work)
    assert result == "cpu"
    (line,) = said
    assert str(error).splitlines()[0] in line
    assert word in line
    assert "Computing on the CPU instead" in line

    with pytest.raises(VaelabError, match=word) as refused:
        run("cuda", work)
    assert "device: cpu" in str(refused.value)


def test_failure_behind_another_is_recognised(cuda: list[int]) -> None:
    """As when a graph's capture runs out of memory: its end fails as well."""

    def work(compute: Compute) -> str:
        if compute.device.type == "cpu":
            return "done"
        try:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error")

    result, (line,) = run("auto", work)
    assert result == "done"
    assert "Tried to allocate 2 GiB" in line


def test_memory_of_a_failed_attempt_is_given_back(
    cuda: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the attempt is alive when the GPU's cache is emptied."""

    class Buffer:
        pass

    alive: list[weakref.ref[Buffer]] = []
    at_emptying: list[Buffer | None] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: at_emptying.append(alive[0]()))

    def work(compute: Compute) -> None:
        if compute.device.type == "cuda":
            buffer = Buffer()
            alive.append(weakref.ref(buffer))
            raise torch.OutOfMemoryError("CUDA out of memory")

    run("auto", work)
    assert at_emptying == [None]


def test_gpu_that_does_not_start_is_no_place(
    cuda: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then `compute_with` says why."""

    def broken() -> list[str]:
        raise RuntimeError("CUDA driver initialization failed")

    monkeypatch.setattr(module, "visible_gpus", broken)
    assert places(Config(device="auto", runs_per_gpu=3)) == 1
    result, (line,) = run("auto", lambda compute: compute.device.type)
    assert result == "cpu"
    assert "initialization failed" in line


def test_cuda_is_started_with_a_connection_for_each_queue(
    cuda: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for given, expected in ((None, "32"), ("4", "4")):
        monkeypatch.delenv("CUDA_DEVICE_MAX_CONNECTIONS", raising=False)
        if given:
            monkeypatch.setenv("CUDA_DEVICE_MAX_CONNECTIONS", given)
        found = []
        monkeypatch.setattr(
            torch.cuda,
            "is_available",
            lambda found=found: found.append(os.environ["CUDA_DEVICE_MAX_CONNECTIONS"]),
        )
        places(Config(device="auto"))
        assert found == [expected]


def test_other_errors_are_not_hidden(cuda: list[int]) -> None:
    def work(compute: Compute) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run("auto", work)


def test_whatever_fails_on_a_gpu_alone_is_done_on_the_cpu(cuda: list[int]) -> None:
    def work(compute: Compute) -> Compute:
        if compute.device.type == "cuda":
            raise NotImplementedError("could not run 'aten::x' with the 'CUDA' backend\nmore")
        return compute

    result, said = run("auto", work)
    reason = "The GPU fails here: could not run 'aten::x' with the 'CUDA' backend."
    assert result.left_out == reason
    assert said == [f"{reason} Computing on the CPU instead."]
    with pytest.raises(NotImplementedError):
        run("cuda", work)


def test_unused_gpu_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "configure_process", lambda threads: None)
    monkeypatch.setattr(module, "CONTROL_FILE", tmp_path)
    monkeypatch.setattr(torch.version, "cuda", None)
    result, (line,) = run("auto", lambda compute: compute.device.type)
    assert result == "cpu"
    assert re.search(r"NVIDIA driver.*build for CPUs.*Computing on the CPU", line)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    _, (line,) = run("auto", lambda compute: None)
    assert "CUDA_VISIBLE_DEVICES" in line
    monkeypatch.setattr(module, "CONTROL_FILE", tmp_path / "none")
    assert run("auto", lambda compute: compute.device.type) == ("cpu", [])
    with pytest.raises(VaelabError, match="no CUDA device"):
        run("cuda", lambda compute: None)
