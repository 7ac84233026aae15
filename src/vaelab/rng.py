"""Seeds of independent streams of random numbers, and the images that stand for a split."""

from __future__ import annotations

import numpy as np


def stream_seed(seed: int, stream: int, counter: int = 0) -> int:
    """A 63-bit seed for one stream of a run."""
    words = np.random.SeedSequence([seed, stream, counter]).generate_state(2, np.uint32)
    return (int(words[0]) << 31) ^ int(words[1])


def random_pick(total: int, n: int, stream: int) -> np.ndarray:
    """Sorted indices of n (at most `total`) images, drawn once for all runs and seeds.

    MNIST's first thousand, and any regular pick of its alternating sources, are easier or
    harder than the whole by several nats.
    """
    # Counter 1: the stream itself is the noise that goes with the images.
    rng = np.random.default_rng(stream_seed(0, stream, 1))
    return np.sort(rng.choice(total, min(n, total), replace=False))
