"""Files of weights and of resumable training states; safetensors only, nothing is unpickled."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vaelab.results.records import Move
from vaelab.util.errors import VaelabError
from vaelab.util.io import atomic_path

# One metadata key: the header is a hash map, and only with a single entry are its bytes stable.
_METADATA = "vaelab"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON metadata atomically; equal content gives equal bytes."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {_METADATA: json.dumps(metadata, separators=(",", ":"))}
    with atomic_path(path) as temporary:
        try:
            save_file(kept, temporary, metadata=header)
        except SafetensorError as error:
            # It has the number of the system's error in its text alone.
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        VaelabError: the file is missing, truncated or not a safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
            metadata = json.loads((handle.metadata() or {}).get(_METADATA, "{}"))
    except FileNotFoundError as error:
        raise VaelabError(f"{path} does not exist") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise VaelabError(f"{path} is damaged ({error}); delete it and rerun") from error
    return tensors, metadata


class Identity(NamedTuple):
    """What a state has to share with a training that goes on from it.

    Attributes:
        fingerprint: of specification, seed and data.
        lineage: the same without the budget; None where the budget changes the steps.
        precision: "bf16" or "fp32".
        device: "cpu" or "cuda".
    """

    fingerprint: str
    lineage: str | None
    precision: str
    device: str


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        seen: training images so far.
        epoch: number of the present epoch.
        position: images seen of this epoch.
        steps: batches so far.
        seconds: wall-clock spent training.
        core_seconds: processor time.
        history: one row per recorded point.
        snapshot_samples: images seen at each snapshot.
        moves: at how many samples the training went on from a state of which other device and
            precision: from there its random numbers are others than those of one device alone.
    """

    seen: int = 0
    epoch: int = 0
    position: int = 0
    steps: int = 0
    seconds: float = 0.0
    core_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    snapshot_samples: list[int] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
