"""`python -m cache`: what each command prints, as text and as JSON, and its exit codes."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from small_stores import KEYS, content, open_store

from cache.store import EmbeddingStore

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    errors: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def cache(monkeypatch, capsys):
    """Run a command in this process, as `python -m cache` would."""
    from cache import __main__ as command

    def run(*words: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["cache", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            command.main()
        said = capsys.readouterr()
        code = ended.value.code
        return Ran(code if isinstance(code, int) else int(code is not None), said.out, said.err)

    return run


@pytest.fixture
def recordings(tmp_path) -> Path:
    """Write files for the keys, whose content is what the store's rows were computed from."""
    folder = tmp_path / "recordings"
    for key in KEYS:
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_text(key)
    return folder


@pytest.fixture
def store(tmp_path, recordings, rng) -> EmbeddingStore:
    store = open_store(tmp_path / "cache", data_root=recordings)
    rows = rng.normal(size=(30, 6)).astype(np.float32)
    store.append(KEYS, rows, [content(key) for key in KEYS])
    store.merge()
    return store


def test_ls_lists_every_store(cache, store):
    listed = cache("ls", store.path.parent)

    assert listed.code == 0
    for word in ("dev_data", "logmel", "mean", "30", "6", "0123456789ab"):
        assert word in listed.out
    (facts,) = cache("ls", store.path.parent, "--json").json
    assert (facts["clips"], facts["row_shape"], facts["unmerged_parts"]) == (30, [6], 0)


def test_ls_counts_parts_that_are_not_merged(cache, store):
    store.append(["b.wav"], np.ones((1, 6)), [content("b.wav")])

    assert "31 + 1 parts" in cache("ls", store.path.parent).out


def test_ls_goes_on_after_a_broken_store(cache, store):
    (store.path.parent / "broken-x-y-0123456789ab.h5").write_bytes(b"no HDF5")

    listed = cache("ls", store.path.parent)

    assert listed.code == 1
    assert "logmel" in listed.out
    assert "broken-x-y-0123456789ab.h5 cannot be read: " in " ".join(listed.errors.split())


def test_show_tells_configuration_and_provenance(cache, store, recordings):
    assert "n_mels = 128" in cache("show", store.path).out

    facts = cache("show", store.path, "--json").json
    assert facts["configuration"] == {"n_mels": 128}
    assert facts["data_root"] == str(recordings)
    assert facts["source"] == "computed"


def test_verify_finds_an_intact_store_intact(cache, store, recordings):
    assert "30 clips, intact" in cache("verify", store.path).out

    verified = cache("verify", store.path, "--data", recordings, "--json")
    assert verified.code == 0
    assert not any(verified.json[0]["counts"].values())


def test_verify_names_what_is_wrong(cache, store, recordings):
    with h5py.File(store.path, "r+") as file:
        file["embeddings"][5, 0] += 1e-3
        file["embeddings"][6] = np.nan
        file["filenames"][7] = "other.wav"
    (recordings / KEYS[8]).write_text("X" * len(KEYS[8]))
    (recordings / KEYS[9]).unlink()

    verified = cache("verify", store.path, "--data", recordings, "--json")

    (facts,) = verified.json
    assert verified.code == 1
    assert facts["damaged"] == [KEYS[5], KEYS[6]]
    assert facts["not_finite"] == [KEYS[6]]
    assert facts["misnamed"] == ["other.wav"]
    assert facts["changed"] == [KEYS[8]]
    assert facts["absent"] == [KEYS[9], "other.wav"] or facts["absent"] == ["other.wav", KEYS[9]]


