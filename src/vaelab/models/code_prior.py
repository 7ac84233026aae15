"""A small prior over the VQ-VAE's code grids, learned by counting.

Our addition: the report leaves the VQ-VAE out of its generation figure because it has no
prior. Codes are drawn in raster order, each given its upper and left neighbours at its
position. The counts of a position and context are smoothed towards the position's own
frequencies, which serve where a context was rare.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Weight of the position's frequencies, in pseudo-observations of a context.
SMOOTHING = 5.0


@dataclass(frozen=True)
class CodePrior:
    """p(code | position, code above, code to the left).

    Attributes:
        probabilities: (H, W, K + 1, K + 1, K); index K stands for "outside the grid".
    """

    probabilities: np.ndarray

    @classmethod
    def fit(cls, codes: np.ndarray, size: int) -> CodePrior:
        """Count code grids (N, H, W) with values below `size`."""
        n, height, width = codes.shape
        padded = np.full((n, height + 1, width + 1), size)
        padded[:, 1:, 1:] = codes
        rows, columns = np.mgrid[:height, :width]
        counts = np.zeros((height, width, size + 1, size + 1, size))
        np.add.at(
            counts,
            (rows[None], columns[None], padded[:, :-1, 1:], padded[:, 1:, :-1], codes),
            1.0,
        )
        frequencies = counts.sum(axis=(2, 3)) + 1.0 / size
        frequencies /= frequencies.sum(-1, keepdims=True)
        smoothed = counts + SMOOTHING * frequencies[:, :, None, None]
        return cls(smoothed / smoothed.sum(-1, keepdims=True))

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n code grids (n, H, W)."""
        height, width, _, _, size = self.probabilities.shape
        grid = np.full((n, height + 1, width + 1), size)
        for i in range(height):
            for j in range(width):
                p = self.probabilities[i, j, grid[:, i, j + 1], grid[:, i + 1, j]]
                below = rng.random((n, 1)) > p.cumsum(-1)
                grid[:, i + 1, j + 1] = np.minimum(below.sum(-1), size - 1)
        return grid[:, 1:, 1:]
