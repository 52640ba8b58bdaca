"""Layouts of other programs' files: recognised by names, shapes and types, or overridden."""

import h5py
import numpy as np
import pytest

from cache.foreign import import_to_store, read_import
from cache.foreign_layouts import Choices

NAMES = [f"fan/train/normal_id_00_{i:08d}.wav" for i in range(6)]


@pytest.fixture
def vectors(rng) -> np.ndarray:
    return rng.normal(size=(6, 8)).astype(np.float32)


@pytest.fixture
def frames(rng) -> np.ndarray:
    return rng.normal(size=(6, 5, 128)).astype(np.float32)


@pytest.mark.parametrize("names_key", ["filename", "audio_name", "key", "id", "sample_key"])
@pytest.mark.parametrize("embeddings_key", ["embedding", "features", "X", "global_embeddings"])
def test_every_usual_pair_of_names_is_known(tmp_path, vectors, embeddings_key, names_key):
    np.savez(tmp_path / "theirs.npz", **{embeddings_key: vectors, names_key: NAMES})

    assert np.array_equal(read_import(tmp_path / "theirs.npz").vectors, vectors)


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
