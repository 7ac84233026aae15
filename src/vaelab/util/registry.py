"""Named entries of one kind: datasets, model families, training methods, figures, ..."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from vaelab.util.errors import VaelabError

Entry = TypeVar("Entry")

# The digest of the extension that is being imported, and what each extension has added.
_importing: str | None = None
_ADDED: dict[tuple[str, str], str] = {}
_REGISTRIES: list[Registry[Any]] = []


@contextmanager
def added_by(extension: str) -> Iterator[None]:
    """What is added meanwhile is of an extension, which its digest stands for."""
    global _importing
    _importing = extension
    try:
        yield
    finally:
        _importing = None


def _extension() -> str | None:
    """The digest of the extension whose import adds an entry now; None in vaelab's own modules.

    An extension may be the first to import a module of vaelab that adds entries of its own.
    """
    frame = sys._getframe(1) if _importing else None
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    return None if frame and frame.f_globals["__name__"].startswith("vaelab.") else _importing


def extension_of(kind: str, name: str) -> str | None:
    """The digest of the extension that an entry is from; None for vaelab's own."""
    return _ADDED.get((kind, name))


def extensions_of(entries: Iterable[tuple[str, str]]) -> list[str]:
    """The distinct digests of the extensions that entries (kind, name) are from, in order."""
    return sorted({_ADDED[entry] for entry in entries if entry in _ADDED})


def extensions_of_kind(kind: str) -> list[str]:
    """The distinct digests of the extensions that have added entries of a kind, in order."""
    return extensions_of(entry for entry in _ADDED if entry[0] == kind)


def take_out(extension: str) -> None:
    """Remove all that an extension has added."""
    added = {entry for entry, digest in _ADDED.items() if digest == extension}
    for registry in _REGISTRIES:
        for name in [name for name in registry if (registry.kind, name) in added]:
            # One that another removed with its own is gone.
            if name in registry:
                registry.remove(name)


def nearest_first(name: str, names: Iterable[str]) -> list[str]:
    """Known names, those that resemble a mistyped one first."""
    known = list(names)
    near = difflib.get_close_matches(name, known, n=max(1, len(known)), cutoff=0.6)
    return list(dict.fromkeys([*near, *known]))


class Registry(dict[str, Entry]):
    """Name -> entry, in the order of registration.

    Modules that hold a registry import neither torch nor matplotlib: an entry imports its
    implementation inside the function that needs it.

    Args:
        kind: what an entry is, for messages ("dataset", "model family").
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        _REGISTRIES.append(self)

    def add(self, name: str, entry: Entry) -> Entry:
        """Register an entry and return it.

        Raises:
            VaelabError: the name is taken.
        """
        if name in self:
            raise VaelabError(f"there is already a {self.kind} named {name!r}")
        self[name] = entry
        if extension := _extension():
            _ADDED[self.kind, name] = extension
        return entry

    def remove(self, name: str) -> None:
        """Take an entry out again."""
        del self[name]
        _ADDED.pop((self.kind, name), None)

    def __missing__(self, name: str) -> Entry:
        """Refuse a name that is not registered; the message lists the names, nearest first."""
        raise VaelabError(self.unknown(name))

    def unknown(self, name: str) -> str:
        """The message for a name that is not registered, with the known names, nearest first."""
        names = ", ".join(nearest_first(str(name), self)) or "none"
        return f"there is no {self.kind} named {name!r}; known: {names}"
