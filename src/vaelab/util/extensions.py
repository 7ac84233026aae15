"""Extensions: Python files of the user's, whose registrations join the registries.

The setting `extensions` names them. They are imported wherever the settings are read: in the
workflow and in every job.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterable
from importlib import import_module, invalidate_caches
from pathlib import Path

from vaelab.util.errors import VaelabError
from vaelab.util.registry import added_by, take_out

# The extensions that are loaded: file -> digest.
_LOADED: dict[Path, str] = {}


def load_extensions(files: Iterable[str]) -> None:
    """Make these files the extensions, in place of those of an earlier setting.

    Raises:
        VaelabError: a file is missing, has the name of another module, cannot be imported, or
            registers a name that is taken.
    """
    wanted = {Path(file).resolve(): file for file in files}
    for path in wanted:
        if not path.is_file():
            raise VaelabError(f"extensions: {wanted[path]} does not exist")
    digests = {path: _digest(path) for path in wanted}
    for path in [path for path, digest in _LOADED.items() if digests.get(path) != digest]:
        _unload(path)
    for path, file in wanted.items():
        if path not in _LOADED:
            _load(path, file, digests[path])


def _load(path: Path, file: str, digest: str) -> None:
    # It finds this very file where the folder is on the path already.
    found = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
    if not path.stem.isidentifier() or (found and Path(str(found.origin)).resolve() != path):
        raise VaelabError(f"extensions: {file}: {path.stem} is no free name for a module")
    # For the modules beside it as well, which it may name.
    sys.path.append(str(path.parent))
    invalidate_caches()
    _LOADED[path] = digest
    try:
        with added_by(digest):
            import_module(path.stem)
    except Exception as error:
        _unload(path)
        what = str(error) if isinstance(error, VaelabError) else f"{type(error).__name__}: {error}"
        raise VaelabError(f"extensions: {file} cannot be used: {what}") from error


def _unload(path: Path) -> None:
    take_out(_LOADED.pop(path))
    own = {str(file) for file in _files(path)}
    for name in [n for n, module in sys.modules.items() if getattr(module, "__file__", 0) in own]:
        del sys.modules[name]
    sys.path.remove(str(path.parent))


def _digest(path: Path) -> str:
    """SHA-256 of an extension and of the modules beside it that it names."""
    contents = (file.name.encode() + file.read_bytes() for file in _files(path))
    return hashlib.sha256(b"\n".join(contents)).hexdigest()


def _files(path: Path) -> list[Path]:
    """The extension and the modules beside it whose names stand in it, or in one of these."""
    beside = {file.stem: file for file in path.parent.glob("*.py")}
    found: dict[Path, None] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file not in found and file.is_file():
            found[file] = None
            words = set(re.findall(r"\w+", file.read_text(encoding="utf-8")))
            waiting += [beside[name] for name in words & set(beside)]
    return sorted(found)
