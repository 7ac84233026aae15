"""The digit classifier and the measures that rest on it, as files."""

from __future__ import annotations

import logging

from vaelab.data import load
from vaelab.data.registry import DIGITS
from vaelab.evaluation.classifier import (
    classify,
    load_classifier,
    save_classifier,
    train_classifier,
)
from vaelab.evaluation.measures import measure_runs, reference
from vaelab.results.files import classifier_file
from vaelab.results.reader import Results
from vaelab.settings.config import Config
from vaelab.settings.runs import Runs
from vaelab.training.device import configure_process, resolve_compute
from vaelab.util.io import write_json

logger = logging.getLogger(__name__)

# The classifier judges all seeds' images alike, so it has a seed of its own.
CLASSIFIER_SEED = 0


def train_and_save_classifier(config: Config, *, threads: int = 1) -> None:
    """Train the digit classifier on MNIST's training images."""
    configure_process(threads)
    settings = config.classifier
    data = load(DIGITS, config.data.root)
    assert data.train_labels is not None
    state = train_classifier(
        data.train_images[: settings.images],
        data.train_labels[: settings.images],
        epochs=settings.epochs,
        seed=CLASSIFIER_SEED,
        threads=threads,
        precision=resolve_compute("cpu", config.precision).precision,
    )
    save_classifier(classifier_file(config.folder), state)
    logger.info(f"classifier: {settings.epochs} epochs")


def measure_all(config: Config, runs: Runs, *, threads: int = 1) -> None:
    """Write measures.json for every evaluated run with generated digits."""
    configure_process(threads)
    model = load_classifier(classifier_file(config.folder))
    data = load(DIGITS, config.data.root)
    assert data.test_labels is not None
    real = reference(
        lambda images: classify(model, images),
        data.train_images,
        data.test_images,
        data.test_labels,
        config.evaluation.generated,
    )
    measured = measure_runs(
        Results(config.folder, runs.alias), lambda images: classify(model, images), real
    )
    write_json(config.folder / "measures.json", measured)
