"""The headline models in half precision: how they are made, and those that are in git."""

from __future__ import annotations

import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
import torch

import vaelab
from reports import heard
from toys import toy_images, toy_spec
from vaelab.data.registry import DATASETS
from vaelab.models.families import build
from vaelab.pipeline import headline
from vaelab.results.trained import CheckpointRecord
from vaelab.settings.config import load_config
from vaelab.settings.runs import Run, Runs
from vaelab.settings.spec import fingerprint
from vaelab.training.state import load_tensors, save_tensors
from vaelab.util.errors import VaelabError
from vaelab.util.io import file_sha256, read_json, write_json
from workflow_project import ROOT

DATA = toy_images(train=30, test=1200)
RUN = Run("vae", 0, toy_spec(hidden=(8,)))
RUNS = Runs({RUN.id: RUN}, {"vae": (RUN.id,)}, (0,), None, {})
# Nats per image that half precision may cost.
BOUND = 0.005
# The same for densities of continuous pixels, on a standard deviation of which more depends.
DENSITY_BOUND = 0.02


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """results/mine with the weights of RUN."""
    monkeypatch.setattr(headline, "load", lambda name, root: DATA)
    folder = tmp_path / "mine"
    store(folder)
    return folder


def store(folder: Path, bias: float = 0.0) -> None:
    tensors = build(RUN.spec, torch.Generator().manual_seed(1)).state_dict()
    next(tensor for name, tensor in tensors.items() if name.endswith("bias"))[0] = bias
    images = DATASETS["mnist"]
    record = CheckpointRecord("vae", 0, RUN.spec, images.sha256, images.image_shape, 10)
    path = folder / "checkpoints" / "vae-s0.safetensors"
    save_tensors(path, tensors, {"run": RUN.id} | record.metadata())
    said: dict[str, Any] = {"fingerprint": fingerprint(RUN.spec, 0, images.sha256)}
    said |= {"checkpoint_sha256": file_sha256(path), "spec": RUN.spec.flat()}
    said["dataset"] = {"name": "mnist", "sha256": images.sha256, "synthetic": False}
    (folder / "runs/vae-s0").mkdir(parents=True, exist_ok=True)
    write_json(folder / "runs/vae-s0/provenance.json", said)
    (folder / "runs/vae-s0/history.csv").touch()


def write(folder: Path) -> str:
    lines: list[str] = []
    config = load_config((), {"results": str(folder.parent)}, ROOT).model_copy(
        update={"preset": folder.name}
    )
    with chdir(ROOT), heard(lines.append):
        headline.write_headline_models(config, RUNS)
    return "\n".join(lines)


def test_half_takes_the_place_of_full_weights_that_are_absent(trained: Path) -> None:
    assert "vae-s0: " in write(trained)
    full = vaelab.load("mine/vae", results=trained.parent)
    shutil.rmtree(trained / "checkpoints")
    lines: list[str] = []
    with heard(lines.append):
        half = vaelab.load("mine/vae", results=trained.parent)
    assert (full.weights, half.weights) == ("full", "half")
    assert lines == [f"vae-s0: weights in half precision from {trained}/models/vae-s0.safetensors"]
    assert (half.spec, half.seed, half.dtype) == (full.spec, full.seed, torch.float32)
    images = [model.decode(torch.ones(3)).mean for model in (half, full)]
    torch.testing.assert_close(*images, rtol=0, atol=1e-3)
    assert not torch.equal(*images)
    tensors, metadata = load_tensors(half.source)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    record = read_json(trained / "models/models.json")
    assert record["sha256"] == {"models/vae-s0.safetensors": file_sha256(half.source)}
    assert record["models"]["vae-s0"] == metadata["half"]
    test = metadata["half"]["test"]
    for kind, model in (("full", full), ("half", half)):
        found = headline.test_losses(model.spec, model.network, DATA)
        assert found == {name: pytest.approx(test[name][kind]) for name in test}
    assert abs(test["neg_elbo"]["half"] - test["neg_elbo"]["full"]) < BOUND


def test_models_are_made_again_when_the_weights_change_and_kept_without_them(trained: Path) -> None:
    write(trained)
    assert write(trained) == ""
    before = read_json(trained / "models/models.json")
    (trained / "checkpoints/vae-s0.safetensors").unlink()
    assert "vae-s0: its checkpoint is missing; kept" in write(trained)
    assert read_json(trained / "models/models.json") == before
    # A silent unit, out of the range of float16.
    store(trained, bias=-1e6)
    assert "bfloat16" in write(trained)
    assert read_json(trained / "models/models.json") != before
    (trained / "models/vae-s0.safetensors").write_bytes(b"damaged")
    shutil.rmtree(trained / "checkpoints")
    assert "vae-s0: its checkpoint is missing; left out" in write(trained)


def test_models_too_large_for_git_are_refused(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headline, "LIMIT", 1000)
    with pytest.raises(VaelabError, match=r"over 1000 bytes: models/vae-s0.safetensors; take"):
        write(trained)
    monkeypatch.setattr(headline, "LIMIT", 10**6)
    monkeypatch.setattr(headline, "LIMIT_OF_ALL", 1000)
    with pytest.raises(VaelabError, match="more than 1000 bytes in all"):
        write(trained)


def test_models_in_git_are_small_sound_and_as_good_as_the_full_ones() -> None:
    folder = ROOT / "results" / "modern"
    record = read_json(folder / "models/models.json")
    files = {path.relative_to(folder).as_posix(): path for path in folder.glob("models/*.safet*")}
    assert {key: file_sha256(path) for key, path in files.items()} == record["sha256"]
    headline_names = {*load_config((), {"preset": "modern"}, ROOT).headline}
    assert {"vae", "bvae_beta2"} <= {name[:-3] for name in record["models"]} <= headline_names
    sizes = [path.stat().st_size for path in files.values()]
    assert max(sizes) <= headline.LIMIT
    assert sum(sizes) <= headline.LIMIT_OF_ALL
    for run_id, said in record["models"].items():
        for name, losses in said["test"].items():
            bound = 1e-4 if name == "mse" else DENSITY_BOUND if "frey" in run_id else BOUND
            assert abs(losses["half"] - losses["full"]) < bound, (run_id, name)
        model = vaelab.load(folder / f"models/{run_id}.safetensors")
        published = read_json(folder / "runs" / run_id / "provenance.json")
        assert published["spec"].items() <= model.spec.flat().items()
        assert model.weights == "half"
