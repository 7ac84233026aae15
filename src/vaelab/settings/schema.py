"""JSON schemas and reference tables of the configuration, generated from its pydantic models.

The models of settings.config and settings.spec are the single definition of every setting and
every column. What is generated here repeats them for people and for other tools: the schemas
in workflow/schemas, and the tables between the markers of config/README.md, whose other text
is written by hand. A test holds the files to the models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from vaelab.settings.config import Config
from vaelab.settings.runs import ROW_COLUMNS, SPEC_COLUMNS, RunRow
from vaelab.settings.spec import MODEL_PARTS, PARTS, RunSpec, flat_fields
from vaelab.util.errors import VaelabError
from vaelab.util.io import atomic_write

Schema = dict[str, Any]

CONFIG_SCHEMA = Path("workflow/schemas/config.schema.json")
RUN_ROW_SCHEMA = Path("workflow/schemas/run_row.schema.json")
REFERENCE = Path("config/README.md")

DIALECT = "https://json-schema.org/draft/2020-12/schema"

# Columns whose cells hold several values: what joins them, and what one looks like.
JOINED = {
    "hidden": ("-", r"[1-9][0-9]*"),
}
# What the keys of a mapping stand for.
MAPPING_KEYS = {"sources": "<dataset>", "own": "<dataset>", "groups": "<group>", "runs": "<run>"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


class _WithoutTitles(GenerateJsonSchema):
    """Leaves out titles that only repeat the name of a field."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def config_schema() -> Schema:
    """The schema of the configuration, and of every layer of it: no key is required."""
    schema = Config.model_json_schema(schema_generator=_WithoutTitles)
    return {"$schema": DIALECT, **schema, "title": "Configuration of vaelab, or one layer of it"}


def run_row_schema() -> Schema:
    """The schema of a row of config/runs.tsv, empty cells left out.

    Cells are numbers or text. Rules that join several columns are not in it; `vaelab.settings.spec`
    checks them when the table is read.
    """
    row = RunRow.model_json_schema(schema_generator=_WithoutTitles)
    fields = row["properties"] | _spec_fields()
    required = {"run", "group"} | {
        name for name, field in flat_fields().items() if field.is_required()
    }
    # Not every family has these; those that have them ask for them when the table is read.
    required -= {name for part in MODEL_PARTS.values() for name in part.absent}
    columns = (*ROW_COLUMNS, *SPEC_COLUMNS)
    return {
        "$schema": DIALECT,
        "title": "Row of config/runs.tsv",
        "description": row["description"],
        "type": "object",
        "properties": {name: _cell(name, fields[name]) for name in columns},
        "required": [name for name in columns if name in required],
        "additionalProperties": False,
    }


def _spec_fields() -> Schema:
    """The schema of every flat field of a specification.

    Where several families have a field, or the flat form has a word for a family that lacks it,
    the cell may hold any of them.
    """
    families = MODEL_PARTS.values()
    parts: tuple[type[BaseModel], ...] = (RunSpec, *PARTS.values(), *families)
    fields: Schema = {}
    for part in parts:
        fields = {**part.model_json_schema(schema_generator=_WithoutTitles)["properties"], **fields}
    fields["model"] = {"enum": list(MODEL_PARTS), "type": "string"}
    for name, field in flat_fields().items():
        absent = [part.absent[name] for part in families if name in part.absent]
        if "enum" in fields[name] and name != "model":
            fields[name]["enum"] = list(dict.fromkeys([*fields[name]["enum"], *absent]))
        elif "minimum" in fields[name] and absent:
            fields[name]["minimum"] = min(fields[name]["minimum"], *absent)
        fields[name]["description"] = field.description
        fields[name] |= {} if field.is_required() else {"default": field.default}
        if field.is_required() and absent and isinstance(absent[0], int):
            fields[name]["default"] = absent[0]
    return fields


def documents(root: Path = Path()) -> dict[Path, str]:
    """Every generated file, relative to `root`, with the text it should have.

    Raises:
        VaelabError: config/README.md is missing, or one of its markers is.
    """
    config, row = config_schema(), run_row_schema()
    try:
        reference = (root / REFERENCE).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise VaelabError(f"{REFERENCE} does not exist") from error
    reference = _between_markers(reference, "settings", _settings(config))
    reference = _between_markers(reference, "columns", _columns(row))
    return {CONFIG_SCHEMA: _json(config), RUN_ROW_SCHEMA: _json(row), REFERENCE: reference}


def outdated(root: Path = Path()) -> dict[Path, str]:
    """Those of `documents` that are missing or have another text."""
    return {
        path: text
        for path, text in documents(root).items()
        if not (root / path).is_file() or (root / path).read_text(encoding="utf-8") != text
    }


def write_documents(root: Path = Path()) -> list[Path]:
    """Bring the generated files up to date; returns those that were not."""
    changed = outdated(root)
    for path, text in changed.items():
        with atomic_write(root / path) as stream:
            stream.write(text)
    return list(changed)


