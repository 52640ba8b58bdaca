"""Rows of other programs' files: the same numbers in any type and order, or left out."""

import zipfile

import h5py
import numpy as np
import pytest

from cache.foreign import read_import

NAMES = [f"fan/train/normal_id_00_{i:08d}.wav" for i in range(6)]


@pytest.fixture
def vectors(rng) -> np.ndarray:
    return rng.normal(size=(6, 8)).astype(np.float32)


@pytest.mark.parametrize("kind", ["<f2", ">f4", "<f8"])
def test_every_float_is_accepted(tmp_path, vectors, kind):
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file["nested/embeddings"] = vectors.astype(kind)
        file["nested/filenames"] = NAMES

    assert np.array_equal(
        read_import(tmp_path / "theirs.h5").vectors, vectors.astype(kind).astype(np.float32)
    )


def test_fortran_order_and_folders_of_npy_are_read(tmp_path, vectors):
    (tmp_path / "theirs" / "fan").mkdir(parents=True)
    for i, row in enumerate(vectors):
        np.save(tmp_path / "theirs" / "fan" / f"normal_{i}.npy", row)
    np.savez(tmp_path / "fortran.npz", embeddings=np.asfortranarray(vectors), names=NAMES)

    imported = read_import(tmp_path / "theirs")
    assert imported.names == tuple(f"fan/normal_{i}" for i in range(6))
    assert np.array_equal(imported.vectors, vectors)
    assert np.array_equal(read_import(tmp_path / "fortran.npz").vectors, vectors)


def test_compressed_files_are_read(tmp_path, vectors):
    np.savez_compressed(tmp_path / "theirs.npz", embeddings=vectors, names=NAMES)
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file.create_dataset("embeddings", data=vectors, chunks=(2, 8), compression="lzf")
        file["filenames"] = NAMES

    for name in ("theirs.npz", "theirs.h5"):
        assert np.array_equal(read_import(tmp_path / name).vectors, vectors)


def test_zero_and_broken_rows_are_dropped_and_counted(tmp_path, vectors):
    vectors[1], vectors[3, 2], vectors[4] = 0, np.nan, 0
    names = [*NAMES[:4], "example_00.wav", NAMES[5]]
    np.savez(tmp_path / "theirs.npz", embeddings=vectors, names=names)

    imported = read_import(tmp_path / "theirs.npz")

    assert imported.names == (NAMES[0], NAMES[2], NAMES[5])
    assert imported.report.left_out == "1 placeholder, 1 all-zero, 1 not finite"


def test_empty_and_truncated_files_are_refused(tmp_path, vectors):
    np.savez(tmp_path / "theirs.npz", embeddings=vectors, names=NAMES)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "theirs.npz").read_bytes()[:100])
    (tmp_path / "empty.h5").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        archive.writestr("notes.txt", "hello")
    (tmp_path / "folder").mkdir()

    for name in ("cut.npz", "empty.h5", "other.npz", "folder"):
        with pytest.raises(ValueError, match=rf"{name} is not imported: "):
            read_import(tmp_path / name)
