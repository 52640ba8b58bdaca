"""An unchanged file is hashed once, a changed one again, whatever state the record is in."""

import hashlib
import os
from pathlib import Path

import pytest

from fetch import hashes
from fetch.hashes import SMALLEST, forget_hashes, known_sha256
from fetch.places import weights_folder


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were really hashed, in an empty cache, on a clock that runs two seconds ahead."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(hashes, "SETTLED_S", 0.0)
    read: list[Path] = []
    hash_file = hashes.sha256_of
    monkeypatch.setattr(hashes, "sha256_of", lambda path: (read.append(path), hash_file(path))[1])
    return read


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"w" * SMALLEST)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_unchanged_file_is_hashed_once(hashed: list[Path], file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)

    assert known_sha256(file) == known_sha256(link) == known_sha256(file) == sha256(file)
    assert hashed == [file]


def change_content(file: Path) -> None:
    file.write_bytes(b"v" * SMALLEST)


def change_content_and_keep_the_time(file: Path) -> None:
    status = file.stat()
    with file.open("r+b") as out:
        out.write(b"v")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_by_rename(file: Path) -> None:
    status = file.stat()
    other = file.with_name("other")
    other.write_bytes(b"v" * SMALLEST)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)


def append(file: Path) -> None:
    with file.open("ab") as out:
        out.write(b"v")


@pytest.mark.parametrize(
    "change", [change_content, change_content_and_keep_the_time, replace_by_rename, append]
)
def test_a_changed_file_is_hashed_again(hashed: list[Path], file: Path, change) -> None:
    before = known_sha256(file)
    change(file)

    assert known_sha256(file) == sha256(file) != before
    assert len(hashed) == 2


def test_a_file_that_has_just_been_written_is_not_remembered(
    hashed: list[Path], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashes, "SETTLED_S", 60.0)

    known_sha256(file)
    known_sha256(file)

    assert len(hashed) == 2


def test_forgetting_makes_every_file_be_read_again(hashed: list[Path], file: Path) -> None:
    known_sha256(file)
    forget_hashes()
    known_sha256(file)

    assert len(hashed) == 2


def test_files_that_are_gone_leave_the_record(hashed: list[Path], file: Path) -> None:
    known_sha256(file)
    moved = file.rename(file.with_name("moved.bin"))
    known_sha256(moved)

    text = (weights_folder("") / "hashes.json").read_text()
    assert str(moved) in text
    assert str(file) not in text


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"\xff", b'{"a": 1}', b'{"a": [1]}', b"[" * 100_000]
)
def test_a_damaged_record_is_written_again(hashed: list[Path], file: Path, content: bytes) -> None:
    record = weights_folder("") / "hashes.json"
    record.parent.mkdir(parents=True)
    record.write_bytes(content)

    assert known_sha256(file) == known_sha256(file) == sha256(file)
    assert len(hashed) == 1


def test_a_cache_that_cannot_be_written_costs_time_only(
    hashed: list[Path], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))

    assert known_sha256(file) == known_sha256(file) == sha256(file)
    assert len(hashed) == 2
