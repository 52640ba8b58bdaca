"""Cnn14 equals panns-inference's own model on the same weights, whatever clip it is given."""

import importlib
import importlib.util
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from embed import make_encoder, make_pooling
from embed.encoders.panns import KERNEL, MEL, Cnn14, expected_shapes, random_tensors
from fetch.weights import RANDOM_WARNING

RATE = 32_000
MINIMUM = 9_920


def reference_models():
    """Import panns-inference's architectures without the download its import starts."""
    spec = importlib.util.find_spec("panns_inference")
    bare = types.ModuleType("panns_architectures")
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules[bare.__name__] = bare
    return importlib.import_module("panns_architectures.models")


@pytest.fixture(scope="module")
def reference():
    model = reference_models().Cnn14(RATE, 1024, 320, 64, 50, 14_000, 527).eval()
    missing = model.load_state_dict(random_tensors(), strict=False)
    assert not missing.unexpected_keys
    return model


@pytest.fixture(scope="module")
def checkpoint(reference, tmp_path_factory) -> Path:
    """Write a file with the layout of the published one."""
    path = tmp_path_factory.mktemp("panns") / "Cnn14.pth"
    torch.save({"iteration": 600_000, "model": reference.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def encoder(checkpoint: Path) -> Cnn14:
    return make_encoder("panns", weights=str(checkpoint))


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).normal(0, 0.1, n_samples)
    return samples.astype(np.float32)


def square(n_samples: int, frequency: float) -> np.ndarray:
    phase = np.arange(n_samples) * frequency / RATE % 1
    return np.where(phase < 0.5, 1, -1).astype(np.float32)


@torch.inference_mode()
def published_embedding(reference, waveforms: np.ndarray) -> np.ndarray:
    return reference(torch.from_numpy(waveforms))["embedding"].numpy()


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


CLIPS = {
    "10 s": noise(10 * RATE),
    "an odd length": noise(50_001),
    "the shortest": noise(MINIMUM),
    "silence": np.zeros(2 * RATE, np.float32),
    "a full-scale square wave": square(2 * RATE, 440.0),
    "a square wave on a bin": square(2 * RATE, 1000.0),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n == "10 s" else n for n in CLIPS]
)
def test_the_embedding_is_the_published_models(encoder: Cnn14, reference, name: str) -> None:
    waveform = CLIPS[name][np.newaxis]

    (ours,) = encoder.encode(waveform, [make_pooling("clip")])

    assert ours.shape == (1, 2048)
    assert ours.dtype == np.float32
    assert largest_difference(ours, published_embedding(reference, waveform)) < 1e-5


