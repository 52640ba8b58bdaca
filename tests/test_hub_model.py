"""Audio models of the hub give the hidden states that transformers gives, and run no code."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    AutoModel,
    ClapConfig,
    ClapFeatureExtractor,
    Data2VecAudioConfig,
    HubertConfig,
    SeamlessM4TFeatureExtractor,
    SEWConfig,
    SEWDConfig,
    UniSpeechConfig,
    UniSpeechSatConfig,
    Wav2Vec2BertConfig,
    Wav2Vec2Config,
    Wav2Vec2ConformerConfig,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from embed import make_encoder, make_pooling
from embed.encoder import Encoder

transformers.utils.logging.disable_progress_bar()

RATE = 16_000
N_LAYERS = 3
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
CONV = {
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


@dataclass(frozen=True)
class Family:
    """A small model of one type, and its extractor."""

    config: Callable[[], Any]
    extractor: Callable[[], Any] = Wav2Vec2FeatureExtractor
    n_samples: int = 9_001


def whisper() -> WhisperConfig:
    return WhisperConfig(
        d_model=32,
        encoder_layers=N_LAYERS,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        vocab_size=50,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )


def clap(**more: Any) -> ClapConfig:
    audio = {
        **more,
        "patch_embeds_hidden_size": 8,
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 2, 2],
        "hidden_size": 64,
        "num_hidden_layers": 4,
    }
    text = {**SMALL, "vocab_size": 20}
    return ClapConfig(audio_config=audio, text_config=text, projection_dim=8)


FAMILIES = {
    "wav2vec2": Family(lambda: Wav2Vec2Config(**SMALL, **CONV)),
    "wav2vec2 stable": Family(
        lambda: Wav2Vec2Config(
            **SMALL, **CONV, do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True
        ),
    ),
    "wav2vec2 adapter": Family(lambda: Wav2Vec2Config(**SMALL, **CONV, add_adapter=True)),
    "hubert": Family(lambda: HubertConfig(**SMALL, **CONV)),
    "wavlm": Family(lambda: WavLMConfig(**SMALL, **CONV)),
    "wavlm stable": Family(
        lambda: WavLMConfig(**SMALL, **CONV, do_stable_layer_norm=True, feat_extract_norm="layer")
    ),
    "data2vec": Family(
        lambda: Data2VecAudioConfig(
            **SMALL, conv_dim=(16,) * 7, num_conv_pos_embedding_groups=2, conv_pos_kernel_size=3
        )
    ),
    "unispeech": Family(lambda: UniSpeechConfig(**SMALL, **CONV)),
    "unispeech-sat": Family(lambda: UniSpeechSatConfig(**SMALL, **CONV)),
    "sew": Family(lambda: SEWConfig(**SMALL, **{**CONV, "conv_dim": (16,) * 13})),
    "sew-d": Family(lambda: SEWDConfig(**SMALL, **{**CONV, "conv_dim": (16,) * 13})),
    "wav2vec2-conformer": Family(
        lambda: Wav2Vec2ConformerConfig(**SMALL, **CONV, conv_depthwise_kernel_size=5)
    ),
    "wav2vec2-bert": Family(
        lambda: Wav2Vec2BertConfig(
            **SMALL, feature_projection_input_dim=160, conv_depthwise_kernel_size=5
        ),
        lambda: SeamlessM4TFeatureExtractor(feature_size=80, num_mel_bins=80),
        n_samples=9_040,  # an odd number of mel frames: the extractor pads and masks the last
    ),
    "whisper": Family(whisper, WhisperFeatureExtractor),
    "clap": Family(clap, lambda: ClapFeatureExtractor(truncation="rand_trunc"), n_samples=480_000),
    "clap fused": Family(
        lambda: clap(enable_fusion=True, aff_block_r=2), ClapFeatureExtractor, n_samples=480_000
    ),
    "ast": Family(lambda: ASTConfig(**SMALL), ASTFeatureExtractor),
}
LAYERED = [name for name in FAMILIES if not name.startswith("clap")]


def shake(model: torch.nn.Module) -> torch.nn.Module:
    """Leave no tensor at zero or one, where it could be dropped unnoticed."""
    torch.manual_seed(1)
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(0.05 * torch.rand_like(tensor))
    return model.eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Callable[[str], Path]:
    folders: dict[str, Path] = {}

    def save(name: str) -> Path:
        if name not in folders:
            folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
            family = FAMILIES[name]
            torch.manual_seed(0)
            shake(AutoModel.from_config(family.config())).save_pretrained(folder)
            family.extractor().save_pretrained(folder)
            folders[name] = folder
        return folders[name]

    return save


def noise(n_samples: int, n_clips: int = 2) -> np.ndarray:
    samples = np.random.default_rng(0).normal(0, 0.1, (n_clips, n_samples))
    return (samples * np.arange(1, n_clips + 1)[:, None]).astype(np.float32)


def encode(encoder: Encoder, waveforms: np.ndarray, *names: str) -> list[np.ndarray]:
    return encoder.encode(waveforms, [make_pooling(name) for name in names])


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@torch.inference_mode()
def published(folder: Path, waveform: np.ndarray, layer: int = -1) -> np.ndarray:
    """What transformers itself gives for one clip, as its documentation says to use it."""
    model = AutoModel.from_pretrained(folder).eval()
    kind = model.config.model_type
    given = dict(
        transformers.AutoFeatureExtractor.from_pretrained(folder)(
            waveform, sampling_rate=48_000 if kind == "clap" else RATE, return_tensors="pt"
        )
    )
    if "is_longer" in given:  # which the extractor sets at random for one clip of a batch
        given["is_longer"] = torch.zeros_like(given["is_longer"])
    part = {"whisper": "encoder", "clap": "audio_model"}.get(kind)
    part = getattr(model, part) if part else model
    output = part(**given, output_hidden_states=True)
    hidden = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
    n = len(waveform)
    if kind == "clap":
        return hidden[0].mean(dim=1).T.numpy()
    if kind == "whisper":
        return hidden[0, : -(-n // 320)].numpy()
    if kind == "audio-spectrogram-transformer":
        n_columns = max(0, 1 + (n - 400) // 160 - 16) // 10 + 1
        return hidden[0, 2:].unflatten(0, (12, -1)).mean(dim=0)[:n_columns].numpy()
    mask = given.get("attention_mask")
    return hidden[0, : int(mask.sum()) if kind == "wav2vec2-bert" else None].numpy()


@pytest.mark.parametrize("name", FAMILIES)
def test_hidden_states_are_the_published_ones(saved, name: str) -> None:
    folder, waveforms = saved(name), noise(FAMILIES[name].n_samples)
    encoder = make_encoder("hf", model=str(folder))

    frames, clip = encode(encoder, waveforms, "frames", "clip")

    theirs = np.stack([published(folder, waveform) for waveform in waveforms])
    assert largest_difference(frames, theirs) < 1e-5
    assert largest_difference(clip, theirs.mean(axis=1)) < 1e-5
    assert largest_difference(frames[:1], frames[1:]) > 1e-3


@pytest.mark.parametrize("name", LAYERED)
def test_every_layer_is_the_published_one(saved, name: str) -> None:
    folder, waveforms = saved(name), noise(FAMILIES[name].n_samples, n_clips=1)
    seen = []

    for layer in range(N_LAYERS):
        encoder = make_encoder("hf", model=str(folder), layer=layer)
        (frames,) = encode(encoder, waveforms, "frames")
        assert largest_difference(frames[0], published(folder, waveforms[0], layer)) < 1e-5
        seen.append(frames)
    (last,) = encode(make_encoder("hf", model=str(folder), layer=N_LAYERS), waveforms, "frames")

    assert largest_difference(last[0], published(folder, waveforms[0])) < 1e-5
    assert not np.allclose(seen[-1], seen[-2])
