"""A digest of source code, so that what a changed function made is made again.

It is of the content, so a fresh clone has the same one. Comments, docstrings, line breaks and dates
are not part of it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def code_digest(*modules: str) -> str:
    """SHA-256 over modules, all that they import of this package, and the files beside them.

    Functions that a registry names as text are not followed; whoever asks names their modules.

    Args:
        modules: dotted names, such as "vaelab.output.writing".
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _module(name)[1]
    return hashlib.sha256("".join(_module(name)[0] for name in sorted(found)).encode()).hexdigest()


def _path(name: str) -> Path:
    """The file of a module or a package."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _module(name: str) -> tuple[str, tuple[str, ...]]:
    """The digest of a module and the modules of this package that it imports."""
    path = _path(name)
    tree = ast.parse(path.read_bytes())
    imported = {name.rpartition(".")[0]} - {""}
    for node in _statements(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            imported |= {node.module} | {part for part in parts if _path(part).is_file()}
    digest = hashlib.sha256(f"{name}\n{ast.dump(tree)}".encode())
    if path.name == "__init__.py":
        for file in _data_files(path.parent):
            digest.update(file.read_bytes())
    ours = tuple(sorted(i for i in imported if i.split(".")[0] == PACKAGE.name))
    return digest.hexdigest(), ours


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements of a syntax tree, from which docstrings and imports for types are taken."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        # Expressions are left out: they are most of a tree, and none holds statements.
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            block = getattr(node, field, None)
            if isinstance(block, list):
                block[:] = [inner for inner in block if not _says_nothing(inner)]
                waiting += block


def _says_nothing(node: ast.AST) -> bool:
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    return text or types


def _data_files(package: Path) -> list[Path]:
    """The files of a package that are not code, such as templates, in its folders without code."""
    folders = [
        package,
        *(f for f in package.iterdir() if f.is_dir() and not (f / "__init__.py").exists()),
    ]
    return sorted(
        file
        for folder in folders
        for file in folder.iterdir()
        if file.is_file() and file.suffix not in (".py", ".pyc") and file.name != "revision.txt"
    )
