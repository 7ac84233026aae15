"""What the files of a preset as a whole are made from, and putting them on record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vaelab.output.catalogue import CATALOGUE
from vaelab.pipeline.planning import Plan
from vaelab.publishing.verify import Origin, verify
from vaelab.results.files import RunFiles
from vaelab.results.manifest import put_on_record, read_manifest
from vaelab.util.errors import VaelabError
from vaelab.util.io import read_json

FILES = {
    "classifier": ["checkpoints/classifier.safetensors"],
    "measures": ["measures.json"],
    "nll": ["nll.json"],
    "metrics": ["metrics.json"],
    "search": ["search/decisions.json"],
    "claims": ["claims.csv", "claims.md"],
    # It says what the results cost, which a clone with restored weights does not know.
    "page": [],
}
# What each is made from beside evaluated runs. The search's own runs are in its decisions.
_SUMMARIES = ("measures", "search")
_MADE_FROM = {
    "measures": ("classifier", "search"),
    "table_1": ("nll",),
    "metrics": _SUMMARIES,
    "claims": _SUMMARIES,
}


@dataclass(frozen=True)
class Records:
    """The records of a preset's results.

    Attributes:
        plan: settings and runs.
    """

    plan: Plan

    @property
    def folder(self) -> Path:
        """results/<preset>."""
        return self.plan.config.folder

    def write(self, target: str) -> None:
        """Put what a command has just written on record."""
        made = self.origin(target)
        put_on_record(self.folder, made.files, code=made.code, inputs=made.inputs)

    def problems(self) -> list[str]:
        """What is wrong with the results; see `vaelab.publishing.verify`."""
        targets = {name: partial(self.origin, name) for name in (*FILES, *CATALOGUE)}
        return verify(self.plan.config, self.plan.runs, targets)

    def origin(self, target: str) -> Origin:
        """Files of a target, digests of its code and of the records of its inputs."""
        inputs = hashlib.sha256("".join(self._inputs(target)).encode()).hexdigest()
        files = FILES[target] if target in FILES else list(CATALOGUE[target].files.values())
        return Origin(files, self.plan.code(target), inputs)

    def _inputs(self, target: str) -> Iterator[str]:
        searched = target in CATALOGUE and CATALOGUE[target].searched
        before = ("search",) if searched else _MADE_FROM.get(target, ())
        manifest = read_manifest(self.folder)
        for name in before:
            for file in FILES[name]:
                yield manifest[file]["sha256"] if file in manifest else f"no {file}"
        if target in ("classifier", "search", "page"):
            return
        shown = "table_1" if target == "nll" else target
        ids = self.plan.ids_of(shown) if shown in CATALOGUE else self.plan.runs.by_id
        for run_id in ids:
            try:
                provenance = read_json(RunFiles(self.folder, run_id).text("provenance.json"))
            except VaelabError:
                yield f"no {run_id}"
                continue
            files = provenance.get("files", {})
            yield f"{provenance.get('checkpoint_sha256')} {sorted(files.items())}"
