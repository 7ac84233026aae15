"""A published number to hold the training and the estimators against.

The model is the VAE of Burda et al. (arXiv 1509.00519): 784-200-200-50, tanh, trained on
dynamically binarised MNIST. They report a test NLL of 86.76, 86.47 and 86.35 nats for 1, 5 and 50
samples a training image; with other implementations the literature has 86.3 to 87.8.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from vaelab.data import load
from vaelab.estimators.estimate import Estimate
from vaelab.estimators.log_weights import blocks
from vaelab.evaluation.trained import load as load_model
from vaelab.evaluation.trained import log_likelihood
from vaelab.results.files import RunFiles
from vaelab.settings.config import Config
from vaelab.settings.runs import Run
from vaelab.training.device import configure_process
from vaelab.util.io import read_json, write_json
from vaelab.util.rng import stream_seed

logger = logging.getLogger(__name__)

NAME = "yardstick"
LITERATURE = (86.3, 87.8)

# Random numbers of the estimate, disjoint from those of other measurements.
STREAM = 300
# Images between two lines of progress.
REPORT_EVERY = 1000


def measure_yardstick(
    config: Config,
    run: Run,
    *,
    images: int,
    samples: int,
    threads: int = 1,
) -> dict[str, Any]:
    """Estimate the test NLL of a trained yardstick, write it to `yardstick.json` and say it.

    The test images are binarised once, with a fixed seed; importance samples come from the
    encoder.

    Args:
        config: where the results are.
        run: the run of the table named `yardstick`.
        images: first n test images; of all 10 000 the standard error is 0.25 nats.
        samples: importance samples for each.
        threads: CPU threads.

    Raises:
        VaelabError: the run has not been trained, or its checkpoint is damaged.
    """
    configure_process(threads)
    files = RunFiles(config.folder, run.id)
    provenance = read_json(files.text("provenance.json"))
    model = load_model(files.checkpoint)
    dataset = load(run.spec.data.dataset, Path(config.data.root)).binarized()
    x = dataset.test_images[:images]
    generator = torch.Generator().manual_seed(stream_seed(0, STREAM))
    parts: list[Estimate] = []
    for part in blocks(len(x), REPORT_EVERY):
        parts.append(log_likelihood(model, x[part], samples, generator=generator))
        if part.stop < len(x):
            nll = -Estimate.concatenate(parts).mean
            logger.info(f"{run.id}: {part.stop} of {len(x)} images, NLL {nll:.2f}")
    estimate = Estimate.concatenate(parts)
    result = {
        "nll": -estimate.mean,
        "nll_se": estimate.se,
        "nll_mc_se": estimate.mean_mc_se,
        "images": estimate.images,
        "z_samples": samples,
        "literature": list(LITERATURE),
        "samples": run.spec.budget.samples,
        "epochs": run.spec.budget.samples / len(dataset.train_images),
        "train_core_seconds": provenance["core_seconds"],
        "precision": provenance["precision"],
    }
    write_json(config.folder / f"{NAME}.json", result)
    logger.info(sentence(result))
    return result


def sentence(result: dict[str, Any]) -> str:
    """The number beside the literature's, with its budget."""
    low, high = result["literature"]
    return (
        f"test NLL {result['nll']:.2f} ± {result['nll_se']:.2f} nats ({result['images']} images, "
        f"{result['z_samples']} importance samples); literature {low} to {high}. Trained on "
        f"{result['samples']} samples ({result['epochs']:.0f} epochs) in "
        f"{result['train_core_seconds'] / 60:.0f} core minutes."
    )
