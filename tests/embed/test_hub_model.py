"""Audio models of the hub give the hidden states that transformers gives, and run no code."""

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    AutoModel,
    BertConfig,
    BertModel,
    ClapConfig,
    ClapFeatureExtractor,
    Data2VecAudioConfig,
    HubertConfig,
    LasrEncoderConfig,
    LasrFeatureExtractor,
    MoonshineConfig,
    PeAudioConfig,
    PeAudioFeatureExtractor,
    ResNetConfig,
    ResNetModel,
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
from embed.encoders.transformers_models import build
from embed.fingerprint import configuration, fingerprint
from embed.recordings.preprocessing import Preprocessing
from fetch.weights import RANDOM_WARNING

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
    is_shaken: bool = True
    """Whether `shake` leaves it numbers that depend on its input."""


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


def pe_audio() -> PeAudioConfig:
    codec = {"encoder_hidden_size": 8, "downsampling_ratios": [2, 4, 8, 15], "codebook_dim": 4}
    codec |= {"decoder_hidden_size": 16, "n_codebooks": 1, "codebook_size": 8, "hidden_size": 32}
    tokens = ("pad", "bos", "eos", "cls", "sep")
    text = {**SMALL, "model_type": "modernbert", "num_hidden_layers": 1, "vocab_size": 9}
    text |= {f"{name}_token_id": number for number, name in enumerate(tokens)}
    return PeAudioConfig(
        audio_config={**SMALL, "head_dim": 16, "dac_config": codec}, text_config=text
    )


def moonshine() -> MoonshineConfig:
    numbers = {"encoder_num_hidden_layers": N_LAYERS, "decoder_num_hidden_layers": 1}
    heads = {"encoder_num_attention_heads": 2, "decoder_num_attention_heads": 2}
    return MoonshineConfig(
        hidden_size=32, intermediate_size=48, vocab_size=9, pad_token_id=0, **numbers, **heads
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
    "pe-audio": Family(pe_audio, lambda: PeAudioFeatureExtractor(hop_length=960), is_shaken=False),
    "moonshine": Family(moonshine),
    "lasr": Family(
        lambda: LasrEncoderConfig(**SMALL, subsampling_conv_channels=8, conv_kernel_size=4),
        LasrFeatureExtractor,
    ),
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
            model = AutoModel.from_config(family.config())
            (shake(model) if family.is_shaken else model).save_pretrained(folder)
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
            waveform,
            sampling_rate=48_000 if kind in ("clap", "pe_audio") else RATE,
            return_tensors="pt",
        )
    )
    if "is_longer" in given:  # which the extractor sets at random for one clip of a batch
        given["is_longer"] = torch.zeros_like(given["is_longer"])
    parts = {"whisper": "encoder", "moonshine": "encoder"}
    part = {**parts, "clap": "audio_model", "pe_audio": "audio_encoder"}.get(kind)
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
    if kind == "pe_audio" and layer != -1:
        return hidden[0, 1:].numpy()  # without the class token
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


@pytest.mark.slow
def test_random_wav2vec2_is_the_base_model() -> None:
    encoder = make_encoder("wav2vec2", weights="random", offline=True)

    (frames,) = encode(encoder, noise(10 * RATE, n_clips=1), "frames")

    assert frames.shape == (1, 499, 768)
    assert encoder.warning == RANDOM_WARNING
    assert (encoder.sample_rate, encoder.min_samples) == (RATE, 400)
    assert np.isfinite(frames).all()


@pytest.mark.parametrize("n_samples", [400, 719, 720, 12_345])
@pytest.mark.parametrize("stable", ["", " stable"])
def test_wav2vec2_equals_extractor_and_model_whatever_the_length(
    saved, n_samples: int, stable: str
) -> None:
    folder = saved("wav2vec2" + stable)
    encoder = make_encoder("wav2vec2", weights=str(folder))
    waveforms = np.stack([noise(n_samples, 1)[0], np.zeros(n_samples, np.float32)])
    waveforms = np.concatenate([waveforms, 0.02 + noise(n_samples, 1)])  # with an offset

    (frames,) = encode(encoder, waveforms, "frames")

    theirs = np.stack([published(folder, waveform) for waveform in waveforms])
    assert largest_difference(frames, theirs) < 1e-5


