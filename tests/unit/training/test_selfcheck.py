"""A GPU that is wrong or fails is found before the first real step; it is only pretended here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from every_training import SPECS
from pretended_gpu import GPU, PretendedGpu, pretended_gpu
from recorded_graphs import RecordedGraph, recorded_graphs
from toys import needs_gpu, toy_images
from vaelab.training.device import Compute, configure_process
from vaelab.training.fast.gradients import FusedGradients
from vaelab.training.selfcheck import UnsoundGpu, checked

__all__ = ["pretended_gpu", "recorded_graphs"]

IMAGES = toy_images(train=135)
ON_GPU = Compute(GPU, torch.float32, graphs=True)


def check(name: str = "adam", compute: Compute = ON_GPU) -> Compute:
    return checked(SPECS[name], 0, IMAGES, compute)


@pytest.mark.usefixtures("pretended_gpu", "recorded_graphs")
@pytest.mark.parametrize("name", SPECS)
def test_gpu_that_is_right_is_used_with_graphs(name: str) -> None:
    assert check(name) == ON_GPU


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", SPECS)
def test_real_gpu_is_right(name: str, dtype: torch.dtype) -> None:
    configure_process(1)
    compute = Compute(torch.device("cuda:0"), dtype, graphs=True)
    with torch.cuda.stream(torch.cuda.Stream(0)):
        assert check(name, compute) == compute


@pytest.mark.usefixtures("pretended_gpu", "recorded_graphs")
def test_graphs_that_differ_or_fail_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordedGraph, "replay", lambda graph: None)
    plain = replace(ON_GPU, graphs=False)
    found = check()
    reason = "no CUDA graphs: their weights are not those of single steps"
    assert found == replace(plain, left_out=reason)

    def fail(graph: RecordedGraph) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nat line 1")

    monkeypatch.setattr(RecordedGraph, "replay", fail)
    reason = "no CUDA graphs: operation not permitted when stream is capturing"
    assert check() == replace(plain, left_out=reason)


@pytest.mark.parametrize("factor", [1.05, float("nan")])
def test_gpu_whose_gradient_is_wrong_is_refused(
    factor: float, pretended_gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = FusedGradients.__call__

    def wrong(gradients: FusedGradients, x: torch.Tensor, *rest: Any) -> None:
        right(gradients, x, *rest)
        if x.is_cuda:
            gradients.flat.compute_grad.mul_(factor)

    monkeypatch.setattr(FusedGradients, "__call__", wrong)
    with pytest.raises(UnsoundGpu, match=r"its gradient differs from the CPU's by (0.05|nan)"):
        check()
