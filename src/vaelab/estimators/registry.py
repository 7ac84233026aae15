"""The estimators of log p(x), in the order of the likelihood tables. This loads no torch.

A new estimator is one function and one entry here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vaelab.util.registry import Registry


@dataclass(frozen=True)
class Estimator:
    """One way to estimate log p(x).

    Attributes:
        function: as "module:name". With `draws` "encoder" or "fitted" it is a reduction, from
            `LogTerms` to an `Estimate`. With "own" it takes (model, x, generator, settings), of
            which `settings` is the configuration's section `likelihood`.
        draws: where the latents z come from. "encoder": draws from q(z|x), shared by all of this
            kind. "fitted": draws from Gaussians fitted to the posterior of each image, for every
            training method alike. "own": the estimator's own Markov chains, which cost too much
            for more than the end of a training.
    """

    function: str
    draws: Literal["encoder", "fitted", "own"]


ESTIMATORS: Registry[Estimator] = Registry("estimator of log p(x)")
ESTIMATORS.add("elbo", Estimator("vaelab.estimators.reductions:elbo", "encoder"))
ESTIMATORS.add("importance", Estimator("vaelab.estimators.reductions:importance", "fitted"))
ESTIMATORS.add("report", Estimator("vaelab.estimators.reductions:report", "encoder"))
ESTIMATORS.add("notebook", Estimator("vaelab.estimators.reductions:notebook", "encoder"))
ESTIMATORS.add("harmonic", Estimator("vaelab.estimators.reductions:harmonic", "encoder"))
ESTIMATORS.add("kw_d", Estimator("vaelab.estimators.kw_appendix_d:at_the_end", "own"))
ESTIMATORS.add("ais", Estimator("vaelab.estimators.ais:at_the_end", "own"))
