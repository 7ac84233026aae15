"""The JSON schema and config/README.md: they say what the models say, and all of it."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from vaelab.cli import main
from vaelab.settings.config import CONFIG_FILE, PRESET_FOLDER, Config, validate
from vaelab.settings.runs import ROW_COLUMNS, SPEC_COLUMNS, RunRow
from vaelab.settings.schema import (
    CONFIG_SCHEMA,
    DIALECT,
    REFERENCE,
    config_schema,
    documents,
)
from vaelab.settings.spec import flat_fields
from workflow_project import PRESETS, ROOT

LAYERS = [ROOT / "config/config.yaml", *(ROOT / f"config/presets/{name}.yaml" for name in PRESETS)]
GUIDES = [ROOT / "README.md", ROOT / REFERENCE, *sorted((ROOT / "docs").glob("*.md"))]
# Settings after --config, quoted or not.
CONFIG_OPTION = re.compile(r"--config((?: +(?:'[a-z_]+=[^']+'|[a-z_]+=[^\s`']+))+)")
YAML_EXAMPLE = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)

CONFIG = Draft202012Validator(config_schema())


def settings(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain setting below a model, as (dotted key, default); mappings have one entry `*`."""
    for key, field in model.model_fields.items():
        name = f"{path}{key}"
        inner = [
            part
            for part in (field.annotation, *get_args(field.annotation))
            if isinstance(part, type) and issubclass(part, BaseModel)
        ]
        if not inner:
            yield name, field.default
            continue
        yield from settings(
            inner[0], f"{name}." if not get_args(field.annotation) else f"{name}.*."
        )


def documented(block: str) -> dict[str, tuple[str, str, str]]:
    """The rows of a generated block of config/README.md: name -> allowed, default, meaning."""
    text = (ROOT / REFERENCE).read_text(encoding="utf-8")
    begin, end = text.index(f"<!-- begin {block}:"), text.index(f"<!-- end {block} -->")
    rows = re.findall(r"^\| `(.+?)` \| (.*?) \| (.*?) \| (.*?) \|$", text[begin:end], re.MULTILINE)
    return {name: rest for name, *rest in rows}


@pytest.mark.parametrize("path", [CONFIG_SCHEMA, REFERENCE], ids=str)
def test_committed_files_equal_the_generated_ones(path: Path) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == documents(ROOT)[path]


def test_schema_is_draft_2020_12() -> None:
    assert CONFIG.schema["$schema"] == DIALECT == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(CONFIG.schema)


@pytest.mark.parametrize("path", LAYERS, ids=lambda path: path.stem)
def test_every_layer_fits_the_schema(path: Path) -> None:
    CONFIG.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_the_merged_settings_fit_the_schema() -> None:
    CONFIG.validate(Config().model_dump(mode="json"))


def test_presets_in_the_reference_are_valid() -> None:
    examples = YAML_EXAMPLE.findall((ROOT / REFERENCE).read_text(encoding="utf-8"))
    assert examples
    for example in examples:
        CONFIG.validate(yaml.safe_load(example))
        validate([(str(REFERENCE), yaml.safe_load(example))])


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: str(path.relative_to(ROOT)))
def test_settings_on_command_lines_in_the_guides_are_valid(guide: Path) -> None:
    given = CONFIG_OPTION.findall(guide.read_text(encoding="utf-8"))
    assert given or guide.parent.name == "docs"
    for settings in map(shlex.split, given):
        pairs = [setting.split("=", 1) for setting in settings]
        layer = {key: yaml.safe_load(value) for key, value in pairs}
        CONFIG.validate(layer)
        # Some presets are examples, and what a preset requires stands in its file.
        validate([(guide.name, layer | {"preset": "quick"})])


def test_every_setting_is_documented_with_its_default() -> None:
    rows = documented("settings")
    shown = {"None": "empty", "{}": "empty", "[]": "empty", "True": "`true`", "False": "`false`"}
    shown["PydanticUndefined"] = "required"
    for key, default in settings(Config):
        # The recipe's keys stand once, without a path, for the three places they can stand in.
        name = key.rsplit(".", 1)[1] if key.startswith("training.") else key
        name = name.replace(".*.", ".<dataset>.")
        allowed, stated, meaning = rows[name]
        assert allowed
        assert stated == shown.get(str(default), f"`{default}`"), key
        assert len(meaning) > 10, key
    assert {"training.default", "training.groups", "training.runs", "data.frey"} < rows.keys()


def test_every_column_is_documented_with_its_default() -> None:
    rows = documented("columns")
    assert list(rows) == [*ROW_COLUMNS, *SPEC_COLUMNS]
    fields = RunRow.model_fields | flat_fields()
    for name, (_, stated, meaning) in rows.items():
        field = fields[name]
        if name == "codebook_size":
            assert stated == "`0`"
        elif field.is_required():
            assert stated == "required", name
        else:
            assert stated == ("empty" if field.default in (None, ()) else f"`{field.default}`")
        assert meaning.replace("\\", "") == field.description


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the generated files, to run the command in."""
    for path in (CONFIG_SCHEMA, REFERENCE):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_command_names_files_that_are_out_of_date_and_renews_them(project: Path) -> None:
    run = CliRunner().invoke
    assert run(main, ["schema"]).exit_code == 0
    by_hand = "Written by hand: keep me.\n"
    reference = project / REFERENCE
    reference.write_text(by_hand + reference.read_text("utf-8").replace("`60.0`", "`5`"), "utf-8")

    stale = run(main, ["schema"])
    assert stale.exit_code == 2
    assert "out of date: config/README.md;" in stale.output
    assert run(main, ["schema", "--write"]).output.split() == ["config/README.md"]
    assert reference.read_text("utf-8") == by_hand + (ROOT / REFERENCE).read_text("utf-8")
    assert run(main, ["schema"]).exit_code == 0


def test_command_asks_for_missing_markers(project: Path) -> None:
    reference = project / REFERENCE
    reference.write_text(reference.read_text("utf-8").replace("<!-- end columns -->", ""), "utf-8")
    result = CliRunner().invoke(main, ["schema", "--write"])
    assert result.exit_code == 2
    assert "config/README.md must hold" in result.output
    assert "<!-- end columns -->" in result.output


@pytest.mark.parametrize("path", [CONFIG_FILE, *(PRESET_FOLDER / f"{n}.yaml" for n in PRESETS)])
def test_editors_find_the_schema_of_every_settings_file(path: Path) -> None:
    first, *_ = (ROOT / path).read_text().splitlines()
    prefix = "# yaml-language-server: $schema="
    assert first.startswith(prefix)
    assert (ROOT / path.parent / first.removeprefix(prefix)).resolve() == ROOT / CONFIG_SCHEMA
