"""An extension of this workflow: the method of its run `wide`."""

from vaelab.training.methods import METHODS, Method

METHODS.add("plain", Method(gradients="vaelab.training.gradients:AutogradGradients"))
