"""The search: one core or two, killed or not, looking ahead or not, the same results."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pandas as pd
import pytest

from chaos import Disturbed, differences
from vaelab.util.io import file_sha256, read_json
from workflow_project import Project

SMOKE = ("--config", "preset=smoke")
# Loose enough for the largest of these small models, tight enough for some not to pass.
SEARCH = "search={width_max: 4, latent_max: 2, recon: 205.8, kl: 3.0}"
SPECULATE = SEARCH.replace("}", ", speculate: 2}")


def results(project: Project) -> Path:
    return project.folder / "results/smoke"


def weights(project: Project) -> dict[str, str]:
    """SHA-256 of every checkpoint of a run, by the run's id."""
    files = (results(project) / "checkpoints").glob("*-s0.safetensors")
    return {file.stem: file_sha256(file) for file in files}


class Searches(NamedTuple):
    """The same search thrice: in peace on one core; disturbed on two; again, with speculation."""

    calm: Project
    disturbed: Disturbed
    ahead: Project
    happened: list[str]


def search_copy(finished: Project, folder: Path) -> Project:
    """A copy of the finished project without what the search and Table 2 do not need."""
    needless = shutil.ignore_patterns("raw", "checkpoints", "figures", "index.html", "src", ".git")
    shutil.copytree(finished.folder, folder, ignore=needless)
    for part in ("data/raw", "src"):
        (folder / part).parent.mkdir(exist_ok=True)
        (folder / part).symlink_to(finished.folder / part)
    return Project(folder)


@pytest.fixture(scope="module")
def searches(
    finished_smoke: Project, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Searches]:
    """See Searches. Trainings of Table 2 are there; those of the probes are not."""
    folder = tmp_path_factory.mktemp("searches")
    calm, restless = (search_copy(finished_smoke, folder / name) for name in ("calm", "disturbed"))
    calm.snakemake("table_2", *SMOKE, SEARCH, cores=1)
    ahead = calm.copy(folder / "ahead")
    shutil.rmtree(results(ahead) / "search")
    ahead.snakemake("table_2", *SMOKE, SPECULATE)
    disturbed = Disturbed(restless, ["table_2"], [*SMOKE[1:], SEARCH], Random(3), jobs=2)
    kinds = ("rival", "flip", "kill", "clock")
    happened = [disturbed.happens(kind) for kind in kinds]
    disturbed.finish()
    yield Searches(calm, disturbed, ahead, happened)
    shutil.rmtree(folder)


def decisions(project: Project) -> dict[str, Any]:
    return read_json(results(project) / "search/decisions.json")


def test_search_trains_what_it_needs_and_finds_an_answer(searches: Searches) -> None:
    found = decisions(searches.calm)
    probes = {d["run"] for d in found["decisions"]}
    assert found["answer"]["architecture"] is not None
    assert found["answer"]["run"] in probes
    assert len(probes) >= 4
    assert {d["passed"] for d in found["decisions"]} == {True, False}
    for decision in found["decisions"]:
        metrics = read_json(results(searches.calm) / f"runs/{decision['run']}-s0/metrics.json")
        assert decision["recon"] == metrics["train"]["recon"]
        good = metrics["train"]["recon"] <= 205.8 and metrics["train"]["kl"] <= 3.0
        assert decision["good"] == good
        if decision["run"] == found["answer"]["run"]:
            assert good
    # Nothing but the probes was trained, and each of them once.
    assert set(weights(searches.calm)) == {f"{run}-s0" for run in probes}
    rows = pd.read_csv(results(searches.calm) / "tables/table_2.csv")
    assert set(rows["run"][rows["our_step"].notna()]) == probes
    assert len(rows) == 17 + len(probes)


def test_disturbed_search_ends_with_the_same_bytes(searches: Searches) -> None:
    """Short form of `make chaos`."""
    # Both interruptions came in the middle.
    assert searches.happened[0].startswith("a second workflow was refused, then SIG")
    assert searches.happened[2].startswith("SIGKILL of everything")
    # What `all` would make of another search is missing or stale.
    found = {line.partition(":")[0] for line in searches.disturbed.problems()}
    assert found <= {"missing", "stale"}
    count, differing = differences(searches.calm, searches.disturbed.project)
    assert differing == []
    assert count > 200


def test_speculation_trains_more_and_decides_the_same(searches: Searches) -> None:
    calm, ahead = decisions(searches.calm), decisions(searches.ahead)
    assert ahead["decisions"] == calm["decisions"]
    assert ahead["answer"] == calm["answer"]
    assert calm["wasted"] == []
    assert len(ahead["wasted"]) > 0
    # What was there was not trained again, and what was looked up ahead was trained.
    assert weights(searches.ahead).items() > weights(searches.calm).items()
    steps = [len([*results(p).glob("search/step_*")]) for p in (searches.calm, searches.ahead)]
    assert steps[1] < steps[0]