def test_a_batch_gives_what_its_clips_give_alone_in_any_order(encoder: Cnn14) -> None:
    waveforms = np.stack([noise(RATE // 2, seed) * (1 + seed) for seed in range(8)])
    order = np.random.default_rng(0).permutation(8)

    alone = np.concatenate([encoder.encode(w[None], [make_pooling("clip")])[0] for w in waveforms])
    (batch,) = encoder.encode(waveforms[order], [make_pooling("clip")])

    assert largest_difference(batch, alone[order]) < 1e-5
    assert np.abs(alone[0] - alone[1]).max() > 0.01 * np.abs(alone).max()


def test_a_clip_that_is_not_finite_keeps_to_its_own_row(encoder: Cnn14) -> None:
    waveforms = np.stack([noise(MINIMUM), np.full(MINIMUM, np.nan, np.float32)])

    (vectors,) = encoder.encode(waveforms, [make_pooling("clip")])

    assert np.isfinite(vectors[0]).all()
    assert np.isnan(vectors[1]).any()


def test_outputs_of_ten_seconds_have_the_promised_shapes(encoder: Cnn14, reference) -> None:
    names = ("clip", "frames", "bands", "mean", "max")
    poolings = [make_pooling(name) for name in names]

    clip, frames, bands, mean, maximum = encoder.encode(CLIPS["10 s"][None], poolings)

    assert frames.shape == (1, 31, 2048)
    assert bands.shape == (1, 2, 2048)
    np.testing.assert_allclose(bands.mean(axis=1), mean, rtol=1e-4, atol=1e-5)
    linear = random_tensors()
    hidden = (mean + maximum) @ linear["fc1.weight"].numpy().T + linear["fc1.bias"].numpy()
    np.testing.assert_allclose(np.maximum(hidden, 0), clip, rtol=1e-3, atol=1e-4)


def test_the_front_end_is_torchlibrosas(encoder: Cnn14, reference) -> None:
    waveforms = torch.from_numpy(np.stack([noise(RATE), square(RATE, 440.0)]))

    ours = encoder.log_mel(waveforms)

    with torch.inference_mode():
        theirs = reference.logmel_extractor(reference.spectrogram_extractor(waveforms))[:, 0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-3)


def test_bf16_is_near_and_has_another_fingerprint(checkpoint: Path, encoder: Cnn14) -> None:
    from embed.fingerprint import configuration, fingerprint
    from embed.recordings.preprocessing import Preprocessing

    coarse = make_encoder("panns", weights=str(checkpoint), precision="bf16")
    waveforms, pooling = noise(MINIMUM)[None], make_pooling("clip")

    (exact,) = encoder.encode(waveforms, [pooling])
    (near,) = coarse.encode(waveforms, [pooling])

    assert near.dtype == np.float32
    assert 1e-4 < largest_difference(near, exact) < 0.05
    prints = {fingerprint(configuration(e, Preprocessing(), pooling)) for e in (encoder, coarse)}
    assert len(prints) == 2


def test_the_fingerprint_knows_the_weights_not_their_path(checkpoint: Path, tmp_path: Path) -> None:
    moved = tmp_path / "renamed.pth"
    moved.hardlink_to(checkpoint)
    random = make_encoder("panns", weights="random")

    shas = [make_encoder("panns", weights=str(p)).weights_sha256 for p in (checkpoint, moved)]

    assert shas[0] == shas[1]
    assert len(shas[0]) == 64
    assert random.weights_sha256 not in ("", shas[0])


def test_random_weights_are_seeded_and_carry_a_warning(encoder: Cnn14) -> None:
    waveforms = np.stack([noise(MINIMUM, 1), square(MINIMUM, 440.0)])
    random = make_encoder("panns", weights="random")

    (vectors,) = random.encode(waveforms, [make_pooling("clip")])
    (same,) = encoder.encode(waveforms, [make_pooling("clip")])

    assert largest_difference(vectors, same) < 1e-6
    assert np.abs(vectors[0] - vectors[1]).max() > 0.1 * np.abs(vectors).max()
    assert random.warning == RANDOM_WARNING
    assert encoder.warning == ""


def test_an_encoder_travels_without_its_network(encoder: Cnn14) -> None:
    encoder.encode(noise(MINIMUM)[None], [make_pooling("clip")])

    copy = pickle.dumps(encoder)

    assert len(copy) < 1000
    assert pickle.loads(copy) == encoder


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"precision": "fp16"}, "precision is one of fp32, bf16, got 'fp16'"),
        ({"sample_rate": 16_000}, "trained at 32000 Hz"),
        ({"wait": 1}, "has no option 'wait'"),
    ],
)
def test_wrong_options_are_refused(option: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_encoder("panns", **option)


def broken(change, tmp_path: Path) -> Cnn14:
    tensors = {name: torch.zeros(shape) for name, shape in expected_shapes().items()}
    change(tensors)
    torch.save({"model": tensors}, tmp_path / "broken.pth")
    return make_encoder("panns", weights=str(tmp_path / "broken.pth"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("conv_block6.conv2.weight"), "1 of 66 .* first 'conv_block6.conv2.we"),
        (lambda t: t.update({"fc1.weight": torch.zeros(512, 2048)}), "'fc1.weight' has shape"),
        (lambda t: t.update({KERNEL: torch.zeros(257, 1, 512)}), "of another front end"),
        (lambda t: t.update({MEL: torch.zeros(513, 64)}), "of another front end"),
        (
            lambda t: t.update({"bn0.weight": torch.full((64,), torch.nan)}),
            "not finite, first in 'bn0.weight'",
        ),
    ],
)
def test_other_checkpoints_are_refused_in_one_line(
    change, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed.encoders.panns.CHANNELS", (1, 4, 4, 8, 8, 16, 16))
    monkeypatch.setattr("embed.encoders.panns.DIM", 16)
    encoder = broken(change, tmp_path)

    with pytest.raises(ValueError, match=message) as caught:
        encoder.encode(noise(MINIMUM)[None], [make_pooling("clip")])

    assert "broken.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tf32_is_off_inside_and_the_users_choice_returns() -> None:
    from embed.pretrained import without_tf32

    users = torch.backends.cudnn.allow_tf32
    first, second = without_tf32(), without_tf32()

    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)  # another thread may leave later than it came
    still_off = not torch.backends.cudnn.allow_tf32
    second.__exit__(None, None, None)

    assert still_off
    assert torch.backends.cudnn.allow_tf32 == users
