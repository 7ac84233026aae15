"""A small project under git and DVC, with made-up results, and servers for its remotes."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from reports import heard
from vaelab.data import DATASETS
from vaelab.publishing import dvc
from vaelab.publishing.publish import publish
from vaelab.publishing.restore import restore
from vaelab.results.files import RunFiles, evaluation_files, evaluation_identity
from vaelab.settings.config import Config, load_config
from vaelab.settings.runs import Run, Runs, resolve
from vaelab.settings.spec import fingerprint
from vaelab.util.io import file_sha256, write_json
from workflow_project import PRESETS, ROOT, commit, git

PRESET = "modern"
RUN_NAMES = ("vae", "ml_n1000", "arch_500_4")
"""A plain run, one with snapshots, and one of the group that the search varies."""

OWN_DVC = Path(sys.prefix) / "bin"
skip_without_dvc = pytest.mark.skipif(
    not (OWN_DVC / "dvc").is_file() and shutil.which("dvc") is None,
    reason="DVC is not installed (make setup)",
)


def needs_dvc(test: Callable[..., None]) -> Callable[..., None]:
    """Skip a test without DVC; it counts as slow, as every command of DVC takes a second."""
    return pytest.mark.slow(skip_without_dvc(test))


def dvc_says(folder: Path, *arguments: str) -> str:
    """Run DVC, which must succeed, and return what it prints."""
    with chdir(folder):
        done = dvc._dvc(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Versioned:
    """A checkout, its configuration, and what restore and publish printed in it."""

    folder: Path
    lines: list[str] = field(default_factory=list)
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        return load_config((), {"preset": PRESET} | self.overrides, self.folder)

    @property
    def runs(self) -> Runs:
        return resolve(self.config, self.folder)

    @property
    def results(self) -> Path:
        return self.folder / "results" / PRESET

    def files(self, run_id: str) -> RunFiles:
        return RunFiles(self.results, run_id)

    def publish(self) -> str:
        return self._say(publish)

    def restore(self) -> str:
        return self._say(restore)

    def _say(self, command: Any) -> str:
        self.lines.clear()
        with chdir(self.folder), heard(self.lines.append):
            command(self.config, self.runs)
        return "\n".join(self.lines)

    def held(self) -> dict[str, str]:
        """SHA-256 of the preset's files in DVC that exist in this checkout."""
        patterns = ("checkpoints/*.safetensors", "runs/*/arrays.npz")
        paths = [path for pattern in patterns for path in self.results.glob(pattern)]
        return {path.relative_to(self.results).as_posix(): file_sha256(path) for path in paths}

    def remote(self, url: str, **options: str) -> None:
        """Make another remote the default in this checkout."""
        lines = ["[core]", "    remote = other", "['remote \"other\"']", f"    url = {url}"]
        lines += [f"    {name} = {value}" for name, value in options.items()]
        (self.folder / ".dvc/config.local").write_text("\n".join(lines) + "\n")

    def clone(self, folder: Path) -> Versioned:
        """A clone, with a copy of the local remote beside it if there is one."""
        git(self.folder, "clone", "--quiet", ".", str(folder))
        store = self.folder.parent / "vaelab-dvc"
        if store.is_dir():
            shutil.copytree(store, folder.parent / "vaelab-dvc", dirs_exist_ok=True)
        return Versioned(folder)


def make_project(folder: Path) -> Versioned:
    """A committed project with results of RUN_NAMES that are ready to be published."""
    for name in (".gitignore", ".dvcignore", ".dvc", "dvc.yaml", "config"):
        source = ROOT / name
        if source.is_dir():
            local = shutil.ignore_patterns("config.local", "tmp", "cache")
            shutil.copytree(source, folder / name, ignore=local)
        else:
            folder.mkdir(exist_ok=True, parents=True)
            shutil.copy(source, folder / name)
    table = folder / "config/runs.tsv"
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *(r for r in rows if r.split("\t")[0] in RUN_NAMES)]))
    for preset in (folder / f"config/presets/{name}.yaml" for name in PRESETS):
        settings = yaml.safe_load(preset.read_text())
        # What it says of single runs is about the whole table.
        settings["training"].pop("runs", None)
        settings.pop("baselines", None)
        preset.write_text(yaml.safe_dump(settings))
    commit(folder, "Start", start=True)
    project = Versioned(folder)
    revision = git(folder, "rev-parse", "HEAD").strip()
    for run in project.runs.by_id.values():
        write_run(project, run, revision)
    (project.results / "checkpoints/classifier.safetensors").write_bytes(b"classifier")
    (project.results / "checkpoints/.resume").mkdir()
    (project.results / "checkpoints/.resume/vae-s0.safetensors").write_bytes(b"under way")
    write_json(project.results / "metrics.json", {"runs": {"vae": {"seed_0": {"kl": 5.0}}}})
    return project


def write_run(project: Versioned, run: Run, revision: str) -> None:
    """Consistent files of a run; its weights are just its name."""
    files = project.files(run.id)
    files.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    files.checkpoint.write_bytes(f"weights of {run.id}".encode())
    if run.spec.budget.snapshots:
        files.snapshots.write_bytes(f"snapshots of {run.id}".encode())
    sha256 = DATASETS[run.spec.data.dataset].sha256
    provenance = {
        "run": run.id,
        "fingerprint": fingerprint(run.spec, run.seed, sha256),
        "checkpoint_sha256": file_sha256(files.checkpoint),
        "spec": run.spec.flat(),
        "dataset": {"name": run.spec.data.dataset, "sha256": sha256, "synthetic": False},
        "git": {"revision": revision, "dirty": False},
    }
    write_json(files.text("provenance.json"), provenance)
    for name in ("history.csv", *evaluation_files(run)):
        files.text(name).write_text(f"samples,test_neg_elbo\n1,{len(run.id)}\n")
    identity = evaluation_identity(project.config, run, provenance["checkpoint_sha256"])
    write_json(files.text("metrics.json"), {"run": run.id, "evaluation": identity})


def free_port() -> int:
    """A local port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[None]:
    """A server process; entered as soon as it answers on its port."""
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, f"no answer: {log.read_text()}"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def ssh_remote(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """URL and options of a remote on a new sshd with its own keys, port and settings."""
    sshd = shutil.which("sshd", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
    if sshd is None:
        pytest.skip("sshd is not installed")
    if os.getuid() == 0:
        # Debian's sshd needs this folder if root starts it; normally its service makes the folder.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for key in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(command, check=True)
    port = free_port()
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nPasswordAuthentication no\n"
        "PermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n"
    )
    command = [sshd, "-D", "-e", "-f", str(folder / "sshd_config")]
    with running(command, port, folder / "sshd.log"):
        options = {"user": getpass.getuser(), "keyfile": str(folder / "user")}
        yield f"ssh://127.0.0.1:{port}{folder}/store", options | {"allow_agent": "false"}


@contextmanager
def s3_remote(folder: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """URL and options of a remote on a new S3 server."""
    python = OWN_DVC / "python"
    found = subprocess.run([python, "-c", "import moto.server"], capture_output=True, check=False)
    if found.returncode:
        pytest.skip("moto is not installed (make setup-dev)")
    port = free_port()
    command = [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port, folder / "moto.log"):
        url = f"http://127.0.0.1:{port}"
        requests.put(f"{url}/bucket", timeout=30).raise_for_status()
        options = {"endpointurl": url, "access_key_id": "none", "secret_access_key": "none"}
        yield "s3://bucket/store", options | {"region": "us-east-1"}
