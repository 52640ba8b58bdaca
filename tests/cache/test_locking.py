"""One writer per store: who waits is told for whom, and who only reads needs no lock."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from store_worker import KEYS, content, environment, fill, open_store

from cache import __main__ as command
from cache.store import EmbeddingStore

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["merged", "parts"])
def read_only(mount_disk, request) -> EmbeddingStore:
    """A complete store on a file system that cannot be written."""
    disk = mount_disk("32m")
    fill(open_store(disk))
    if request.param == "merged":
        open_store(disk).merge()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    return open_store(disk)


def test_a_complete_cache_on_a_read_only_disk_is_read_without_a_lock(read_only):
    stats = {key: content(key, 1)[:2] for key in KEYS}

    with read_only.lock(reading=True) as is_held:
        missing = read_only.missing(stats, lambda key: content(key, 1)[2])

    assert not is_held
    assert missing == []
    assert np.isfinite(read_only.read(KEYS)).all()


def test_a_cache_that_must_be_written_says_that_the_disk_is_read_only(read_only):
    with pytest.raises(OSError, match="the disk is read-only; use another --cache-dir") as error:
        read_only.append(["new.wav"], np.ones((1, 3072)), [(1, 1, "")])

    assert error.value.filename == str(read_only.path)
    with pytest.raises(OSError, match="the disk is read-only"), read_only.lock():
        pass


def test_a_lock_that_is_held_says_so(tmp_path):
    with open_store(tmp_path).lock(reading=True) as is_held:
        assert is_held


def test_cache_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "cache").write_text("not a folder")

    with (
        pytest.raises(OSError, match="a file is where the folder should be"),
        open_store(tmp_path / "cache").lock(),
    ):
        pass


HOLDING = """
    import sys, time
    from pathlib import Path
    from store_worker import open_store
    with open_store(Path(sys.argv[1])).lock():
        print("held", flush=True)
        sys.stdin.readline()
"""


def start_holding(directory: Path, script: str = HOLDING) -> subprocess.Popen[str]:
    """Start a process that holds the lock of a store until it is told to end."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
        text=True,
    )


def test_second_run_is_told_who_writes_and_waits(tmp_path):
    store = open_store(tmp_path)
    first = start_holding(tmp_path)
    assert first.stdout is not None
    assert first.stdin is not None
    assert first.stdout.readline() == "held\n"
    messages: list[str] = []

    with (
        pytest.raises(TimeoutError, match=f"being written by process {first.pid} on"),
        store.lock(timeout=0.1, tell=messages.append),
    ):
        pass
    first.stdin.write("\n")
    first.stdin.flush()
    with store.lock(timeout=20):
        pass

    first.wait()
    assert len(messages) == 1
    assert f"process {first.pid}" in messages[0]


def test_lock_of_a_killed_run_is_free(tmp_path):
    store = open_store(tmp_path)
    first = start_holding(tmp_path)
    assert first.stdout is not None
    first.stdout.readline()

    first.kill()
    first.wait()
    with store.lock(timeout=5):
        pass


@pytest.mark.parametrize(
    "words",
    [("prune", "--data"), ("merge",), ("verify", "--repair"), ("merge", "--dtype", "float16")],
)
def test_a_command_that_waits_for_a_lock_says_for_whom(tmp_path, words, monkeypatch, capsys):
    store = open_store(tmp_path)
    rows = np.ones((2, 4), dtype=np.float32)
    store.append(KEYS[:2], rows, [content(key, 1) for key in KEYS[:2]])
    (tmp_path / "data" / KEYS[0]).parent.mkdir(parents=True)
    (tmp_path / "data" / KEYS[0]).touch()
    if words[0] == "verify":
        (part,) = store.parts_folder.glob("part-*")
        data = bytearray(part.read_bytes())
        data[-1] ^= 1
        part.write_bytes(data)
    asked = [*words, str(tmp_path / "data")] if words[0] == "prune" else list(words)
    holding = HOLDING.replace("sys.stdin.readline()", "time.sleep(1)")
    first = start_holding(tmp_path, holding)
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    monkeypatch.setattr(sys, "argv", ["cache", asked[0], str(store.path), *asked[1:]])

    with pytest.raises(SystemExit):
        command.main()

    first.wait()
    said = " ".join(capsys.readouterr().err.split())
    assert f"is being written by process {first.pid} on" in said
    assert "waiting for it to finish" in said


def test_a_strange_holder_file_is_no_obstacle(tmp_path):
    store = open_store(tmp_path)
    holder = store.path.with_name(f".{store.path.name}.holder")
    holder.write_text("[" * 10**5)

    with store.lock():
        assert json.loads(holder.read_text())["pid"] == os.getpid()
