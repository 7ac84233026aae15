"""The environments: they name the same versions, are used when asked for, and retrain nothing."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from workflow_project import ROOT, Project, copy_project

ENVS = ROOT / "envs"
CONDA = ("--software-deployment-method", "conda")
SMOKE = ("--config", "preset=smoke")
# Packages whose name on conda-forge is another than on PyPI.
CONDA_NAMES = {"matplotlib-base": "matplotlib", "pytorch-cpu": "torch", "pytorch-gpu": "torch"}

# What Snakemake asks of conda, answered with an environment whose Python notes what it runs.
STAND_IN = """\
#!/bin/sh
case "$*" in
  "info --json") echo '{{"conda_prefix": "{prefix}", "platform": "linux-64"}}' ;;
  --version) echo "conda 25.1.0" ;;
  "config --get channel_priority --json") echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
  "clean -y --tarballs") ;;
  "env create "*)
    for folder; do :; done
    mkdir -p "$folder/bin"
    python="$folder/bin/python3"
    printf '#!/bin/sh\\necho "$*" >> %s/used\\nexec {python} "$@"\\n' "$folder" > "$python"
    chmod +x "$python" ;;
  *) echo "conda $*: not expected"; exit 1 ;;
esac
"""


def pinned(name: str) -> dict[str, str]:
    """Package -> version of a requirements file; every line of it pins one."""
    lines = (ENVS / name).read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pin) == 2 for pin in pins), name
    return {package.lower().replace("_", "-"): version for package, version in pins}


def conda(name: str) -> dict[str, str]:
    """Package -> version of a conda environment, by the names of PyPI."""
    content = yaml.safe_load((ENVS / name).read_text())
    assert all(isinstance(package, str) for package in content["dependencies"]), "no pip section"
    assert content["channels"] == ["conda-forge", "nodefaults"]
    pins = dict(package.split("=") for package in content["dependencies"])
    return {CONDA_NAMES.get(package, package): version for package, version in pins.items()}


def needed() -> set[str]:
    """What the package says that it imports."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {re.match(r"[\w-]+", line)[0].lower() for line in project["dependencies"]}


@pytest.mark.parametrize("name", ["cpu.yaml", "cuda.yaml"])
def test_conda_environments_have_the_versions_of_the_requirements(name: str) -> None:
    packages, requirements = conda(name), pinned("requirements.txt")
    assert set(packages) == {"python", *needed()}
    for package in needed():
        assert packages[package] == requirements[package], package


def test_cpu_and_cuda_differ_in_the_build_of_pytorch_alone() -> None:
    cpu, cuda = (yaml.safe_load((ENVS / f"{n}.yaml").read_text()) for n in ("cpu", "cuda"))
    differing = set(cpu["dependencies"]) ^ set(cuda["dependencies"])
    assert {package.split("=")[0] for package in differing} == {"pytorch-cpu", "pytorch-gpu"}


def test_image_and_conda_have_one_python_and_the_image_the_requirements() -> None:
    recipe = (ENVS / "Dockerfile").read_text()
    version = re.search(r"^FROM python:(\d\.\d+)-slim$", recipe, re.M)[1]
    assert conda("cpu.yaml")["python"] == conda("cuda.yaml")["python"] == version
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert wanted.split(",")[0] == f">={version}"
    assert "pip install --no-cache-dir -r envs/requirements.txt" in recipe
    # Nothing else is installed.
    assert recipe.count("install") == 1


def test_further_requirements_repeat_no_package() -> None:
    assert not set(pinned("requirements.txt")) & set(pinned("requirements-dev.txt"))


def test_profiles_trigger_alike_and_not_on_environments() -> None:
    profiles = {
        path.parent.name: yaml.safe_load(path.read_text())
        for path in (ROOT / "profiles").glob("*/profile.v9+.yaml")
    }
    assert set(profiles) == {"default", "slurm", "slurm-gpu", "cluster-generic"}
    for name, profile in profiles.items():
        assert profile["rerun-triggers"] == ["code", "input", "mtime", "params"], name
        # A profile of a cluster replaces the default one, so it has all of its settings.
        kept = {option: profile[option] for option in profiles["default"]}
        assert kept.pop("report-stylesheet").endswith("report.css")
        assert kept.items() <= profiles["default"].items(), name


@pytest.fixture
def with_conda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for conda on the path."""
    prefix = tmp_path / "conda"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin/activate").write_text('PATH="$1/bin:$PATH"\n')
    command = prefix / "bin/conda"
    command.write_text(STAND_IN.format(prefix=prefix, python=sys.executable))
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(prefix / "bin"), prepend=":")
    return prefix


def environments(project: Project) -> list[Any]:
    return [yaml.safe_load(p.read_text()) for p in project.folder.glob(".snakemake/conda/*.yaml")]


def test_jobs_run_in_the_conda_environment(tmp_path: Path, with_conda: Path) -> None:
    project = copy_project(tmp_path / "project")
    project.snakemake("results/smoke/search/step_0.json", *SMOKE, *CONDA, cores=1)
    assert environments(project) == [yaml.safe_load((ENVS / "cpu.yaml").read_text())]
    (used,) = project.folder.glob(".snakemake/conda/*/used")
    command = project.folder / "workflow/bin/vaelab"
    assert used.read_text() == f"{command} search --step 0\n"


def test_swapping_environments_makes_nothing_again(
    finished_smoke: Project, with_conda: Path, tmp_path: Path
) -> None:
    """The run was without conda and on a CPU; the CUDA environment is as good."""
    project = finished_smoke.copy(tmp_path / "project")
    plan = project.plan("all", *SMOKE, "device=cuda", *CONDA)
    assert "envs/cuda.yaml will be created" in plan.text
    assert plan.jobs == []
