"""Training: a spec and a seed in, weights and a history out."""

from vaelab.training.trainer import TrainingResult, train

__all__ = ["TrainingResult", "train"]
