"""vaelab: a reproduction of a technical report on variational autoencoders."""

__version__ = "0.1.0"
