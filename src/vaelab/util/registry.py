"""Named entries of one kind: datasets, model families, training methods, figures, ..."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from vaelab.util.errors import VaelabError

Entry = TypeVar("Entry")


def nearest_first(name: str, names: Iterable[str]) -> list[str]:
    """Known names, those that resemble a mistyped one first."""
    known = list(names)
    near = difflib.get_close_matches(name, known, n=max(1, len(known)), cutoff=0.6)
    return list(dict.fromkeys([*near, *known]))


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Name -> entry, in the order of registration.

    Modules that hold a registry import neither torch nor matplotlib: an entry imports its
    implementation inside the function that needs it.

    Args:
        kind: what an entry is, for messages ("dataset", "model family").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def add(self, name: str, entry: Entry) -> Entry:
        """Register an entry and return it.

        Raises:
            VaelabError: the name is taken.
        """
        if name in self._entries:
            raise VaelabError(f"there is already a {self.kind} named {name!r}")
        self._entries[name] = entry
        return entry

    def remove(self, name: str) -> None:
        """Take an entry out again, so that a test can add one and leave no trace."""
        del self._entries[name]

    def __getitem__(self, name: str) -> Entry:
        """The entry of a name.

        Raises:
            VaelabError: no such name; the message lists the names, nearest first.
        """
        try:
            return self._entries[name]
        except KeyError:
            raise VaelabError(self.unknown(name)) from None

    def unknown(self, name: str) -> str:
        """The message for a name that is not registered, with the known names, nearest first."""
        names = ", ".join(nearest_first(str(name), self._entries)) or "none"
        return f"there is no {self.kind} named {name!r}; known: {names}"

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: str, default: Entry | None = None) -> Entry | None:  # type: ignore[override]
        """The entry of a name, or the default."""
        return self._entries.get(name, default)
