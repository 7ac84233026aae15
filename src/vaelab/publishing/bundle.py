"""A bundle: one tar file with a preset's weights, arrays and records, and their hashes.

Its members are named as in results/: `modern/checkpoints/vae-s0.safetensors`. The first,
`modern/publication.json`, has the SHA-256 of all others. The same results give the same bytes.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
from dataclasses import asdict
from pathlib import Path

from vaelab.publishing.publication import Publication, finished_runs, weight_files
from vaelab.results.files import RunFiles, classifier_file, evaluation_files
from vaelab.settings.config import Config
from vaelab.settings.runs import Runs
from vaelab.util.errors import VaelabError
from vaelab.util.io import atomic_path

DOI = re.compile(r"(?:doi:|https?://(?:dx\.)?doi\.org/)?(10\.\d{4,}/[^/\s]+)")


def write_bundle(config: Config, runs: Runs, target: Path) -> None:
    """Write the bundle of a preset.

    Raises:
        VaelabError: a run is unfinished or stale (all are named), or the file cannot be written.
    """
    folder = config.folder
    files = [path for path in [classifier_file(folder)] if path.is_file()]
    for run_id, run in finished_runs(config, runs, "bundled", committed=False).items():
        own = RunFiles(folder, run_id)
        names = ("provenance.json", "history.csv", *evaluation_files(run))
        files += [*weight_files(own, run), *map(own.text, names)]
    files.sort()
    publication = Publication.of(config, files)
    with atomic_path(target) as temporary, tarfile.open(temporary, "w") as archive:
        _add(archive, _manifest(config), json.dumps(asdict(publication), indent=2).encode())
        for path in files:
            _add(archive, f"{config.preset}/{path.relative_to(folder)}", path.read_bytes())


def fetch_bundle(source: str, stage: Path) -> Path:
    """The file of a bundle, downloaded where it is not one.

    Args:
        source: a file, a URL, or the DOI of a deposit on Zenodo or figshare with one .tar file.
        stage: folder for what is downloaded.

    Raises:
        VaelabError: there is no such file, or it cannot be downloaded.
    """
    if Path(source).is_file():
        return Path(source)
    doi = DOI.fullmatch(source)
    if not doi and not re.match("https?://", source):
        raise VaelabError(f"{source} is not a file, a URL or a DOI")
    # Imported here because it imports requests, which takes a while.
    import pooch

    pooch.get_logger().setLevel("WARNING")
    progress = sys.stderr.isatty()
    try:
        if doi is None:
            return Path(pooch.retrieve(source, None, "bundle.tar", stage, progressbar=progress))
        deposit = pooch.create(stage, f"doi:{doi[1]}/")
        deposit.load_registry_from_doi()
        bundles = [name for name in deposit.registry_files if name.endswith(".tar")]
        if len(bundles) != 1:
            names = ", ".join(deposit.registry_files)
            raise VaelabError(f"{source} should have one .tar file; it has: {names}")
        return Path(deposit.fetch(bundles[0], progressbar=progress))
    # What pooch and requests raise, the last where a deposit is not there.
    except (OSError, ValueError, LookupError) as error:
        raise VaelabError(f"{source} could not be downloaded: {error}") from error


def unpack_bundle(file: Path, config: Config, results: Path) -> Publication:
    """Unpack the bundle of a preset below a folder, which gets <preset>/..., and read its record.

    Raises:
        VaelabError: no bundle of the preset, a truncated one, or one with a member that its record
            does not have, that is not a plain file, or that would land elsewhere.
    """
    try:
        with tarfile.open(file, "r:") as archive:
            first = archive.next()
            if first is None or first.name != _manifest(config):
                raise ValueError(f"it begins with {first.name if first else 'nothing'}")
            archive.extract(first, results, filter="data")
            publication = Publication.read(results / config.preset)
            missing = {f"{config.preset}/{path}" for path in publication.sha256}
            for member in archive.getmembers()[1:]:
                if member.name not in missing or not member.isfile():
                    raise ValueError(f"{member.name} is not of its record")
                missing.remove(member.name)
                archive.extract(member, results, filter="data")
            if missing:
                raise ValueError(f"it lacks {min(missing)}")
    except (tarfile.TarError, OSError, TypeError, ValueError, VaelabError) as error:
        what = f"complete bundle of preset {config.preset}"
        raise VaelabError(f"{file} is not a {what}: {error}") from error
    return publication


def _manifest(config: Config) -> str:
    return Publication.path(Path(config.preset)).as_posix()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Without owner and date, on which its bytes do not depend."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
