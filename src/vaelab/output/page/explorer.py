"""The latent explorer: small decoders that a browser evaluates for itself.

The weights of the two-dimensional models travel inside the page. Hidden units that are zero
all over the plane shown are left out. Each row of a weight matrix is rounded to a whole
number of steps of its own size; the two bytes of those numbers are stored apart, because the
high ones are nearly constant and compress well. The number of bits is the smallest one that
keeps every pixel of a calibration grid within half a grey level of the exact decoder, so that
a picture rounded to 8 bits is never off by more than one level.
"""

from __future__ import annotations

import gzip
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from vaelab.output.catalogue import LATENT
from vaelab.util.errors import VaelabError

# Runs offered, in the order shown: those of Figure 13 with the report's own values of beta.
MODELS = {run: title for run, title in LATENT.items() if run != "bvae_beta5_d2"}
LABELS = 10
# Half a grey level: with the rounding of the canvas itself, at most one level in all.
TOLERANCE = 0.5 / 255
BITS = (12, 13, 14, 15, 16)
CALIBRATION_SIDE, PRUNING_SIDE = 12, 41
CODES_SHOWN = 2000
IMAGES_PER_DIGIT = 2


@dataclass(frozen=True)
class Decoder:
    """A ReLU network from a code, and a one-hot label where `labels` > 0, to pixel logits.

    weights[i] has the shape (out, in), biases[i] the shape (out,); all float32.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    labels: int = 0

    def __call__(self, z: np.ndarray, label: int | None = None) -> np.ndarray:
        """Pixel means in [0, 1] of codes z (N, d), shape (N, P), in float32."""
        last = self.hidden(z, label)[-1]
        logits = last @ self.weights[-1].T + self.biases[-1]
        means: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * logits))
        return means

    def hidden(self, z: np.ndarray, label: int | None = None) -> list[np.ndarray]:
        """The network's input and the activations of its hidden layers, each (N, width)."""
        layers = [np.asarray(z, dtype=np.float32)]
        if self.labels:
            if label is None:
                raise ValueError("a conditional decoder needs a label")
            condition = np.zeros((len(z), self.labels), dtype=np.float32)
            condition[:, label] = 1.0
            layers[0] = np.concatenate([layers[0], condition], axis=1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            layers.append(np.maximum(layers[-1] @ weight.T + bias, 0.0))
        return layers

    @property
    def conditions(self) -> list[int | None]:
        """Every label that can be given, or the one way to call without a label."""
        return list(range(self.labels)) or [None]


def load_decoder(checkpoint: Path, labels: int = 0) -> Decoder:
    """Read `decoder.layers.<i>.{weight,bias}` from a safetensors file.

    Raises:
        VaelabError: the file is missing, unreadable, or holds no such decoder of 2-d codes.
    """
    try:
        tensors = load_file(checkpoint)
    except (OSError, SafetensorError) as error:
        raise VaelabError(f"cannot read the decoder in {checkpoint}: {error}") from error
    weights: list[np.ndarray] = []
    biases: list[np.ndarray] = []
    while (name := f"decoder.layers.{len(weights)}") + ".weight" in tensors:
        weights.append(tensors[f"{name}.weight"].astype(np.float32))
        biases.append(tensors[f"{name}.bias"].astype(np.float32))
    if not weights or weights[0].shape[1] != 2 + labels:
        raise VaelabError(f"{checkpoint} holds no decoder of two-dimensional codes")
    return Decoder(tuple(weights), tuple(biases), labels)


def grid(reach: float, side: int) -> np.ndarray:
    """A square grid of codes from -reach to reach along both axes, (side², 2) float32."""
    axis = np.linspace(-reach, reach, side, dtype=np.float32)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def pruned(decoder: Decoder, codes: np.ndarray) -> Decoder:
    """The decoder without the hidden units that are zero at every one of the codes (N, d)."""
    alive = [
        np.any([layer.max(axis=0) > 0 for layer in layers], axis=0)
        for layers in zip(*(decoder.hidden(codes, c)[1:] for c in decoder.conditions), strict=True)
    ]
    inputs = np.ones(decoder.weights[0].shape[1], dtype=bool)
    outputs = np.ones(len(decoder.biases[-1]), dtype=bool)
    units = [inputs, *alive, outputs]
    return Decoder(
        tuple(w[np.ix_(units[i + 1], units[i])] for i, w in enumerate(decoder.weights)),
        tuple(b[units[i + 1]] for i, b in enumerate(decoder.biases)),
        decoder.labels,
    )


def _round_rows(weight: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole steps (int16) and the step of each row (float32)."""
    largest = np.abs(weight).max(axis=1)
    step = (np.where(largest > 0, largest, 1.0) / (2 ** (bits - 1) - 1)).astype(np.float32)
    return np.rint(weight / step[:, None]).astype(np.int16), step


def pack(decoder: Decoder, reach: float) -> dict[str, Any]:
    """The decoder as JSON values: layer shapes, bits, and base64 of the compressed numbers.

    Uncompressed layout: for each layer its steps and biases (float32, little endian), then
    the low bytes of all weights, then the high bytes.

    Args:
        decoder: the exact one.
        reach: largest coordinate of a code that the page can show.

    Raises:
        VaelabError: not even 16 bits keep the pictures within the tolerance.
    """
    codes = grid(reach, CALIBRATION_SIDE)
    exact = {label: decoder(codes, label) for label in decoder.conditions}
    kept = pruned(decoder, grid(reach, PRUNING_SIDE))
    for bits in BITS:
        rounded = [_round_rows(weight, bits) for weight in kept.weights]
        candidate = Decoder(
            tuple(whole * step[:, None] for whole, step in rounded), kept.biases, kept.labels
        )
        worst = max(
            float(np.abs(candidate(codes, label) - picture).max())
            for label, picture in exact.items()
        )
        if worst <= TOLERANCE:
            break
    else:
        raise VaelabError(f"the decoder loses {worst:.4f} of a pixel's range when rounded")
    header = b"".join(
        np.concatenate([step, bias]).astype("<f4").tobytes()
        for (_, step), bias in zip(rounded, kept.biases, strict=True)
    )
    planes = np.concatenate([whole.ravel() for whole, _ in rounded]).astype("<i2")
    low, high = planes.view(np.uint8).reshape(-1, 2).T
    payload = header + low.tobytes() + high.tobytes()
    return {
        "shapes": [list(weight.shape) for weight in kept.weights],
        "labels": kept.labels,
        "bits": bits,
        "worst": worst,
        "data": b64encode(gzip.compress(payload, 9, mtime=0)).decode("ascii"),
    }


def example_indices(labels: np.ndarray, per_digit: int = IMAGES_PER_DIGIT) -> list[int]:
    """Positions of the first `per_digit` images of each digit, ordered by digit."""
    return [
        int(index)
        for digit in range(LABELS)
        for index in np.flatnonzero(labels == digit)[:per_digit]
    ]


def _base64(values: np.ndarray) -> str:
    return b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def explorer_data(
    arrays: Mapping[str, Mapping[str, np.ndarray]], checkpoints: Mapping[str, Path]
) -> dict[str, Any] | None:
    """Everything the explorer's script needs, or None where no model of it was trained.

    Args:
        arrays: evaluation arrays by run name: test_mean (N, 2), test_labels (N,) and
            originals (100, P), the first test images.
        checkpoints: safetensors files by run name.
    """
    names = [name for name in MODELS if name in arrays and name in checkpoints]
    if not names:
        return None
    first = arrays[names[0]]
    originals = first["originals"]
    examples = example_indices(first["test_labels"][: len(originals)])
    models = [_model(name, arrays[name], checkpoints[name], examples) for name in names]
    return {
        "models": models,
        "side": int(np.sqrt(originals.shape[1])),
        "digits": [int(digit) for digit in first["test_labels"][examples]],
        "images": _base64(originals[examples].astype(np.uint8)),
    }


def _model(
    name: str, arrays: Mapping[str, np.ndarray], checkpoint: Path, examples: Sequence[int]
) -> dict[str, Any]:
    conditional = LABELS if name.startswith("cvae") else 0
    codes = np.asarray(arrays["test_mean"], dtype=np.float32)
    shown = codes[:CODES_SHOWN]
    reach = round(float(np.quantile(np.abs(shown), 0.998)) * 1.04, 2)
    return {
        "name": name,
        "title": MODELS[name],
        "reach": reach,
        "codes": _base64(shown.astype("<f4")),
        "digits": _base64(arrays["test_labels"][:CODES_SHOWN].astype(np.uint8)),
        "examples": [[round(float(value), 4) for value in codes[index]] for index in examples],
        "decoder": pack(load_decoder(checkpoint, conditional), reach),
    }
