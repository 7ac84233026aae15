"""Estimators of the marginal likelihood log p(x), in nats per image.

Cheap ones are reductions of one set of draws from the encoder (`log_weights`,
`reductions`); Kingma & Welling's appendix D and annealed importance sampling move draws to
the true posterior with Hamiltonian Monte Carlo.
"""

from __future__ import annotations

from vaelab.estimators.ais import Annealing, Bracket, annealed, bidirectional
from vaelab.estimators.estimate import Estimate
from vaelab.estimators.fitted import FittedAdapter, encoder_or_fit
from vaelab.estimators.kw_appendix_d import kw_appendix_d
from vaelab.estimators.log_weights import LogTerms, log_mean_exp, log_terms
from vaelab.estimators.model import LatentModel, VAEAdapter, log_joint
from vaelab.estimators.reductions import (
    REDUCTIONS,
    elbo,
    estimates_over_images,
    harmonic,
    importance,
    notebook,
    report,
)

__all__ = [
    "REDUCTIONS",
    "Annealing",
    "Bracket",
    "Estimate",
    "FittedAdapter",
    "LatentModel",
    "LogTerms",
    "VAEAdapter",
    "annealed",
    "bidirectional",
    "elbo",
    "encoder_or_fit",
    "estimates_over_images",
    "harmonic",
    "importance",
    "kw_appendix_d",
    "log_joint",
    "log_mean_exp",
    "log_terms",
    "notebook",
    "report",
]
