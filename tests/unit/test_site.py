"""The documentation site: strict, complete, and nothing in it comes from other hosts."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vaelab
from vaelab.output.catalogue import figures
from vaelab.settings.config import PUBLISHED
from workflow_project import ROOT

IN_GIT = [path for name in PUBLISHED if (path := ROOT / "results" / name).is_dir()]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site; mkdocs.yml is strict, so that a broken link or anchor fails here."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    # With --quiet warnings are neither shown nor counted.
    assert "Documentation built" in built.stderr
    return folder


@pytest.mark.slow
def test_site_is_complete_without_other_hosts(site: Path) -> None:
    for page in site.glob("*.html"):
        tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text("utf-8"))
        assert len(tags) > 3
        assert not [tag for tag in tags if re.search(r'(src|href)="?(https?:)?//', tag)], page

    shown = re.findall(r'<img src="?([^" >]+)', (site / "figures.html").read_text("utf-8"))
    drawn = [file for path in IN_GIT for file in path.glob("figures/*.png")]
    assert len(shown) == len(drawn) >= len(figures())
    assert all((site / path).is_file() for path in shown)

    claims = (site / "verdicts.html").read_text("utf-8")
    for path in filter(Path.is_file, (folder / "claims.csv" for folder in IN_GIT)):
        with open(path, encoding="utf-8", newline="") as stream:
            judged = {row["id"] for row in csv.DictReader(stream)}
        assert len(judged) > 50
        assert judged <= set(re.findall(r'<li id="?(C\w+)', claims))
    api = (site / "api.html").read_text("utf-8")
    assert all(f'id="vaelab.{name}"' in api for name in vaelab.__all__)
    # Diagrams are drawn, links to a file lead to its page.
    assert 'src="diagrams/' in (site / "index.html").read_text("utf-8")
    assert 'href="configuration.html"' in (site / "index.html").read_text("utf-8")
