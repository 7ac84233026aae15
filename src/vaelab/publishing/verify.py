"""`vaelab verify`: every file of a preset's results against the hashes on record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vaelab.publishing.publication import Publication, expected_fingerprint, run_folders
from vaelab.results.files import (
    RunFiles,
    changed_settings,
    evaluation_files,
    evaluation_identity,
)
from vaelab.results.manifest import manifest_file, read_manifest
from vaelab.settings.config import Config
from vaelab.settings.runs import Run, Runs
from vaelab.util.errors import VaelabError
from vaelab.util.io import file_sha256, read_json


@dataclass(frozen=True)
class Origin:
    """What a target is made of now: its files and digests of its code and of its inputs."""

    files: list[str]
    code: str
    inputs: str


def verify(
    config: Config, runs: Runs, targets: Mapping[str, Callable[[], Origin]]
) -> tuple[list[str], list[Path]]:
    """Compare the results with what is on record; changes nothing.

    Args:
        config: names the preset.
        runs: the runs that there should be.
        targets: what there should be of the preset as a whole, by name.

    Returns:
        What is damaged, missing, stale or from other settings, one line each, and the files whose
        hash nobody has on record.
    """
    folder = config.folder
    try:
        manifest = read_manifest(folder)
        published = Publication.path(folder)
        hashes = Publication.read(folder).sha256 if published.is_file() else {}
    except VaelabError as error:
        return [f"damaged: {error}"], []
    hashes |= {path: entry["sha256"] for path, entry in manifest.items()}
    problems: list[str] = []
    for run_id in sorted({*runs.by_id, *run_folders(folder)}):
        problems += _problems_of_run(config, runs, run_id, hashes)
    problems += [p for path, held in hashes.items() if (p := _compared(folder, path, held))]
    for name, origin in targets.items():
        made = origin()
        absent = [path for path in made.files if not (folder / path).is_file()]
        problems += [f"missing: {folder / path}" for path in absent if path not in hashes]
        entries = [manifest[path] for path in made.files if path in manifest]
        if any(entry["code"] != made.code for entry in entries):
            problems.append(f"stale: {name}: the code behind it has changed")
        elif any(entry["inputs"] != made.inputs for entry in entries):
            problems.append(f"stale: {name}: what it was made from has changed")
    return list(dict.fromkeys(problems)), _without_record(folder, hashes)


def _without_record(folder: Path, hashes: Mapping[str, str]) -> list[Path]:
    """Files of the results whose hash nobody has on record; logs and timings need none."""
    known = {manifest_file(folder), Publication.path(folder), folder / "index.html"}
    known |= {folder / path for path in hashes}
    for run_id in run_folders(folder):
        known |= {folder / path for path in _recorded(RunFiles(folder, run_id))}
    ours = [
        path
        for part in ("*", "runs/*/*", "checkpoints/*", "figures/*", "tables/*", "search/*")
        for path in folder.glob(part)
    ]
    return sorted(
        path
        for path in ours
        if path.is_file() and path.suffix != ".dvc" and path.name[0] != "." and path not in known
    )


def _compared(folder: Path, path: str, held: str) -> str | None:
    """What is wrong with a file whose hash is on record."""
    file = folder / path
    if not file.is_file():
        return f"missing: {file}"
    found = file_sha256(file)
    return None if found == held else f"damaged: {file}: SHA-256 {found}, on record is {held}"


def _recorded(files: RunFiles) -> dict[str, str]:
    """The hashes in the provenance of a run, by path in results/<preset>; none if unreadable."""
    try:
        provenance = read_json(files.text("provenance.json"))
        checkpoint = files.checkpoint.relative_to(files.folder).as_posix()
        return {checkpoint: provenance["checkpoint_sha256"], **provenance.get("files", {})}
    except (VaelabError, KeyError, TypeError):
        return {}


def _problems_of_run(
    config: Config, runs: Runs, run_id: str, hashes: Mapping[str, str]
) -> Iterator[str]:
    folder = config.folder
    files = RunFiles(folder, run_id)
    path = files.text("provenance.json")
    try:
        run = runs.run(run_id)
    except VaelabError as error:
        yield f"from other settings: {run_id}: {error}"
        return
    if not path.is_file():
        yield f"missing: {path}"
        return
    recorded = _recorded(files)
    if not recorded:
        yield f"damaged: {path}: not what a training writes"
        return
    for name, held in recorded.items():
        if problem := _compared(folder, name, held):
            yield problem
    yield from _other_settings(config, run, files)
    # Of an earlier version's training, only the weights are on record.
    for name in ("history.csv", *evaluation_files(run)):
        text = files.text(name)
        on_record = {*recorded, *hashes}
        if text.relative_to(folder).as_posix() not in on_record and not text.is_file():
            yield f"missing: {text}"


def _other_settings(config: Config, run: Run, files: RunFiles) -> Iterator[str]:
    provenance = read_json(files.text("provenance.json"))
    if provenance["fingerprint"] != expected_fingerprint(config, run, provenance):
        changed = ", ".join(changed_settings(run, provenance))
        what = f"trained with another {changed}" if changed else "trained with other code or data"
        yield f"from other settings: {run.id}: {what}"
    try:
        evaluation = read_json(files.text("metrics.json"))["evaluation"]
    except (VaelabError, KeyError, TypeError):
        if files.text("metrics.json").is_file():
            yield f"damaged: {files.text('metrics.json')}: not what an evaluation writes"
        return
    if evaluation != evaluation_identity(config, run, provenance["checkpoint_sha256"]):
        yield f"from other settings: {run.id}: evaluated with other settings or code"
