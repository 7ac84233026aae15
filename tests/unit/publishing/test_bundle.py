"""Bundles: everything of a preset in one file, and what is refused on the way back."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from hashlib import md5
from pathlib import Path

import pytest
from pooch import downloaders

from data_server import Answer, DataServer, serve
from vaelab.publishing import bundle
from vaelab.publishing.bundle import write_bundle
from vaelab.publishing.restore import restore as bundle_restore
from vaelab.util.errors import VaelabError
from vaelab.util.io import file_sha256, one_at_a_time
from versioned_project import Versioned, make_project


@pytest.fixture(autouse=True)
def _no_snakemake(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no workflow here in which it could look outputs up."""
    monkeypatch.setattr("vaelab.publishing.restore.tell_snakemake", lambda config, targets: None)


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Versioned:
    return make_project(tmp_path_factory.mktemp("origin") / "project")


@pytest.fixture(scope="module")
def good(origin: Versioned) -> bytes:
    """The bytes of the bundle of `origin`."""
    file = origin.folder.parent / "good.tar"
    origin._say(lambda config, runs: write_bundle(config, runs, file))
    return file.read_bytes()


@pytest.fixture
def empty(origin: Versioned, tmp_path: Path) -> Versioned:
    """The same project with no results at all."""
    clone = origin.clone(tmp_path / "clone")
    assert not clone.results.exists()
    return clone


