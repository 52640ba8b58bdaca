"""ResNet50 equals transformers' on the same picture, and pictures keep a clip's level."""

import inspect
import runpy
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertModel, ResNetConfig, ResNetForImageClassification
from transformers.utils import logging

from detect.detectors.resnet_autoencoder import frozen_resnet50
from embed import make_encoder, make_pooling
from embed.encoders.logmel import LogMel
from embed.encoders.resnet50 import SPECTROGRAM, ResNet50
from fetch.weights import RANDOM_WARNING

logging.disable_progress_bar()

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """As on the hub, with a classifier, and moments that are not those of a new network."""
    path = tmp_path_factory.mktemp("resnet")
    torch.manual_seed(3)
    model = ResNetForImageClassification(ResNetConfig(num_labels=10))
    with torch.no_grad():
        for name, tensor in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                tensor.add_(0.1 * (torch.rand_like(tensor) - 0.5))
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder: Path) -> ResNet50:
    return make_encoder("resnet50", weights=str(folder))


def noise(n_samples: int, n_clips: int = 1) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (n_clips, n_samples)).astype(np.float32)


def encode(encoder: ResNet50, waveforms: np.ndarray, *names: str) -> list[np.ndarray]:
    return encoder.encode(waveforms, [make_pooling(name) for name in names])


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("n_samples", [10 * RATE, 50_001, 1024])
def test_outputs_are_means_of_the_published_map(
    encoder: ResNet50, folder: Path, n_samples: int
) -> None:
    waveforms = noise(n_samples, n_clips=2)
    pictures = encoder.pictures(torch.from_numpy(waveforms))
    model = ResNetForImageClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        theirs = model.resnet(pictures)

    clip, frames, bands = encode(encoder, waveforms, "clip", "frames", "bands")

    places = theirs.last_hidden_state.numpy()
    assert places.shape == (2, 2048, 7, 7)
    assert largest_difference(clip, theirs.pooler_output[:, :, 0, 0].numpy()) < 1e-5
    assert largest_difference(frames, places.mean(axis=2).transpose(0, 2, 1)) < 1e-5
    assert largest_difference(bands, places.mean(axis=3).transpose(0, 2, 1)) < 1e-5
    assert largest_difference(frames, bands) > 1e-3


def test_a_picture_is_low_to_high_and_early_to_late(encoder: ResNet50) -> None:
    time = np.arange(2 * RATE) / RATE
    low_then_silent = np.where(time < 1, np.sin(2 * np.pi * 200 * time), 0).astype(np.float32)

    picture = encoder.pictures(torch.from_numpy(low_then_silent[None]))[0]

    assert picture.shape == (3, 224, 224)
    red = picture[0] * 0.229 + 0.485
    assert 0 <= red.min() < 1e-6
    assert red.max() <= 1 + 1e-6
    assert red[:112, :100].mean() > red[112:, :100].mean() + 0.1
    assert red[:, 120:].max() < 0.2
    same = picture * torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    grey = same + torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    torch.testing.assert_close(grey[0], grey[1])
    torch.testing.assert_close(grey[0], grey[2])


def test_a_louder_clip_is_a_brighter_picture_by_its_decibels(encoder: ResNet50) -> None:
    waveform = torch.from_numpy(noise(RATE))

    soft, loud = (encoder.pictures(gain * waveform)[0, 0] * 0.229 for gain in (0.1, 1.0))

    torch.testing.assert_close(loud - soft, torch.full((224, 224), 20 / 120), rtol=0, atol=1e-4)


def test_silence_and_full_scale_stay_within_the_picture(encoder: ResNet50) -> None:
    square = np.sign(np.sin(np.arange(RATE))).astype(np.float32)
    silence = np.zeros(RATE, np.float32)

    clip, frames = encode(encoder, np.stack([square, silence]), "clip", "frames")

    assert np.isfinite(clip).all()
    assert np.isfinite(frames).all()


def test_a_batch_gives_what_its_clips_give_alone_in_any_order(encoder: ResNet50) -> None:
    waveforms = noise(RATE, n_clips=5) * np.arange(1, 6, dtype=np.float32)[:, None]
    order = np.random.default_rng(0).permutation(5)

    alone = np.concatenate([encode(encoder, w[None], "clip")[0] for w in waveforms])
    (batch,) = encode(encoder, waveforms[order], "clip")

    assert largest_difference(batch, alone[order]) < 1e-5
    assert largest_difference(alone[:1], alone[1:2]) > 1e-3


def test_bf16_is_near(folder: Path, encoder: ResNet50) -> None:
    coarse = make_encoder("resnet50", weights=str(folder), precision="bf16")

    (exact,) = encode(encoder, noise(RATE), "clip")
    (near,) = encode(coarse, noise(RATE), "clip")

    assert near.dtype == np.float32
    assert 1e-5 < largest_difference(near, exact) < 0.1


def test_random_weights_need_no_files_and_carry_a_warning() -> None:
    encoder = make_encoder("resnet50", weights="random", offline=True)

    (clip,) = encode(encoder, noise(RATE, n_clips=2), "clip")
    (again,) = encode(make_encoder("resnet50", weights="random"), noise(RATE, n_clips=2), "clip")

    assert encoder.warning == RANDOM_WARNING
    assert clip.shape == (2, 2048)
    np.testing.assert_array_equal(clip, again)


def test_the_encoders_folder_is_what_the_detector_takes(encoder: ResNet50, folder: Path) -> None:
    detector = frozen_resnet50(str(folder))
    pictures = encoder.pictures(torch.from_numpy(noise(RATE)))
    brightness = pictures[:, 0] * 0.229 + 0.485

    with torch.inference_mode():
        places = detector(brightness).mean(dim=(2, 3)).numpy()

    assert largest_difference(encode(encoder, noise(RATE), "clip")[0], places) < 1e-5


def test_a_folder_of_another_kind_is_refused_in_one_line(tmp_path: Path) -> None:
    small = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    model = HubertModel(HubertConfig(**small, num_hidden_layers=1, conv_dim=(8,) * 7))
    model.save_pretrained(tmp_path)
    encoder = make_encoder("resnet50", weights=str(tmp_path))

    with pytest.raises(ValueError, match="type 'hubert' and takes input_values, not pixels") as why:
        encode(encoder, noise(RATE), "clip")

    assert "\n" not in str(why.value)


def test_missing_tensors_are_named(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["resnet.embedder.embedder.convolution.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    encoder = make_encoder("resnet50", weights=str(tmp_path))

    with pytest.raises(ValueError, match=r"1 tensors are missing, first 'embedder.embedder.conv"):
        encode(encoder, noise(RATE), "clip")


def test_the_spectrogram_enters_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {each.name for each in fields(LogMel)} - {"device"}
    assert set(SPECTROGRAM) == names
    assert ResNet50.version >= LogMel.version

    monkeypatch.setattr(LogMel, "version", LogMel.version + 1)
    again = runpy.run_path(str(Path(inspect.getfile(ResNet50))))["ResNet50"]

    assert again.version == ResNet50.version + 1
