"""Tell Snakemake of results that no job of it has made.

It does not know their settings, and would take them for up to date whatever is changed later.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from vaelab.settings.config import Config
from vaelab.util.errors import VaelabError


def tell_snakemake(config: Config, targets: Sequence[Path]) -> None:
    """Record settings and time of outputs as if their rules had just been run.

    The new times also make tables and figures outdated, so that they are made again.

    Args:
        config: what the outputs were made with.
        targets: an output of each rule, in the current folder, which has the workflow.

    Raises:
        VaelabError: Snakemake refuses, for example because it is at work on them.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as settings:
        yaml.safe_dump(config.model_dump(mode="json"), settings)
        settings.flush()
        command = [sys.executable, "-m", "snakemake", "--touch", "--force", "--cores", "1"]
        # Not `onstart`, for the lock that it takes is held by who asks.
        command += ["--no-hooks", "--configfile", settings.name, "--", *map(str, targets)]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    if done.returncode:
        raise VaelabError(f"Snakemake could not record what is there:\n{done.stdout.strip()}")
