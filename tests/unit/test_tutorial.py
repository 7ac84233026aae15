"""docs/tutorial.ipynb runs on the models that come with a clone, and shows what it gives."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from vaelab.data import fetch_dataset
from vaelab.util.errors import VaelabError
from workflow_project import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.text for output in outputs if output.output_type == "stream"]


def pictures(notebook: nbformat.NotebookNode) -> int:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
def test_notebook_gives_what_it_shows(tmp_path: Path) -> None:
    try:
        fetch_dataset("mnist", tmp_path / "data")
    except VaelabError as error:
        pytest.skip(f"no source of MNIST can be reached: {error}")
    # Only what is in git, whatever has been trained here.
    shutil.copytree(ROOT / "results/modern/models", tmp_path / "docs/results/modern/models")
    shown = nbformat.read(NOTEBOOK, 4)
    assert NOTEBOOK.stat().st_size < 1_000_000
    given = nbformat.read(NOTEBOOK, 4)
    for cell in given.cells:
        cell.pop("outputs", None)
    resources = {"metadata": {"path": str(tmp_path / "docs")}}
    NotebookClient(given, timeout=300, resources=resources).execute()
    assert pictures(given) == pictures(shown) == 5
    number = re.compile(r"-?\d+\.\d+")
    for now, before in zip(printed(given), printed(shown), strict=True):
        assert number.sub("", now) == number.sub("", before)
        values = [float(value) for value in number.findall(before)]
        assert [float(v) for v in number.findall(now)] == pytest.approx(values, rel=0.01, abs=0.1)
