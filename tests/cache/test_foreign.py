"""Embeddings of other programs: recognised, reported, matched; the same vectors as theirs."""

import zipfile
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


@pytest.fixture
def frames(rng) -> np.ndarray:
    return rng.normal(size=(6, 5, 128)).astype(np.float32)


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


@pytest.mark.parametrize("names_key", ["filename", "audio_name", "key", "id", "sample_key"])
@pytest.mark.parametrize("embeddings_key", ["embedding", "features", "X", "global_embeddings"])
def test_every_usual_pair_of_names_is_known(tmp_path, vectors, embeddings_key, names_key):
    np.savez(tmp_path / "theirs.npz", **{embeddings_key: vectors, names_key: NAMES})

    assert np.array_equal(read_import(tmp_path / "theirs.npz").vectors, vectors)


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


def test_quantised_vectors_need_a_word(tmp_path):
    quantised = np.array([[0, 255, 51]], dtype=np.uint8)
    np.savez(tmp_path / "theirs.npz", embeddings=quantised, names=NAMES[:1])

    with pytest.raises(ValueError, match="is uint8: quantised VGGish; --dequantise"):
        read_import(tmp_path / "theirs.npz")
    rows = read_import(tmp_path / "theirs.npz", Choices(dequantise=True)).vectors
    assert np.allclose(rows, [[-2, 2, -1.2]])


def test_packed_audio_is_not_taken_for_embeddings(tmp_path):
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file["audio_name"] = NAMES
        file["waveform"] = np.zeros((6, 100), dtype=np.int16)
        file["target"] = np.zeros((6, 527), dtype=np.float32)

    with pytest.raises(ValueError, match=r"packed audio \(waveform\), not embeddings"):
        read_import(tmp_path / "theirs.h5")


def test_frames_are_told_from_transposed_ones(tmp_path, frames):
    transposed = np.ascontiguousarray(np.swapaxes(frames, 1, 2))
    np.savez(tmp_path / "ntd.npz", features=frames, names=NAMES)
    np.savez(tmp_path / "ndt.npz", features=transposed, names=NAMES)

    for name, axes in (("ntd.npz", "n,t,d"), ("ndt.npz", "n,d,t")):
        imported = read_import(tmp_path / name)
        assert f"frames {axes} (128 is a usual width)" in imported.report.recognised
        assert np.array_equal(imported.vectors, frames)
    forced = read_import(tmp_path / "ntd.npz", Choices(axes="ndt"))
    assert np.array_equal(forced.vectors, transposed)


def test_log_mel_sequences_of_others_are_kept_as_sequences(tmp_path, rng):
    log_mel = rng.normal(size=(6, 200, 128)).astype(np.float32)
    np.savez(tmp_path / "theirs.npz", X=log_mel, ids=NAMES)

    store, report = import_to_store(tmp_path / "theirs.npz", tmp_path / "cache")

    assert report.frames
    assert np.array_equal(store.read(NAMES), log_mel)


def test_override_of_the_keys(tmp_path, vectors):
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file["deep/mine"], file["deep/tags"] = vectors, NAMES

    with pytest.raises(ValueError, match=r"no known layout in .*/deep/mine \(6, 8\)"):
        read_import(tmp_path / "theirs.h5")
    choices = Choices(embeddings_key="mine", names_key="tags")
    assert read_import(tmp_path / "theirs.h5", choices).names == tuple(NAMES)
    with pytest.raises(ValueError, match="no array 'yours' for --embeddings-key; it has /deep"):
        read_import(tmp_path / "theirs.h5", Choices(embeddings_key="yours"))


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
