"""A reproduction of a technical report on variational autoencoders: every figure, table and claim.

From Python:

    import vaelab

    vae = vaelab.load("results/modern/checkpoints/vae-s0.safetensors")   # or "modern/vae"
    vae.sample(16)
    vaelab.log_likelihood(vae, images)
    vaelab.runs("modern")

Importing vaelab loads neither torch nor matplotlib; what needs them imports them when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaelab.evaluation.trained import TrainedModel, load, log_likelihood
    from vaelab.results.trained import runs
    from vaelab.util.errors import VaelabError

__version__ = "0.2.0"
__all__ = ["TrainedModel", "VaelabError", "load", "log_likelihood", "runs"]

_PUBLIC = {
    "TrainedModel": "vaelab.evaluation.trained",
    "VaelabError": "vaelab.util.errors",
    "load": "vaelab.evaluation.trained",
    "log_likelihood": "vaelab.evaluation.trained",
    "runs": "vaelab.results.trained",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
