"""What the files of a preset as a whole are made from, and putting them on record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from vaelab.output.catalogue import CATALOGUE
from vaelab.pipeline.planning import BESIDE, PARTS, Plan
from vaelab.publishing.verify import Origin, verify
from vaelab.results.files import RunFiles
from vaelab.results.manifest import put_on_record, read_manifest
from vaelab.util.errors import VaelabError
from vaelab.util.io import read_json


def record(plan: Plan, target: str) -> None:
    """Put what a command has just written on record."""
    made = origin(plan, target)
    put_on_record(plan.config.folder, made.files, code=made.code, inputs=made.inputs)


def verified(plan: Plan) -> tuple[list[str], list[Path]]:
    """See `vaelab.publishing.verify`."""
    # Tables that `all` does not make need not be there.
    shown = [
        name
        for name, item in CATALOGUE.items()
        if not item.apart or any((plan.config.folder / f).is_file() for f in item.files.values())
    ]
    targets = {name: partial(origin, plan, name) for name in (*PARTS, *shown)}
    return verify(plan.config, plan.runs, targets)


def origin(plan: Plan, target: str) -> Origin:
    """Files of a target, digests of its code and of the records of its inputs."""
    inputs = hashlib.sha256("".join(_inputs(plan, target)).encode()).hexdigest()
    files = PARTS[target].files if target in PARTS else CATALOGUE[target].files.values()
    return Origin(list(files), plan.code(target), inputs)


def _inputs(plan: Plan, target: str) -> Iterator[str]:
    if part := PARTS.get(target):
        before, shown = part.before, part.runs
    else:
        searched = ("search",) * CATALOGUE[target].searched
        before, shown = (*searched, *BESIDE.get(target, ())), target
    manifest = read_manifest(plan.config.folder)
    for name in before:
        for file in PARTS[name].files:
            yield manifest[file]["sha256"] if file in manifest else f"no {file}"
    everything = {"all": [*plan.runs.by_id], "none": []}
    ids = everything[shown] if shown in everything else plan.ids_of(shown)
    for run_id in ids:
        try:
            provenance = read_json(RunFiles(plan.config.folder, run_id).text("provenance.json"))
        except VaelabError:
            yield f"no {run_id}"
            continue
        files = provenance.get("files", {})
        yield f"{provenance.get('checkpoint_sha256')} {sorted(files.items())}"
