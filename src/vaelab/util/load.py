"""Objects by name, so that a registry can name an implementation without importing it."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def load_object(name: str) -> Any:
    """The object that "module:name" names."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
