"""A folder of settings and tensors is used as transformers does, or refused before it does harm."""

import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    HubertConfig,
    ResNetConfig,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
)

from embed import make_encoder, make_pooling
from embed.encoders.transformers_models import build, read_config

transformers.utils.logging.disable_progress_bar()

SMALL = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24}
FAMILIES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "hubert": (
        lambda: HubertConfig(
            **SMALL,
            num_hidden_layers=2,
            conv_dim=(8,) * 7,
            num_conv_pos_embeddings=8,
            num_conv_pos_embedding_groups=2,
        ),
        Wav2Vec2FeatureExtractor,
    ),
    "ast": (lambda: ASTConfig(**SMALL, num_hidden_layers=1), ASTFeatureExtractor),
    "whisper": (
        lambda: WhisperConfig(
            d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=24, decoder_ffn_dim=24, vocab_size=50,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        ),
        WhisperFeatureExtractor,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Callable[[str], Path]:
    folders: dict[str, Path] = {}

    def save(name: str) -> Path:
        if name not in folders:
            config, extractor = FAMILIES[name]
            folders[name] = tmp_path_factory.mktemp(name)
            transformers.AutoModel.from_config(config()).save_pretrained(folders[name])
            extractor().save_pretrained(folders[name])
        return folders[name]

    return save


def changed(folder: Path, name: str, target: Path, **settings: Any) -> Path:
    """Copy a folder with other settings in one of its files."""
    shutil.copytree(folder, target)
    content = json.loads((target / name).read_text())
    (target / name).write_text(json.dumps({**content, **settings}))
    return target


def encode(folder: Path, weights: str = "") -> np.ndarray:
    encoder = make_encoder("hf", model=str(folder), weights=weights)
    n_samples = max(4_000, encoder.min_samples)
    assert n_samples < 10**7
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, n_samples)).astype(np.float32)
    (vectors,) = encoder.encode(waveform, [make_pooling("clip")])
    return vectors


@pytest.mark.parametrize("weights", ["", "random"])
@pytest.mark.parametrize(
    ("family", "file", "settings", "message"),
    [
        ("hubert", "config.json", {"num_hidden_layers": 10**9}, "has num_hidden_layers 1000000000"),
        ("whisper", "config.json", {"decoder_layers": 10**6}, "has decoder_layers 1000000, expect"),
        ("hubert", "config.json", {"hidden_size": 100_000}, "settings describe .* parameters"),
        ("hubert", "config.json", {"intermediate_size": 10**9}, "settings describe .* parameters"),
        ("whisper", "config.json", {"vocab_size": 10**10}, "settings describe .* parameters"),
        ("hubert", "config.json", {"model_type": ["hubert"]}, r"is of type \['hubert'\], which"),
        ("hubert", "config.json", {"model_type": {}}, "is of type {}, which"),
        ("hubert", "config.json", {"conv_stride": [None] * 7}, "cannot be used"),
        ("whisper", "preprocessor_config.json", {"feature_size": 10**9}, "has feature_size 10000"),
        ("whisper", "preprocessor_config.json", {"n_fft": 10**8}, "has n_fft 100000000, expected"),
        ("whisper", "preprocessor_config.json", {"chunk_length": 10**6}, "16,000,000,000 samples"),
        ("ast", "preprocessor_config.json", {"max_length": 10**7}, "1,600,000,399 samples"),
        ("whisper", "preprocessor_config.json", {"chunk_length": 1e300}, "has chunk_length 1e"),
        ("ast", "preprocessor_config.json", {"num_mel_bins": 10**7}, "has num_mel_bins 10000000"),
    ],
)
def test_settings_of_absurd_sizes_are_refused_at_once(
    saved, tmp_path: Path, family: str, file: str, settings: dict[str, Any], message: str,
    weights: str,
) -> None:  # fmt: skip
    folder = changed(saved(family), file, tmp_path / "odd", **settings)
    started = time.monotonic()

    with pytest.raises(ValueError, match=message) as caught:
        encode(folder, weights)

    assert "\n" not in str(caught.value)
    assert "odd" in str(caught.value)
    assert time.monotonic() - started < 20


def test_settings_nested_deeper_than_any_parser_goes_are_refused(saved, tmp_path: Path) -> None:
    folder = changed(saved("hubert"), "config.json", tmp_path / "odd")
    nested = '{"model_type": "hubert", "a": ' + '{"a":' * 500 + "1" + "}" * 501
    (folder / "config.json").write_text(nested)

    with pytest.raises(ValueError, match="odd"):
        encode(folder)


def test_code_is_found_at_any_depth(saved, tmp_path: Path) -> None:
    nested: Any = {"auto_map": {"AutoModel": "theirs.Model"}}
    for _ in range(400):
        nested = [{"a": nested}]
    folder = changed(saved("hubert"), "config.json", tmp_path / "odd", audio_config=nested)

    with pytest.raises(ValueError, match="names code of its own"):
        encode(folder)


def test_the_random_generator_of_the_program_is_left_alone() -> None:
    config = FAMILIES["hubert"][0]()
    torch.manual_seed(5)
    expected = torch.rand(3)

    torch.manual_seed(5)
    build(config, None, "a test")

    assert torch.equal(torch.rand(3), expected)


def test_a_model_of_pictures_is_read_where_pictures_are_taken(tmp_path: Path) -> None:
    ResNetConfig().save_pretrained(tmp_path)

    assert read_config(tmp_path, "a test", takes="pixels").model_type == "resnet"
    with pytest.raises(ValueError, match="a test is of type 'resnet' and takes pixel_values"):
        read_config(tmp_path, "a test")


HOSTILE = (10**9, 10**6, 2**70, -1, 0, 1, 0.5, 1e308, None, True, "", "x", [], {}, [1], [10**9] * 7)
HOSTILE += ([[[]]], {"a": 1}, ["x"] * 7, [None], -(10**9), "gelu", [0] * 7, [-1] * 7)


def message_of(folder: Path) -> str:
    """Encode a clip; return the message of the error that a user would see, or ""."""
    try:
        encode(folder)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n", [12, pytest.param(300, marks=pytest.mark.faults)])
@pytest.mark.parametrize("family", FAMILIES)
def test_hostile_settings_give_vectors_or_one_line(
    saved, family: str, n: int, tmp_path: Path
) -> None:
    rng, counts = random.Random(3), {"encoded": 0, "refused": 0}
    slowest = 0.0

    for i in range(n):
        file = rng.choice(("config.json", "config.json", "preprocessor_config.json"))
        keys = [*json.loads((saved(family) / file).read_text())]
        settings = {key: rng.choice(HOSTILE) for key in rng.sample(keys, rng.choice((1, 1, 2)))}
        folder = changed(saved(family), file, tmp_path / str(i), **settings)
        started = time.monotonic()
        message = message_of(folder)
        slowest = max(slowest, time.monotonic() - started)
        shutil.rmtree(folder)
        assert "\n" not in message, settings
        counts["refused" if message else "encoded"] += 1

    print(f"settings of {family}: {n} mutants, {counts}, slowest {slowest:.1f} s")
    assert slowest < 60
