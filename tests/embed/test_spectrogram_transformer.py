"""AST equals transformers' extractor and model on the same weights, whatever clip it is given.

Two layers show everything that twelve do, except how errors add up: one test has all twelve.
"""

import json
import random
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ASTModel
from transformers.utils import logging

from embed import make_encoder, make_pooling
from embed.encoders.spectrogram_transformer import (
    PREFIX,
    AstConfig,
    SpectrogramTransformer,
    random_tensors,
)
from fetch.weights import RANDOM_WARNING

logging.disable_progress_bar()

RATE = 16_000
OUTPUTS = ("clip", "cls", "bands", "frames")


def saved(folder: Path, n_layers: int) -> Path:
    """Write a folder as `save_pretrained` does, with tokens and positions that are not zero."""
    ASTForAudioClassification(ASTConfig(num_hidden_layers=n_layers)).save_pretrained(folder)
    ASTFeatureExtractor().save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in random_tensors(AstConfig(num_hidden_layers=n_layers)).items():
        assert tensors[PREFIX + name].shape == tensor.shape
        tensors[PREFIX + name] = tensor
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("ast"), n_layers=2)


@pytest.fixture(scope="module")
def reference(folder: Path) -> ASTModel:
    return ASTModel.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def encoder(folder: Path) -> SpectrogramTransformer:
    return make_encoder("ast", weights=str(folder))


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).normal(0, 0.1, n_samples)
    return samples.astype(np.float32)


def square(n_samples: int, frequency: float) -> np.ndarray:
    phase = np.arange(n_samples) * frequency / RATE % 1
    return np.where(phase < 0.5, 1, -1).astype(np.float32)


def tone(n_samples: int, frequency: float) -> np.ndarray:
    return np.sin(2 * np.pi * frequency / RATE * np.arange(n_samples)).astype(np.float32)


def extracted(waveform: np.ndarray) -> torch.Tensor:
    extractor = ASTFeatureExtractor()
    return extractor(waveform, sampling_rate=RATE, return_tensors="pt").input_values


@torch.inference_mode()
def published_tokens(reference: ASTModel, waveform: np.ndarray) -> np.ndarray:
    return reference(extracted(waveform)).last_hidden_state.numpy()


def encode(encoder: SpectrogramTransformer, waveforms: np.ndarray, *names: str) -> list[np.ndarray]:
    return encoder.encode(waveforms, [make_pooling(name) for name in names])


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


CLIPS = {
    "10 s": noise(10 * RATE),
    "an odd length": noise(50_001),
    "the shortest": noise(400),
    "the longest of one window": noise(164_239),
    "silence": np.zeros(RATE, np.float32),
    "a full-scale square wave": square(2 * RATE, 440.0),
    "a pure tone": tone(2 * RATE, 1000.0),
}


@pytest.mark.parametrize("name", CLIPS)
def test_features_and_embedding_are_the_published_ones(
    encoder: SpectrogramTransformer, reference: ASTModel, name: str
) -> None:
    waveform = CLIPS[name]
    tokens = published_tokens(reference, waveform)

    features = encoder.features(torch.from_numpy(waveform)[None])
    clip, cls = encode(encoder, waveform[None], "clip", "cls")

    torch.testing.assert_close(features, extracted(waveform), rtol=0, atol=1e-6)
    assert largest_difference(clip[0], (tokens[0, 0] + tokens[0, 1]) / 2) < 1e-5
    assert largest_difference(cls[0], tokens[0, 0]) < 1e-5
    assert np.abs(clip - cls).max() > 0.1  # or one could stand for the other


@pytest.mark.slow
def test_all_twelve_layers_are_the_published_ones(tmp_path: Path) -> None:
    reference = ASTModel.from_pretrained(saved(tmp_path, n_layers=12)).eval()
    encoder = make_encoder("ast", weights=str(tmp_path))

    (clip,) = encode(encoder, CLIPS["10 s"][None], "clip")

    tokens = published_tokens(reference, CLIPS["10 s"])
    assert largest_difference(clip[0], tokens[0, :2].mean(axis=0)) < 1e-5


