"""docs/extending.md: its exercises, done as extensions in a folder without a copy of vaelab."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from result_folders import write_runs
from vaelab.cli import main
from vaelab.data.registry import DATASETS
from vaelab.estimators.log_weights import LogTerms
from vaelab.estimators.reductions import importance
from vaelab.models.distributions import standard_normal_log_prob
from vaelab.models.families import FAMILIES
from vaelab.models.vae import VAE
from vaelab.original.claims import CLAIMS
from vaelab.pipeline.planning import load_runs
from vaelab.results.files import evaluation_identity
from vaelab.results.trained import CheckpointRecord
from vaelab.settings.config import Config, load_config
from vaelab.settings.spec import fingerprint
from vaelab.training.fast.flat import FlatParameters
from vaelab.training.methods import METHODS
from vaelab.util.errors import VaelabError
from vaelab.util.extensions import load_extensions
from workflow_project import ROOT, Project

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.search(r"^extensions: \[(.*)\]$", PAGE, re.MULTILINE)[1].split(", ")


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the settings of vaelab and the files of the page, as the working directory."""
    folder = tmp_path_factory.mktemp("extending")
    (folder / "config").symlink_to(ROOT / "config")
    rows, end = [(ROOT / "config/runs.tsv").read_text(encoding="utf-8")], 0
    for block in FENCE.finditer(PAGE):
        language, text = block.groups()
        files = re.findall(r"`(my_\w+\.py)`", PAGE[end : block.start()])
        end = block.end()
        if language == "tsv":
            rows.append(text)
        elif language == "python":
            (folder / files[-1]).write_text(text, encoding="utf-8")
    (folder / "my_runs.tsv").write_text("".join(rows), encoding="utf-8")
    settings = f"extensions: [{', '.join(NAMED)}]\nruns: my_runs.tsv\n"
    (folder / "mine.yaml").write_text(settings, encoding="utf-8")
    with chdir(folder):
        yield folder
    load_extensions([])


def vaelab(*arguments: str) -> str:
    result = CliRunner().invoke(main, [*arguments, "--configfile", "mine.yaml"])
    assert result.exit_code == 0, result.output
    return result.output


def configured(**overrides: Any) -> Config:
    return load_config(["mine.yaml"], {"preset": "smoke"} | overrides)


def metrics_of(name: str) -> dict[str, Any]:
    """Train and evaluate a run in the smoke preset; what came out."""
    vaelab("train", "--evaluate", name, "--config", "preset=smoke")
    return json.loads(Path(f"results/smoke/runs/{name}-s0/metrics.json").read_text())


def test_a_run() -> None:
    spec = json.loads(vaelab("show", "vae_small"))["vae_small-s0"]
    assert (spec["hidden"], spec["optimizer"]) == ([50, 50], "adam")


def test_a_figure() -> None:
    write_runs(Path("results/quick"), ["vae", "cvae_onehot"])
    vaelab("figure", "16")
    assert Path("results/quick/figures/figure_16.png").is_file()


def test_a_claim() -> None:
    ignored = shutil.ignore_patterns("models", "figures")
    shutil.copytree(ROOT / "results/modern", "results/modern", ignore=ignored)
    vaelab("claims", "--config", "preset=modern")
    with open("results/modern/claims.csv", encoding="utf-8", newline="") as stream:
        verdicts = {row["id"]: row["verdict"] for row in csv.DictReader(stream)}
    (claim,) = re.findall(r'@claim\("(C\d+)"', PAGE)
    assert verdicts[claim] == "holds"


def test_a_dataset() -> None:
    (command,) = (block[2] for block in FENCE.finditer(PAGE) if block[1] == "console")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-ec", command],
        env=os.environ | {"PATH": path},
        check=True,
        capture_output=True,
        text=True,
    )
    assert f'"{done.stdout.strip()}"' in PAGE
    vaelab("fetch", "waves")
    assert metrics_of("vae_waves")["test"]["images"] == 100


@pytest.fixture(scope="module")
def mnist(folder: Path) -> None:
    vaelab("fetch", "mnist")


@pytest.mark.slow
@pytest.mark.usefixtures("mnist", "process_settings")
def test_a_model_family() -> None:
    assert metrics_of("vae_conv")["test"]["neg_elbo"] < 300


@pytest.mark.slow
@pytest.mark.usefixtures("mnist", "process_settings")
def test_a_training_method() -> None:
    assert metrics_of("vae_iwae")["test"]["neg_elbo"] < 300
    # Its objective and the project's estimator, at the same draws.
    generator = torch.Generator().manual_seed(1)
    model = VAE(36, [8], 2)
    model.reset_parameters(generator)
    x = torch.rand(7, 36, generator=generator)
    iwae = resolve_name(METHODS["iwae"].gradients)
    gradients = iwae(model, FlatParameters(model, torch.float32), 1.0, torch.float32)
    (eps,) = gradients.draw(x, torch.arange(7), generator)
    q = model.encode(x)
    z = q.mean + torch.exp(0.5 * q.log_var) * eps
    log_prior = standard_normal_log_prob(z)
    terms = LogTerms(model.decode(z).log_prob(x), log_prior, q.log_prob(z), None, 2)
    expected = importance(terms).nats.mean()
    torch.testing.assert_close(-gradients.loss(x, None, eps).double(), expected)


