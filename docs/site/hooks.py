"""What the documentation site has beside docs/*.md: pages whose text stands elsewhere.

README, configuration, contributing, changelog and tutorial are files of the repository. Figures,
tables, claims, the table of runs and the list of the API are made from the catalogue, the
published results, config/runs.tsv and the package. Links between files of the repository become
links between pages; Mermaid diagrams become pictures.
"""

from __future__ import annotations

import base64
import csv
import html
import itertools
import json
import posixpath
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import mermaidx
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import vaelab
from vaelab.output.catalogue import figures, tables
from vaelab.settings.config import PUBLISHED

ROOT = Path(__file__).parents[2]
# Pages that are files of the repository outside docs/.
OUTSIDE = {
    "index.md": "README.md",
    "configuration.md": "config/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "tutorial.md": "docs/tutorial.ipynb",
}
# Those of which something is in git; of a preset that is being trained there are parts.
PRESETS = [name for name in PUBLISHED if (ROOT / "results" / name).is_dir()]
# Beside what `import vaelab` offers: the loop, and the registry of each kind of thing.
API = {
    "Trained models": [f"vaelab.{name}" for name in vaelab.__all__],
    "Results of the estimators": ["vaelab.estimators.estimate.Estimate"],
    "Training": ["vaelab.training.trainer.Trainer", "vaelab.training.trainer.TrainingResult"],
    "Registries": [
        "vaelab.util.registry.Registry",
        "vaelab.data.registry.DatasetEntry",
        "vaelab.models.families.Family",
        "vaelab.training.methods.Method",
        "vaelab.estimators.registry.Estimator",
        "vaelab.output.catalogue.Item",
    ],
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here, and the published pictures and tables."""
    made: dict[str, Callable[[], str]] = {
        "figures.md": _figures,
        "tables.md": _tables,
        "verdicts.md": _verdicts,
        "runs.md": _runs,
        "api.md": _api,
    }
    texts = {uri: page() for uri, page in made.items()}
    texts |= {uri: (ROOT / path).read_text(encoding="utf-8") for uri, path in OUTSIDE.items()}
    texts["tutorial.md"], drawn = _notebook(texts["tutorial.md"])
    for uri, picture in drawn.items():
        files.append(File.generated(config, uri, content=picture))
    for uri, text in texts.items():
        files.append(File.generated(config, uri, content=text))
    pictures = itertools.chain(
        ROOT.glob("results/bench/*.png"),
        *(ROOT.glob(f"results/{p}/[ft]*s/*.{f}") for p in PRESETS for f in ("png", "svg", "csv")),
    )
    for path in sorted(pictures):
        uri = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links to files into links to pages, and Mermaid diagrams into pictures."""
    uri = page.file.src_uri

    def link(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        name, hash_, anchor = target.partition("#")
        if not name or "://" in name or target.startswith("mailto:"):
            return match[0]
        origin = OUTSIDE.get(uri, f"docs/{uri}")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), name))
        place = _place(path, files)
        if place:
            return f"[{text}]({posixpath.relpath(place, posixpath.dirname(uri))}{hash_}{anchor})"
        if not (ROOT / path).exists():
            return match[0]
        return f"[{text}]({config.repo_url}/blob/main/{path})" if config.repo_url else text

    def diagram(match: re.Match[str]) -> str:
        number = next(count)
        name = f"{page.file.name}-{number}.svg"
        svg = mermaidx.render(match[1]).svg()
        files.append(File.generated(config, f"diagrams/{name}", content=svg))
        return f"![Diagram](diagrams/{name}){{ .diagram }}\n"

    count = itertools.count(1)
    if uri in OUTSIDE or f"docs/{uri}" in _own_pages():
        # Code keeps its brackets.
        parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
        parts[::2] = [re.sub(r"\[([^\]\[]+)\]\(([^)\s]+)\)", link, part) for part in parts[::2]]
        markdown = "".join(parts)
    return re.sub(r"^```mermaid\n(.*?)^```$", diagram, markdown, flags=re.MULTILINE | re.DOTALL)


def _own_pages() -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}


def _place(path: str, files: Files) -> str | None:
    """The page or picture of the site that shows a file of the repository."""
    for uri, origin in OUTSIDE.items():
        if path == origin:
            return uri
    for page in ("figures", "tables"):
        if re.fullmatch(rf"results/\w+/{page}(/\w+\.md)?", path):
            return f"{page}.md"
    if re.fullmatch(r"results/\w+/claims\.(md|csv)", path):
        return "verdicts.md"
    if path == "config/runs.tsv":
        return "runs.md"
    uri = path.removeprefix("docs/")
    return uri if files.get_file_from_path(uri) else None


def _figures() -> str:
    """Every figure of the published presets, side by side, by the report's sections."""
    lines = ["# Figures", f"From the published results of {_listed(PRESETS)}."]
    for section, items in itertools.groupby(figures(), key=lambda item: item.category):
        lines.append(f"## {section}")
        for item in items:
            lines += [f"### {item.label}. {item.title}", item.caption, '<div class="figures">']
            for preset in PRESETS:
                files = {
                    form: f"results/{preset}/{path}"
                    for form, path in item.files.items()
                    if (ROOT / f"results/{preset}/{path}").is_file()
                }
                if not files:
                    continue
                links = " · ".join(f'<a href="{path}">{form}</a>' for form, path in files.items())
                shown = (
                    f'<a href="{files["png"]}"><img src="{files["png"]}" loading="lazy" '
                    f'alt="{item.label} under {preset}"></a>'
                )
                caption = f"<figcaption><code>{preset}</code> {links}</figcaption>"
                lines.append(f"<figure>{shown}{caption}</figure>")
            lines.append("</div>")
    return "\n\n".join(lines)