def test_repair_removes_the_wrong_rows_alone_and_they_are_missing_again(cache, store):
    with h5py.File(store.path, "r+") as file:
        file["embeddings"][5, 0] += 1e-3
        file["embeddings"][6] = np.nan
        file["filenames"][7] = "other.wav"
    with pytest.raises(OSError, match=r"are damaged .* verify .*--repair"):
        store.read(KEYS[:7])

    repaired = cache("verify", store.path, "--repair", "--json")

    assert repaired.code == 0
    assert repaired.json[0]["removed"] == [KEYS[5], KEYS[6], "other.wav"]
    assert sorted(store.keys()) == sorted({*KEYS} - {*KEYS[5:8]})
    assert store.read(KEYS[:5]).shape == (5, 6)
    assert "27 clips, intact" in cache("verify", store.path).out


def test_verify_refuses_a_truncated_store(cache, store):
    store.path.write_bytes(store.path.read_bytes()[:3000])

    verified = cache("verify", store.path)

    assert verified.code == 1
    assert "cannot be verified: " in verified.errors


def test_merge_puts_parts_into_the_file(cache, store):
    store.append(["b.wav"], np.ones((1, 6)), [content("b.wav")])

    merged = cache("merge", store.path, "--json")

    assert merged.json["clips"] == 31
    assert not store.parts_folder.exists()


def test_merge_halves_the_precision(cache, store):
    before = store.read(KEYS)

    assert cache("merge", store.path, "--dtype", "float16").code == 0
    assert np.array_equal(store.read(KEYS), before.astype(np.float16))


def test_merge_joins_stores_of_one_fingerprint(cache, store, tmp_path):
    other = open_store(tmp_path / "other", data_name="more")
    other.append(["b.wav", KEYS[0]], np.ones((2, 6)), [content("b.wav"), content(KEYS[0])])
    before = store.read(KEYS)

    joined = cache("merge", other.path, store.path, "--into", store.path, "--json")

    assert joined.json["clips"] == 31
    assert np.array_equal(store.read([*KEYS, "b.wav"]), np.vstack([before, np.ones((1, 6))]))


def test_merge_names_conflicts_and_writes_nothing(cache, store, tmp_path):
    other = open_store(tmp_path / "other", data_name="more")
    other.append(["b.wav", KEYS[0]], np.ones((2, 6)), [content("b.wav"), content(KEYS[0], 1)])
    before = store.path.read_bytes()

    joined = cache("merge", other.path, "--into", store.path)

    assert joined.code == 1
    assert f"1 clips were computed from different content: '{KEYS[0]}'" in joined.errors
    assert store.path.read_bytes() == before


def test_merge_refuses_another_fingerprint(cache, store, tmp_path):
    other = open_store(tmp_path / "other", fingerprint="f" * 64)
    other.append(["b.wav"], np.ones((1, 6)), [content("b.wav")])

    joined = cache("merge", other.path, "--into", store.path)

    assert joined.code == 1
    assert "they do not belong together" in joined.errors


@pytest.mark.parametrize("name", ["out.npz", "out.hdf5"])
def test_export_and_import_give_the_same_rows(cache, store, tmp_path, name):
    exported = cache("export", store.path, tmp_path / name)
    again = cache("export", store.path, tmp_path / name)
    imported = cache("import", tmp_path / name, "--cache-dir", tmp_path / "theirs", "--json")

    assert exported.code == 0
    assert (again.code, "is there already" in again.errors) == (1, True)
    back = EmbeddingStore.at(Path(imported.json["path"]))
    assert back.read(KEYS).tobytes() == store.read(KEYS).tobytes()


def test_import_says_what_it_recognised_and_left_out(cache, tmp_path, shared_data):
    file = shared_data / "imports" / "desed_style.h5"

    imported = cache("import", file, "--cache-dir", tmp_path)

    assert imported.code == 0
    assert "recognised: matrix /global_embeddings (42, 1024) float32" in imported.out
    assert "left out: 2 placeholder" in imported.out
    assert ": 40 rows of 1024" in imported.out


