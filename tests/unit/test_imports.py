"""What may import what beyond the import contract: no PyTorch where results are only read."""

from __future__ import annotations

import subprocess
import sys

import pytest

TORCH_FREE = (
    *("util", "settings", "results", "data", "search", "original", "output", "publishing"),
    *("pipeline.planning", "cli"),
)
"""Everything that a workflow's definition, a figure, a table, a claim or the page rests on."""

_IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(getattr(package, "__path__", []), package.__name__ + "."):
    importlib.import_module(module.name)
print(*sys.modules)
"""


@pytest.mark.parametrize("name", TORCH_FREE)
def test_packages_that_only_read_results_import_no_torch(name: str) -> None:
    package = f"vaelab.{name}"
    command = [sys.executable, "-c", _IMPORT_ALL, package]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert package in loaded
    assert not {"torch", "matplotlib.pyplot", "numba"} & set(loaded)