def test_normalisation_is_the_extractors(saved) -> None:
    encoder = make_encoder("hf", model=str(saved("hubert")))
    waveforms = np.concatenate([noise(9_001), np.zeros((1, 9_001), np.float32)])
    extractor = Wav2Vec2FeatureExtractor()

    ours = encoder.features(torch.from_numpy(waveforms))

    for row, waveform in zip(ours, waveforms, strict=True):
        theirs = extractor(waveform, sampling_rate=RATE, return_tensors="pt").input_values[0]
        torch.testing.assert_close(row, theirs, rtol=0, atol=1e-5)


def test_an_extractor_that_does_not_normalise_is_obeyed(saved, tmp_path: Path) -> None:
    shutil.copytree(saved("hubert"), tmp_path / "raw")
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path / "raw")
    encoder = make_encoder("hf", model=str(tmp_path / "raw"))
    waveforms = noise(9_001)

    (frames,) = encode(encoder, waveforms, "frames")

    torch.testing.assert_close(
        encoder.features(torch.from_numpy(waveforms)), torch.from_numpy(waveforms)
    )
    theirs = np.stack([published(tmp_path / "raw", waveform) for waveform in waveforms])
    assert largest_difference(frames, theirs) < 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_gives_what_its_clips_give_alone_in_any_order(saved, name: str) -> None:
    encoder = make_encoder("hf", model=str(saved(name)))
    waveforms = noise(FAMILIES[name].n_samples, n_clips=3)
    order = [2, 0, 1]

    alone = np.concatenate([encode(encoder, w[None], "clip")[0] for w in waveforms])
    (batch,) = encode(encoder, waveforms[order], "clip")

    assert largest_difference(batch, alone[order]) < 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_the_shortest_clip_gives_a_frame_and_is_told_beforehand(saved, name: str) -> None:
    encoder = make_encoder("hf", model=str(saved(name)))

    frames, clip = encode(encoder, noise(encoder.min_samples), "frames", "clip")

    assert frames.shape[1] >= 1
    assert np.isfinite(frames).all()
    assert np.isfinite(clip).all()
    assert encoder.min_samples < encoder.sample_rate / 5


def test_long_clips_are_windows_in_a_row(saved) -> None:
    """Whisper hears 30 s; of 40 s, the second window says the last 10 s."""
    folder = saved("whisper")
    encoder = make_encoder("hf", model=str(folder))
    waveform = noise(40 * RATE, n_clips=1)

    frames, clip = encode(encoder, waveform, "frames", "clip")

    first = published(folder, waveform[0, : 30 * RATE])
    second = published(folder, waveform[0, 10 * RATE :])
    expected = np.concatenate([first, second[-500:]])
    assert frames.shape == (1, 2000, 32)
    assert largest_difference(frames[0], expected) < 1e-5
    assert largest_difference(clip[0], expected.mean(axis=0)) < 1e-5


@pytest.mark.parametrize("name", ["clap", "ast"])
def test_windows_cover_a_long_clip(saved, name: str) -> None:
    encoder = make_encoder("hf", model=str(saved(name)))
    n_samples = 25 * encoder.sample_rate

    windows = encoder.windows(n_samples)

    assert windows[0][0] == 0
    assert windows[-1][1] == n_samples
    assert all(a <= b for (_, b), (a, _) in pairwise(windows))
    assert len({stop - start for start, stop in windows}) == 1
    assert encode(encoder, noise(n_samples, 1), "clip")[0].shape[0] == 1


def test_layers_above_the_chosen_one_are_not_kept(saved) -> None:
    whole = make_encoder("hf", model=str(saved("hubert")))
    first = make_encoder("hf", model=str(saved("hubert")), layer=1)

    def n_parameters(encoder: Any) -> int:
        return sum(p.numel() for p in encoder._network((encoder.layer,)).parameters())

    assert n_parameters(first) < 0.6 * n_parameters(whole)