def unpacked(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = {member.name: archive.extractfile(member) for member in archive}
    return {name: stream.read() for name, stream in members.items() if stream is not None}


def packed(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members.items():
            bundle._add(archive, name, content)
    return stream.getvalue()


def test_bundle_has_everything_and_its_hashes(origin: Versioned, good: bytes) -> None:
    names = list(unpacked(good))
    record = json.loads(unpacked(good)["modern/publication.json"])["sha256"]
    assert names == ["modern/publication.json", *(f"modern/{name}" for name in record)]
    assert origin.held().items() < record.items()
    texts = {name for name in record if name not in origin.held()}
    assert {"runs/vae-s0/history.csv", "runs/ml_n1000-s0/likelihood_final.csv"} < texts
    again = origin.folder.parent / "again.tar"
    origin._say(lambda config, runs: write_bundle(config, runs, again))
    assert again.read_bytes() == good


@pytest.mark.parametrize("way", ["file", "url", "doi"])
def test_bundle_restores_weights_arrays_and_records(
    way: str,
    origin: Versioned,
    good: bytes,
    empty: Versioned,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "modern.tar"
    file.write_bytes(good)
    with serve({"modern.tar": good}) as server:
        source = {
            "file": str(file),
            "url": server.url + "modern.tar",
            "doi": "doi:10.5281/zenodo.1",
        }
        pretend_zenodo(server, good, monkeypatch)
        said = empty._say(lambda config, runs: bundle_restore(config, runs, source[way]))
    assert "modern: 3 runs are as published, 19 files were restored" in said
    assert empty.held() == origin.held()
    for path in origin.results.glob("runs/*/*"):
        assert file_sha256(empty.results / path.relative_to(origin.results)) == file_sha256(path)
    assert not (empty.folder / ".restore").exists()


def pretend_zenodo(server: DataServer, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deposit with a bundle and a note, on a local server in place of Zenodo."""
    monkeypatch.setattr(downloaders, "doi_to_url", lambda doi, **_: f"https://zenodo.org/{doi}.1")
    monkeypatch.setattr(downloaders.ZenodoRepository, "base_api_url", f"{server.url}api")
    links = {"self": f"{server.url}modern.tar"}
    bundled = {"key": "modern.tar", "checksum": f"md5:{md5(content).hexdigest()}", "links": links}
    note = {"key": "note.txt", "checksum": "md5:0", "links": {"self": ""}}
    server.answers["api/zenodo.1.1"] = Answer(json.dumps({"files": [note, bundled]}).encode())
    server.answers["api/zenodo.2.1"] = Answer(json.dumps({"files": [note]}).encode())
    server.answers["api/zenodo.3.1"] = Answer(b'{"status": 404}')


def test_nothing_is_put_beside_a_workflow(good: bytes, empty: Versioned, tmp_path: Path) -> None:
    (tmp_path / "modern.tar").write_bytes(good)
    with (
        one_at_a_time(empty.results),
        pytest.raises(VaelabError, match="another workflow is at work on results/modern; wait"),
    ):
        empty._say(lambda c, r: bundle_restore(c, r, str(tmp_path / "modern.tar")))
    assert not list(empty.results.iterdir())


def test_damage_is_one_clear_error(good: bytes, empty: Versioned, tmp_path: Path) -> None:
    record, *_ = members = unpacked(good)
    weights = "modern/checkpoints/vae-s0.safetensors"
    outside = json.dumps({"sha256": {"../../x": ""}, "classifier": {}}).encode()
    cases = {
        "flipped": (packed(members | {weights: b"?"}), "safetensors: has SHA-256 .*published"),
        "half": (
            good[: len(good) // 2],
            "is not a complete bundle of preset modern: it lacks modern/",
        ),
        "begun": (good[:700], "is not a complete bundle of preset modern: unexpected end of data"),
        "short": (
            packed(dict(list(members.items())[:-1])),
            "not a complete bundle.*it lacks modern/",
        ),
        "no tar": (b"<html>not found</html>" * 100, "is not a complete bundle"),
        "nothing": (b"", "is not a complete bundle"),
        "record": (
            packed(members | {record: b"{}"}),
            "is not a complete bundle.*'sha256' and 'class",
        ),
        "other": (packed({"quick/publication.json": b"{}"}), "modern: it begins with quick/publ"),
        "stranger": (packed(members | {"modern/more": b""}), "modern/more is not of its record"),
        "climbing": (packed({record: outside, "modern/../../x": b"x"}), "would be extracted to"),
    }
    for name, (content, message) in cases.items():
        file = tmp_path / f"{name}.tar"
        file.write_bytes(content)
        with pytest.raises(VaelabError, match=message) as error:
            empty._say(lambda config, runs, f=file: bundle_restore(config, runs, str(f)))
        assert str(file) in str(error.value)
        assert not empty.results.exists()
        assert not (empty.folder / ".restore").exists()


def test_download_that_breaks_off_is_one_clear_error(
    good: bytes, empty: Versioned, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"half.tar": Answer(good[:5000], promised=len(good))}
    with serve(answers) as server:
        for name in ("half.tar", "none.tar"):
            with pytest.raises(VaelabError, match=f"{name} could not be downloaded: "):
                empty._say(lambda c, r, n=name: bundle_restore(c, r, server.url + n))
        pretend_zenodo(server, good, monkeypatch)
        for doi, message in (
            ("10.5281/zenodo.1", "could not be downloaded: .*404"),
            ("10.5281/zenodo.2", "should have one .tar file; it has: note.txt"),
            ("10.5281/zenodo.3", "could not be downloaded: 'files'"),
        ):
            with pytest.raises(VaelabError, match=f"{doi} {message}"):
                empty._say(lambda c, r, d=doi: bundle_restore(c, r, d))
    with pytest.raises(VaelabError, match="modern.tar is not a file, a URL or a DOI"):
        empty._say(lambda config, runs: bundle_restore(config, runs, "modern.tar"))
    assert not empty.results.exists()


def test_records_in_git_are_kept(origin: Versioned, good: bytes, tmp_path: Path) -> None:
    here = Versioned(tmp_path / "here")
    shutil.copytree(origin.folder, here.folder)
    for path in here.results.rglob("*"):
        if path.suffix in (".safetensors", ".npz"):
            path.unlink()
    history = here.files("vae-s0").text("history.csv")
    history.write_text("as in git\n")
    other = here.files("arch_500_4-s0").text("provenance.json")
    other.write_text(other.read_text().replace('"checkpoint_sha256": "', '"checkpoint_sha256": "0'))
    file = tmp_path / "good.tar"
    file.write_bytes(good)
    said = here._say(lambda config, runs: bundle_restore(config, runs, str(file)))
    assert "kept: arch_500_4-s0 was trained here and differs from what is published" in said
    assert "modern: 2 runs are as published" in said
    assert history.read_text() == "as in git\n"


def test_unfinished_preset_is_not_bundled(origin: Versioned, tmp_path: Path) -> None:
    here = Versioned(tmp_path / "here")
    shutil.copytree(origin.folder, here.folder)
    here.files("vae-s0").text("provenance.json").unlink()
    with pytest.raises(VaelabError, match=r"modern is not ready to be bundled:\n  vae-s0: it has"):
        here._say(lambda config, runs: write_bundle(config, runs, tmp_path / "bundle.tar"))
    assert not (tmp_path / "bundle.tar").exists()
