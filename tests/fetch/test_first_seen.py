"""Files without a published hash: the first copy is recorded, another one is refused."""

import json
import logging
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from fetch.first_seen import recorded, verify_first_seen


@contextmanager
def no_room() -> Iterator[None]:
    """Let no file of this process grow."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_first_hash_of_a_source_is_recorded_and_another_one_refused(tmp_path: Path) -> None:
    record, file = tmp_path / "deep" / "first_seen.json", tmp_path / "weights.bin"
    verify_first_seen("hub/model@1", "aa", file, record)
    verify_first_seen("hub/model@1", "aa", file, record)
    verify_first_seen("hub/model@2", "bb", file, record)
    with pytest.raises(ValueError, match=r"weights.bin has sha256 cc, but hub/model@1 was aa"):
        verify_first_seen("hub/model@1", "cc", file, record)
    assert json.loads(record.read_text()) == {"hub/model@1": "aa", "hub/model@2": "bb"}


@pytest.mark.parametrize(
    "content", ["", '{"hub/model@1": "a', "[]", '{"hub/model@1": 1}', "\xff", "[" * 99_999]
)
def test_a_damaged_record_is_one_line_that_names_it_and_what_to_do(
    tmp_path: Path, content: str
) -> None:
    record = tmp_path / "first_seen.json"
    record.write_text(content, encoding="latin-1")

    with pytest.raises(ValueError, match=r"first_seen.json is damaged .*: delete it") as caught:
        verify_first_seen("hub/model@1", "aa", tmp_path / "weights.bin", record)

    assert "\n" not in str(caught.value)
    assert record.read_text(encoding="latin-1") == content


@pytest.mark.parametrize("obstacle", ["no folder", "no lock", "no room"])
def test_where_nothing_can_be_written_what_is_recorded_is_still_verified(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    obstacle: str,
) -> None:
    # a command of an earlier test may print what this room logs, to a file that cannot grow
    monkeypatch.setattr(logging.getLogger("fetch"), "handlers", [])
    record, file = tmp_path / "weights" / "first_seen.json", tmp_path / "weights.bin"
    if obstacle == "no folder":
        record.parent.write_bytes(b"")
    else:
        verify_first_seen("hub/model@1", "aa", file, record)
    if obstacle == "no lock":
        lock = record.with_name(".first_seen.json.lock")
        lock.unlink(missing_ok=True)
        lock.mkdir()

    with caplog.at_level(logging.WARNING), no_room() if obstacle == "no room" else nullcontext():
        verify_first_seen("hub/model@2", "bb", file, record)

    assert "hub/model@2 is not recorded as first seen" in caplog.text
    assert recorded("hub/model@2", record) == ""
    if obstacle != "no folder":
        with pytest.raises(ValueError, match="sha256 cc, but hub/model@1 was aa"):
            verify_first_seen("hub/model@1", "cc", file, record)


def test_a_record_reaches_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, synced = tmp_path / "first_seen.json", []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(record.exists()))

    verify_first_seen("hub/model@1", "aa", tmp_path / "weights.bin", record)

    assert synced == [False, True]  # the file before its name, then the folder
