"""Raw data: where it comes from, how it is verified, and the arrays made of it.

`registry` has what is known of each dataset. `fetch` brings its files into `data/raw`, verified;
`store` says what is there and makes arrays of it. Nothing here imports torch.
"""

from __future__ import annotations

from vaelab.data.fetch import fetch_dataset
from vaelab.data.registry import DATASETS
from vaelab.data.store import Dataset, load, verify_dataset

__all__ = ["DATASETS", "Dataset", "fetch_dataset", "load", "verify_dataset"]
