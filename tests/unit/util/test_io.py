"""Atomic files: all or nothing, readable like any other file, nothing left behind."""

from __future__ import annotations

import csv
import os
import stat
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vaelab.util.errors import VaelabError
from vaelab.util.io import (
    atomic_path,
    atomic_write,
    not_in_future,
    one_at_a_time,
    read_json,
    write_csv,
    write_json,
    write_npz,
    write_rows,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_write(path) as stream:
        stream.write("half")
        stream.flush()
        assert not path.exists()
        stream.write(" and half")
    assert path.read_text() == "half and half"
    assert names(tmp_path) == ["a.txt"]


def test_failure_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path) as stream:
            stream.write("new")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_failure_leaves_no_file_where_there_was_none(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic_path(tmp_path / "a.bin") as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert names(tmp_path) == []


def test_readers_of_the_old_file_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with open(path) as reader:
        with atomic_write(path) as stream:
            stream.write("new")
        assert reader.read() == "old"
    assert path.read_text() == "new"


def test_temporary_file_lies_beside_its_target_with_its_ending(tmp_path: Path) -> None:
    """On another file system the rename would copy; numpy would append a missing ending."""
    with atomic_path(tmp_path / "deep" / "a.npz") as temporary:
        assert temporary.parent == tmp_path / "deep"
        assert temporary.name.startswith(".a.npz.")
        assert temporary.suffix == ".npz"
        temporary.write_bytes(b"x")
    assert names(tmp_path / "deep") == ["a.npz"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_of_any_new_file(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write_json(tmp_path / "a.json", {})
        (tmp_path / "plain").touch()
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.json", "plain")]
    assert modes == [0o666 & ~mask] * 2


def test_folder_that_cannot_be_made_is_an_error_for_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(VaelabError, match=r"cannot write .*file/deep/a\.json: .*"):
        write_json(tmp_path / "file" / "deep" / "a.json", {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes to read-only folders")
def test_read_only_folder_is_an_error_for_the_user(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(VaelabError, match=r"cannot write .*a\.json: Permission denied; choose"):
            write_json(tmp_path / "a.json", {})
    finally:
        tmp_path.chmod(0o755)


def test_second_holder_of_a_lock_waits_for_the_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = ExitStack()
    first.enter_context(one_at_a_time(tmp_path / "new"))
    with one_at_a_time(tmp_path / "new", meanwhile=first.close):
        assert caplog.messages == [
            f"another process is at work on {tmp_path / 'new'}; waiting for it"
        ]
    with one_at_a_time(tmp_path / "new"), one_at_a_time(tmp_path / "other"):
        assert len(caplog.messages) == 1


def test_wait_for_a_lock_can_be_ended(tmp_path: Path) -> None:
    def end() -> None:
        raise SystemExit(143)

    with one_at_a_time(tmp_path), pytest.raises(SystemExit):  # noqa: SIM117
        with one_at_a_time(tmp_path, meanwhile=end):
            pytest.fail("held twice")


def test_lock_is_released_by_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        with one_at_a_time(tmp_path):
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    with one_at_a_time(tmp_path):
        assert caplog.messages == []


def test_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(VaelabError, match=r"cannot create .*file/deep: "):  # noqa: SIM117
        with one_at_a_time(tmp_path / "file" / "deep"):
            pass


def test_json_round_trip_is_exact(tmp_path: Path) -> None:
    value = {"text": "β ≤ 1", "list": [1, 0.1, 1e-300, -0.0], "none": None, "nested": {"a": True}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert (tmp_path / "a.json").read_text().endswith("}\n")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_what_is_not_a_number(number: float, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"kl": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"kl": 2.0, "recon": [1.0, number]})
    assert read_json(path) == {"kl": 1.0}
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"a\.json does not exist"),
        (b'{"a": 1', r"a\.json is not valid JSON"),
        (b"", r"a\.json is not valid JSON"),
        (b"\xff\xfe\x00", r"a\.json is not valid JSON"),
    ],
)
def test_unreadable_json_is_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VaelabError, match=message):
        read_json(path)


def test_json_in_an_impossible_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(VaelabError, match=r"cannot read .*file/a\.json"):
        read_json(tmp_path / "file" / "a.json")
    with pytest.raises(VaelabError, match="cannot read"):
        read_json(tmp_path)


def test_arrays_round_trip(tmp_path: Path) -> None:
    arrays = {"images": np.arange(12, dtype=np.uint8).reshape(3, 4), "codes": np.array([0.1, -2.0])}
    write_npz(tmp_path / "a.npz", arrays)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as loaded:
        assert set(loaded.files) == set(arrays)
        for name, array in arrays.items():
            assert loaded[name].dtype == array.dtype
            assert (loaded[name] == array).all()


def test_rows_have_six_significant_digits_and_whole_integers(tmp_path: Path) -> None:
    rows = [
        {"samples": 120_000_000, "nats": -101.23456789, "text": "ESS 12 of 100, accept 0.9"},
        {"samples": 1, "nats": 1.5e-9, "text": 'with "quotes"'},
    ]
    write_rows(tmp_path / "a.csv", rows)
    with open(tmp_path / "a.csv", newline="") as stream:
        read = list(csv.reader(stream))
    assert read == [
        ["samples", "nats", "text"],
        ["120000000", "-101.235", "ESS 12 of 100, accept 0.9"],
        ["1", "1.5e-09", 'with "quotes"'],
    ]
    assert b"\r" not in (tmp_path / "a.csv").read_bytes()


def test_tables_are_written_as_rows_are(tmp_path: Path) -> None:
    rows = [{"run": "vae", "kl": 9.123456789, "n": 5}, {"run": "beta", "kl": 1e-7 / 3, "n": 7}]
    write_rows(tmp_path / "rows.csv", rows)
    write_csv(tmp_path / "frame.csv", pd.DataFrame(rows))
    assert (tmp_path / "frame.csv").read_bytes() == (tmp_path / "rows.csv").read_bytes()


def test_full_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(VaelabError) as raised, atomic_path(tmp_path / "a.json"):
        Path("/dev/full").write_text("2")
    assert str(raised.value) == (
        f"cannot write {tmp_path / 'a.json'}: No space left on device; "
        "free some space and give the same command again; nothing finished is lost"
    )
    assert read_json(tmp_path / "a.json") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_date_in_the_future_becomes_now(tmp_path: Path) -> None:
    early, late = tmp_path / "early", tmp_path / "late"
    for path, offset in ((early, -1000), (late, 1000)):
        path.touch()
        os.utime(path, (time.time() + offset,) * 2)
        not_in_future(path)
    assert time.time() - 1010 < early.stat().st_mtime < time.time() - 990
    assert time.time() - 10 < late.stat().st_mtime <= time.time()
