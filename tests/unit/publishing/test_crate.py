"""The RO-Crate of a published preset: it loads back, whole, and says what the provenance says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from rocrate.rocrate import ROCrate

from vaelab.publishing.crate import write_crate
from vaelab.settings.config import load_config
from vaelab.util.errors import VaelabError
from workflow_project import ROOT


def test_crate_loads_back_with_every_run_and_file(tmp_path: Path) -> None:
    config = load_config((), {"preset": "modern", "results": str(ROOT / "results")}, ROOT)
    write_crate(config, tmp_path / "modern.zip")
    crate = ROCrate(tmp_path / "modern.zip")

    profiles = {entity.id for entity in crate.root_dataset["conformsTo"]}
    assert "https://w3id.org/ro/wfrun/workflow/0.5" in profiles
    assert crate.mainEntity.id == "workflow/Snakefile"
    assert crate.mainEntity["programmingLanguage"]["name"] == "Snakemake"

    actions = {entity.id: entity for entity in crate.root_dataset["mentions"]}
    runs = {path.parent.name for path in config.folder.glob("runs/*/provenance.json")}
    assert set(actions) == {"#workflow", *(f"#{run}" for run in runs)}
    assert len(runs) > 50
    made = {entity.id for entity in actions["#workflow"]["result"]}
    assert {f"results/modern/figures/figure_{n:02d}.png" for n in range(1, 16)} <= made
    assert "results/modern/claims.csv" in made

    vae = actions["#vae-s0"]
    record = json.loads((config.folder / "runs/vae-s0/provenance.json").read_text())
    assert vae["instrument"].id == f"#vaelab-{record['git']['revision']}"
    assert record["checkpoint_sha256"] in vae["description"]
    assert vae["object"][0]["sha256"] == record["dataset"]["sha256"]

    for entity in crate.data_entities:
        path = Path(crate.source) / entity.id
        assert path.is_file(), entity.id
        if "sha256" in entity.properties():
            assert hashlib.sha256(path.read_bytes()).hexdigest() == entity["sha256"]


def test_a_preset_without_runs_and_another_ending_are_refused(tmp_path: Path) -> None:
    config = load_config((), {"preset": "quick", "results": str(tmp_path)}, ROOT)
    with pytest.raises(VaelabError, match="has no trained runs"):
        write_crate(config, tmp_path / "quick.zip")
    with pytest.raises(VaelabError, match="should end in .zip"):
        write_crate(config, tmp_path / "quick.tar")
    assert list(tmp_path.iterdir()) == []
