"""The device and the precision of a run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch

from vaelab.util.errors import VaelabError


@dataclass(frozen=True)
class Compute:
    """A resolved device and precision.

    Attributes:
        device: where tensors live.
        dtype: type of matrix products; weights, sums and losses stay float32.
        graphs: whether training steps are launched many at a time, as CUDA graphs.
        left_out: what this machine has and the run does without, and why; "" for nothing.
    """

    device: torch.device
    dtype: torch.dtype
    graphs: bool = False
    left_out: str = ""

    @property
    def precision(self) -> str:
        """The precision by name: "bf16" or "fp32"."""
        return "bf16" if self.dtype == torch.bfloat16 else "fp32"

    @property
    def kind(self) -> str:
        """Device and precision in one word, "cpu-bf16"."""
        return f"{self.device.type}-{self.precision}"


def resolve_compute(device: str, precision: str, *, cuda_graphs: bool = True) -> Compute:
    """The device by name, with the precision that `auto` is on it.

    Args:
        device: "cpu", "cuda" or one GPU ("cuda:1").
        precision: "auto", "bf16" or "fp32".
        cuda_graphs: whether to use CUDA graphs on a GPU.

    Raises:
        VaelabError: CUDA was asked for by name and there is no CUDA device.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise VaelabError(
            "device: cuda was asked for, but PyTorch sees no CUDA device "
            f"(torch {torch.__version__}). Use device: auto, or install the CUDA build and driver."
        )
    if precision == "auto":
        precision = "bf16" if _fast_bf16(device) else "fp32"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return Compute(torch.device(device), dtype, cuda_graphs and device.startswith("cuda"))


def first_line(error: BaseException) -> str:
    """What an error says first."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _fast_bf16(device: str) -> bool:
    """Whether the processor has instructions for bf16 products (AMX, AVX512-BF16, tensor cores)."""
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def configure_process(threads: int) -> None:
    """Process-wide settings of every computing command.

    Denormals are flushed: border pixels, which are constant, drive sigmoids into them. That would
    cost a quarter of the training time and changes nothing in the losses. Deterministic
    algorithms make reruns bit-identical. cuBLAS needs a fixed workspace for them and reads its
    size from the environment when it is first used.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # On GPUs, compute float32 products and the sums of bf16 products in full float32. By default
    # PyTorch may use 10 bits of mantissa for the former and 7 for the latter.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    # The same as use_deterministic_algorithms(True), which would import the compiler (2 s).
    torch.set_deterministic_debug_mode("error")
    # No code here reads uninitialised memory.
    deterministic: Any = torch.utils.deterministic
    deterministic.fill_uninitialized_memory = False
