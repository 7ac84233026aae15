"""The digest of the code behind a result: what changes it and what does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from vaelab.util import code

BEFORE = {
    "__init__.py": "",
    "top.py": (
        '"""Says."""\nfrom vaelab.low import f\n\n\ndef g():\n    """Says."""\n    return f() + 1\n'
    ),
    "low.py": "from vaelab.part import X\n\n\ndef f():\n    return X  # a remark\n",
    "part/__init__.py": "X = 1\n",
    "part/data/table.csv": "a\n1\n",
    "other.py": "Y = 1\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "vaelab"
    for name, text in BEFORE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(code, "PACKAGE", folder)
    code._module.cache_clear()
    yield folder
    code._module.cache_clear()


@pytest.mark.parametrize(
    ("name", "old", "new", "changes"),
    [
        ("top.py", "+ 1", "+ 2", True),
        ("low.py", "return X", "return -X", True),
        ("part/__init__.py", "1", "2", True),
        ("part/data/table.csv", "1", "2", True),
        ("top.py", "Says.", "Says more.", False),
        ("low.py", "a remark", "another", False),
        ("top.py", "f() + 1", "(\n        f() + 1\n    )", False),
        ("other.py", "1", "2", False),
    ],
)
def test_digest_is_of_what_the_code_does(
    name: str, old: str, new: str, changes: bool, package: Path
) -> None:
    before = code.code_digest("vaelab.top")
    (package / name).write_text(BEFORE[name].replace(old, new))
    code._module.cache_clear()
    assert (code.code_digest("vaelab.top") != before) == changes