def test_features_match_the_golden_values(
    encoder: SpectrogramTransformer, shared_data: Path
) -> None:
    golden = json.loads((shared_data / "golden" / "golden_values.json").read_text())
    expected = golden["ast_input_values"]
    waveform, rate = soundfile.read(
        shared_data / "golden" / "1272-128104-0000.flac", dtype="float32"
    )

    features = encoder.features(torch.from_numpy(waveform)[None])

    assert rate == RATE
    assert list(features.shape) == expected["shape"]
    np.testing.assert_allclose(
        features[0, 0, :30].numpy(), expected["input_values[0,0,:30]"], atol=expected["tol"]
    )


def test_bands_and_frames_are_the_patches_without_the_padding(
    encoder: SpectrogramTransformer, reference: ASTModel
) -> None:
    waveform = CLIPS["10 s"]
    patches = published_tokens(reference, waveform)[0, 2:].reshape(12, 101, 768)[:, :99]

    bands, frames, clip = encode(encoder, waveform[None], "bands", "frames", "clip")
    (pruned,) = encode(encoder, waveform[None], "clip")

    assert bands.shape == (1, 12, 768)
    assert frames.shape == (1, 99, 768)
    assert largest_difference(bands[0], patches.mean(axis=1)) < 1e-5
    assert largest_difference(frames[0], patches.mean(axis=0)) < 1e-5
    assert largest_difference(pruned, clip) < 1e-5


def test_eleven_seconds_are_the_mean_of_two_windows(
    encoder: SpectrogramTransformer, reference: ASTModel
) -> None:
    waveform = noise(11 * RATE)
    windows = encoder.windows(len(waveform))
    tokens = np.concatenate([published_tokens(reference, waveform[a:b]) for a, b in windows])

    clip, bands, frames = encode(encoder, waveform[None], "clip", "bands", "frames")

    assert len(windows) == 2
    assert windows[0][0] == 0
    assert windows[-1][1] > len(waveform) - 160
    assert largest_difference(clip[0], tokens[:, :2].mean(axis=(0, 1))) < 1e-5
    patches = tokens[:, 2:].reshape(2, 12, 101, 768)
    assert largest_difference(bands[0], patches.mean(axis=(0, 2))) < 1e-5
    steps = patches.mean(axis=1)  # the windows start 74 frames apart, patches are 10 apart
    assert largest_difference(frames[0], np.concatenate([steps[0], steps[1, 93:]])) < 1e-5


def test_long_clips_are_covered_without_a_gap() -> None:
    encoder = make_encoder("ast", weights="random")

    for n_samples in (164_240, 11 * RATE, 60 * RATE, 3600 * RATE):
        windows = encoder.windows(n_samples)
        starts, stops = zip(*windows, strict=True)

        assert all(stop - start == 164_080 for start, stop in windows)
        assert all(n < s + 240 for n, s in zip(starts[1:], stops[:-1], strict=True))
        assert n_samples - 160 < stops[-1] <= n_samples