@pytest.mark.parametrize(
    ("name", "layer", "message"),
    [
        ("hubert", 4, r"hf:.* has no layer 4: layer is 0 to 3, or last"),
        ("clap", 1, "layer 1: the stages of CLAP have maps of several sizes"),
        ("hubert", -2, "layer is -1 .* or counted from 0, got -2"),
        ("hubert", 1.5, "layer should be a valid integer or 'last'; got 1.5"),
    ],
)
def test_a_layer_that_is_not_there_is_refused(saved, name: str, layer: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        encode(make_encoder("hf", model=str(saved(name)), layer=layer), noise(9_001), "clip")


def test_bf16_is_near(saved) -> None:
    (exact,) = encode(make_encoder("hf", model=str(saved("hubert"))), noise(9_001), "clip")
    coarse = make_encoder("hf", model=str(saved("hubert")), precision="bf16")

    (near,) = encode(coarse, noise(9_001), "clip")

    assert near.dtype == np.float32
    assert 1e-5 < largest_difference(near, exact) < 0.1


def print_of(encoder: Encoder) -> str:
    return fingerprint(configuration(encoder, Preprocessing(), make_pooling("clip")))


def test_content_decides_the_fingerprint_not_the_place(saved, tmp_path: Path) -> None:
    here = make_encoder("hf", model=str(saved("hubert")))
    moved = make_encoder("hf", model=str(shutil.copytree(saved("hubert"), tmp_path / "moved")))
    layer = make_encoder("hf", model=str(saved("hubert")), layer=2)
    other = shutil.copytree(saved("hubert"), tmp_path / "other")
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(other)
    random = make_encoder("hf", model=str(saved("hubert")), weights="random")

    distinct = [here, layer, make_encoder("hf", model=str(other)), random]

    assert print_of(here) == print_of(moved)
    assert len({print_of(encoder) for encoder in distinct}) == 4


def test_random_weights_need_the_settings_only_and_are_always_the_same(
    saved, tmp_path: Path
) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        shutil.copy(saved("hubert") / name, tmp_path)
    encoder = make_encoder("hf", model=str(tmp_path), weights="random")

    (clip,) = encode(encoder, noise(9_001), "clip")

    (again,) = encode(
        make_encoder("hf", model=str(tmp_path), weights="random"), noise(9_001), "clip"
    )
    np.testing.assert_array_equal(clip, again)
    assert encoder.warning == RANDOM_WARNING
    assert encoder.weights_sha256.startswith("random:0:")


@pytest.mark.parametrize("kind", ["pytorch_model.bin", "shards", "half precision"])
def test_other_kinds_of_files_give_the_same(saved, tmp_path: Path, kind: str) -> None:
    folder = saved("hubert")
    other = tmp_path / "other"
    model = AutoModel.from_pretrained(folder)
    (frames,) = encode(make_encoder("hf", model=str(folder)), noise(9_001), "frames")
    if kind == "pytorch_model.bin":
        shutil.copytree(folder, other)
        (other / "model.safetensors").unlink()
        torch.save(load_file(folder / "model.safetensors"), other / "pytorch_model.bin")
    elif kind == "shards":
        model.save_pretrained(other, max_shard_size="50KB")
        Wav2Vec2FeatureExtractor().save_pretrained(other)
        assert len(list(other.glob("model-*.safetensors"))) > 1
    else:
        model.half().save_pretrained(other)
        Wav2Vec2FeatureExtractor().save_pretrained(other)
    encoder = make_encoder("hf", model=str(other))

    (same,) = encode(encoder, noise(9_001), "frames")

    assert same.dtype == np.float32
    assert largest_difference(same, frames) < (1e-2 if kind == "half precision" else 1e-6)
    assert len(encoder.weights_sha256) == 64


# ---- what is refused --------------------------------------------------------------------------


def changed(folder: Path, target: Path, file: str = "config.json", **changes: Any) -> Path:
    shutil.copytree(folder, target)
    content = json.loads((target / file).read_text())
    (target / file).write_text(json.dumps({**content, **changes}))
    return target


@pytest.mark.parametrize("file", ["config.json", "preprocessor_config.json"])
@pytest.mark.parametrize("model_type", ["hubert", "a_type_of_its_own"])
@pytest.mark.parametrize("weights", ["", "random"])
def test_code_that_a_folder_names_is_refused_and_never_run(
    saved, tmp_path: Path, file: str, model_type: str, weights: str
) -> None:
    marker = tmp_path / "ran"
    own = {"AutoConfig": "own.Config", "AutoModel": "own.Model", "AutoFeatureExtractor": "own.F"}
    folder = changed(saved("hubert"), tmp_path / "m", file, auto_map=own, model_type=model_type)
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    encoder = make_encoder("hf", model=str(folder), weights=weights)

    with pytest.raises(ValueError, match=r"names code of its own \(auto_map\)|of type 'a_type"):
        encode(encoder, noise(9_001), "clip")

    assert not marker.exists()


def test_a_pickle_with_code_is_refused_and_never_run(saved, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    folder = shutil.copytree(saved("hubert"), tmp_path / "m")
    (folder / "model.safetensors").unlink()
    torch.save({"a": Payload()}, folder / "pytorch_model.bin")

    with pytest.raises(ValueError, match="more than tensors, which is never run"):
        encode(make_encoder("hf", model=str(folder)), noise(9_001), "clip")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", ["someone/kernel", "flash_attention_2", {"": "a/b@v1:f"}, True])
@pytest.mark.parametrize(
    "key", ["attn_implementation", "_attn_implementation", "_experts_implementation_internal"]
)
@pytest.mark.parametrize("deep", [False, True])
def test_an_implementation_that_could_be_code_from_the_hub_is_refused(
    saved, tmp_path: Path, key: str, value: Any, deep: bool
) -> None:
    choice = {"parts": [{"text": {key: value}}]} if deep else {key: value}
    folder = changed(saved("hubert"), tmp_path / "m", **choice)

    with pytest.raises(ValueError, match=rf"config.json asks for {key} .* is never run") as caught:
        make_encoder("hf", model=str(folder)).config  # noqa: B018

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, "eager", "sdpa", {"": "eager"}])
def test_transformers_own_implementations_are_taken(saved, tmp_path: Path, value: Any) -> None:
    folder = changed(saved("hubert"), tmp_path / "m", attn_implementation=value)

    (clip,) = encode(make_encoder("hf", model=str(folder)), noise(9_001), "clip")

    (same,) = encode(make_encoder("hf", model=str(saved("hubert"))), noise(9_001), "clip")
    assert largest_difference(clip, same) < 1e-5


