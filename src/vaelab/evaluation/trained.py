"""A trained model to work with: sample, encode, decode, reconstruct, score.

`vaelab.load` gives one. It needs the checkpoint alone: a checkpoint holds the specification of
its model. Checkpoints that were written before it did are read with their provenance.json.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from vaelab.data.registry import DATASETS
from vaelab.estimators.estimate import Estimate
from vaelab.estimators.fitted import adapter_of
from vaelab.estimators.log_weights import blocks, log_terms
from vaelab.estimators.model import VAEAdapter
from vaelab.estimators.reductions import importance
from vaelab.models.code_prior import CodePrior
from vaelab.models.distributions import Bernoulli, DiagonalNormal
from vaelab.models.families import build
from vaelab.models.vae import LatentVariableModel
from vaelab.models.vqvae import VQVAE
from vaelab.results.trained import CheckpointRecord, find_checkpoint
from vaelab.settings.spec import RunSpec
from vaelab.training.methods import METHODS
from vaelab.training.state import load_tensors
from vaelab.util.errors import VaelabError
from vaelab.util.io import read_json

logger = logging.getLogger(__name__)

Images: TypeAlias = "np.ndarray | Tensor | Sequence[Any]"
Labels: TypeAlias = "int | np.ndarray | Tensor | Sequence[int]"

# Images whose log-likelihood is estimated at once: bounds the memory of (samples, images) arrays.
BLOCK = 500


class TrainedModel:
    """A trained VAE, beta-VAE, CVAE or VQ-VAE.

    Images go in as arrays or tensors of shape (N, H, W) or (N, H * W), or as one image (H, W) or
    (H * W,); as uint8, or as floats in [0, 1]. They come out as float tensors (N, H, W). One image
    is a batch of one. Nothing here computes gradients; `network` is the plain module.

    Attributes:
        name: name of the run, as in config/runs.tsv.
        seed: seed that the run was trained with.
        spec: specification of the run.
        image_shape: height and width of an image.
        classes: number of labels of the dataset, 0 without labels.
        source: the file that the weights were read from.
        weights: "full", or "half" where the file has them in half precision.
        network: the network, in evaluation mode.
    """

    def __init__(self, record: CheckpointRecord, weights: dict[str, Tensor], source: Path) -> None:
        self.name, self.seed = record.name, record.seed
        self.spec: RunSpec = record.spec
        self.image_shape = record.image_shape
        self.classes = record.classes
        self.source = source
        halved = any(t.dtype in (torch.float16, torch.bfloat16) for t in weights.values())
        self.weights: Literal["full", "half"] = "half" if halved else "full"
        self.network = build(self.spec, images=record)
        try:
            self.network.load_state_dict(weights)
        except RuntimeError as error:
            raise VaelabError(f"{source} does not hold the weights of {self}: {error}") from error
        self.network.eval().requires_grad_(False)

    def __repr__(self) -> str:
        """Family, size and origin."""
        return (
            f"<{self.spec.model.family} {self.name}, seed {self.seed}, {self.spec.data.dataset} "
            f"{self.image_shape[0]} x {self.image_shape[1]}, {self.source}>"
        )

    def to(self, *args: Any, **kwargs: Any) -> TrainedModel:
        """Move the network to another device or dtype, as `torch.nn.Module.to` does."""
        self.network.to(*args, **kwargs)
        return self

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.network.parameters()).dtype

    @torch.inference_mode()
    def sample(
        self,
        n: int,
        label: Labels | None = None,
        *,
        prior: CodePrior | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Images decoded from the prior: the means of p(x|z), shape (n, H, W).

        Args:
            n: how many.
            label: one label for all of them or one for each; for a conditional model only.
            prior: a VQ-VAE's prior over codes (see `code_prior`); without it codes are uniform.
            generator: source of the random numbers, on the model's device.
        """
        if n < 1:
            raise VaelabError(f"cannot sample {n} images; ask for at least one")
        if isinstance(self.network, VQVAE):
            self._condition(label, n)
            seed = int(torch.randint(2**31, (), generator=generator, device=self.device))
            rng = np.random.default_rng(seed)
            size, grid = len(self.network.codebook.codes), self.network.grid
            codes = rng.integers(size, size=(n, *grid)) if prior is None else prior.sample(n, rng)
            return self.decode_codes(codes)
        if prior is not None:
            raise VaelabError(f"{self} has the prior N(0, I); a prior over codes is a VQ-VAE's")
        latent_dim = self.spec.model.latent_dim
        z = torch.randn(n, latent_dim, generator=generator, device=self.device)
        return self._images(self.decode(z, label).mean)

    @torch.inference_mode()
    def encode(self, images: Images, label: Labels | None = None) -> DiagonalNormal:
        """The posterior approximation q(z|x): `.mean` and `.log_var` (N, d), `.sample()`.

        Args:
            images: images.
            label: their labels, for a conditional model.
        """
        adapter = self._adapter("encode to a distribution; it has `codes`")
        x = self._pixels(images)
        return adapter.encode(x, self._condition(label, len(x)))

    @torch.inference_mode()
    def decode(
        self, z: np.ndarray | Tensor | Sequence[Any], label: Labels | None = None
    ) -> Bernoulli | DiagonalNormal:
        """p(x|z) for latents (N, d), a distribution over flat images: `.mean` (N, H * W).

        Args:
            z: latents, or one (d,).
            label: labels, for a conditional model.
        """
        network = self._latent("decode a latent vector; it has `decode_codes`")
        latents = torch.as_tensor(np.asarray(z) if not isinstance(z, Tensor) else z)
        latents = latents.to(self.device, self.dtype)
        latents = latents.unsqueeze(0) if latents.ndim == 1 else latents
        if latents.ndim != 2 or latents.shape[1] != network.latent_dim:
            raise VaelabError(
                f"latents have shape {tuple(latents.shape)}; {self} takes (N, {network.latent_dim})"
            )
        return network.decode(latents, self._condition(label, len(latents)))

    @torch.inference_mode()
    def reconstruct(
        self,
        images: Images,
        label: Labels | None = None,
        *,
        mean: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Images as the model gives them back, shape (N, H, W).

        Args:
            images: images.
            label: their labels, for a conditional model.
            mean: decode the mean of q(z|x) in place of a sample. The report shows samples. A
                VQ-VAE has no noise here.
            generator: source of the random numbers, on the model's device.
        """
        if isinstance(self.network, VQVAE):
            self._condition(label, 1)
            return self.decode_codes(self.codes(images))
        q = self.encode(images, label)
        return self._images(self.decode(q.mean if mean else q.sample(generator), label).mean)

    @torch.inference_mode()
    def interpolate(
        self, first: Images, second: Images, steps: int = 10, label: Labels | None = None
    ) -> Tensor:
        """Images (steps, H, W) on the straight line between the codes of two images.

        Args:
            first: one image.
            second: another one.
            steps: images in all, the two ends included.
            label: one label, for a conditional model.
        """
        if steps < 2:
            raise VaelabError(f"an interpolation has at least its two ends; got steps={steps}")
        ends = [self.encode(image, label).mean for image in (first, second)]
        if any(len(end) != 1 for end in ends):
            raise VaelabError("interpolate takes two single images")
        share = torch.linspace(0, 1, steps, device=self.device, dtype=ends[0].dtype).unsqueeze(-1)
        return self._images(self.decode(torch.lerp(ends[0], ends[1], share), label).mean)

    @torch.inference_mode()
    def codes(self, images: Images) -> Tensor:
        """The codes of a VQ-VAE for images: indices into its codebook (N, H / 4, W / 4)."""
        network = self._quantiser()
        indices: Tensor = network.codebook(network.encode(self._pixels(images))).indices
        return indices

    @torch.inference_mode()
    def decode_codes(self, codes: np.ndarray | Tensor) -> Tensor:
        """Images (N, H, W) of a VQ-VAE for code grids (N, H / 4, W / 4)."""
        network = self._quantiser()
        grids = torch.as_tensor(codes).to(self.device)
        if grids.shape[1:] != network.grid:
            raise VaelabError(
                f"code grids have shape {tuple(grids.shape)}; {self} takes (N, *{network.grid})"
            )
        return self._images(network.decode(network.codebook.lookup(grids)))

    def code_prior(self, images: Images) -> CodePrior:
        """A prior over a VQ-VAE's codes, counted on images, for `sample`."""
        return CodePrior.fit(
            self.codes(images).cpu().numpy(), len(self._quantiser().codebook.codes)
        )

    def _latent(self, what: str) -> LatentVariableModel:
        if not isinstance(self.network, LatentVariableModel):
            raise VaelabError(f"{self} cannot {what}")
        return self.network

    def _adapter(self, what: str) -> VAEAdapter:
        """The network as estimators take it, with fitted Gaussians where no encoder was trained."""
        return adapter_of(self._latent(what), encoder=METHODS[self.spec.method].encoder)

    def _quantiser(self) -> VQVAE:
        if not isinstance(self.network, VQVAE):
            raise VaelabError(f"{self} has no codes; that is a VQ-VAE's")
        return self.network

    def _images(self, pixels: Tensor) -> Tensor:
        return pixels.reshape(*pixels.shape[:-1], *self.image_shape)

    def _pixels(self, images: Images) -> Tensor:
        """Images of any accepted form as pixels (N, P) in [0, 1]."""
        try:
            given = images if isinstance(images, Tensor) else torch.as_tensor(np.asarray(images))
        except TypeError as error:
            raise VaelabError(f"images have to be numbers: {error}") from error
        height, width = self.image_shape
        shape = tuple(given.shape)
        single = shape in ((height, width), (height * width,))
        if not single and shape[1:] not in ((height, width), (height * width,)):
            raise VaelabError(
                f"images have shape {shape}; {self} takes (N, {height}, {width}), "
                f"(N, {height * width}), or one image"
            )
        if given.dtype == torch.uint8:
            x = given.to(self.device, self.dtype).div_(255.0)
        elif given.is_floating_point():
            low, high = (float(v) for v in given.aminmax()) if given.numel() else (0.0, 1.0)
            if not (low >= 0.0 and high <= 1.0):
                raise VaelabError(
                    f"pixels range from {low:g} to {high:g}; floats have to lie in [0, 1], "
                    "grey values from 0 to 255 have to be uint8"
                )
            x = given.to(self.device, self.dtype)
        else:
            raise VaelabError(f"pixels are {given.dtype}; uint8 and floats in [0, 1] are allowed")
        return x.reshape(1 if single else shape[0], height * width)

    def _condition(self, label: Labels | None, n: int) -> Tensor | None:
        """Labels as the condition (n, condition_dim) that the network takes, or None."""
        if not self.network.conditional:
            if label is not None:
                raise VaelabError(f"{self} is not conditional and takes no label")
            return None
        if label is None:
            raise VaelabError(f"{self} is conditional: give label=, 0 to {self.classes - 1}")
        labels = torch.as_tensor(label if isinstance(label, Tensor) else np.asarray(label))
        if labels.is_floating_point() or labels.ndim > 1 or labels.numel() not in (1, n):
            raise VaelabError(
                f"labels have to be one whole number, or {n} of them; "
                f"got {labels.dtype} of shape {tuple(labels.shape)}"
            )
        if not bool(((labels >= 0) & (labels < self.classes)).all()):
            raise VaelabError(f"labels are 0 to {self.classes - 1}")
        return self.network.embed(labels.reshape(-1).expand(n).to(self.device)).to(self.dtype)


def load(
    source: str | Path,
    *,
    results: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TrainedModel:
    """A trained model, ready to use.

    Args:
        source: the path of a checkpoint, or "preset/run" ("modern/vae", "quick/vae-s1"). Of a run,
            its checkpoint is taken or, where that is not here, the model in half precision that
            comes with a clone; the log and the attribute `weights` say which.
        results: folder that holds the presets' results; by default `results` in the current
            folder, then in the checkout that the package was installed from.
        device: where to put the network.
        dtype: type of the weights.

    Raises:
        VaelabError: no such file or run, a damaged file, or weights of another network.
    """
    path = find_checkpoint(source, results)
    record, tensors, _ = read_checkpoint(path)
    model = TrainedModel(record, tensors, path).to(device, dtype)
    precision = f"weights in {model.weights} precision"
    logger.info("%s-s%d: %s from %s", model.name, model.seed, precision, path)
    return model


def read_checkpoint(path: Path) -> tuple[CheckpointRecord, dict[str, Tensor], dict[str, Any]]:
    """What a checkpoint is, its tensors, and all of its metadata.

    Raises:
        VaelabError: a damaged file, or an old one whose provenance.json is missing.
    """
    tensors, metadata = load_tensors(path)
    return CheckpointRecord.from_metadata(metadata) or _record_beside(path), tensors, metadata


def log_likelihood(
    model: TrainedModel,
    images: Images,
    samples: int = 1000,
    *,
    label: Labels | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Log p(x) of images by importance sampling from the encoder (Burda et al., 2016).

    In expectation this is a lower bound that rises to log p(x) with the number of samples. For
    a conditional model it is log p(x|c).

    Args:
        model: a trained VAE, beta-VAE or CVAE.
        images: images, as for `TrainedModel.encode`.
        samples: latent samples per image.
        label: their labels, for a conditional model.
        generator: source of the random numbers, on the model's device; seeded with 0 by default.

    Returns:
        Nats per image: `nats` (N,) with the Monte-Carlo error of each, `mc_se`; their `mean` with
        its standard error `se` over the images.

    Raises:
        VaelabError: a VQ-VAE, or images or labels that do not fit.
    """
    adapter = model._adapter("give a likelihood")
    x = model._pixels(images)
    c = model._condition(label, len(x))
    generator = generator or torch.Generator(model.device).manual_seed(0)
    return Estimate.concatenate(
        [
            importance(
                log_terms(adapter, x[part], samples, generator, c=None if c is None else c[part])
            )
            for part in blocks(len(x), BLOCK)
        ]
    )


def _record_beside(checkpoint: Path) -> CheckpointRecord:
    """What the provenance.json of a checkpoint's run says of it."""
    path = checkpoint.parent.parent / "runs" / checkpoint.stem / "provenance.json"
    if not path.is_file():
        raise VaelabError(
            f"{checkpoint} does not say what model it is, as it was written before version 0.2; "
            f"{path}, which does, is missing"
        )
    provenance = read_json(path)
    dataset = provenance["dataset"]
    images = DATASETS[dataset["name"]]
    return CheckpointRecord(
        name=provenance["run"].rpartition("-s")[0],
        seed=provenance["seed"],
        spec=RunSpec.from_flat(provenance["spec"]),
        dataset_sha256=dataset["sha256"],
        image_shape=images.image_shape,
        classes=images.classes,
    )
