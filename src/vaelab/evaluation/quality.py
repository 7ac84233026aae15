"""The digit classifier and the measures that rest on it, as files."""

from __future__ import annotations

import logging
from functools import partial

from torch import Tensor

from vaelab.data import DATASETS, Dataset, load
from vaelab.data.registry import DIGITS
from vaelab.evaluation.classifier import (
    classifier,
    classify,
    load_classifier,
    save_classifier,
    train_classifier,
)
from vaelab.evaluation.measures import measure_runs, reference
from vaelab.results.files import classifier_file
from vaelab.results.reader import Results
from vaelab.results.records import Measures
from vaelab.settings.config import Config
from vaelab.settings.runs import Runs
from vaelab.training.device import configure_process, resolve_compute
from vaelab.util.io import read_json, write_json

logger = logging.getLogger(__name__)

# The classifier judges all seeds' images alike, so it has a seed of its own.
CLASSIFIER_SEED = 0


def train_and_save_classifier(config: Config, *, threads: int = 1) -> None:
    """Train the digit classifier on MNIST's training images."""
    configure_process(threads)
    state = _trained(config, load(DIGITS, config.data.root))
    save_classifier(classifier_file(config.folder), state)
    logger.info(f"classifier: {config.classifier.epochs} epochs")


def measure_all(config: Config, runs: Runs, *, threads: int = 1) -> None:
    """Write measures.json for every evaluated run on labelled images, and the search's answer.

    Datasets other than the digits get their classifiers here.
    """
    configure_process(threads)
    used = {run.spec.data.dataset for run in runs.by_id.values()} - {DIGITS}
    references = {}
    for name in (DIGITS, *(n for n, entry in DATASETS.items() if n in used and entry.classes)):
        data = load(name, config.data.root)
        if name == DIGITS:
            model = load_classifier(classifier_file(config.folder))
        else:
            model = classifier(
                _trained(config, data),
                shape=data.image_shape,
                classes=DATASETS[name].classes,
            )
        references[name] = reference(
            partial(classify, model), data, config.evaluation.generated, config.evaluation.images
        )
        logger.info(f"{name}: classifier right on {references[name].test_accuracy:.1%} of test")
    path = config.folder / "measures.json"
    before: Measures = read_json(path) if path.is_file() else Measures()
    write_json(path, measure_runs(Results(config.folder, runs.alias), references, before))


def _trained(config: Config, data: Dataset) -> dict[str, Tensor]:
    """The weights of a classifier; on fewer images than the digits, with as many more epochs."""
    assert data.train_labels is not None
    settings = config.classifier
    images = min(settings.images or DATASETS[DIGITS].train_images, len(data.train_images))
    seen = settings.epochs * (settings.images or DATASETS[DIGITS].train_images)
    return train_classifier(
        data.train_images[:images],
        data.train_labels[:images],
        epochs=seen // images,
        seed=CLASSIFIER_SEED,
        precision=resolve_compute("cpu", config.precision).precision,
        shape=data.image_shape,
        classes=DATASETS[data.name].classes,
    )
