"""Numbers of small trainings and evaluations are on record: changed semantics need a new schema.

Whoever changes what a training or an evaluation computes raises TRAINING_SCHEMA or
EVALUATION_SCHEMA in settings/spec.py, so that published results of the old semantics count as
stale, and records the numbers again: `python tests/unit/evaluation/test_golden.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from every_training import SPECS
from toys import FP32, toy_images, train
from vaelab.evaluation.evaluator import evaluate
from vaelab.models.families import build
from vaelab.settings.config import EvaluationSettings
from vaelab.settings.spec import EVALUATION_SCHEMA, TRAINING_SCHEMA
from vaelab.training.device import configure_process
from vaelab.training.trainer import Trainer

RECORD = Path(__file__).with_name("golden.json")
SCHEMAS = {"training": TRAINING_SCHEMA, "evaluation": EVALUATION_SCHEMA}
SETTINGS = EvaluationSettings(nll_images=20, nll_samples=10, generated=100)
IMAGES = toy_images(train=135)
# Where a code or a chain's move is chosen, rounding grows: these train shortly and may differ more.
# Their first step, before any choice can differ, is on record by itself and shows the rate.
TRAININGS = SPECS | {
    "mcem": SPECS["mcem"].changed(samples=64),
    "vqvae": SPECS["vqvae"].changed(samples=32, learning_rate=2.0**-12),
}
RELATIVE = {"mcem": 5e-3, "vqvae": 5e-3}


def trained(name: str) -> dict[str, float]:
    """The last row of the history, and how large the weights are."""
    result = train("golden", TRAININGS[name], 0, IMAGES, FP32, resume=Path("/nonexistent"))
    row = {key: value for key, value in result.history[-1].items() if key != "seconds"}
    return row | {
        key: float(tensor.double().abs().sum())
        for key, tensor in sorted(result.state.items())
        if tensor.is_floating_point()
    }


def first_step(name: str) -> dict[str, float]:
    """How far all weights of each kind go in one step."""
    batch = TRAININGS[name].recipe.batch_size
    spec = TRAININGS[name].changed(samples=batch, schedule="constant")
    trainer = Trainer("golden", spec, 0, IMAGES, FP32)
    before = {key: tensor.clone() for key, tensor in trainer.model.state_dict().items()}
    after = trainer.run(resume=Path("/nonexistent")).state
    return {
        key: float((after[key] - tensor).double().abs().sum())
        for key, tensor in before.items()
        # Biases before a batch norm have gradients of rounding alone.
        if tensor.dim() > 1
    }


def evaluated(name: str) -> dict[str, float]:
    """The metrics of an untrained network, and how large each array is."""
    spec = SPECS[name]
    model = build(spec, torch.Generator().manual_seed(0))
    metrics, arrays = evaluate(spec, model, IMAGES, SETTINGS, FP32)
    return _numbers(metrics) | {
        f"array {key}": float(np.abs(array.astype(np.float64)).sum())
        for key, array in arrays.items()
        if array.dtype.kind in "fiu"
    }


def _numbers(value: Any, path: str = "") -> dict[str, float]:
    if isinstance(value, dict):
        return {
            k: v for key, item in value.items() for k, v in _numbers(item, f"{path} {key}").items()
        }
    if isinstance(value, list):
        return {
            k: v for i, item in enumerate(value) for k, v in _numbers(item, f"{path} {i}").items()
        }
    return {path.strip(): float(value)}


STAGES = {"training": trained, "evaluation": evaluated}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", SPECS)
def test_numbers_are_those_on_record(name: str, stage: str) -> None:
    """In fp32 another CPU's rounding changes some 1e-6 of them, a changed meaning more."""
    configure_process(1)
    record = json.loads(RECORD.read_text())
    assert record["schemas"][stage] == SCHEMAS[stage], "record the numbers of the new schema"
    found = STAGES[stage](name)
    assert found == pytest.approx(record[stage][name], rel=RELATIVE.get(name, 1e-4), abs=1e-6), (
        f"the {stage} computes something else: raise {stage.upper()}_SCHEMA in settings/spec.py, "
        "or mend the code; then record the numbers again"
    )


@pytest.mark.parametrize("name", RELATIVE)
def test_the_first_step_is_as_long_as_on_record(name: str) -> None:
    configure_process(1)
    record = json.loads(RECORD.read_text())["first step"][name]
    assert first_step(name) == pytest.approx(record, rel=2e-4), "see above"


if __name__ == "__main__":
    configure_process(1)
    recorded = {
        "schemas": SCHEMAS,
        **{stage: {name: numbers(name) for name in SPECS} for stage, numbers in STAGES.items()},
        "first step": {name: first_step(name) for name in RELATIVE},
    }
    rounded = json.loads(json.dumps(recorded), parse_float=lambda text: float(f"{float(text):.8g}"))
    RECORD.write_text(json.dumps(rounded, indent=1) + "\n")
