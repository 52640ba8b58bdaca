"""Stores merged, exported and pruned: a killed try is finished by the next one."""

import errno
import os
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from small_stores import KEYS, content, open_store, stored_rows
from store_worker import environment

from cache.store import EmbeddingStore, is_store, stores_in
from cache.transfer import export, merge_stores, prune

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def store(tmp_path) -> EmbeddingStore:
    store = open_store(tmp_path / "cache")
    store.append(KEYS, stored_rows(), [content(key) for key in KEYS])
    store.merge()
    return store


@pytest.fixture
def small_disk(mount_disk) -> Path:
    return mount_disk("64k")


KILLED = """
import os, sys
from pathlib import Path
from cache.transfer import merge_stores

def dying(what):
    def step(*arguments, **more):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return what(*arguments, **more)
    return step

for n in range(60):
    if os.fork() == 0:
        left = n
        for name in ("replace", "mkdir", "fsync", "unlink", "rmdir"):
            setattr(os, name, dying(getattr(os, name)))
        merge_stores([Path(sys.argv[1])], Path(sys.argv[2], str(n), "new.h5"))
        os._exit(0)
    if os.waitstatus_to_exitcode(os.wait()[1]) == 0:
        break
print(n)
"""


def test_a_merge_into_a_new_store_that_was_killed_anywhere_is_finished_by_the_next(store, tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, str(store.path), str(tmp_path)],
        cwd=ROOT,
        check=True,
        env=environment(),
        capture_output=True,
        text=True,
    )

    n_killed = int(ran.stdout)
    assert 8 < n_killed < 59
    for n in range(n_killed):
        into = tmp_path / str(n) / "new.h5"
        for path in stores_in(into.parent):
            EmbeddingStore.at(path)
        assert np.array_equal(merge_stores([store.path], into).read(KEYS), stored_rows())


def test_a_merge_that_met_a_full_disk_is_finished_when_there_is_room(tmp_path, small_disk):
    store = open_store(tmp_path / "cache", pooling="wide")
    rows = np.repeat(stored_rows(), 100, axis=1)
    store.append(KEYS, rows, [content(key) for key in KEYS])
    into = small_disk / "new" / "new.h5"

    with pytest.raises(OSError, match="the disk is full; free some space") as error:
        merge_stores([store.path], into)
    assert error.value.filename == str(into)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    merged = merge_stores([store.path], into)

    assert np.array_equal(merged.read(KEYS), rows)


@pytest.mark.parametrize("name", ["out.npz", "out.hdf5"])
def test_an_export_to_a_full_disk_names_the_path_and_what_to_do(tmp_path, small_disk, name):
    store = open_store(tmp_path / "cache", pooling="wide")
    store.append(KEYS, np.repeat(stored_rows(), 200, axis=1), [content(key) for key in KEYS])
    layout = "npz" if name.endswith("npz") else "datasets"

    with pytest.raises(OSError, match="nothing was exported: the disk is full; free") as error:
        export(store, small_disk / name, layout)

    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == str(small_disk / name)
    assert list(small_disk.iterdir()) == []


def test_what_a_killed_export_left_is_removed_once_it_is_stale(store, tmp_path):
    old, new = (tmp_path / f".out.npz.{token}.tmp" for token in ("01234567", "89abcdef"))
    for leftover in (old, new):
        leftover.write_bytes(b"half")
    os.utime(old, (time.time() - 4000,) * 2)

    export(store, tmp_path / "out.npz", "npz")

    assert not old.exists()
    assert new.exists()


def test_an_empty_folder_of_parts_is_no_store(tmp_path):
    (tmp_path / "new.parts").mkdir()

    assert not is_store(tmp_path / "new.h5")
    assert stores_in(tmp_path) == []


def test_the_same_clip_is_merged_once_whatever_form_of_unicode_its_name_has(store, tmp_path):
    name = "été.wav"
    row = content(name)
    store.append([unicodedata.normalize("NFC", name)], stored_rows()[:1], [row])
    other = open_store(tmp_path / "other")
    other.append([unicodedata.normalize("NFD", name)], stored_rows()[:1], [row])

    merged = merge_stores([store.path, other.path], tmp_path / "all.h5")

    assert len(merged) == 31


def test_pruning_keeps_a_clip_whose_file_has_another_form_of_unicode(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / unicodedata.normalize("NFC", "été.wav")).touch()
    store = open_store(tmp_path / "cache")
    written = unicodedata.normalize("NFD", "été.wav")
    long = "x" * 3000 + ".wav"
    store.append([written, "gone.wav", long], stored_rows()[:3], [content("x")] * 3)

    assert prune(store, data) == ["gone.wav", long]
    assert store.keys() == [written]
