"""The latent explorer: small decoders that a browser evaluates for itself.

The weights of the two-dimensional models travel inside the page. Each row of a weight matrix is
rounded to a whole number of steps of its own size, 14 bits each, so that a picture is off by no
more than one grey level of 256.
"""

from __future__ import annotations

import gzip
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from vaelab.output.catalogue import LATENT
from vaelab.results.reader import Results
from vaelab.util.errors import VaelabError

# Runs offered, in the order shown: those of Figure 13 with the report's own values of beta.
MODELS = {run: title for run, title in LATENT.items() if run != "bvae_beta5_d2"}
LABELS = 10
CODES_SHOWN = 2000
IMAGES_PER_DIGIT = 2
BITS = 14


def pack(checkpoint: Path) -> dict[str, Any]:
    """A decoder as JSON values: layer shapes, labels, and base64 of the compressed numbers.

    It has ReLU layers from a code, and a one-hot label where it is conditional, to pixel logits:
    the tensors `decoder.layers.<i>.{weight,bias}` of a safetensors file. Uncompressed layout: for
    each layer its steps and biases (float32, little endian), then the low bytes of all weights,
    then the high bytes, which compress well.

    Raises:
        VaelabError: the file is missing, unreadable, or holds no such decoder of 2-d codes.
    """
    try:
        tensors = load_file(checkpoint)
    except (OSError, SafetensorError) as error:
        raise VaelabError(f"cannot read the decoder in {checkpoint}: {error}") from error
    shapes: list[list[int]] = []
    header, whole = [], []
    while (name := f"decoder.layers.{len(shapes)}") + ".weight" in tensors:
        weight = tensors[f"{name}.weight"].astype(np.float32)
        largest = np.abs(weight).max(axis=1)
        step = (np.where(largest > 0, largest, 1.0) / (2 ** (BITS - 1) - 1)).astype("<f4")
        shapes.append(list(weight.shape))
        header += [step, tensors[f"{name}.bias"].astype("<f4")]
        whole.append(np.rint(weight / step[:, None]).astype("<i2").ravel())
    labels = shapes[0][1] - 2 if shapes else None
    if labels not in (0, LABELS):
        raise VaelabError(f"{checkpoint} holds no decoder of two-dimensional codes")
    low, high = np.concatenate(whole).view(np.uint8).reshape(-1, 2).T
    payload = np.concatenate(header).tobytes() + low.tobytes() + high.tobytes()
    data = b64encode(gzip.compress(payload, 9, mtime=0)).decode("ascii")
    return {"shapes": shapes, "labels": labels, "data": data}


def explorer_data(results: Results) -> dict[str, Any] | None:
    """Everything the explorer's script needs, or None where no model of it was trained."""
    names = [name for name in MODELS if results.has(name)]
    if not names:
        return None
    first = results.arrays(names[0])
    originals = first["originals"]
    examples = example_indices(first["test_labels"][: len(originals)])
    return {
        "models": [_model(results, name, examples) for name in names],
        "side": int(np.sqrt(originals.shape[1])),
        "digits": [int(digit) for digit in first["test_labels"][examples]],
        "images": _base64(originals[examples].astype(np.uint8)),
    }


def example_indices(labels: np.ndarray) -> list[int]:
    """Positions of the first images of each digit, ordered by digit."""
    first = (np.flatnonzero(labels == digit)[:IMAGES_PER_DIGIT] for digit in range(LABELS))
    return [int(index) for indices in first for index in indices]


def _base64(values: np.ndarray) -> str:
    return b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def _model(results: Results, name: str, examples: Sequence[int]) -> dict[str, Any]:
    arrays = results.arrays(name)
    codes = np.asarray(arrays["test_mean"], dtype=np.float32)
    shown = codes[:CODES_SHOWN]
    checkpoint = results.folder / "checkpoints" / f"{results.alias[name][0]}.safetensors"
    return {
        "name": name,
        "title": MODELS[name],
        # The largest coordinate of a code that the page can show.
        "reach": round(float(np.quantile(np.abs(shown), 0.998)) * 1.04, 2),
        "codes": _base64(shown.astype("<f4")),
        "digits": _base64(arrays["test_labels"][:CODES_SHOWN].astype(np.uint8)),
        "examples": [[round(float(value), 4) for value in codes[index]] for index in examples],
        "decoder": pack(checkpoint),
    }
