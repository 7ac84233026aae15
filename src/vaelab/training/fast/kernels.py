"""Optimiser steps that read and write bf16 directly, in one pass over memory.

A step of a small network is bound by memory once its matrix products are in bf16. PyTorch
needs three passes for what these loops do in one: gradients to float32, the update of the
float32 state, the updated weights to bf16. bf16 values travel as their bits in uint16.
"""

# numba infers types, and calls an intrinsic with other arguments than Python would.
# mypy: disable-error-code="attr-defined, call-arg, no-untyped-def"
# mypy: disable-error-code="untyped-decorator, var-annotated"

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.typing import Signature
from numba.extending import intrinsic

# Products and sums may be contracted to fused multiply-adds, as in PyTorch's own kernels.
_compiled: Any = njit(cache=True, error_model="numpy", fastmath={"contract"})
_HALF = np.uint32(0x7FFF)
_ONE = np.uint32(1)
_SHIFT = np.uint32(16)


@intrinsic
def _float_of(typing_context: object, bits: object) -> tuple[Signature, object]:
    """The float32 that 32 bits stand for."""
    return types.float32(types.uint32), lambda context, builder, signature, values: builder.bitcast(
        values[0], ir.FloatType()
    )


@intrinsic
def _bits_of(typing_context: object, value: object) -> tuple[Signature, object]:
    """The 32 bits of a float32."""
    return types.uint32(types.float32), lambda context, builder, signature, values: builder.bitcast(
        values[0], ir.IntType(32)
    )


@_compiled
def _from_bf16(bits):
    return _float_of(np.uint32(np.uint32(bits) << _SHIFT))


@_compiled
def _to_bf16(value):
    """Round to the nearest bf16, ties to even; finite values only."""
    bits = _bits_of(value)
    return np.uint16((bits + _HALF + ((bits >> _SHIFT) & _ONE)) >> _SHIFT)


@_compiled
def adam_bf16(
    master: np.ndarray,
    exp_avg: np.ndarray,
    exp_avg_sq: np.ndarray,
    gradient: np.ndarray,
    weights: np.ndarray,
    step_size: np.float32,
    correction: np.float32,
    beta1: np.float32,
    beta2: np.float32,
    eps: np.float32,
):
    """One step of Adam (Kingma & Ba, arXiv 1412.6980, algorithm 1).

    Args:
        master: float32 weights (P,), updated.
        exp_avg: float32 first moments (P,), updated.
        exp_avg_sq: float32 second moments (P,), updated.
        gradient: bits of the bf16 gradient (P,).
        weights: bits of the bf16 copy of the weights (P,), written.
        step_size: learning rate / (1 - beta1^t).
        correction: 1 / sqrt(1 - beta2^t).
        beta1: decay of the first moments.
        beta2: decay of the second moments.
        eps: added to the corrected root.
    """
    rest1, rest2 = np.float32(1) - beta1, np.float32(1) - beta2
    for i in range(master.size):
        g = _from_bf16(gradient[i])
        mean = beta1 * exp_avg[i] + rest1 * g
        square = beta2 * exp_avg_sq[i] + rest2 * (g * g)
        exp_avg[i] = mean
        exp_avg_sq[i] = square
        updated = master[i] - step_size * mean / (np.sqrt(square) * correction + eps)
        master[i] = updated
        weights[i] = _to_bf16(updated)


@_compiled
def adagrad_bf16(
    master: np.ndarray,
    sums: np.ndarray,
    gradient: np.ndarray,
    weights: np.ndarray,
    learning_rate: np.float32,
    eps: np.float32,
):
    """One step of Adagrad (Duchi et al. 2011) without decay.

    Args:
        master: float32 weights (P,), updated.
        sums: float32 sums of squared gradients (P,), updated.
        gradient: bits of the bf16 gradient (P,).
        weights: bits of the bf16 copy of the weights (P,), written.
        learning_rate: rate.
        eps: added to the root.
    """
    for i in range(master.size):
        g = _from_bf16(gradient[i])
        total = sums[i] + g * g
        sums[i] = total
        updated = master[i] - learning_rate * g / (np.sqrt(total) + eps)
        master[i] = updated
        weights[i] = _to_bf16(updated)
