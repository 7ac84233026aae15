"""Table 1's -log p(x), by importance sampling from posteriors fitted to each image (nll.json).

The evaluation of a run estimates it from the encoder, whose error would be a part of what Table 1
compares.
"""

from __future__ import annotations

import logging

from vaelab.data import load
from vaelab.evaluation.evaluator import inference
from vaelab.evaluation.vae import VaeEvaluation
from vaelab.models.vae import LatentVariableModel
from vaelab.output.catalogue import CATALOGUE
from vaelab.pipeline.runner import load_model
from vaelab.results.files import RunFiles
from vaelab.results.reader import NLL_FILE, Results
from vaelab.results.records import FittedLikelihood
from vaelab.settings.config import Config
from vaelab.settings.runs import Run, Runs
from vaelab.training.device import configure_process, resolve_compute
from vaelab.util.io import file_sha256, read_json, write_json

logger = logging.getLogger(__name__)


def write_nll(config: Config, runs: Runs, *, threads: int = 1) -> None:
    """Write nll.json: an entry for every seed on record of Table 1's models with a likelihood.

    A seed whose weights are not at hand keeps what the file has of it.
    """
    configure_process(threads)
    compute = resolve_compute("cpu", config.precision)
    results = Results(config.folder, runs.alias)
    before, found = results.fitted_likelihoods, dict[str, FittedLikelihood]()
    for name in CATALOGUE["table_1"].among(runs.alias):
        for metrics in results.recorded(name):
            run = Run(metrics["name"], metrics["seed"], runs.run(runs.alias[name][0]).spec)
            files = RunFiles(config.folder, run.id)
            known = read_json(files.text("provenance.json"))["checkpoint_sha256"]
            if "nll" not in metrics["test"]:
                continue
            if not (files.checkpoint.is_file() and file_sha256(files.checkpoint) == known):
                found |= {run.id: before[run.id]} if run.id in before else {}
                continue
            model = load_model(files.checkpoint, run)
            assert isinstance(model, LatentVariableModel)
            dataset = load(run.spec.data.dataset, config.data.root)
            evaluation = VaeEvaluation(run.spec, model, dataset, config.evaluation, compute)
            with inference(compute):
                found[run.id] = evaluation.fitted_likelihood(metrics["test"])
            logger.info(f"{run.id}: {found[run.id]}")
    write_json(config.folder / NLL_FILE, found)
