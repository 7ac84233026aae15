"""The headline models in half precision, small enough for git: results/<preset>/models.

A fresh clone has them, so that `vaelab.load("modern/vae")` gives a trained model at once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from torch import Tensor

from vaelab.data import Dataset, load
from vaelab.evaluation.evaluator import Evaluation
from vaelab.evaluation.trained import read_checkpoint
from vaelab.models.base import Model
from vaelab.models.families import build, family_of
from vaelab.publishing.publication import unfit
from vaelab.results.files import RunFiles
from vaelab.results.trained import HALF
from vaelab.settings.config import Config, EvaluationSettings
from vaelab.settings.runs import Run, Runs
from vaelab.settings.spec import RunSpec
from vaelab.training.device import Compute
from vaelab.training.state import save_tensors
from vaelab.util.errors import VaelabError
from vaelab.util.io import file_sha256, read_json, write_json

logger = logging.getLogger(__name__)

# Bytes of one model and of all, which git has to carry.
LIMIT, LIMIT_OF_ALL = 4_000_000, 25_000_000
# The losses that are compared; a family has some of them.
COMPARED = ("neg_elbo", "recon", "kl", "mse")


def write_headline_models(config: Config, runs: Runs) -> None:
    """Write the runs of `headline` that are trained, in half precision, with the first seed.

    models.json has their SHA-256 and, on the test set, their losses beside those of the full
    weights. A model whose weights are as they were is left alone.

    Raises:
        VaelabError: missing data, or models that are too large for git.
    """
    folder = config.folder / HALF
    path = folder / "models.json"
    before = read_json(path) if path.is_file() else {"sha256": {}, "models": {}}
    sha256: dict[str, str] = {}
    models: dict[str, Any] = {}
    for name in config.headline:
        if name not in runs.alias:
            continue
        run = runs.run(runs.alias[name][0])
        files = RunFiles(config.folder, run.id)
        file = folder / files.checkpoint.name
        key = file.relative_to(config.folder).as_posix()
        as_recorded = file.is_file() and file_sha256(file) == before["sha256"].get(key)
        model = before["models"][run.id] if as_recorded else None
        if reason := unfit(config, run, files):
            logger.info(f"{run.id}: {reason}; {'kept' if model else 'left out'}")
            if model is None:
                continue
        elif model is None or model["full_sha256"] != file_sha256(files.checkpoint):
            model = _write(config, run, files.checkpoint, file)
            logger.info(f"{run.id}: {file}, {model['dtype']}")
        models[run.id], sha256[key] = model, file_sha256(file)
    sizes = {key: (config.folder / key).stat().st_size for key in sha256}
    if large := [key for key, size in sizes.items() if size > LIMIT]:
        raise VaelabError(f"over {LIMIT} bytes: {', '.join(large)}; take them out of `headline`")
    if sum(sizes.values()) > LIMIT_OF_ALL:
        raise VaelabError(f"the models of `headline` have more than {LIMIT_OF_ALL} bytes in all")
    write_json(path, {"sha256": sha256, "models": models})


def _write(config: Config, run: Run, checkpoint: Path, file: Path) -> dict[str, Any]:
    """Write one model; what models.json says of it."""
    record, tensors, metadata = read_checkpoint(checkpoint)
    dtype = min((torch.float16, torch.bfloat16), key=lambda dtype: _loss(tensors, dtype))
    halves = {k: t.to(dtype) if t.is_floating_point() else t for k, t in tensors.items()}
    dataset = load(run.spec.data.dataset, config.data.root)
    losses = {}
    for kind, weights in (("full", tensors), ("half", halves)):
        network = build(record.spec, images=record)
        network.load_state_dict(weights)
        losses[kind] = test_losses(record.spec, network, dataset)
    compared = {name: {kind: losses[kind][name] for kind in losses} for name in losses["full"]}
    name = str(dtype).removeprefix("torch.")
    said = {"dtype": name, "full_sha256": file_sha256(checkpoint), "test": compared}
    save_tensors(file, halves, metadata | record.metadata() | {"half": said})
    return said


def _loss(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> float:
    """Sum of squared rounding errors; infinite where a weight is out of range."""
    return sum(float((t - t.to(dtype)).double().square().sum()) for t in tensors.values())


@torch.inference_mode()
def test_losses(spec: RunSpec, network: Model, dataset: Dataset) -> dict[str, float]:
    """Mean losses on all test images with one latent sample each, the same for every network."""
    evaluation: type[Evaluation[Model]] = resolve_name(family_of(spec).evaluation)
    compute = Compute(torch.device("cpu"), torch.float32)
    losses = evaluation(spec, network.eval(), dataset, EvaluationSettings(), compute).test_losses()
    return {k: v for k, v in losses.items() if k in COMPARED and isinstance(v, float)}