@pytest.mark.slow
@pytest.mark.usefixtures("mnist", "process_settings")
def test_an_estimator() -> None:
    metrics_of("ml_n1000")
    path = "results/smoke/runs/ml_n1000-s0/likelihood_final.csv"
    with open(path, encoding="utf-8", newline="") as stream:
        test = {row["estimator"]: row for row in csv.DictReader(stream) if row["split"] == "test"}
    assert float(test["chi"]["nats"]) > float(test["elbo"]["nats"])


def test_the_style_of_the_house_holds(folder: Path) -> None:
    settings = ["--config", str(ROOT / "pyproject.toml"), "--config", f"src = ['{ROOT / 'src'}']"]
    for check in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *check, *settings, "."]
        done = subprocess.run(command, capture_output=True)
        assert done.returncode == 0, done.stdout.decode()


@pytest.mark.slow
def test_workflow_plans_what_extensions_add(folder: Path) -> None:
    """Snakemake reads them at every start, and that imports no PyTorch."""
    targets = ["figure_16", "results/modern/runs/vae_conv-s0/metrics.json"]
    snakefile = str(ROOT / "workflow/Snakefile")
    settings = ("--snakefile", snakefile, "--configfile", "mine.yaml", "--config", "preset=modern")
    plan = Project(folder).plan(*targets, *settings)
    assert plan.rules["figure_16"] == 1
    assert "vae_conv-s0" in plan.trained
    assert "vaelab.settings.spec" in plan.modules
    assert "torch" not in plan.modules


# --- What an extension changes ----------------------------------------------------------------


def identities() -> dict[str, tuple[str, str]]:
    """Fingerprint and identity of the evaluation of every run."""
    config = configured()
    return {
        run.name: (fingerprint(run.spec, 0, "data"), evaluation_identity(config, run, "weights"))
        for run in load_runs(config).by_id.values()
    }


def test_only_the_runs_that_use_an_extension_depend_on_it(folder: Path) -> None:
    before = identities()
    plain = {
        run: i for run, i in before.items() if run not in ("vae_waves", "vae_conv", "vae_iwae")
    }
    with_estimator = {run for run in plain if "_n1000" in run or "_n50000" in run}
    for changed, concerned in {
        "my_conv.py": {"vae_conv"},
        "my_conv_network.py": {"vae_conv"},
        "my_iwae_gradients.py": {"vae_iwae"},
        "my_waves.py": {"vae_waves"},
        "my_figure.py": set[str](),
    }.items():
        path = folder / changed
        text = path.read_text()
        path.write_text(text + "# changed\n")
        after = identities()
        assert {run for run in before if before[run][0] != after[run][0]} == concerned, changed
        assert {run for run in before if before[run][1] != after[run][1]} == concerned, changed
        path.write_text(text)
    assert identities() == before
    # Without the extensions, all others are as with them; but an estimator makes tables anew.
    config = load_config((), {"preset": "smoke"})
    for run in load_runs(config).by_id.values():
        assert fingerprint(run.spec, 0, "data") == before[run.name][0]
        same = evaluation_identity(config, run, "weights") == before[run.name][1]
        assert same == (run.name not in with_estimator)
    assert not {"conv", "iwae", "waves", "C51"} & {*FAMILIES, *METHODS, *DATASETS, *CLAIMS}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "extensions: bad.py does not exist"),
        ("import nothing_like_it", "bad.py cannot be used: ModuleNotFoundError: No module named"),
        ("def (", "bad.py cannot be used: SyntaxError"),
        (
            "from vaelab.training.methods import METHODS\n"
            "METHODS.add('mine', METHODS['aevb'])\nMETHODS.add('aevb', METHODS['mcem'])\n",
            "bad.py cannot be used: there is already a training method named 'aevb'",
        ),
        (
            "from vaelab.original.claims.registry import claim\n"
            "claim('first', '3.1', 'Figure 6', 'ours')(print)",
            "bad.py cannot be used: a claim is called C and a number, such as C60; not 'first'",
        ),
    ],
)
def test_bad_extension_is_one_clear_error(text: str | None, message: str, folder: Path) -> None:
    path = folder / "bad.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(VaelabError, match=re.escape(message)):
        load_runs(configured(extensions=["bad.py"]))
    assert "mine" not in METHODS
    path.unlink(missing_ok=True)
    load_runs(configured())


def test_extension_is_found_beside_the_settings_and_keeps_its_name(folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    (other / "json.py").touch()
    (other / "own.py").touch()
    (other / "more.yaml").write_text("extensions: [own.py, my_chi.py]\n")
    assert load_config(["other/more.yaml"]).extensions == ["other/own.py", "my_chi.py"]
    with pytest.raises(VaelabError, match=r"other/json.py: json is no free name for a module"):
        load_extensions(["other/json.py"])
    with pytest.raises(VaelabError, match="extensions.*list"):
        load_config((), {"extensions": "my_chi.py"})


def test_checkpoint_of_an_unknown_family_says_so() -> None:
    spec = load_runs(configured()).run("vae_conv-s0").spec
    said = CheckpointRecord("vae_conv", 0, spec, "0", (28, 28), 10).metadata()
    load_extensions([])
    with pytest.raises(VaelabError, match="no model family named 'conv'.*import the extension"):
        CheckpointRecord.from_metadata(said)
