"""Images of one's own, from a row of the run table to the measures."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from vaelab.data import load
from vaelab.data.own import register_own
from vaelab.evaluation import quality
from vaelab.evaluation.classifier import classifier, classify
from vaelab.evaluation.measures import measure_runs, reference
from vaelab.pipeline.planning import Plan, load_runs, needed_datasets
from vaelab.pipeline.runner import work_on_runs
from vaelab.results.reader import Results
from vaelab.settings.config import load_config
from workflow_project import ROOT


def test_a_run_on_images_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planned, trained, evaluated and measured; other content is another training."""
    monkeypatch.chdir(tmp_path)
    digits = load_digits()
    arrays = {"train": digits.images[:1500] / 16, "test": digits.images[1500:] / 16}
    labels = {"train_labels": digits.target[:1500], "test_labels": digits.target[1500:]}
    np.savez("digits.npz", **arrays, **labels)
    np.savez("plain.npz", **arrays)
    (header, *_) = (ROOT / "config/runs.tsv").read_text().splitlines()
    shared = {"group": "benchmark", "learning_rate": "0.001", "samples": "1000", "latent_dim": "2"}
    vae = shared | {"model": "vae", "hidden": "20"}
    rows = {
        "digits8_vae": vae | {"dataset": "digits8"},
        "digits8_cvae": vae | {"dataset": "digits8", "condition": "onehot"},
        "plain_vae": vae | {"dataset": "plain"},
        "plain_vqvae": shared | {"dataset": "plain", "model": "vqvae", "codebook_size": "8"},
    }
    names = header.split("\t")
    lines = ["\t".join((row | {"run": run}).get(n, "") for n in names) for run, row in rows.items()]
    Path("runs.tsv").write_text("\n".join([header, *lines]))
    own = {
        name: {"path": f"{file}.npz"} for name, file in (("digits8", "digits"), ("plain", "plain"))
    }
    changes = {"runs": "runs.tsv", "device": "cpu", "data": {"own": own}}
    changes["classifier"] = {"epochs": 1, "images": 20_000}
    settings = load_config(overrides={"preset": "smoke"} | changes, root=ROOT)
    runs = load_runs(settings)
    try:
        plan = Plan(settings, runs)
        assert needed_datasets(runs) == ["digits8", "plain"]
        assert plan.training_data("plain_vae-s0") == [str(tmp_path / "plain.npz")]
        work_on_runs(settings, list(runs.by_id.values()))
        data = load("digits8", "data")
        shape = {"shape": (8, 8), "classes": 10}
        model = classifier(quality._trained(settings, data), **shape)
        real = reference(partial(classify, model), data, 200)
        measured = measure_runs(
            Results(settings.folder, runs.alias), {"mnist": real, "digits8": real}
        )
        identities = {i: plan.training_identity(i) for i in runs.by_id}
        np.savez("plain.npz", train=arrays["train"][::-1], test=arrays["test"])
        plan = Plan(settings, load_runs(settings))
        changed = {i for i in runs.by_id if plan.training_identity(i) != identities[i]}
    finally:
        register_own({})
    assert changed == {"plain_vae-s0", "plain_vqvae-s0"}
    assert real.test_accuracy > 0.8
    assert set(measured["runs"]) == {"digits8_vae", "digits8_cvae"}
    assert {"fid", "sharpness", "knn_accuracy"} < measured["runs"]["digits8_vae"][0].keys()
    assert "label_agreement" in measured["runs"]["digits8_cvae"][0]
    assert measured["datasets"]["digits8"]["reference"] == real.numbers
