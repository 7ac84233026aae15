"""The public API: one checkpoint is enough, inputs of every form, values of the evaluation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vaelab
from toys import FP32, toy_images, toy_spec, toy_vqvae_spec
from vaelab import TrainedModel, VaelabError
from vaelab.data.registry import DATASETS
from vaelab.estimators.log_weights import log_terms
from vaelab.estimators.model import VAEAdapter
from vaelab.estimators.reductions import importance
from vaelab.evaluation.evaluator import POSTERIOR, evaluate, to_uint8
from vaelab.models.families import build
from vaelab.results.trained import CheckpointRecord
from vaelab.settings.config import EvaluationSettings
from vaelab.settings.spec import RunSpec
from vaelab.training.state import save_tensors
from vaelab.util.rng import stream_seed

DATA = toy_images(train=130, test=120)
SPECS = {
    "vae": toy_spec(hidden=(32, 16)),
    "cvae": toy_spec(hidden=(32,), condition="onehot"),
    "vqvae": toy_vqvae_spec(),
}


def network(spec: RunSpec) -> torch.nn.Module:
    return build(spec, torch.Generator().manual_seed(3)).eval()


def record(name: str, spec: RunSpec) -> CheckpointRecord:
    images = DATASETS[spec.data.dataset]
    return CheckpointRecord(name, 0, spec, DATA.sha256, images.image_shape, images.classes)


def write(path: Path, name: str, spec: RunSpec) -> Path:
    save_tensors(path, network(spec).state_dict(), record(name, spec).metadata())
    return path


@pytest.fixture(params=SPECS)
def any_model(request: pytest.FixtureRequest, tmp_path: Path) -> TrainedModel:
    name = request.param
    return vaelab.load(write(tmp_path / "w.safetensors", name, SPECS[name]))


def loaded(name: str, folder: Path) -> TrainedModel:
    return vaelab.load(write(folder / f"{name}.safetensors", name, SPECS[name]))


def test_importing_vaelab_loads_neither_torch_nor_matplotlib() -> None:
    code = "import sys, vaelab; dir(vaelab); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"torch", "matplotlib", "pandas", "numpy"} & set(done.stdout.split())


def test_one_checkpoint_is_enough_in_an_empty_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "somewhere.safetensors", "vae", SPECS["vae"])
    empty = tmp_path / "empty"
    empty.mkdir()
    code = (
        "import vaelab, sys; vae = vaelab.load(sys.argv[1]); "
        "print(tuple(vae.sample(16).shape), vae.name, vae.seed, vae.spec.model.latent_dim)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=empty,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "(16, 28, 28) vae 0 3"


def test_record_survives_the_metadata() -> None:
    for name, spec in SPECS.items():
        one = record(name, spec)
        assert CheckpointRecord.from_metadata(json.loads(json.dumps(one.metadata()))) == one
    assert CheckpointRecord.from_metadata({"run": "vae-s0", "fingerprint": "f"}) is None


@pytest.mark.parametrize("form", ["uint8", "flat", "float", "tensor", "double", "list"])
def test_every_form_of_images_gives_the_same_codes(form: str, tmp_path: Path) -> None:
    vae = loaded("vae", tmp_path)
    pixels = DATA.test_images[:5]
    images: Any = {
        "uint8": pixels.reshape(5, 28, 28),
        "flat": pixels,
        "float": (pixels.reshape(5, 28, 28) / 255.0).astype(np.float32),
        "tensor": torch.from_numpy(pixels.reshape(5, 28, 28)),
        "double": torch.from_numpy(pixels / 255.0),
        "list": [image.reshape(28, 28) for image in pixels],
    }[form]
    expected = network(SPECS["vae"]).encode(torch.from_numpy(pixels).float().div(255.0))
    q = vae.encode(images)
    torch.testing.assert_close(q.mean, expected.mean, rtol=1e-6, atol=1e-6)
    assert q.mean.shape == q.log_var.shape == (5, 3)
    for one in (images[2], np.asarray(images[2]).reshape(-1)):
        torch.testing.assert_close(vae.encode(one).mean, q.mean[2:3], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 28, 20), np.uint8), r"shape \(3, 28, 20\).*\(N, 28, 28\), \(N, 784\)"),
        (np.zeros(()), r"shape \(\)"),
        (np.full((1, 784), 200.0), r"from 200 to 200; floats have to lie in \[0, 1\]"),
        (np.full((1, 784), np.nan), "from nan to nan"),
        (np.full((1, 784), 7), "pixels are torch.int64; uint8 and floats"),
        (["a", "b"], "images have to be numbers"),
    ],
)
def test_bad_images_are_one_clear_error(images: Any, message: str, tmp_path: Path) -> None:
    vae = loaded("vae", tmp_path)
    for use in (vae.encode, vae.reconstruct, lambda x: vaelab.log_likelihood(vae, x, 2)):
        with pytest.raises(VaelabError, match=message):
            use(images)


def test_labels_are_asked_for_checked_and_refused(tmp_path: Path) -> None:
    vae, cvae = loaded("vae", tmp_path), loaded("cvae", tmp_path)
    with pytest.raises(VaelabError, match="conditional: give label=, 0 to 9"):
        cvae.sample(2)
    with pytest.raises(VaelabError, match="labels are 0 to 9"):
        cvae.sample(2, label=10)
    with pytest.raises(VaelabError, match=r"or 2 of them; got torch.int64 of shape \(3,\)"):
        cvae.sample(2, label=[1, 2, 3])
    with pytest.raises(VaelabError, match="takes no label"):
        vae.encode(DATA.test_images[:2], label=3)
    with pytest.raises(VaelabError, match="takes no label"):
        loaded("vqvae", tmp_path).sample(2, label=3)
    images = DATA.test_images[:3]
    both = [cvae.encode(images, label=label).mean for label in (4, np.array([4, 4, 4]))]
    assert torch.equal(*both)
    assert not torch.equal(both[0], cvae.encode(images, label=5).mean)


def test_values_are_those_of_the_evaluation(any_model: TrainedModel) -> None:
    """Reconstructions and losses of the same noise, to the last digit."""
    spec = any_model.spec
    settings = EvaluationSettings(z_train=1, z_test=1, nll_images=20, nll_samples=5, generated=100)
    metrics, arrays = evaluate(spec, network(spec), DATA, settings, FP32)
    images = DATA.test_images[:100]
    label = DATA.test_labels[:100] if any_model.network.conditional else None
    noise = torch.Generator().manual_seed(stream_seed(0, POSTERIOR))
    found = any_model.reconstruct(images, label, generator=noise)
    assert np.array_equal(to_uint8(found.flatten(1)), arrays["reconstructions"])
    if spec.model.family == "vqvae":
        return
    label = DATA.test_labels if any_model.network.conditional else None
    noise = torch.Generator().manual_seed(stream_seed(0, POSTERIOR))
    q = any_model.encode(DATA.test_images, label)
    p = any_model.decode(q.sample(noise), label)
    x = torch.from_numpy(DATA.test_images.astype(np.float32) / 255.0)
    assert -p.log_prob(x).double().mean().item() == metrics["test"]["recon"]


def test_samples_are_means_of_the_decoder(tmp_path: Path) -> None:
    vae = loaded("vae", tmp_path)
    first, again = (vae.sample(4, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert first.shape == (4, 28, 28)
    assert torch.equal(first, again)
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(first.flatten(1), vae.decode(z).mean)
    assert torch.equal(vae.decode(z[0].numpy()).mean, vae.decode(z[:1]).mean)
    with pytest.raises(VaelabError, match=r"shape \(4, 2\).*\(N, 3\)"):
        vae.decode(z[:, :2])
    with pytest.raises(VaelabError, match="at least one"):
        vae.sample(0)


def test_interpolation_ends_at_the_reconstructed_means(tmp_path: Path) -> None:
    vae = loaded("vae", tmp_path)
    a, b = DATA.test_images[:2]
    line = vae.interpolate(a, b, steps=5)
    assert line.shape == (5, 28, 28)
    ends = vae.reconstruct(DATA.test_images[:2], mean=True)
    torch.testing.assert_close(line[[0, -1]], ends)
    middle = vae.decode(vae.encode(DATA.test_images[:2]).mean.mean(0)).mean
    torch.testing.assert_close(line[2].flatten(), middle[0])
    with pytest.raises(VaelabError, match="two single images"):
        vae.interpolate(DATA.test_images[:2], b)
    with pytest.raises(VaelabError, match="two ends"):
        vae.interpolate(a, b, steps=1)


def test_vqvae_has_codes_and_no_likelihood(tmp_path: Path) -> None:
    vqvae = loaded("vqvae", tmp_path)
    codes = vqvae.codes(DATA.test_images[:6])
    assert codes.shape == (6, 7, 7)
    assert torch.equal(vqvae.decode_codes(codes), vqvae.reconstruct(DATA.test_images[:6]))
    prior = vqvae.code_prior(DATA.train_images)
    assert vqvae.sample(3).shape == vqvae.sample(3, prior=prior).shape == (3, 28, 28)
    for refused in (
        lambda: vqvae.encode(DATA.test_images),
        lambda: vqvae.decode(np.zeros((1, 2))),
        lambda: vqvae.interpolate(*DATA.test_images[:2]),
        lambda: vaelab.log_likelihood(vqvae, DATA.test_images),
    ):
        with pytest.raises(VaelabError, match="cannot"):
            refused()
    with pytest.raises(VaelabError, match="has no codes"):
        loaded("vae", tmp_path).codes(DATA.test_images)


def test_log_likelihood_is_importance_sampling(tmp_path: Path) -> None:
    vae = loaded("vae", tmp_path)
    x = torch.from_numpy(DATA.test_images[:7]).float() / 255.0
    noise = torch.Generator().manual_seed(0)
    expected = importance(log_terms(VAEAdapter(network(SPECS["vae"])), x, 50, noise))
    found = vaelab.log_likelihood(vae, DATA.test_images[:7], samples=50)
    torch.testing.assert_close(found.nats, expected.nats, rtol=1e-9, atol=1e-6)
    assert found.nats.shape == found.mc_se.shape == (7,)
    assert found.se > 0 > found.mean


def test_device_and_dtype_are_as_in_pytorch(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors", "vae", SPECS["vae"])
    double = vaelab.load(path, dtype=torch.float64)
    assert (double.device.type, double.dtype) == ("cpu", torch.float64)
    single = double.to(torch.float32)
    assert single is double
    assert single.encode(DATA.test_images[:2]).mean.dtype == torch.float32


def test_runs_are_found_by_preset_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results" / "mine"
    for run in ("vae-s1", "vae-s0", "cvae-s0"):
        write(folder / "checkpoints" / f"{run}.safetensors", run[:-3], SPECS[run[:-3]])
    write(folder / "models" / "vqvae-s0.safetensors", "vqvae", SPECS["vqvae"])
    (folder / "runs").mkdir()
    assert vaelab.load("mine/vae").source.name == "vae-s0.safetensors"
    assert vaelab.load("mine/vae-s1").source.name == "vae-s1.safetensors"
    assert vaelab.load("mine/vqvae").source.parent.name == "models"
    with pytest.raises(VaelabError, match=r"no weights of 'cvea' in preset mine; .*: cvae-s0, "):
        vaelab.load("mine/cvea")
    with pytest.raises(VaelabError, match=r"no results of a preset 'yours'; there are: .*mine"):
        vaelab.load("yours/vae")
    with pytest.raises(VaelabError, match=r"is neither a file nor a run such as 'modern/vae'"):
        vaelab.load("nothing.safetensors")
    assert vaelab.load("mine/vae", results=folder.parent).name == "vae"


def test_old_checkpoints_load_through_their_provenance(tmp_path: Path) -> None:
    spec = SPECS["vae"]
    path = tmp_path / "checkpoints" / "vae-s4.safetensors"
    save_tensors(path, network(spec).state_dict(), {"run": "vae-s4", "fingerprint": "f"})
    with pytest.raises(VaelabError, match=r"does not say what model it is.*provenance.json"):
        vaelab.load(path)
    beside = tmp_path / "runs" / "vae-s4"
    beside.mkdir(parents=True)
    said = {"run": "vae-s4", "seed": 4, "spec": spec.flat()}
    said["dataset"] = {"name": "mnist", "sha256": "0", "synthetic": False}
    (beside / "provenance.json").write_text(json.dumps(said))
    model = vaelab.load(path)
    assert (model.name, model.seed, model.spec) == ("vae", 4, spec)


def test_published_runs_are_listed() -> None:
    frame = vaelab.runs("modern")
    assert len(frame) > 70
    vae = frame[frame["run"] == "vae"].iloc[0]
    assert vae["spec"].model.architecture == (500, 500, 3)
    assert vae["test_neg_elbo"] == pytest.approx(126.6, abs=0.2)
    assert vae["test_nll"] < vae["test_neg_elbo"]
    with pytest.raises(VaelabError, match="no results of a preset 'nothing'; there are: .*modern"):
        vaelab.runs("nothing")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    other = record("vae", toy_spec(hidden=(8,)))
    save_tensors(path, network(SPECS["vae"]).state_dict(), other.metadata())
    with pytest.raises(VaelabError, match="does not hold the weights of"):
        vaelab.load(path)
