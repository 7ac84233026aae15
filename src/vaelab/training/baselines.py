"""Kingma & Welling's baselines: wake-sleep and Monte Carlo EM (their Figures 2 and 3).

Networks and optimiser are those of AEVB; only what the gradients are of differs.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from vaelab.estimators import hmc
from vaelab.models.distributions import standard_normal_log_prob
from vaelab.training.fast.gradients import FusedGradients, standard_normal

# Kingma & Welling, appendix E: leapfrog steps and acceptance rate of the E step, weight updates
# of the M step.
LEAPFROG = 10
TARGET_ACCEPT = 0.9
WEIGHT_UPDATES = 5

# In standard deviations of the prior, from which the chains start.
INITIAL_STEP_SIZE = 0.3
# Constant, because the posterior moves with the weights: about 5 visits halve a step size
# that is too large.
STEP_SIZE_GAIN = 0.2


class WakeSleepGradients(FusedGradients):
    """Wake-sleep (Hinton et al. 1995) for a `VAE`: two objectives instead of one bound.

    Wake: z ~ q(z|x) for images x, and the decoder descends -log p(x|z). Sleep: the model
    dreams z ~ N(0, I) and x ~ p(x|z), as many as the batch has images, and the encoder descends
    -log q(z|x). No gradient passes through z, so each phase moves one network; both gradients
    are taken at the same weights and make one step.

    Dreams are samples, binary ones from a Bernoulli decoder, although the images are grey: that
    is what the algorithm prescribes. From means, which look more like the images, z can be read
    off almost without error, and nothing keeps the encoder's variance from falling towards 0.
    """

    @torch.no_grad()
    def draw(self, x: Tensor, index: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Noise (B, d) of the wake phase; latents (B, d) and images (B, P) of the dream."""
        (eps,) = super().draw(x, index, generator)
        z = standard_normal(len(x), self.latent_dim, generator)
        out = self.decoder.forward(z.to(self.dtype))[-1].float()
        return eps, z, self.model.observed(out).sample(generator)

    @torch.no_grad()
    def __call__(self, x: Tensor, c: Tensor | None, *drawn: Tensor) -> None:
        """See `Gradients`."""
        batch = len(x)
        eps, dreamt_z, dreamt_x = drawn
        _, mean, log_var = self.encode(x, c)
        z = mean + torch.exp(0.5 * log_var) * eps
        decoded = self.decoder.forward(z.to(self.dtype))
        error = self.output_error(decoded[-1].float(), x).mul_(1.0 / batch)
        self.decoder.backward(error.to(self.dtype), decoded, need_dx=False)

        encoded, mean, log_var = self.encode(dreamt_x, c)
        d_mean = (mean - dreamt_z) * torch.exp(-log_var)
        d_log_var = 0.5 * (1.0 - d_mean * (mean - dreamt_z))
        self.backward_encoder(encoded, d_mean / batch, d_log_var / batch)


class McemGradients(FusedGradients):
    """Monte Carlo EM (Kingma & Welling, appendix E) for a `VAE`, whose encoder stays as it was.

    Every training image has a Markov chain in its latent space. When a batch comes, its chains
    make one HMC transition each under the present weights (E step), and the decoder descends
    -log p(x|z) at the new positions for `WEIGHT_UPDATES` steps (M step).

    Attributes:
        state: the chains' `positions` (N, d) and their `step_size` (N,), tuned for each image.
    """

    updates = WEIGHT_UPDATES
    # HMC sees positions rounded to bf16 as a staircase.
    float32 = True

    def start(self, images: int, generator: torch.Generator) -> None:
        """Draw the chains' first positions from the prior."""
        positions = standard_normal(images, self.latent_dim, generator)
        self.state = {
            "positions": positions,
            "step_size": torch.full_like(positions[:, 0], INITIAL_STEP_SIZE),
        }

    def draw(self, x: Tensor, index: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Move the chains of the batch; their new positions (B, d)."""
        positions, step_size = self.state["positions"], self.state["step_size"]
        evaluate = partial(self.evaluate, x)
        point, probability = hmc.transition(
            evaluate,
            evaluate(positions[index].unsqueeze(0)),
            step_size[index],
            generator,
            leapfrog=LEAPFROG,
        )
        positions[index] = point.z[0]
        step_size[index] = hmc.tuned(step_size[index], probability, TARGET_ACCEPT, STEP_SIZE_GAIN)
        return (point.z[0],)

    @torch.no_grad()
    def evaluate(self, x: Tensor, z: Tensor) -> hmc.Point:
        """Log p(x, z) and its gradient at z (1, B, d)."""
        decoded = self.decoder.forward(z[0])
        log_joint = self.model.observed(decoded[-1]).log_prob(x) + standard_normal_log_prob(z[0])
        error = self.output_error(decoded[-1], x)
        dz = self.decoder.backward(error, decoded, need_dx=True, need_weights=False)
        return hmc.Point(z, log_joint.unsqueeze(0), -dz.unsqueeze(0) - z)

    @torch.no_grad()
    def __call__(self, x: Tensor, c: Tensor | None, *drawn: Tensor) -> None:
        """See `Gradients`; the encoder's gradient stays 0."""
        (z,) = drawn
        decoded = self.decoder.forward(z)
        error = self.output_error(decoded[-1], x).mul_(1.0 / len(x))
        self.decoder.backward(error, decoded, need_dx=False)
