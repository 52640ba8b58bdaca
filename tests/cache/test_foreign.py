"""Embeddings of other programs: recognised, reported, matched; the same vectors as theirs."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from cache.foreign import import_to_store, read_import
from cache.foreign_layouts import Choices
from cache.matching import match

NAMES = [f"fan/train/normal_id_00_{i:08d}.wav" for i in range(6)]


@pytest.fixture
def vectors(rng) -> np.ndarray:
    return rng.normal(size=(6, 8)).astype(np.float32)


def fan_keys(shared_data: Path) -> list[str]:
    fan = shared_data / "mimii_fan"
    return sorted(path.relative_to(fan).as_posix() for path in fan.rglob("*.wav"))


LAYOUTS = {
    "matrix_and_names.h5": "matrix /embeddings (40, 1024) float32 with names /filenames",
    "desed_style.h5": "matrix /global_embeddings (42, 1024) float32 with names /filenames",
    "dataset_per_clip.h5": "array per clip, 40 clips, float32, vectors of 1024",
    "group_per_clip.h5": "group per clip, 40 clips, float16, frames t,d (10, 1024)",
    "arrays.npz": "matrix /X (40, 1024) float32 with names /keys",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_real_file_of_each_layout_gives_the_same_vectors(shared_data, tmp_path, name):
    keys = fan_keys(shared_data)
    with h5py.File(shared_data / "imports" / "matrix_and_names.h5") as file:
        known = dict(zip(file["filenames"].asstr()[:], file["embeddings"][:], strict=True))

    store, report = import_to_store(shared_data / "imports" / name, tmp_path)
    matching = match(store.keys(), keys)
    rows = store.read([matching.names[key] for key in keys])
    rows = np.nanmean(rows, axis=1) if report.frames else rows

    assert report.recognised.startswith(LAYOUTS[name])
    assert np.allclose(rows, [known[key] for key in keys], atol=1e-2 if report.frames else 0)
    assert (report.rows, report.placeholders, report.zero) == (40, 2 if "desed" in name else 0, 0)
    assert (matching.unmatched_names, matching.unmatched_keys) == ((), ())
    assert store.header.source == report.source
    assert report.source.startswith("import:")


def test_file_is_imported_once_and_remembers_its_report(shared_data, tmp_path, monkeypatch):
    path = shared_data / "imports" / "desed_style.h5"
    first = import_to_store(path, tmp_path)
    monkeypatch.setattr("cache.foreign.ask", None)

    assert import_to_store(path, tmp_path) == first


def test_choices_lead_to_another_store(shared_data, tmp_path):
    path = shared_data / "imports" / "desed_style.h5"
    vectors, _ = import_to_store(path, tmp_path)
    frames, report = import_to_store(path, tmp_path, Choices(embeddings_key="frame_embeddings"))

    assert vectors.path != frames.path
    assert report.row_shape == (10, 1024)
    assert "frames n,d,t (vectors beside it have 1024 numbers)" in report.recognised


def test_cache_written_here_comes_back_bit_for_bit(tmp_path, vectors):
    from cache.transfer import export

    np.savez(tmp_path / "theirs.npz", features=vectors, names=NAMES)
    store, _ = import_to_store(tmp_path / "theirs.npz", tmp_path / "cache")
    export(store, tmp_path / "ours.npz", "npz")
    export(store, tmp_path / "ours.hdf5", "datasets")

    for path in (store.path, tmp_path / "ours.npz", tmp_path / "ours.hdf5"):
        back = read_import(path)
        assert back.names == tuple(NAMES)
        assert back.vectors.tobytes() == vectors.tobytes()


def test_frames_of_different_lengths_come_back_bit_for_bit(tmp_path, rng):
    from cache.transfer import export

    lengths = [3, 5, 4, 5, 3, 2]
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        for name, length in zip(NAMES, lengths, strict=True):
            file[name] = rng.normal(size=(length, 8)).astype(np.float32)
    theirs = read_import(tmp_path / "theirs.h5")
    store, report = import_to_store(tmp_path / "theirs.h5", tmp_path / "cache")
    export(store, tmp_path / "ours.npz", "npz")
    export(store, tmp_path / "ours.hdf5", "datasets")

    assert "the first axis differs between clips" in report.recognised
    assert report.row_shape == (5, 8)
    for path in (store.path, tmp_path / "ours.npz", tmp_path / "ours.hdf5"):
        back = read_import(path)
        at = [back.names.index(name) for name in theirs.names]
        assert np.array_equal(back.vectors[at], theirs.vectors, equal_nan=True)


def test_file_without_a_usable_row_is_refused(tmp_path, vectors):
    np.savez(tmp_path / "theirs.npz", embeddings=vectors * 0, names=NAMES)

    with pytest.raises(ValueError, match=r"holds no usable embedding \(6 all-zero\)"):
        read_import(tmp_path / "theirs.npz")


def test_repeated_rows_are_kept_once_and_contradicting_ones_refused(tmp_path, vectors):
    names = [NAMES[0], *NAMES[:5]]
    vectors[1] = vectors[0]
    np.savez(tmp_path / "theirs.npz", embeddings=vectors, names=names)
    assert read_import(tmp_path / "theirs.npz").report.left_out == "1 repeated"

    vectors[1] += 1
    np.savez(tmp_path / "theirs.npz", embeddings=vectors, names=names)
    with pytest.raises(ValueError, match=f"the name '{NAMES[0]}' has two different rows"):
        read_import(tmp_path / "theirs.npz")


def test_half_imported_file_is_finished_by_the_next_try(tmp_path, vectors, monkeypatch):
    np.savez(tmp_path / "theirs.npz", embeddings=vectors, names=NAMES)
    from cache.store import EmbeddingStore

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingStore, "merge", interrupted)
        with pytest.raises(KeyboardInterrupt):
            import_to_store(tmp_path / "theirs.npz", tmp_path / "cache")
    store, report = import_to_store(tmp_path / "theirs.npz", tmp_path / "cache")

    assert np.array_equal(store.read(NAMES), vectors)
    assert report.rows == len(store) == 6


def folder_of_three(folder: Path) -> Path:
    folder.mkdir()
    for i in range(3):
        np.save(folder / f"c{i}.npy", np.full(4, i + 1, dtype=np.float32))
    return folder


def test_imports_of_the_first_rules_keep_their_fingerprints(tmp_path):
    folder = folder_of_three(tmp_path / "x")

    plain, _ = import_to_store(folder, tmp_path / "cache")
    by_name, _ = import_to_store(folder, tmp_path / "cache", Choices(match="name"))

    assert plain.path.name == "x-import-own-170ac2cd8991.h5"
    assert by_name.path.name == "x-import-own-409f36b40994.h5"


def test_rows_that_other_rules_imported_are_not_used(tmp_path, monkeypatch):
    folder = folder_of_three(tmp_path / "x")
    first, _ = import_to_store(folder, tmp_path / "cache")

    monkeypatch.setattr("cache.foreign.RULES_VERSION", 2)
    second, _ = import_to_store(folder, tmp_path / "cache")

    assert second.path != first.path
    assert second.header.fingerprint != first.header.fingerprint


def test_an_import_with_a_very_long_name_is_kept(tmp_path):
    folder = folder_of_three(tmp_path / ("n" * 250))

    store, _ = import_to_store(folder, tmp_path / "cache")

    assert len(store) == 3
    assert len(store.path.name) < 200
