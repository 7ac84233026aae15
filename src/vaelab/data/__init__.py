"""Raw data: where it comes from, how it is verified, and the arrays made of it.

Flow: `sources` (what the files are and who serves them) -> `fetch` (bytes, verified, moved
into `data/raw`) -> `datasets.load` (arrays). Nothing here imports torch.
"""

from __future__ import annotations

from vaelab.data.datasets import Dataset, load
from vaelab.data.fetch import fetch_dataset
from vaelab.data.sources import DATASETS
from vaelab.data.store import verify_dataset

__all__ = ["DATASETS", "Dataset", "fetch_dataset", "load", "verify_dataset"]
