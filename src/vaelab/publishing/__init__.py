"""Weights, arrays and datasets under DVC: `restore` brings them here, `publish` sends them out.

Snakemake runs everything and never calls DVC; DVC keeps bytes. What a preset publishes is

- in git: the text of its runs (history, metrics, provenance), tables, figures, claims, the
  pointers of DVC, and publication.json, which names the SHA-256 of every file behind them;
- in DVC: the folder checkpoints/, one arrays.npz a run, and the datasets.
"""
