"""Seeds of streams, and images that stand for a split."""

from __future__ import annotations

import numpy as np
import pytest

from vaelab.util.rng import representative, stream_seed

SHAPE = (2, 701)


def drawn(changes: int) -> np.ndarray:
    """Two rows with so many changes between black and white, pixel to pixel."""
    rows = np.zeros(SHAPE, np.uint8)
    if changes % 2:
        # Where the white of the lower row begins, and from row to row.
        rows[1, SHAPE[1] - (changes - 1) :] = 255
    else:
        rows[:] = np.cumsum(np.arange(SHAPE[1]) <= changes // 2) % 2 * 255
    return rows.flatten()


DETAIL = np.random.default_rng(0).permutation(700)
IMAGES = np.stack([drawn(int(changes)) for changes in DETAIL])


def test_streams_differ_in_seed_stream_and_counter() -> None:
    seeds = {stream_seed(*key) for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1))}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert stream_seed(7, 3, 2) == stream_seed(7, 3, 2)


def test_one_image_of_each_part_of_the_order_of_detail() -> None:
    picked = representative(IMAGES, SHAPE, 70, 1)
    assert sorted(DETAIL[picked] // 10) == list(range(70))
    assert np.array_equal(picked, np.sort(picked))
    assert len(set((DETAIL[picked] % 10).tolist())) > 5


def test_pick_depends_on_the_stream_alone() -> None:
    assert np.array_equal(
        representative(IMAGES, SHAPE, 70, 1), representative(IMAGES, SHAPE, 70, 1)
    )
    assert not np.array_equal(
        representative(IMAGES, SHAPE, 70, 1), representative(IMAGES, SHAPE, 70, 2)
    )


def test_every_image_is_as_likely() -> None:
    counts = np.zeros(len(IMAGES))
    for stream in range(400):
        counts[representative(IMAGES, SHAPE, 64, stream)] += 1
    # Parts of 10 or 11 images: 36 to 40 times each, with a standard deviation of 6.
    assert counts.sum() == 400 * 64
    assert counts.min() > 12
    assert counts.max() < 68


def test_mean_of_what_detail_explains_is_far_closer_than_a_random_sample_s() -> None:
    values = DETAIL + np.random.default_rng(1).normal(0, 60, len(DETAIL))
    off = [values[representative(IMAGES, SHAPE, 50, s)].mean() - values.mean() for s in range(100)]
    rng = np.random.default_rng(2)
    alike = [rng.choice(values, 50, replace=False).mean() - values.mean() for _ in range(100)]
    assert np.std(off) < 0.5 * np.std(alike)
    assert np.mean(off) == pytest.approx(0, abs=3 * np.std(off) / 10)


@pytest.mark.parametrize("wanted", [700, 1000])
def test_all_images_where_no_fewer_are_wanted(wanted: int) -> None:
    assert representative(IMAGES, SHAPE, wanted, 1).tolist() == list(range(700))
