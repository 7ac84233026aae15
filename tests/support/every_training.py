"""One small training of every kind, for tests that compare two ways of running it."""

from __future__ import annotations

import torch

from toys import toy_spec, toy_vqvae_spec
from vaelab.training.trainer import TrainingResult

# Rates that float32 represents exactly, as a GPU has them in float32. 135 images, so that the last
# batch of an epoch has 7.
BUDGET = {"batch_size": 8, "samples": 1024, "learning_rate": 2.0**-8, "schedule": "linear"}
SPECS = {
    "adam": toy_spec(**BUDGET),
    "adagrad": toy_spec(**BUDGET, optimizer="adagrad", trunks="shared", activation="tanh"),
    "condition": toy_spec(**BUDGET, condition="onehot", beta=4.0),
    "snapshots": toy_spec(**BUDGET, snapshots=3),
    "binarized": toy_spec(**BUDGET, binarize="dynamic"),
    "gaussian": toy_spec(**BUDGET, likelihood="gaussian"),
    "wake_sleep": toy_spec(**BUDGET, method="wake_sleep", trunks="shared"),
    "mcem": toy_spec(**BUDGET, method="mcem", trunks="shared"),
    "vqvae": toy_vqvae_spec(**BUDGET | {"samples": 64}),
}


def assert_same(one: TrainingResult, other: TrainingResult) -> None:
    """Equal bit for bit, except for the seconds."""
    assert one.state.keys() == other.state.keys()
    assert all(torch.equal(tensor, other.state[name]) for name, tensor in one.state.items())
    rows = [[{**row, "seconds": 0} for row in r.history] for r in (one, other)]
    assert rows[0] == rows[1]
    assert one.snapshot_samples == other.snapshot_samples
    assert (one.snapshots is None) == (other.snapshots is None)
    if one.snapshots is not None:
        assert torch.equal(one.snapshots, other.snapshots)
