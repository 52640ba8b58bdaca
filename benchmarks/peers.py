"""The encoders as people run them: librosa.load, then the published code, a clip at a time."""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import librosa
import numpy as np
import torch
from plain_networks import WEIGHTS, plain_pass
from torch import nn

PLAIN_BATCH = 4


@cache
def published_cnn14(device: str) -> nn.Module:
    """Import panns-inference's architecture without what its import downloads."""
    from embed.encoders.panns import random_tensors

    spec = importlib.util.find_spec("panns_inference")
    bare = types.ModuleType("panns_architectures")
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules[bare.__name__] = bare
    models = importlib.import_module("panns_architectures.models")
    model = models.Cnn14(32_000, 1024, 320, 64, 50, 14_000, 527)
    model.load_state_dict(random_tensors(), strict=False)
    return model.eval().to(device)


@cache
def published_ast(device: str) -> tuple[nn.Module, Callable]:
    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    return ASTModel(ASTConfig()).eval().to(device), ASTFeatureExtractor()


def naive_panns(paths: list[Path], device: str) -> None:
    model = published_cnn14(device)
    for path in paths:
        waveform, _ = librosa.load(path, sr=32_000)
        model(torch.from_numpy(waveform)[None].to(device))["embedding"].cpu().numpy()


def naive_ast(paths: list[Path], device: str) -> None:
    model, extractor = published_ast(device)
    for path in paths:
        waveform, _ = librosa.load(path, sr=16_000)
        inputs = extractor(waveform, sampling_rate=16_000, return_tensors="pt").to(device)
        model(**inputs).pooler_output.cpu().numpy()


class TorchVGGish(nn.Module):
    """The layers in torchvggish's order, in torch's default memory format."""

    def __init__(self) -> None:
        super().__init__()
        layers, n_in = [], 1
        for n_out in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0):
            if n_out:
                layers += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU(inplace=True)]
                n_in = n_out
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(12_288, 4096), nn.ReLU(True), nn.Linear(4096, 4096), nn.ReLU(True),
            nn.Linear(4096, 128),
        )  # fmt: skip

    def forward(self, x):
        return self.embeddings(self.features(x).permute(0, 2, 3, 1).flatten(1))


@cache
def published_vggish(device: str) -> nn.Module:
    from embed.encoders.vggish import random_tensors
    from fetch.vggish_weights import TORCHVGGISH

    model = TorchVGGish()
    named = {}
    for name, tensor in random_tensors().items():
        layer, part = name.split(".")
        named[f"{TORCHVGGISH[layer]}.{part}"] = tensor
    model.load_state_dict(named)
    return model.eval().to(device)


@cache
def mel_matrix() -> np.ndarray:
    from embed.encoders.vggish import mel_filters

    return mel_filters().numpy()


def numpy_log_mel(waveform: np.ndarray) -> np.ndarray:
    n_frames = 1 + (len(waveform) - 400) // 160
    step = waveform.strides[0]
    frames = np.lib.stride_tricks.as_strided(waveform, (n_frames, 400), (160 * step, step))
    window = 0.5 - 0.5 * np.cos(2 * np.pi / 400 * np.arange(400))
    log_mel = np.log(np.abs(np.fft.rfft(frames * window, 512)) @ mel_matrix() + 0.01)
    n = n_frames // 96
    return log_mel[: n * 96].reshape(n, 1, 96, 64)


def naive_vggish(paths: list[Path], device: str) -> None:
    model = published_vggish(device)
    for path in paths:
        waveform, _ = librosa.load(path, sr=16_000)
        model(torch.from_numpy(numpy_log_mel(waveform)).float().to(device)).cpu().numpy()


@cache
def published_wav2vec2(device: str) -> tuple[nn.Module, Callable]:
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    return Wav2Vec2Model(Wav2Vec2Config()).eval().to(device), Wav2Vec2FeatureExtractor()


def naive_wav2vec2(paths: list[Path], device: str) -> None:
    model, extractor = published_wav2vec2(device)
    for path in paths:
        waveform, _ = librosa.load(path, sr=16_000)
        inputs = extractor(waveform, sampling_rate=16_000, return_tensors="pt").to(device)
        model(**inputs).last_hidden_state.mean(dim=1).cpu().numpy()


@cache
def published_resnet50(device: str) -> nn.Module:
    from transformers import ResNetConfig, ResNetModel

    return ResNetModel(ResNetConfig()).eval().to(device)


def naive_resnet50(paths: list[Path], device: str) -> None:
    model = published_resnet50(device)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    for path in paths:
        waveform, _ = librosa.load(path, sr=16_000)
        mel = librosa.feature.melspectrogram(
            y=waveform, sr=16_000, n_fft=1024, hop_length=512, n_mels=128, pad_mode="constant"
        )
        bright = np.clip((librosa.power_to_db(mel, ref=1.0, top_db=None) + 80) / 120, 0, 1)
        image = torch.from_numpy(bright.astype(np.float32))[None, None]
        image = nn.functional.interpolate(image, (224, 224), mode="bilinear", antialias=True)
        picture = (image.expand(1, 3, 224, 224) - mean) / deviation
        model(picture.to(device)).pooler_output.cpu().numpy()


@cache
def plain_weights(name: str, device: str) -> dict[str, torch.Tensor]:
    return {key: tensor.to(device) for key, tensor in WEIGHTS[name]().items()}


def naive_patches(name: str, paths: list[Path], device: str) -> None:
    """Encode clips by the plain eager pass of the same network, four at a time."""
    for start in range(0, len(paths), PLAIN_BATCH):
        clips = [librosa.load(path, sr=16_000)[0] for path in paths[start : start + PLAIN_BATCH]]
        waveforms = torch.from_numpy(np.stack(clips)).to(device)
        plain_pass(name, plain_weights(name, device), waveforms).cpu().numpy()


NAIVE = {
    **{name: partial(naive_patches, name) for name in WEIGHTS},
    "panns": naive_panns,
    "ast": naive_ast,
    "vggish": naive_vggish,
    "wav2vec2": naive_wav2vec2,
    "resnet50": naive_resnet50,
}
