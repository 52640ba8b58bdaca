"""Fingerprints know what decides a vector and nothing else; a configuration builds it again."""

import json
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest

from embed import ENCODERS, POOLINGS, make_encoder, make_pooling
from embed.encoder import Encoder
from embed.fingerprint import configuration, encoder_from, fingerprint
from embed.pooling import Fluctuation, Mean
from embed.recordings.preprocessing import Preprocessing

PLAIN = Preprocessing()
OF_FIRST_RELEASE = {
    ("logmel", "fluctuation"): "a028fbd475adba88b0c6d497d8351ea7061216cdfa7d2c391b64777fe15a572c",
    ("logmel", "gem"): "8f6e02a21eec7aa4917e811754ef332a73abadb38c2b2e6f3b7a0ba0f2fc462b",
    ("panns", "clip"): "784e92c8a64e668466a824c9f51e2aa8d942328e0367860df9ffded4cf7bbdd8",
    ("ast", "cls"): "dd507be3ed73df2db1bbf51aa6fde90b67ebb43baaca650d2fde74a28d7baac7",
}
"""Computed by the first release, of networks with random weights.

With another value here, every cache is computed anew.
"""


@dataclass(frozen=True, kw_only=True)
class Own(Encoder):
    """Somebody else's encoder."""

    gain: float = 1.0

    sample_rate = 8000
    outputs = ("clip",)

    def forward(self, waveforms, wanted):
        return {"clip": self.gain * waveforms.mean(axis=1, keepdims=True)}


OWN = f"{Own.__module__}:{Own.__name__}"


def model_folder(folder: Path) -> Path:
    from transformers import AutoModel, Wav2Vec2Config, Wav2Vec2FeatureExtractor

    config = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    AutoModel.from_config(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def built(name: str, folder: Path = Path()) -> Encoder:
    if name == "hf":
        return make_encoder(f"hf:{model_folder(folder)}")
    is_network = "weights" in {f.name for f in fields(ENCODERS[name].resolve())}
    return make_encoder(name, **({"weights": "random"} if is_network else {}))


def print_of(encoder: Encoder, preprocessing: Preprocessing = PLAIN, pooling=None) -> str:
    return fingerprint(configuration(encoder, preprocessing, pooling or make_pooling("mean")))


@pytest.mark.parametrize(("encoder", "pooling"), OF_FIRST_RELEASE)
def test_the_caches_of_the_first_release_are_found(encoder, pooling):
    found = print_of(built(encoder), pooling=make_pooling(pooling))

    assert found == OF_FIRST_RELEASE[encoder, pooling]


def test_a_configuration_that_was_stored_without_the_means_has_the_same_fingerprint():
    facts = configuration(make_encoder("logmel"), PLAIN, make_pooling("mean"))

    stored = {key: value for key, value in facts.items() if key != "rebuild"}

    assert fingerprint(stored) == fingerprint(facts)
    with pytest.raises(ValueError, match="embed the clips once more"):
        encoder_from(stored)


def test_every_option_that_decides_vectors_changes_the_fingerprint():
    plain = print_of(make_encoder("logmel"))

    others = [
        print_of(make_encoder("logmel", n_mels=64)),
        print_of(make_encoder("logmel", fmin=50.0)),
        print_of(make_encoder("mfcc")),
        print_of(make_encoder("logmel"), Preprocessing(normalize="rms")),
        print_of(make_encoder("logmel"), pooling=make_pooling("max")),
        print_of(make_encoder("logmel"), pooling=make_pooling("fluctuation")),
        print_of(make_encoder("logmel"), pooling=make_pooling("fluctuation", groups=16)),
    ]

    assert len({plain, *others}) == 8


def test_the_device_does_not_change_the_fingerprint():
    assert print_of(make_encoder("logmel", device="cuda:1")) == print_of(make_encoder("logmel"))


@pytest.mark.parametrize("part", [Mean, Preprocessing])
def test_another_version_of_a_part_is_another_fingerprint(monkeypatch, part):
    first = print_of(make_encoder("logmel"))

    monkeypatch.setattr(part, "version", 2)

    assert print_of(make_encoder("logmel")) != first


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_is_built_again_from_what_is_stored(name, tmp_path):
    encoder = built(name, tmp_path)
    preprocessing = Preprocessing(normalize="rms", channel="mean")
    pooling = make_pooling(encoder.default_pooling)
    stored = json.loads(json.dumps(configuration(encoder, preprocessing, pooling)))

    again = encoder_from(stored)

    assert again == (encoder, preprocessing, pooling)


@pytest.mark.parametrize("name", POOLINGS)
def test_every_pooling_is_built_again_from_what_is_stored(name):
    pooling = make_pooling(name)
    stored = json.loads(json.dumps(configuration(make_encoder("logmel"), PLAIN, pooling)))

    assert encoder_from(stored)[2] == pooling


def test_options_are_built_again_too_and_the_device_is_that_of_now():
    encoder = make_encoder("logmel", n_mels=64, hop_length=256, device="cuda")
    pooling = Fluctuation(groups=16)
    stored = json.loads(json.dumps(configuration(encoder, PLAIN, pooling)))

    again, _, pooling_again = encoder_from(stored, device="cpu", offline=True)

    assert again == make_encoder("logmel", n_mels=64, hop_length=256, device="cpu")
    assert pooling_again == pooling


def test_other_weights_than_then_are_refused(tmp_path):
    encoder = built("hf", tmp_path)
    stored = configuration(encoder, PLAIN, make_pooling("mean"))
    (tmp_path / "config.json").write_text(
        (tmp_path / "config.json")
        .read_text()
        .replace('"hidden_dropout": 0.1', '"hidden_dropout": 0')
    )

    with pytest.raises(ValueError, match=r"not the one of the stored vectors: weights_sha256 was"):
        encoder_from(stored)


def test_another_version_than_then_is_refused(monkeypatch):
    encoder = make_encoder("logmel")
    stored = configuration(encoder, PLAIN, make_pooling("mean"))

    monkeypatch.setattr(type(encoder), "version", 2)

    with pytest.raises(ValueError, match="version was 1 and is 2"):
        encoder_from(stored)


def test_a_class_from_outside_is_built_again_only_where_it_is_trusted():
    encoder = make_encoder(OWN, gain=2.0)
    stored = json.loads(json.dumps(configuration(encoder, PLAIN, make_pooling("clip"))))

    with pytest.raises(ValueError, match=r"test_fingerprint:Own .*--trust-classes"):
        encoder_from(stored)
    again, _, _ = encoder_from(stored, trust_classes=True)

    np.testing.assert_array_equal(again.embed([np.ones(9)]), [[2.0]])