def test_an_adapter_is_refused(saved, tmp_path: Path) -> None:
    folder = shutil.copytree(saved("hubert"), tmp_path / "m")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')

    with pytest.raises(ValueError, match=r"adapter_config.json is of an adapter: merge it"):
        encode(make_encoder("hf", model=str(folder)), noise(9_001), "clip")


@pytest.mark.parametrize("name", ["hubert", "clap"])
def test_a_model_that_would_give_tuples_gives_the_same(saved, tmp_path: Path, name: str) -> None:
    parts = {"audio_config": {**FAMILIES[name].config().to_dict().get("audio_config", {})}}
    parts = {key: {**part, "return_dict": False} for key, part in parts.items() if part}
    folder = changed(saved(name), tmp_path / "m", return_dict=False, **parts)
    waveforms = noise(FAMILIES[name].n_samples, n_clips=1)

    (frames,) = encode(make_encoder("hf", model=str(folder)), waveforms, "frames")

    (same,) = encode(make_encoder("hf", model=str(saved(name))), waveforms, "frames")
    np.testing.assert_array_equal(frames, same)


@pytest.mark.parametrize("error", [RuntimeError, IndexError, TypeError])
def test_what_a_model_raises_on_a_clip_is_one_line_that_names_it(
    saved, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def misfit(self: Any, *given: Any, **named: Any) -> None:
        raise error("shapes (2, 3)\n and (4, 5) do not fit")

    monkeypatch.setattr(transformers.HubertModel, "forward", misfit)
    encoder = make_encoder("hf", model=str(saved("hubert")))

    with pytest.raises(ValueError, match="cannot encode clips of 9001 samples: shapes") as caught:
        encode(encoder, noise(9_001), "clip")

    assert encoder.display_name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_out_of_memory_stays_what_it_is(saved, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, *given: Any, **named: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(transformers.HubertModel, "forward", full)

    with pytest.raises(torch.OutOfMemoryError):
        encode(make_encoder("hf", model=str(saved("hubert"))), noise(9_001), "clip")


def test_models_built_in_two_threads_at_once_are_those_built_alone() -> None:
    configs = [HubertConfig(**SMALL, **CONV), WavLMConfig(**SMALL, **CONV)] * 3

    def hash_of(config: Any) -> float:
        tensors = build(config, None, "random").state_dict().values()
        return sum(float(tensor.double().abs().sum()) for tensor in tensors)

    alone = [hash_of(config) for config in configs]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(hash_of, configs))

    assert together == alone


@pytest.mark.parametrize(("name", "decides"), [("ast", True), ("hubert", False)])
def test_torchaudio_enters_the_fingerprint_where_the_extractor_takes_it(
    saved, monkeypatch: pytest.MonkeyPatch, name: str, decides: bool
) -> None:
    without = print_of(make_encoder("hf", model=str(saved(name))))
    monkeypatch.setattr("embed.encoders.transformers_models.find_spec", lambda name: name)

    assert (print_of(make_encoder("hf", model=str(saved(name)))) != without) == decides


def text_model(folder: Path) -> None:
    small = {**SMALL, "vocab_size": 20}
    BertModel(BertConfig(**small)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)


def picture_model(folder: Path) -> None:
    small = {"embedding_size": 8, "hidden_sizes": [8, 8], "depths": [1, 1], "layer_type": "basic"}
    ResNetModel(ResNetConfig(**small)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_processor_type": "ViTImageProcessor"}'
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (text_model, "of type 'bert' and takes input_ids, not audio"),
        (picture_model, "of type 'resnet' and takes pixel_values, not audio"),
    ],
)
def test_models_of_text_or_pictures_are_refused(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path)

    with pytest.raises(ValueError, match=message):
        encode(make_encoder("hf", model=str(tmp_path)), noise(9_001), "clip")


