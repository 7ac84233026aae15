"""What may import what beyond the import contract: no PyTorch where results are only read."""

from __future__ import annotations

import subprocess
import sys

TORCH_FREE = (
    *("util", "settings", "results", "data", "search", "original", "output", "publishing"),
    *("pipeline.planning", "cli"),
)
"""Everything that a workflow's definition, a figure, a table, a claim or the page rests on."""

HEAVY = ("torch", "matplotlib.pyplot", "numba")

_IMPORT_ALL = f"""
import importlib, pkgutil, sys
def load(name):
    module = importlib.import_module(name)
    for heavy in {HEAVY}:
        if heavy in sys.modules:
            sys.exit(name + " imports " + heavy)
    print(name)
    return module
for name in sys.argv[1:]:
    package = load(name)
    for module in pkgutil.walk_packages(getattr(package, "__path__", []), name + "."):
        load(module.name)
"""


def test_packages_that_only_read_results_import_no_torch() -> None:
    """One after the other, so that the first module that does is named."""
    packages = [f"vaelab.{name}" for name in TORCH_FREE]
    command = [sys.executable, "-c", _IMPORT_ALL, *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert set(packages) < set(loaded)
    assert "vaelab.settings.spec" in loaded
