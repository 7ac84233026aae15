"""What is timed: networks, ways to train them, and the products that no way can avoid."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from vaelab.data.registry import DATASETS
from vaelab.settings.runs import read_rows
from vaelab.settings.spec import RunSpec, VaePart
from vaelab.util.errors import VaelabError

# Run of config/runs.tsv -> what it is called here. The first is the one that peers train too.
NETWORKS = {
    "vae": "h = [500, 500, 3], separate trunks",
    "mnist_d20": "500 tanh, d = 20, one trunk",
    "ml_n50000": "100 tanh, d = 3, one trunk (Figure 3)",
    "frey_d10": "Frey Face, 200 tanh, d = 10",
    "vqvae": "VQ-VAE",
}
COMPARED = "vae"


# Packages that a way needs beyond the main set-up.
NEEDS = {"report": (), "examples": (), "pythae": ("pythae",)}


@dataclass(frozen=True)
class Way:
    """One way to train one network.

    Attributes:
        network: a run of config/runs.tsv.
        kind: "ours", "bound", "report", "examples" or "pythae".
        precision: "bf16" or "fp32"; the peers know only the latter.
    """

    network: str
    kind: str
    precision: str

    @property
    def peer(self) -> bool:
        """Whether it is somebody else's way."""
        return self.kind in NEEDS


def missing_packages(kind: str) -> list[str]:
    """Packages that a way needs and that are not installed."""
    return [name for name in NEEDS.get(kind, ()) if importlib.util.find_spec(name) is None]


def ways_to_time(precisions: tuple[str, ...], present: tuple[str, ...]) -> list[Way]:
    """The compared network in every way, then the others in ours; each beside its bound.

    Args:
        precisions: those of this machine, the fast one first.
        present: the kinds of peers that are installed.
    """
    ways = [Way(COMPARED, kind, p) for p in precisions for kind in ("ours", "bound")]
    ways += [Way(COMPARED, kind, "fp32") for kind in present]
    others = [name for name in NETWORKS if name != COMPARED]
    return ways + [Way(n, kind, precisions[0]) for n in others for kind in ("ours", "bound")]


class Product(NamedTuple):
    """A matrix product (rows x inner) @ (inner x columns)."""

    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.rows * self.inner * self.columns


class Layer(NamedTuple):
    """A linear layer, and whether the gradient of its input is needed."""

    inputs: int
    outputs: int
    needs_input_gradient: bool

    def products(self, batch: int) -> list[Product]:
        """Forward, gradient of the weights and, where needed, of the input."""
        needed = [
            Product(batch, self.inputs, self.outputs),
            Product(self.outputs, batch, self.inputs),
        ]
        if self.needs_input_gradient:
            needed.append(Product(batch, self.outputs, self.inputs))
        return needed


def specs(table: Path, names: tuple[str, ...] = tuple(NETWORKS)) -> dict[str, RunSpec]:
    """The report's specs of the timed networks, by run name.

    Raises:
        VaelabError: the run table lacks one.
    """
    rows = {row.run: row.spec for row in read_rows(table)}
    if missing := [name for name in names if name not in rows]:
        raise VaelabError(f"{table} lacks {', '.join(missing)}, which the benchmark times")
    return {name: rows[name] for name in names}


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


def products(spec: RunSpec) -> list[Product]:
    """Every matrix product of one training step of an MLP VAE."""
    return [product for layer in layers(spec) for product in layer.products(spec.recipe.batch_size)]
