"""torchvision, imported in one place and only when it is needed: the import takes seconds."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

# What stands in for torchvision's operators. They vanish with it.
_kept: list[Any] = []


def vision_datasets() -> ModuleType:
    """The module `torchvision.datasets`.

    torchvision built for CUDA cannot load its compiled part beside a CPU build of PyTorch, and its
    import fails for want of two operators. Their schemas are all that the import needs.
    """
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError:
        import torch

        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
        return importlib.import_module("torchvision.datasets")
