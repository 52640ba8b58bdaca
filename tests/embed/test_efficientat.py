"""EfficientAT equals its authors' code on the published weights, from the waveform to the class."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from torch.nn import functional

from embed import make_encoder, make_pooling
from embed.encoders.efficientat import WIDTHS, EfficientAT, channels, expected_shapes
from fetch.reading import read_tensors
from fetch.weights import WEIGHTS

CASES = ("speech", "fan", "speech_1s")
LARGEST_ERROR = 1e-4


@pytest.fixture(scope="module")
def golden() -> dict:
    path = shared_folder() / "golden" / "golden_mn04.json"
    return json.loads(path.read_text(encoding="utf-8"))


def shared_folder() -> Path:
    folder = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real weights are not at {folder}")
    return folder


@pytest.fixture(scope="module")
def weights(golden) -> Path:
    return shared_folder() / golden["weights"]["file"]


@pytest.fixture(scope="module")
def encoder(weights: Path) -> EfficientAT:
    return make_encoder("efficientat", weights=str(weights))


@pytest.fixture(scope="module")
def waveforms(golden) -> dict[str, np.ndarray]:
    """The clip of each case at 32 kHz, `(1, n_samples)`."""
    found = {}
    for name in CASES:
        case = golden["cases"][name]
        samples, rate = soundfile.read(shared_folder() / case["file"], dtype="float32")
        resampled = soxr.resample(samples[: case["samples_16k"]], rate, 32_000, "HQ")
        found[name] = resampled[None].astype(np.float32)
        assert found[name].shape == (1, case["samples_32k"])
    return found


def largest_difference(tensor: torch.Tensor, entries: list) -> float:
    """Compare `[index, value]` pairs with a tensor, relative to its largest value."""
    flat = tensor.contiguous().flatten()
    return max(abs(float(flat[i]) - value) for i, value in entries) / float(flat.abs().max())


@pytest.mark.parametrize("name", CASES)
@torch.inference_mode()
def test_every_stage_is_the_published_one(encoder, golden, waveforms, name: str) -> None:
    case, clip = golden["cases"][name], torch.from_numpy(waveforms[name])
    numbers = [hidden["after_feature_block"] for hidden in case["hidden"]]

    log_mel = encoder.log_mel(clip)
    wanted = frozenset({"map", "clip"})
    outputs = encoder.forward_layers(clip, dict.fromkeys((*numbers, -1), wanted))

    assert list(log_mel.shape) == case["log_mel"]["shape"]
    assert largest_difference(log_mel, case["log_mel"]["entries"]) < LARGEST_ERROR
    assert abs(float(log_mel.mean()) - case["log_mel"]["mean"]) < LARGEST_ERROR
    for number, hidden in zip(numbers, case["hidden"], strict=True):
        grid = outputs[number]["map"].permute(0, 3, 1, 2)  # as published: channels first
        assert list(grid.shape) == hidden["shape"]
        assert largest_difference(grid, hidden["entries"]) < LARGEST_ERROR
        assert abs(float(grid.std()) - hidden["std"]) < 1e-3 * hidden["std"]
    expected = list(enumerate(case["embedding"]))
    assert largest_difference(outputs[-1]["clip"], expected) < LARGEST_ERROR


@pytest.mark.parametrize("name", CASES)
def test_the_class_of_speech_is_speech_and_that_of_a_fan_is_noise(
    encoder, golden, waveforms, weights, name: str
) -> None:
    tensors = read_tensors(weights)
    (clip,) = encoder.encode(waveforms[name], [make_pooling("clip")])

    hidden = functional.hardswish(
        torch.from_numpy(clip) @ tensors["classifier.2.weight"].T + tensors["classifier.2.bias"]
    )
    logits = hidden @ tensors["classifier.5.weight"].T + tensors["classifier.5.bias"]

    values, classes = logits.sigmoid()[0].topk(5)
    expected = golden["cases"][name]["top5"]
    assert classes.tolist() == [number for number, _, _ in expected]
    np.testing.assert_allclose(values, [value for _, _, value in expected], atol=1e-4)
    assert expected[0][1] == ("White noise" if name == "fan" else "Speech")


def test_outputs_have_the_promised_shapes_and_one_map(encoder, waveforms) -> None:
    poolings = [make_pooling(name) for name in ("clip", "bands", "frames", "mean")]

    clip, bands, frames, mean = encoder.encode(waveforms["fan"], poolings)

    assert [x.shape for x in (clip, bands, frames)] == [(1, 384), (1, 4, 384), (1, 32, 384)]
    np.testing.assert_allclose(bands.mean(axis=1), clip, atol=1e-5)
    np.testing.assert_allclose(mean, clip, atol=1e-5)


def test_a_batch_gives_what_its_clips_give_alone(encoder) -> None:
    clips = np.random.default_rng(0).normal(0, 0.1, (3, 33_001)).astype(np.float32)
    clips[1] *= 1e-3

    (batch,) = encoder.encode(clips, [make_pooling("clip")])

    alone = np.concatenate(
        [encoder.encode(clip[None], [make_pooling("clip")])[0] for clip in clips]
    )
    np.testing.assert_allclose(batch, alone, atol=1e-5)
    assert np.abs(batch[0] - batch[1]).max() > 0.1


@pytest.mark.parametrize("n_samples", [1024, 1025, 12_345])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_short_clips_and_silence_give_numbers(encoder, n_samples: int, level: float) -> None:
    clip = np.full((1, n_samples), level, np.float32)

    for vectors in encoder.encode(clip, [make_pooling("clip"), make_pooling("bands")]):
        assert np.isfinite(vectors).all()
    assert encoder.min_samples == 1024


def test_bf16_is_near(encoder, weights, waveforms) -> None:
    coarse = make_encoder("efficientat", weights=str(weights), precision="bf16")

    near, exact = (
        each.encode(waveforms["speech_1s"], [make_pooling("clip")])[0] for each in (coarse, encoder)
    )

    assert 1e-5 < np.abs(near - exact).max() / np.abs(exact).max() < 0.1


def test_channels_are_multiples_of_eight_that_lose_at_most_a_tenth() -> None:
    assert [channels(n) for n in (6.4, 25.6, 73.6, 11, 12, 920)] == [8, 24, 72, 16, 16, 920]


@pytest.mark.parametrize("variant", WIDTHS)
def test_every_variant_has_published_weights_and_a_width(variant: str) -> None:
    encoder = make_encoder("efficientat", variant=variant)
    (file,) = WEIGHTS[encoder.published_name].source.files

    assert file.name.startswith(variant.replace("_ext", "_as_ext") if "ext" in variant else variant)
    shapes = expected_shapes(WIDTHS[variant])
    assert shapes["features.16.0.weight"][0] == 960 * WIDTHS[variant]


def test_random_weights_are_of_the_variant() -> None:
    encoder = make_encoder("efficientat", weights="random", variant="mn05")

    (clip,) = encoder.encode(np.ones((1, 5_000), np.float32), [make_pooling("clip")])

    assert clip.shape == (1, 480)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("features.0.0.weight"), "1 of .* missing, first 'features.0.0.weight'"),
        (lambda t: t.pop("features.16.0.weight"), "not a checkpoint of EfficientAT"),
        (lambda t: t.update({"features.3.block.0.0.weight": torch.ones(3)}), r"has shape \(3,\)"),
        (lambda t: t.update({"features.16.0.weight": torch.ones(9, 7, 1, 1)}), "width 0.04375"),
        (lambda t: t.update({"features.0.1.bias": torch.full((8,), torch.nan)}), "not finite"),
    ],
)
def test_other_checkpoints_are_refused_in_one_line(weights, tmp_path, change, message) -> None:
    tensors = dict(torch.load(weights, weights_only=True))
    change(tensors)
    torch.save(tensors, tmp_path / "other.pt")
    encoder = make_encoder("efficientat", weights=str(tmp_path / "other.pt"))

    with pytest.raises(ValueError, match=message) as told:
        encoder.encode(np.ones((1, 5_000), np.float32), [make_pooling("clip")])

    assert "other.pt" in str(told.value)
    assert "\n" not in str(told.value)