def test_a_batch_gives_what_its_clips_give_alone_in_any_order(
    encoder: SpectrogramTransformer,
) -> None:
    waveforms = np.stack([noise(RATE // 2, seed) * (1 + seed) for seed in range(8)])
    order = np.random.default_rng(0).permutation(8)

    alone = np.concatenate([encode(encoder, w[None], "clip")[0] for w in waveforms])
    (batch,) = encode(encoder, waveforms[order], "clip")

    assert largest_difference(batch, alone[order]) < 1e-5
    assert np.abs(alone[0] - alone[1]).max() > 0.001 * np.abs(alone).max()


def test_a_clip_that_is_not_finite_keeps_to_its_own_row(encoder: SpectrogramTransformer) -> None:
    waveforms = np.stack([noise(RATE), np.full(RATE, np.nan, np.float32)])

    (clip,) = encode(encoder, waveforms, "clip")

    assert np.isfinite(clip[0]).all()
    assert np.isnan(clip[1]).any()


def test_attention_is_the_published_models_one_layer_at_a_time(
    encoder: SpectrogramTransformer, folder: Path
) -> None:
    waveform = noise(RATE)
    reference = ASTModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.inference_mode():
        theirs = reference(extracted(waveform), output_attentions=True).attentions

    layers = encoder.attention(waveform)

    assert iter(layers) is layers
    for ours, expected in zip(layers, theirs, strict=True):
        assert ours.shape == (12, 1214, 1214)
        np.testing.assert_allclose(ours.sum(axis=2), 1, atol=1e-4)
        np.testing.assert_allclose(ours, expected[0], atol=1e-6)


def test_the_rollout_of_attention_is_where_the_class_token_looks(
    encoder: SpectrogramTransformer,
) -> None:
    waveform = noise(RATE)

    attention = encoder.attention_map(waveform)

    flow = np.eye(1214)
    for layer in encoder.attention(waveform):
        flow = (0.5 * layer.mean(axis=0) + 0.5 * np.eye(1214)) @ flow
    expected = flow[0, 2:].reshape(12, 101)[:, :9].T
    np.testing.assert_allclose(attention, expected, rtol=1e-3)
    centres = encoder.patch_centres_hz
    assert (np.diff(centres) > 0).all()
    assert 20 < centres[0] < 500
    assert 5000 < centres[-1] < 8000


def test_attention_of_less_or_more_than_one_window_is_refused(
    encoder: SpectrogramTransformer,
) -> None:
    with pytest.raises(ValueError, match="at least 400 samples; got 399"):
        next(encoder.attention(noise(399)))
    with pytest.raises(ValueError, match="at most 164,239 samples; got 176,000"):
        next(encoder.attention(noise(11 * RATE)))


def test_bf16_is_near(folder: Path, encoder: SpectrogramTransformer) -> None:
    coarse = make_encoder("ast", weights=str(folder), precision="bf16")

    (exact,) = encode(encoder, noise(RATE)[None], "clip")
    (near,) = encode(coarse, noise(RATE)[None], "clip")

    assert near.dtype == np.float32
    assert 1e-4 < largest_difference(near, exact) < 0.05


def test_a_folder_of_the_bare_model_loads(
    folder: Path, reference: ASTModel, encoder: SpectrogramTransformer, tmp_path: Path
) -> None:
    reference.save_pretrained(tmp_path)
    bare = make_encoder("ast", weights=str(tmp_path))

    (ours,) = encode(bare, noise(RATE)[None], "clip")

    np.testing.assert_array_equal(ours, encode(encoder, noise(RATE)[None], "clip")[0])
    assert bare.weights_sha256 != encoder.weights_sha256  # it names no front end


def test_a_folders_normalisation_is_obeyed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").hardlink_to(folder / "model.safetensors")
    (tmp_path / "config.json").hardlink_to(folder / "config.json")
    ASTFeatureExtractor(mean=-6.0, std=3.0).save_pretrained(tmp_path)
    encoder = make_encoder("ast", weights=str(tmp_path))

    features = encoder.features(torch.from_numpy(noise(RATE))[None])

    theirs = ASTFeatureExtractor(mean=-6.0, std=3.0)(
        noise(RATE), sampling_rate=RATE, return_tensors="pt"
    ).input_values
    torch.testing.assert_close(features, theirs, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_random_weights_carry_a_warning_and_tell_clips_apart() -> None:
    encoder = make_encoder("ast", weights="random")
    waveforms = np.stack([noise(2 * RATE), square(2 * RATE, 440.0)])

    (clip,) = encode(encoder, waveforms, "clip")

    assert encoder.warning == RANDOM_WARNING
    assert np.abs(clip[0] - clip[1]).max() > 0.01 * np.abs(clip).max()


def small_folder(path: Path, **config: object) -> Path:
    settings = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 32}
    shape = AstConfig(num_hidden_layers=1, **settings)
    save_file(random_tensors(shape), path / "model.safetensors")
    content = {"model_type": "audio-spectrogram-transformer", "num_hidden_layers": 1}
    (path / "config.json").write_text(json.dumps({**content, **settings, **config}))
    return path


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "wav2vec2"}, "type 'wav2vec2', expected 'audio-spectrogram-transformer'"),
        ({"num_hidden_layers": 2}, "16 of 39 tensors are missing, first 'encoder.layer.1"),
        ({"intermediate_size": 48}, r"shape \(32, 24\), expected \(48, 24\)"),
        ({"hidden_act": "relu"}, "hidden_act 'relu', supported is 'gelu'"),
        ({"hidden_size": "24"}, "hidden_size '24', expected one such as 768"),
        ({"time_stride": 0}, "time_stride 0, expected one such as 10"),
        ({"num_attention_heads": 5}, "hidden_size 24 among 5 attention heads"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers 1,000,000,000, expected at most 1,000"),
        ({"num_mel_bins": 10**9, "frequency_stride": 10**9}, "num_mel_bins 1,000,000,000, expec"),
        ({"max_length": 10**9, "time_stride": 10**9}, "max_length 1,000,000,000, expected at mo"),
        ({"model_type": ["audio"]}, r"type \['audio'\], expected 'audio-spectrogram-transformer'"),
    ],
)
def test_folders_of_another_architecture_are_refused_in_one_line(
    config: dict[str, object], message: str, tmp_path: Path
) -> None:
    encoder = make_encoder("ast", weights=str(small_folder(tmp_path, **config)))

    with pytest.raises(ValueError, match=message) as caught:
        encode(encoder, noise(400)[None], "clip")

    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