def break_settings(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": ')


def drop_preprocessor(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


def drop_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def grow(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "num_hidden_layers": 4}))


def widen(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "intermediate_size": 64}))


def confuse(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, "hidden_size": "large"}))


def point_elsewhere(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "../elsewhere.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-400])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (break_settings, "config.json cannot be read as JSON"),
        (drop_preprocessor, "has no preprocessor_config.json"),
        (drop_config, "expected config.json and model.safetensors, found model.safetensors"),
        (grow, r"16 tensors are missing, first 'encoder.layers.3"),
        (widen, "cannot be loaded"),
        (confuse, "config.json cannot be used.*hidden_size"),
        (point_elsewhere, "names '../elsewhere.safetensors', expected the name of a file beside"),
        (truncate, "not a whole safetensors file"),
    ],
)
def test_damaged_folders_are_one_line_that_names_them(
    saved, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    folder = shutil.copytree(saved("hubert"), tmp_path / "spoilt")
    spoil(folder)

    with pytest.raises(ValueError, match=message) as caught:
        encode(make_encoder("hf", model=str(folder)), noise(9_001), "clip")

    assert "\n" not in str(caught.value)
    assert "spoilt" in str(caught.value)


def test_hf_without_a_model_says_what_to_write() -> None:
    with pytest.raises(ValueError, match="hf needs a model: --encoder hf:facebook/hubert"):
        make_encoder("hf")


def test_weights_beside_a_model_are_refused(saved) -> None:
    with pytest.raises(ValueError, match=r"--encoder hf:x\.pth instead of --weights x\.pth"):
        make_encoder("hf", model=str(saved("hubert")), weights="x.pth")


@pytest.mark.parametrize("typo", ["{}/tiny-hubrt", "tiny-hubrt", "a/b/tiny-hubert"])
def test_a_folder_that_is_not_there_is_told_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typo: str
) -> None:
    (tmp_path / "tiny-hubert").mkdir()
    monkeypatch.chdir(tmp_path)
    model = typo.format(tmp_path)

    with pytest.raises(FileNotFoundError, match=f"hf:{model} is no folder here and no") as caught:
        make_encoder("hf", model=model).weights_sha256  # noqa: B018

    assert ("did you mean" in str(caught.value)) == (typo != "a/b/tiny-hubert")


def test_wav2vec2_refuses_a_folder_of_another_type(saved) -> None:
    encoder = make_encoder("wav2vec2", weights=str(saved("hubert")))

    with pytest.raises(ValueError, match=r"type 'hubert', expected 'wav2vec2'; --encoder hf:"):
        encode(encoder, noise(9_001), "clip")