def _cell(name: str, field: Schema) -> Schema:
    """The schema of a table cell from that of the field it fills."""
    description = {"description": field["description"]}
    if name in JOINED:
        separator, item = JOINED[name]
        return {"type": "string", "pattern": f"^{item}({separator}{item})*$"} | description
    default = {} if field.get("default") is None else {"default": field["default"]}
    (value,) = _alternatives(field)
    return value | default | description


def _alternatives(field: Schema) -> list[Schema]:
    """What a field may be, besides empty."""
    return [part for part in field.get("anyOf", [field]) if part.get("type") != "null"]


def _json(schema: Schema) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _between_markers(text: str, name: str, content: str) -> str:
    """`text` with `content` between the two markers of a generated block."""
    begin = f"<!-- begin {name}: generated by `vaelab schema --write` -->"
    end = f"<!-- end {name} -->"
    block = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    replaced, count = block.subn(lambda _: f"{begin}\n\n{content}\n{end}", text)
    if count != 1:
        raise VaelabError(f"{REFERENCE} must hold {begin!r} and, after it, {end!r}, once each")
    return replaced


def _settings(schema: Schema) -> str:
    """The reference of all settings: a table for every object with keys of its own."""
    uses: dict[str, list[str]] = {}
    _collect_uses(schema, schema, "", uses)
    parts = [f"### Top level\n\n{_settings_table(schema, schema, '')}"]
    for name, paths in uses.items():
        section = schema["$defs"][name]
        title = ", ".join(f"`{path}`" for path in paths)
        # Keys of a section that stands in several places are given without a path.
        prefix = f"{paths[0]}." if len(paths) == 1 else ""
        table = _settings_table(schema, section, prefix)
        parts.append(f"### {title}\n\n{section['description']}\n\n{table}")
    return "\n".join(parts)


def _collect_uses(schema: Schema, section: Schema, prefix: str, uses: dict[str, list[str]]) -> None:
    """Append to `uses[definition]` the path of every place that a definition stands in."""
    for key, field in section["properties"].items():
        name = _definition(field)
        if name is None:
            continue
        place = f"{key}.{MAPPING_KEYS[key]}" if "additionalProperties" in field else key
        uses.setdefault(name, []).append(prefix + place)
        _collect_uses(schema, schema["$defs"][name], f"{prefix}{place}.", uses)


def _definition(field: Schema) -> str | None:
    """The name of the definition that a field, or each value of a mapping, refers to."""
    reference = field.get("$ref") or _values(field).get("$ref")
    return reference.rsplit("/", 1)[1] if reference else None


def _values(field: Schema) -> Schema:
    """The schema of a mapping's values; empty for anything else."""
    return field.get("additionalProperties") or {}


def _settings_table(schema: Schema, section: Schema, prefix: str) -> str:
    rows = []
    for key, field in section["properties"].items():
        name = _definition(field)
        meaning = field.get("description") or schema["$defs"][name]["description"]
        given = "required" if key in section.get("required", ()) else _default(field)
        default = "" if name else given
        rows.append((f"`{prefix}{key}`", _allowed(field), default, meaning))
    return _table("key", rows)


def _columns(schema: Schema) -> str:
    """The reference of the columns of config/runs.tsv."""
    rows = []
    for name, cell in schema["properties"].items():
        allowed = f"values joined by `{JOINED[name][0]}`" if name in JOINED else _allowed(cell)
        default = "required" if name in schema["required"] else _default(cell)
        rows.append((f"`{name}`", allowed, default, cell["description"]))
    return _table("column", rows)


def _table(first: str, rows: Sequence[tuple[str, ...]]) -> str:
    lines = [(first, "allowed", "default", "meaning"), ("---",) * 4, *map(_escaped, rows)]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _escaped(cells: tuple[str, ...]) -> list[str]:
    """Cells that Markdown shows as they are: no column ends early, no <word> is taken for HTML."""
    *others, meaning = (cell.replace("|", "\\|") for cell in cells)
    return [*others, meaning.replace("<", "\\<")]


def _allowed(field: Schema) -> str:
    """What a field may be, in words."""
    words = [_kind(part) for part in _alternatives(field)]
    return " or ".join(words if "anyOf" not in field else [*words, "empty"])


def _kind(field: Schema) -> str:
    if "$ref" in field:
        return "keys below"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    kind = field["type"]
    if kind == "boolean":
        return "`true`, `false`"
    if kind == "array":
        return f"list of: {_kind(field['items'])}"
    if kind == "object":
        names = _kind(field["propertyNames"]) if "propertyNames" in field else "any name"
        return f"for each of {names}: {_kind(_values(field))}"
    if kind == "string":
        return f"text `{field['pattern']}`" if "pattern" in field else "text"
    bounds = [f"{sign} {field[bound]}" for bound, sign in BOUNDS.items() if bound in field]
    return " ".join([kind, ", ".join(bounds)]).strip()


def _default(field: Schema) -> str:
    value = field.get("default")
    if value in (None, [], {}):
        return "empty"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
