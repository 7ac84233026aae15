"""Files of weights and of resumable training states; safetensors only, nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vaelab.util.errors import VaelabError
from vaelab.util.io import atomic_path

# One metadata key: the header is a hash map, and only with a single entry are its bytes stable.
_METADATA = "vaelab"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON metadata atomically; equal content gives equal bytes."""
    with atomic_path(path) as temporary:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            temporary,
            metadata={_METADATA: json.dumps(metadata, separators=(",", ":"))},
        )


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
