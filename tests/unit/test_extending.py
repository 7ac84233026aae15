"""docs/extending.md: its exercises, done in a copy of the project with the text of the page."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from typing import Any

import pytest

from result_folders import write_runs
from workflow_project import ROOT, Project, copy_project

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SMOKE = ("--config", "preset=smoke")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def steps() -> list[tuple[str, str]]:
    """(file, text to append): each block of code with the last file named before it."""
    found, end = [], 0
    for block in FENCE.finditer(PAGE):
        if block[1] == "console":
            continue
        files = re.findall(r"`([\w/]+/[\w/]+\.\w+)`", PAGE[end : block.start()])
        found.append((files[-1], block[2]))
        end = block.end()
    return found


# The objective of the exercise and the estimator of the project, at the same draws.
IWAE_AND_IMPORTANCE_SAMPLING = """
import torch
from vaelab.estimators.log_weights import LogTerms
from vaelab.estimators.reductions import importance
from vaelab.models.distributions import standard_normal_log_prob
from vaelab.models.vae import VAE
from vaelab.training.fast.flat import FlatParameters
from vaelab.training.iwae import IwaeGradients

generator = torch.Generator().manual_seed(1)
model = VAE(36, [8], 2)
model.reset_parameters(generator)
x = torch.rand(7, 36, generator=generator)
gradients = IwaeGradients(model, FlatParameters(model, torch.float32), 1.0, torch.float32)
(eps,) = gradients.draw(x, torch.arange(7), generator)
q = model.encode(x)
z = q.mean + torch.exp(0.5 * q.log_var) * eps
terms = LogTerms(model.decode(z).log_prob(x), standard_normal_log_prob(z), q.log_prob(z), None, 2)
torch.testing.assert_close(-gradients.loss(x, None, eps).double(), importance(terms).nats.mean())
print("equal")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = copy_project(tmp_path_factory.mktemp("extending") / "project")
    for name, text in steps():
        path = project.folder / name
        with open(path, "a", encoding="utf-8") as stream:
            stream.write("\n\n" * (path.suffix == ".py" and path.stat().st_size > 0) + text)
    run(project, "vaelab", "fetch", "mnist", *SMOKE)
    return project


def run(project: Project, *command: str) -> str:
    done = project.command(*command)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_run(project: Project) -> None:
    spec = json.loads(run(project, "vaelab", "show", "vae_small"))["vae_small-s0"]
    assert (spec["hidden"], spec["optimizer"]) == ([50, 50], "adam")


def test_a_figure(project: Project) -> None:
    folder = project.folder / "results" / "quick"
    write_runs(folder, ["vae", "cvae_onehot"])
    run(project, "vaelab", "figure", "16")
    assert (folder / "figures" / "figure_16.png").is_file()
    plan = project.plan("figure_16")
    assert plan.rules["figure_16"] == 1


def test_a_claim(project: Project) -> None:
    folder = project.folder / "results" / "modern"
    shutil.copytree(ROOT / "results" / "modern", folder)
    run(project, "vaelab", "claims", "--config", "preset=modern")
    with open(folder / "claims.csv", encoding="utf-8", newline="") as stream:
        verdicts = {row["id"]: row["verdict"] for row in csv.DictReader(stream)}
    assert verdicts["C51"] == "holds"


def metrics_of(project: Project, name: str) -> dict[str, Any]:
    """Train and evaluate a run in the smoke preset; what came out."""
    run(project, "vaelab", "train", "--evaluate", name, *SMOKE)
    path = project.folder / "results" / "smoke" / "runs" / f"{name}-s0" / "metrics.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_dataset(project: Project) -> None:
    (command,) = (block[2] for block in FENCE.finditer(PAGE) if block[1] == "console")
    sha256 = run(project, "bash", "-ec", command).strip()
    assert f'"{sha256}"' in PAGE
    run(project, "vaelab", "fetch", "waves", *SMOKE)
    assert metrics_of(project, "vae_waves")["test"]["images"] == 100


def test_a_model_family(project: Project) -> None:
    metrics = metrics_of(project, "vae_conv")
    assert metrics["test"]["neg_elbo"] < 300


def test_a_training_method(project: Project) -> None:
    assert metrics_of(project, "vae_iwae")["test"]["neg_elbo"] < 300
    checked = run(project, sys.executable, "-c", IWAE_AND_IMPORTANCE_SAMPLING)
    assert checked.strip() == "equal"


def test_an_estimator(project: Project) -> None:
    metrics_of(project, "ml_n1000")
    runs = project.folder / "results" / "smoke" / "runs"
    with open(
        runs / "ml_n1000-s0" / "likelihood_final.csv", encoding="utf-8", newline=""
    ) as stream:
        test = {row["estimator"]: row for row in csv.DictReader(stream) if row["split"] == "test"}
    assert float(test["chi"]["nats"]) > float(test["elbo"]["nats"])


def test_the_rules_of_the_house_hold_after_the_exercises(project: Project) -> None:
    run(project, "ruff", "check", "src")
    run(project, "ruff", "format", "--check", "src")
    run(project, "lint-imports")
