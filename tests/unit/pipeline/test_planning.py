"""What the workflow plans with: runs that are checked before any job starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vaelab.pipeline.planning import load_runs, needed_datasets
from vaelab.settings.config import Config, load_config
from vaelab.settings.runs import Runs
from vaelab.util.errors import VaelabError
from workflow_project import ROOT


def config(**changes: Any) -> Config:
    return load_config(overrides={"preset": "smoke"} | changes, root=ROOT)


@pytest.fixture(scope="module")
def runs() -> Runs:
    return load_runs(config(), ROOT)


def test_runs_of_every_preset_are_possible() -> None:
    for path in sorted((ROOT / "config/presets").glob("*.yaml")):
        assert load_runs(config(preset=path.stem), ROOT).by_id


def test_sources_of_an_unknown_dataset_are_refused() -> None:
    with pytest.raises(VaelabError, match=r"data\.sources: there is no dataset named 'mnits'"):
        load_runs(config(data={"sources": {"mnits": []}}), ROOT)


def test_datasets_are_those_of_the_runs(runs: Runs, tmp_path: Path) -> None:
    assert needed_datasets(runs) == ["mnist", "frey"]
    header, *rows = (ROOT / "config/runs.tsv").read_text().splitlines()
    table = tmp_path / "runs.tsv"
    table.write_text("\n".join([header, *(row for row in rows if row.startswith("frey_d2\t"))]))
    assert needed_datasets(load_runs(config(runs=str(table)))) == ["frey"]
