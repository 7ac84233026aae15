"""What is timed: networks, ways to train them, and the products that no way can avoid."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from vaelab.data.registry import DATASETS
from vaelab.settings.runs import read_rows
from vaelab.settings.spec import RunSpec, VaePart
from vaelab.util.errors import VaelabError

# Run of config/runs.tsv -> what it is called here. Layers are switched off on the first alone.
NETWORKS = {
    "vae": "[500, 500, 3], two trunks",
    "mnist_d20": "500 tanh, d = 20",
    "ml_n50000": "100 tanh, d = 3",
    "frey_d10": "Frey, 200 tanh, d = 10",
    "vqvae": "VQ-VAE",
}
COMPARED = "vae"

# The kinds of ways. First what no way can avoid, then others' ways, then ours with one layer off.
BOUNDS = {
    "bound": "products and one pass over the optimiser's memory",
    "products": "matrix products alone",
}
RIVALS = {
    "tuned": "tuned PyTorch",
    "compiled": "tuned PyTorch with torch.compile",
    "report": "the report's way",
    "examples": "PyTorch examples' VAE",
    "pythae": "pythae",
}
LAYERS = {
    "autograd": "hand-written gradients",
    "parted": "flat parameters",
    "stepwise": "compiled optimiser step",
    "denormals": "flushed denormals",
}

# Denormals come late in a training, so the row without their flushing is compared with ours there.
LATE = "late"

# Packages that a way needs beyond the main set-up.
NEEDS = {"pythae": ("pythae",)}


@dataclass(frozen=True)
class Way:
    """One way to train one network.

    Attributes:
        network: a run of config/runs.tsv.
        kind: "ours", `LATE` or a key of `BOUNDS`, `RIVALS` or `LAYERS`.
        precision: "bf16" or "fp32"; the published loops know only the latter.
    """

    network: str
    kind: str
    precision: str

    @property
    def setting(self) -> str:
        """Ways of one setting share a process and its PyTorch switches."""
        return "rivals" if self.kind in RIVALS else "ours"


def missing(kind: str) -> str | None:
    """Why a way cannot be timed on this machine."""
    absent = [name for name in NEEDS.get(kind, ()) if importlib.util.find_spec(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed (`make bench` does)"
    compiler = os.environ.get("CXX", "g++")
    if kind == "compiled" and shutil.which(compiler) is None:
        return f"there is no C++ compiler ({compiler})"
    return None


def knows(kind: str, spec: RunSpec) -> bool:
    """Whether a rival has this network: the published loops have Bernoulli MLP VAEs on MNIST."""
    if not isinstance(spec.model, VaePart):
        return kind == "tuned"
    published = spec.data.dataset == "mnist" and spec.model.likelihood == "bernoulli"
    return kind in ("tuned", "compiled") or published


def ways_to_time(
    specs: Mapping[str, RunSpec], precisions: tuple[str, ...], rivals: tuple[str, ...]
) -> list[Way]:
    """Every network by us, its bounds and the rivals; the compared one with layers off, too.

    Args:
        specs: by network.
        precisions: those of this machine, the fast one first.
        rivals: those that this machine can time.
    """
    fast = precisions[0]
    ways = [Way(COMPARED, kind, p) for p in precisions[1:] for kind in ("ours", *BOUNDS)]
    # The compiled step exists for bf16 alone.
    layers = [kind for kind in LAYERS if fast == "bf16" or kind != "stepwise"]
    ways += [Way(COMPARED, kind, fast) for kind in (*layers, LATE)]
    for network, spec in specs.items():
        ways += [Way(network, kind, fast) for kind in ("ours", *BOUNDS)]
        known = [kind for kind in rivals if knows(kind, spec)]
        ways += [Way(network, k, fast if k in ("tuned", "compiled") else "fp32") for k in known]
    return ways


class Layer(NamedTuple):
    """A linear layer, and whether the gradient of its input is needed."""

    inputs: int
    outputs: int
    needs_input_gradient: bool


def specs(table: Path) -> dict[str, RunSpec]:
    """The report's specs of the timed networks, by run name, with the modern recipe's Adam.

    Raises:
        VaelabError: the run table lacks one.
    """
    rows = {row.run: row.spec for row in read_rows(table)}
    if absent := [name for name in NETWORKS if name not in rows]:
        raise VaelabError(f"{table} lacks {', '.join(absent)}, which the benchmark times")
    adam = {"optimizer": "adam", "learning_rate": 1e-3, "init": "default", "output_bias": True}
    return {name: rows[name].changed(**adam) for name in NETWORKS}


def layers(spec: RunSpec) -> list[Layer]:
    """The linear layers of an MLP VAE, encoder first.

    Images need no gradient, so the first layers' inputs do not.
    """
    part, images = spec.model, DATASETS[spec.data.dataset]
    assert isinstance(part, VaePart)
    trunks = 2 if part.trunks == "separate" else 1
    condition = {"none": 0, "scalar": 1, "onehot": images.classes}[part.condition]
    encoder = [images.pixels + condition, *part.hidden, 2 * part.latent_dim // trunks]
    outputs = images.pixels * (2 if part.likelihood == "gaussian" else 1)
    decoder = [part.latent_dim + condition, *reversed(part.hidden), outputs]
    return _stack(encoder, False) * trunks + _stack(decoder, True)


def _stack(widths: list[int], first_needs_gradient: bool) -> list[Layer]:
    return [
        Layer(inputs, outputs, index > 0 or first_needs_gradient)
        for index, (inputs, outputs) in enumerate(pairwise(widths))
    ]
