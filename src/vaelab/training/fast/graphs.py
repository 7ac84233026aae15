"""Training steps as CUDA graphs: one launch for many steps.

A step of a small network is some seventy kernels of a few microseconds each. A GPU finishes them
faster than Python can launch them. A graph holds the kernels of many steps and is launched as a
whole. Two things differ between steps, and both are in buffers on the GPU: the images and the
learning rate. Random numbers come from the run's own generator; each launch advances its offset
as the single steps would.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

# A step: image indices (B,) and a learning rate (), both on the GPU.
Update = Callable[[Tensor, Tensor], None]

# Steps of one launch, the most first; any number of steps is a sum of these. An epoch of Figure
# 3's 1000 images has 10 steps, and the weights are read after 200.
LAUNCHES = (50, 10, 5, 1)

# One capture or first step at a time, because captures share PyTorch's global state.
_CAPTURING = threading.Lock()


class GraphedSteps:
    """Steps of one batch size, captured once and launched many times.

    Everything happens on the current stream, which must not be the default one. The first step is
    launched by itself: libraries then allocate their workspaces, which a capture does not allow.

    Args:
        update: the step. Each call must run the same kernels on the same memory and read no
            value back to the host.
        batch_size: images of a step.
        generator: source of all random numbers of the step, on the GPU.
    """

    def __init__(self, update: Update, batch_size: int, generator: torch.Generator) -> None:
        self.update, self.generator = update, generator
        device = generator.device
        self.index = torch.zeros(LAUNCHES[0], batch_size, dtype=torch.int64, device=device)
        self.rates = torch.zeros(LAUNCHES[0], device=device)
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self.warm = False

    def run(self, index: Tensor, rates: Tensor) -> None:
        """Do n steps with image indices (n, B) at learning rates (n,)."""
        if not self.warm:
            with _CAPTURING:
                self._steps(index[:1], rates[:1])
            index, rates, self.warm = index[1:], rates[1:], True
        for count in LAUNCHES:
            while len(index) >= count:
                self.index[:count].copy_(index[:count])
                self.rates[:count].copy_(rates[:count])
                if count not in self.graphs:
                    self.graphs[count] = self._capture(count)
                self.graphs[count].replay()
                index, rates = index[count:], rates[count:]

    def _capture(self, count: int) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        pool = next((other.pool() for other in self.graphs.values()), None)
        stream = torch.cuda.current_stream(self.generator.device)
        with (
            _CAPTURING,
            torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"),
        ):
            self._steps(self.index[:count], self.rates[:count])
        return graph

    def _steps(self, index: Tensor, rates: Tensor) -> None:
        for images, rate in zip(index, rates, strict=True):
            self.update(images, rate)
