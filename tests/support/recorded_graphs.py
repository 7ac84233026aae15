"""A stand-in for CUDA graphs on a CPU: records the operations of a capture and repeats them.

As on a GPU, a capture computes nothing: what its operations wrote is put back. A replay runs the
same operations on the same tensors, so a number that Python put into a step during the capture
keeps its value. Operations that move a value between the host and the GPU are errors during a
capture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Operations whose result size depends on values, values read by Python, tensors from Python.
FORBIDDEN = {
    "aten::_local_scalar_dense",
    "aten::bincount",
    "aten::equal",
    "aten::lift_fresh",
    "aten::masked_select",
    "aten::nonzero",
    "aten::unique_dim",
    "aten::_unique2",
}
# Arguments that operations write although their schemas do not say so.
UNDECLARED = {"aten::native_batch_norm": ("running_mean", "running_var")}


class RecordedGraph:
    """Stands in for `torch.cuda.CUDAGraph`."""

    made: list[RecordedGraph] = []

    def __init__(self) -> None:
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self.generators: list[torch.Generator] = []
        self.replays = 0
        RecordedGraph.made.append(self)

    def register_generator_state(self, generator: torch.Generator) -> None:
        self.generators.append(generator)

    def pool(self) -> tuple[int, int]:
        return (0, 1)

    @torch.no_grad()
    def replay(self) -> None:
        self.replays += 1
        for function, args, kwargs, recorded in self.calls:
            found = function(*args, **kwargs)
            for old, new in zip(tree_leaves(recorded), tree_leaves(found), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class _Recorder(TorchDispatchMode):
    def __init__(self, graph: RecordedGraph) -> None:
        super().__init__()
        self.graph = graph
        self.before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        schema = function._schema
        assert schema.name not in FORBIDDEN, f"{schema.name} while a graph is captured"
        if generator := kwargs.get("generator"):
            known = [known._cdata for known in self.graph.generators]
            assert generator._cdata in known, "an unregistered generator"
        given = dict(zip((a.name for a in schema.arguments), args, strict=False)) | kwargs
        for argument in schema.arguments:
            declared = argument.alias_info is not None and argument.alias_info.is_write
            if declared or argument.name in UNDECLARED.get(schema.name, ()):
                written = tree_leaves(given.get(argument.name))
                self.before += [(t, t.detach().clone()) for t in written if isinstance(t, Tensor)]
        result = function(*args, **kwargs)
        self.graph.calls.append((function, args, kwargs, result))
        return result


@contextmanager
def capture(
    graph: RecordedGraph, *, pool: object, stream: object, capture_error_mode: str
) -> Iterator[None]:
    """Stands in for `torch.cuda.graph`."""
    states = [generator.get_state() for generator in graph.generators]
    recorder = _Recorder(graph)
    with recorder:
        yield
    with torch.no_grad():
        for tensor, value in reversed(recorder.before):
            tensor.copy_(value)
    for generator, state in zip(graph.generators, states, strict=True):
        generator.set_state(state)


@pytest.fixture
def recorded_graphs(monkeypatch: pytest.MonkeyPatch) -> list[RecordedGraph]:
    """Use the stand-ins; returns the graphs made so far."""
    monkeypatch.setattr(RecordedGraph, "made", [])
    monkeypatch.setattr(torch.cuda, "CUDAGraph", RecordedGraph)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    stream = SimpleNamespace(synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    return RecordedGraph.made