HOSTILE = (10**9, 10**6, 2**70, -1, 0, 1, 2, 17, 0.5, None, True, "", "x", [], {}, [1])


def message_of(folder: Path) -> str:
    """Encode a clip; return the message of the error that a user would see, or ""."""
    try:
        encode(make_encoder("ast", weights=str(folder)), noise(4000)[None], *OUTPUTS)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("n", [40, pytest.param(1000, marks=pytest.mark.faults)])
def test_hostile_settings_give_vectors_or_one_line(n: int, tmp_path: Path) -> None:
    rng, counts = random.Random(4), {"encoded": 0, "refused": 0}
    names = [field.name for field in fields(AstConfig)]
    small_folder(tmp_path)

    for _ in range(n):
        odd = {name: rng.choice(HOSTILE) for name in rng.sample(names, rng.choice((1, 1, 2, 3)))}
        content = {"model_type": "audio-spectrogram-transformer", "num_hidden_layers": 1}
        small = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 32}
        (tmp_path / "config.json").write_text(json.dumps({**content, **small, **odd}))
        message = message_of(tmp_path)
        assert "\n" not in message, odd
        counts["refused" if message else "encoded"] += 1

    print(f"settings of AST: {n} mutants, {counts}")
    assert min(counts.values()) > 0


def test_renamed_keys_are_named(tmp_path: Path) -> None:
    small_folder(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    renamed = {name.replace("encoder.layer", "layers"): t for name, t in tensors.items()}
    save_file(renamed, tmp_path / "model.safetensors")
    encoder = make_encoder("ast", weights=str(tmp_path))

    with pytest.raises(ValueError, match=r"first 'encoder.layer.0.*it has 'layers.0"):
        encode(encoder, noise(400)[None], "clip")


def test_settings_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    small_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": ')
    encoder = make_encoder("ast", weights=str(tmp_path))

    with pytest.raises(ValueError, match=r"config.json cannot be read as JSON"):
        encode(encoder, noise(400)[None], "clip")


def test_settings_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    small_folder(tmp_path, max_length=1024)
    ASTFeatureExtractor(max_length=512).save_pretrained(tmp_path)
    encoder = make_encoder("ast", weights=str(tmp_path))

    with pytest.raises(ValueError, match=r"differ in max_length \(1024 and 512\)"):
        encode(encoder, noise(400)[None], "clip")


def test_a_small_folder_of_the_right_kind_is_fine(tmp_path: Path) -> None:
    encoder = make_encoder("ast", weights=str(small_folder(tmp_path)))

    clip, cls, bands, frames = encode(encoder, noise(RATE)[None], *OUTPUTS)

    assert clip.shape == cls.shape == (1, 24)
    assert bands.shape == (1, 12, 24)
    assert frames.shape == (1, 9, 24)
