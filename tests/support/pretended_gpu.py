"""A pretended GPU: tensors on the CPU that say that they are on `cuda:0`.

The CPU computes the numbers, and the module keeps track of the device of each tensor. As with a
real GPU these are errors: an operation on tensors of both devices, NumPy arrays from the GPU, a
generator on another device, and operations without a deterministic CUDA kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")

# Operations that may take tensors of two devices: copies, and indexing with CPU indices.
CROSSING = {"aten::copy_", "aten::_to_copy", "aten::index", "aten::set_"}
# Operations without a deterministic CUDA kernel, by `torch.use_deterministic_algorithms`.
NOT_DETERMINISTIC = {
    "aten::adaptive_avg_pool2d_backward",
    "aten::_adaptive_avg_pool2d_backward",
    "aten::adaptive_max_pool2d_backward",
    "aten::avg_pool3d_backward",
    "aten::bincount",
    "aten::cumsum",
    "aten::fractional_max_pool2d_backward",
    "aten::grid_sampler_2d_backward",
    "aten::histc",
    "aten::kthvalue",
    "aten::max_pool3d_with_indices_backward",
    "aten::max_unpool2d",
    "aten::median",
    "aten::nll_loss2d_forward",
    "aten::put_",
    "aten::reflection_pad2d_backward",
    "aten::replication_pad2d_backward",
    "aten::scatter_reduce",
    "aten::upsample_bilinear2d_backward",
}


class Generator(torch.Generator):
    """A CPU generator that reports the device it was created for."""

    device = CPU

    def __new__(cls, device: torch.device | str = CPU) -> Generator:
        generator = super().__new__(cls)
        generator.device = GPU if torch.device(device).type == "cuda" else CPU
        return generator


class Places:
    """Keeps track of which memory is on the GPU."""

    def __init__(self) -> None:
        # A weak reference, so that no later storage gets the same number.
        self.storages: dict[int, StorageWeakRef] = {}

    def of(self, tensor: Tensor) -> torch.device:
        return GPU if tensor.untyped_storage()._cdata in self.storages else CPU

    def put(self, tensor: Tensor, device: torch.device) -> None:
        storage = tensor.untyped_storage()
        if device == GPU:
            self.storages[storage._cdata] = StorageWeakRef(storage)
        else:
            self.storages.pop(storage._cdata, None)


class _Operations(TorchDispatchMode):
    """Keeps track of devices, operation by operation.

    Attributes:
        on_gpu: number of operations on the GPU so far.
    """

    def __init__(self, places: Places) -> None:
        super().__init__()
        self.places = places
        self.on_gpu = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = function._schema.name
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        # A single number may come from the other device, except for an optimiser.
        fused = name.startswith("aten::_fused")
        found = {self.places.of(tensor) for tensor in given if tensor.dim() or fused}
        device = GPU if GPU in map(self.places.of, given) else CPU
        if name not in CROSSING:
            assert len(found) < 2, f"{name} on tensors of the CPU and of the GPU"
        if device == GPU:
            self.on_gpu += 1
            assert name not in NOT_DETERMINISTIC, f"{name} is not deterministic on a GPU"
        result = function(*args, **kwargs)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and not any(tensor is other for other in given):
                self.places.put(tensor, device)
        return result


class PretendedGpu(TorchFunctionMode):
    """What Python sees: the devices of tensors, and where they are made and moved."""

    def __init__(self) -> None:
        super().__init__()
        self.places = Places()
        self.operations = _Operations(self.places)

    def __enter__(self) -> PretendedGpu:
        self.operations.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self.operations.__exit__(*exception)

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if isinstance(function, OpOverload):
            # A recorded operation that is repeated.
            return function(*args, **kwargs)
        if function == Tensor.device.__get__:
            return self.places.of(args[0])
        if function == Tensor.is_cuda.__get__:
            return self.places.of(args[0]) == GPU
        if function in (Tensor.numpy, Tensor.__array__):
            assert self.places.of(args[0]) == CPU, "NumPy cannot read a GPU's memory"
        if function == Tensor.pin_memory:
            return args[0]
        if function in (Tensor.to, Tensor.cpu):
            return self._move(function, args, kwargs)
        device = kwargs.pop("device", None)
        if generator := kwargs.get("generator"):
            # Without a device a new tensor is on the CPU.
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            wanted = {self.places.of(t) for t in tensors} or {torch.device(device or CPU)}
            assert wanted == {generator.device}, f"{function.__name__}: a generator elsewhere"
        if device is None or torch.device(device).type == "meta":
            named = {} if device is None else {"device": device}
            return function(*args, **kwargs, **named)
        result = function(*args, **kwargs)
        self.places.put(result, torch.device(device))
        return result

    def _move(self, function: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
        tensor, *rest = args
        source = target = self.places.of(tensor)
        if function == Tensor.cpu:
            target = CPU
        for value in (*rest, kwargs.pop("device", None)):
            if isinstance(value, (torch.device, str)):
                target = torch.device(value)
            elif isinstance(value, Tensor):
                target = self.places.of(value)
        rest = [CPU if isinstance(value, (torch.device, str)) else value for value in rest]
        moved = tensor.to(*rest, **kwargs) if rest or kwargs else tensor
        if source != target:
            moved = moved.clone() if moved is tensor else moved
            self.places.put(moved, target)
        return moved


@pytest.fixture
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGpu]:
    """A machine with a pretended GPU."""
    gpu = PretendedGpu()
    autocast, grouped = torch.autocast, torch._C._group_tensors_by_device_and_dtype

    def by_device(tensors: list[list[Tensor]], with_indices: bool) -> dict[Any, Any]:
        """The grouping that PyTorch's optimisers use, which bypasses Python."""
        return {
            (gpu.places.of(group[0][0]), dtype): (group, indices)
            for (_, dtype), (group, indices) in grouped(tensors, with_indices).items()
        }

    monkeypatch.setattr(torch._C, "_group_tensors_by_device_and_dtype", by_device)
    monkeypatch.setattr(torch, "Generator", Generator)
    monkeypatch.setattr(
        torch, "autocast", lambda device, *arguments, **named: autocast("cpu", *arguments, **named)
    )
    with gpu:
        yield gpu
