"""The table of a store: rows are read by it alone, and no damaged byte ends the program."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_stores import KEYS, content, open_store, stored_rows, with_table
from store_worker import environment

from cache import EmbeddingStore
from cache.failures import DamagedError
from cache.inspection import verify
from cache.table import table_at

ROOT = Path(__file__).resolve().parents[2]
FORMAT_1 = Path(__file__).parent / "format_1"


@pytest.fixture
def store(store) -> EmbeddingStore:
    store.merge()
    return store


def damage(kind: str, n: int, folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    """Change single bytes of a store, use and repair it each time; the process must live."""
    worker = [sys.executable, str(ROOT / "tests" / "damage_worker.py"), kind, str(n), "7"]
    ran = subprocess.run(
        [*worker, str(folder)],
        check=False,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    counts: dict[str, int] = json.loads(ran.stdout)
    with capsys.disabled():
        said = ", ".join(f"{count} {what}" for what, count in counts.items())
        print(f"\ndamaged bytes, {kind}: {said}")
    return counts


@pytest.mark.parametrize("kind", ["merged", "parts", "format 1"])
def test_a_damaged_byte_never_ends_the_program_nor_gives_a_wrong_vector(kind, tmp_path, capsys):
    counts = damage(kind, 120, tmp_path, capsys)

    assert counts["changes"] == 120
    assert counts["unharmed"] < 120


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["merged", "parts", "format 1"])
def test_thousands_of_damaged_bytes_never_end_the_program(kind, tmp_path, capsys):
    assert damage(kind, 2000, tmp_path, capsys)["rows damaged"] > 20


def test_the_hdf5_library_is_not_loaded_to_read_a_store(store):
    code = (
        "import sys; from cache import EmbeddingStore\n"
        f"store = EmbeddingStore.at({str(store.path)!r}); store.read(store.keys())\n"
        "print('h5py' in sys.modules)"
    )

    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert ran.stdout == "False\n"


def test_a_damaged_table_is_made_again_from_what_hdf5_says(store):
    data = bytearray(store.path.read_bytes())
    data[200] ^= 1
    store.path.write_bytes(data)

    assert np.array_equal(EmbeddingStore.at(store.path).read(KEYS), stored_rows())
    checked = verify(store.path)
    assert not checked.intact
    assert checked.structure == "the checksum of its table does not fit"
    assert store.repair() == []
    assert verify(store.path).intact


def test_damage_that_only_other_programs_would_meet_is_found_and_repaired(store):
    data = bytearray(store.path.read_bytes())
    superblock = data.index(b"\x89HDF")
    data[superblock + 8 : superblock + 48] = bytes(40)
    store.path.write_bytes(data)

    assert np.array_equal(EmbeddingStore.at(store.path).read(KEYS), stored_rows())
    assert verify(store.path).structure
    store.repair()
    with h5py.File(store.path) as file:
        assert np.array_equal(file["embeddings"][:], stored_rows())


def test_a_damaged_store_beside_does_not_stop_a_run(store):
    store.path.write_bytes(store.path.read_bytes()[:700])

    renamed = open_store(store.path.parent, data_name="renamed")

    assert renamed.donors == ()


@pytest.mark.parametrize(
    "text",
    [b"[" * 100_000, b"{}", b"[]", b'{"columns": {}}', b'{"columns": {"sizes": ["<i8", [3], 0]}}'],
)
def test_a_table_made_to_do_harm_is_refused(store, text):
    store.path.write_bytes(with_table(store.path.read_bytes(), text))

    with pytest.raises(DamagedError, match="damaged beyond reading"):
        table_at(store.path)


@pytest.mark.parametrize("change", [("<f4", ">f4"), ("[30, 6]", "[30, 9999]"), ("<u8", "|O8")])
def test_a_table_with_columns_that_cannot_be_is_refused(store, change):
    data = store.path.read_bytes()
    line, _, rest = data.partition(b"\n")
    text = rest[: int(line.split()[3])].replace(*(word.encode() for word in change))
    store.path.write_bytes(with_table(data, text))

    with pytest.raises(DamagedError, match="damaged beyond reading"):
        EmbeddingStore.at(store.path)


@pytest.mark.parametrize("pooling", ["mean", "frames"])
def test_stores_of_format_1_are_read_and_become_format_2_when_merged(tmp_path, pooling):
    name = f"dev_data-logmel-{pooling}-0123456789ab.h5"
    (tmp_path / name).write_bytes((FORMAT_1 / name).read_bytes())
    with h5py.File(FORMAT_1 / name) as file:
        keys, rows = file["filenames"].asstr()[:].tolist(), file["embeddings"][:]
    old = EmbeddingStore.at(tmp_path / name)

    assert old.keys() == keys
    assert np.array_equal(old.read(keys), rows, equal_nan=True)
    assert old.missing({key: content(key)[:2] for key in keys}, str) == []
    assert verify(old.path).intact
    old.append(["new.wav"], np.ones((1, *rows.shape[1:])), [content("new.wav")])
    old.merge()
    assert old.path.read_bytes().startswith(b"embedding store 2")
    assert np.array_equal(old.read(keys), rows, equal_nan=True)


def test_foreign_file_in_the_place_of_a_store_is_refused(tmp_path):
    store = open_store(tmp_path)
    with h5py.File(store.path, "w") as file:
        file["embeddings"] = np.zeros((3, 3))

    with pytest.raises(ValueError, match="is not a store of this project; import it instead"):
        open_store(tmp_path)


def test_store_of_a_later_version_is_refused(store):
    store.merge()
    store.path.write_bytes(with_table(store.path.read_bytes(), b"{}", version=99))

    with pytest.raises(ValueError, match="has cache format 99, newer than 2"):
        EmbeddingStore.at(store.path)