def _tables() -> str:
    """Every table of the published presets, one tab a preset."""
    lines = ["# Tables"]
    for item in tables():
        lines += [f"## {item.label}. {item.title}", item.caption]
        for preset in PRESETS:
            path = ROOT / f"results/{preset}" / item.files["md"]
            if not path.is_file():
                continue
            text = re.sub(r"^#+ .*\n", "", path.read_text(encoding="utf-8"))
            csv_file = f"results/{preset}/{item.files['csv']}"
            text += f"\n\n[as CSV]({csv_file})"
            lines += [f'=== "{preset}"', *(f"    {line}" for line in text.splitlines()), ""]
    return "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:])


def _verdicts() -> str:
    """Every claim with its verdict under each published preset, and a filter."""
    by_claim: dict[str, dict[str, dict[str, str]]] = {}
    judged = [name for name in PRESETS if (ROOT / f"results/{name}/claims.csv").is_file()]
    for preset in judged:
        with open(ROOT / f"results/{preset}/claims.csv", encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                by_claim.setdefault(row["id"], {})[preset] = row
    rows = [row for verdicts in by_claim.values() for row in verdicts.values()]
    verdicts, tags = (_options(sorted({row[key] for row in rows})) for key in ("verdict", "tag"))
    presets = _options(judged)
    body = [_claim(identifier, rows) for identifier, rows in by_claim.items()]
    return f"""# Claims

How a claim is judged, and what the words mean, is in [how claims are judged](claims.md).

<form class="filter" data-claims>
<label>Words <input type="search" name="words" placeholder="latent, Figure 6, C12"></label>
<label>Verdict <select name="verdict"><option value="">any</option>{verdicts}</select></label>
<label>under <select name="preset"><option value="">any preset</option>{presets}</select></label>
<label>Said by <select name="tag"><option value="">all</option>{tags}</select></label>
<output></output>
</form>

<ol class="claims">
{"".join(body)}
</ol>
"""


def _claim(identifier: str, rows: dict[str, dict[str, str]]) -> str:
    first = next(iter(rows.values()))
    verdicts = "".join(
        f"<details><summary><code>{preset}</code> "
        f'<b class="{row["verdict"].replace(" ", "-")}">{row["verdict"]}</b>'
        f"{_margin(row['margin'])}</summary>"
        f"<p>{html.escape(row['reason'])}</p></details>"
        for preset, row in rows.items()
    )
    data = html.escape(json.dumps({preset: row["verdict"] for preset, row in rows.items()}))
    where = html.escape(f"{first['where']}, section {first['section']}")
    return (
        f'<li id="{identifier}" data-tag="{first["tag"]}" data-verdicts="{data}"><p>'
        f'<a href="#{identifier}">{identifier}</a> '
        f"{html.escape(first['statement'])} <small>{where}</small></p>{verdicts}</li>\n"
    )


def _margin(standard_errors: str) -> str:
    return f", margin {float(standard_errors):+.1f} SE" if standard_errors else ""


def _options(values: Iterable[str]) -> str:
    return "".join(f"<option>{value}</option>" for value in values)


def _runs() -> str:
    """config/runs.tsv, a table for each group; columns that a group leaves empty are not shown."""
    with open(ROOT / "config/runs.tsv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    lines = [
        "# Table of runs",
        f"The {len(rows)} rows of `config/runs.tsv`, by group. What the columns mean is in the "
        "[configuration](configuration.md#the-table-of-runs). A preset replaces recipe and budget.",
    ]
    groups = dict.fromkeys(row["group"] for row in rows)
    for group in groups:
        chosen = [row for row in rows if row["group"] == group]
        columns = [c for c in chosen[0] if c != "group" and any(row[c] for row in chosen)]
        cells = [columns, ["---"] * len(columns), *([row[c] for c in columns] for row in chosen)]
        lines += [f"## {group}", "\n".join(f"| {' | '.join(row)} |" for row in cells)]
    return "\n\n".join(lines)


def _api() -> str:
    """The public names, for mkdocstrings."""
    lines = ["# Python API", "`import vaelab` loads neither torch nor matplotlib."]
    for title, names in API.items():
        lines += [f"## {title}", *(f"::: {name}" for name in names)]
    return "\n\n".join(lines)


def _notebook(source: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its pictures by their place in the site."""
    lines: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in json.loads(source)["cells"]:
        text = "".join(cell["source"])
        lines.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                name = f"tutorial/{len(pictures) + 1}.png"
                pictures[name] = base64.b64decode(data["image/png"])
                lines.append(f"![Output]({name})")
            elif "text/html" in data:
                table = "".join(data["text/html"])
                lines.append(re.sub(r"<style.*?</style>", "", table, flags=re.DOTALL))
            else:
                lines.append(f"```text\n{''.join(data['text/plain'])}\n```")
    return "\n\n".join(lines), pictures


def _listed(names: Iterable[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)
