"""What a changed, broken or disturbed checkout does to results: one figure, one training.

Checkout, results and data are in folders with spaces and non-ASCII letters.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vaelab.util.io import read_json
from workflow_project import Project, copy_project

FIGURE = ("--config", "preset=smoke", "results=mes résultats", "data={root: mes données}")
FOLDER = "mes résultats/smoke"
SOURCE = "src/vaelab/output/figures/images.py"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copy_project(tmp_path_factory.mktemp("reliable") / "mon café")
    project.snakemake("figure_04", *FIGURE)
    return project


def test_what_the_code_says_decides_what_is_drawn_again(project: Project) -> None:
    """Not when a file was written, and not what its comments say."""
    text = (project.folder / SOURCE).read_text()
    (project.folder / SOURCE).write_text("# A remark.\n" + text + '\n"""More of them."""\n')
    # Nor does what no figure rests on.
    with (project.folder / "src/vaelab/training/gradients.py").open("a") as other:
        other.write("\nNEW = 1\n")
    assert project.plan("figure_04", *FIGURE).jobs == []
    (project.folder / SOURCE).write_text(text + "\nNEW = 1\n")
    assert [job.rule for job in project.plan("figure_04", *FIGURE).jobs] == ["figure_04"]
    (project.folder / SOURCE).write_text(text)


def test_verify_names_what_is_damaged_missing_or_stale(project: Project, tmp_path: Path) -> None:
    broken = project.copy(tmp_path / "broken")
    runs = {path.name for path in (project.folder / FOLDER / "runs").iterdir()}
    run = min(runs)

    named = {*runs, "figure_04"}

    def verified(*settings: str) -> set[str]:
        done = broken.command("vaelab", "verify", *FIGURE, *settings)
        assert done.returncode == 1
        # All that was never made is missing.
        return {line for line in done.stdout.splitlines() if any(n in line for n in named)}

    assert verified() == set()
    metrics = broken.folder / FOLDER / f"runs/{run}/metrics.json"
    times = metrics.stat()
    metrics.write_bytes(metrics.read_bytes()[:100])
    os.utime(metrics, ns=(times.st_atime_ns, times.st_mtime_ns))
    (broken.folder / FOLDER / f"checkpoints/{run}.safetensors").unlink()
    with (broken.folder / FOLDER / "figures/figure_04.png").open("ab") as figure:
        figure.write(b"1")
    with (broken.folder / SOURCE).open("a") as source:
        source.write("\nNEW = 1\n")
    found = {line.split(": SHA")[0] for line in verified()}
    assert found == {
        f"damaged: {FOLDER}/runs/{run}/metrics.json",
        f"damaged: {FOLDER}/runs/{run}/metrics.json: not what an evaluation writes",
        f"missing: {FOLDER}/checkpoints/{run}.safetensors",
        f"damaged: {FOLDER}/figures/figure_04.png",
        "stale: figure_04: the code behind it has changed",
    }
    other = verified("--config", "training={default: {learning_rate: 0.5}}")
    assert f"from other settings: {run}: trained with another learning_rate" in other


def test_redraw_that_fails_leaves_the_old_figure(project: Project) -> None:
    figure = project.folder / FOLDER / "figures/figure_04.png"
    before = figure.read_bytes()
    text = (project.folder / SOURCE).read_text()
    (project.folder / SOURCE).write_text(text + "\nraise ValueError('broken')\n")
    done = project.command("snakemake", "figure_04", *FIGURE, "--cores", "1")
    assert done.returncode == 1
    assert "broken" in done.stdout
    assert figure.read_bytes() == before
    (project.folder / SOURCE).write_text(text)


def test_settings_of_two_thousand_runs_are_handed_over(project: Project, tmp_path: Path) -> None:
    table = project.folder / "config/runs.tsv"
    header, row, *_ = table.read_text().splitlines()
    rows = [row.replace(row.split("\t")[0], f"own_{n}", 1) for n in range(2000)]
    many = tmp_path / "many.yaml"
    named = "".join(f"    own_{n}: {{learning_rate: 0.0{n + 1}}}\n" for n in range(2000))
    search = "search:\n  width_max: 77\n"
    many.write_text(f"preset: smoke\nruns: many.tsv\ntraining:\n  runs:\n{named}{search}")
    (project.folder / "many.tsv").write_text("\n".join([header, *rows]) + "\n")
    step = "results/smoke/search/step_0.json"
    project.snakemake(step, "--configfile", str(many), cores=1)
    assert [probe[0] for probe in read_json(project.folder / step)["probes"]] == [77]


def test_home_that_cannot_be_written_and_settings_of_other_software_do_not_matter(
    project: Project, tmp_path: Path
) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nlines.linewidth: 9\n")
    figure = project.folder / FOLDER / "figures/figure_04.png"
    before = figure.read_bytes()
    figure.unlink()
    done = project.command(
        *("env", "-u", "XDG_CACHE_HOME", "HOME=/proc/none", f"MATPLOTLIBRC={tmp_path}"),
        *("snakemake", "figure_04", *FIGURE, "--cores", "1"),
    )
    assert done.returncode == 0, done.stdout
    assert figure.read_bytes() == before
    log = project.folder / FOLDER / "logs/figures/figure_04.log"
    assert len(log.read_text().splitlines()) == 1