def test_prune_removes_only_clips_that_are_gone(cache, store, recordings):
    before = store.read(KEYS)
    (recordings / KEYS[3]).unlink()

    assert cache("prune", store.path, "--dry-run", "--json").json["removed"] == [KEYS[3]]
    assert len(store) == 30
    assert cache("prune", store.path, "--json").json["removed"] == [KEYS[3]]
    kept = KEYS[:3] + KEYS[4:]
    assert store.keys() == kept
    assert np.array_equal(store.read(kept), np.delete(before, 3, axis=0))


def test_prune_never_empties_a_store_because_a_disk_is_not_mounted(cache, store, tmp_path):
    (tmp_path / "empty").mkdir()

    assert cache("prune", store.path, "--data", tmp_path / "absent").code == 2
    assert cache("prune", store.path, "--data", tmp_path / "empty").code == 1
    assert len(store) == 30


HOSTILE = "[/red]fan[bold] \x1b[2J\x1b]0;title\x07\n\u202e"


def test_names_reach_the_terminal_as_text_and_not_as_commands(cache, tmp_path):
    store = open_store(tmp_path, data_name=HOSTILE, configuration={HOSTILE: HOSTILE})
    store.append([f"{HOSTILE}.wav"], np.zeros((1, 6)), [content(HOSTILE)])
    (tmp_path / f"{HOSTILE.replace('/', '')}.h5").write_bytes(b"no HDF5")

    for words in (("ls", tmp_path), ("show", store.path), ("verify", store.path)):
        ran = cache(*words)
        said = ran.out + ran.errors
        assert "\x1b" not in said
        assert "\u202e" not in said
        assert "[/red]fan[bold]" in said
        assert "Traceback" not in said
    assert json.loads(cache("show", store.path, "--json").out)["data_name"] == HOSTILE


def test_a_folder_of_parts_that_a_killed_start_left_does_not_break_ls(cache, store):
    store.path.with_name("killed-x-y-0123456789ab.parts").mkdir()

    listed = cache("ls", store.path.parent)

    assert listed.code == 0
    assert "1 stores" in listed.out


def test_repair_sets_a_store_aside_that_cannot_be_read(cache, store):
    store.path.write_bytes(store.path.read_bytes()[:3000])

    repaired = cache("verify", store.path, "--repair")

    assert repaired.code == 0
    assert "damaged" in repaired.out
    assert "cannot be read, set aside as" in repaired.out
    assert not store.path.exists()
    assert len(list(store.path.parent.glob("*.damaged"))) == 1


def test_memory_that_runs_out_is_one_line(cache, store, monkeypatch):
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("cache.inspection.verify", exhausted)

    ran = cache("verify", store.path)

    assert ran.code == 1
    assert ran.errors == "not enough memory for this; free some, or use a smaller file\n"


@pytest.mark.parametrize(
    "words",
    [
        ("ls", "/nowhere"),
        ("show", "/nowhere.h5"),
        ("verify", "/nowhere.h5"),
        ("merge", "/nowhere.h5"),
        ("export", "/nowhere.h5", "/tmp/x.npz"),
        ("import", "/nowhere.h5"),
        ("prune", "/nowhere.h5"),
        ("import", __file__, "--axes", "dnt"),
        ("import", __file__, "--dtype", "int8"),
        ("nonsense",),
    ],
)
def test_what_cannot_be_meant_is_exit_code_2(cache, words):
    ran = cache(*words)

    assert ran.code == 2
    assert ran.errors
    assert "Traceback" not in ran.errors


def test_help_loads_nothing_heavy_and_is_quick():
    began = time.monotonic()
    script = (
        "import sys; sys.argv = ['cache', '--help']\n"
        "import atexit; loaded = lambda: print('h5py' in sys.modules, 'numpy' in sys.modules)\n"
        "atexit.register(loaded)\n"
        "import runpy; runpy.run_module('cache', run_name='__main__')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert ran.stdout.rstrip().endswith("False False")
    assert time.monotonic() - began < 5
