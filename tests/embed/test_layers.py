"""Any layers of a network come from one pass, equal those of a pass each, and cost no more."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import save_small

from embed import ENCODERS, make_encoder, make_pooling
from embed.encoders.efficientat import WIDTHS
from embed.fingerprint import configuration, encoder_from, fingerprint
from embed.layers import LAST, LayeredNetwork, outputs_of_map
from embed.recordings.preprocessing import Preprocessing

LAYERED = [name for name, row in ENCODERS.items() if issubclass(row.resolve(), LayeredNetwork)]
NARROW_VGGISH = {
    **{"conv1": (1, 4), "conv2": (4, 4), "conv3_1": (4, 4), "conv3_2": (4, 8)},
    **{"conv4_1": (8, 8), "conv4_2": (8, 8)},
}
PATCH_TRANSFORMERS = ("beats", "eat", "ced", "dasheng")
NARROW = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def ast_folder(tmp_path_factory) -> Path:
    from safetensors.torch import save_file

    from embed.encoders.spectrogram_transformer import MODEL_TYPE, AstConfig, random_tensors

    folder = tmp_path_factory.mktemp("ast")
    settings = {**NARROW, "num_hidden_layers": 3, "max_length": 128}
    save_file(random_tensors(AstConfig(**settings)), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": MODEL_TYPE, **settings}))
    return folder


@pytest.fixture(scope="module")
def wav2vec2_folder(tmp_path_factory) -> Path:
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    folder = tmp_path_factory.mktemp("wav2vec2")
    convolutions = {"conv_dim": (8, 8, 8), "conv_kernel": (10, 8, 5), "conv_stride": (5, 8, 8)}
    positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    config = Wav2Vec2Config(**NARROW, **convolutions, **positions, num_hidden_layers=3)
    Wav2Vec2Model(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def patch_transformers(tmp_path_factory) -> dict[str, Path]:
    return {name: save_small(tmp_path_factory.mktemp(name), name) for name in PATCH_TRANSFORMERS}


@pytest.fixture
def small(request, monkeypatch, patch_transformers):
    """Return what makes a layered encoder with few channels or layers."""
    monkeypatch.setattr("embed.encoders.panns.CHANNELS", (1, 4, 4, 8, 8, 16, 16))
    monkeypatch.setattr("embed.encoders.panns.DIM", 16)
    linears = {"fc1_1": (6 * 4 * 8, 16), "fc1_2": (16, 16), "fc2": (16, 8)}
    monkeypatch.setitem(WIDTHS, "mn10", 0.1)
    for module in ("embed.encoders.vggish", "fetch.vggish_weights"):
        monkeypatch.setattr(f"{module}.CONVOLUTIONS", NARROW_VGGISH)
        monkeypatch.setattr(f"{module}.LINEARS", linears)
    folders = {"ast": "ast_folder", "wav2vec2": "wav2vec2_folder", "hf": "wav2vec2_folder"}

    def make(name: str, **options) -> LayeredNetwork:
        folder = str(request.getfixturevalue(folders[name])) if name in folders else ""
        if name == "hf":
            return make_encoder(name, **{"model": folder, **options})
        folder = folder or str(patch_transformers.get(name, ""))
        return make_encoder(name, **{"weights": folder or "random", **options})

    return make


def noise(encoder, n_clips: int = 2, seconds: float = 1.7) -> np.ndarray:
    n_samples = int(seconds * encoder.sample_rate) + 1
    return np.random.default_rng(0).normal(0, 0.1, (n_clips, n_samples)).astype(np.float32)


def offered(encoder) -> list:
    """Make every pooling of one output each that an encoder has."""
    poolings = [make_pooling(name) for name in ("clip", "frames", "cls", "bands")]
    poolings.append(make_pooling("bands", over_time="max"))
    return [pooling for pooling in poolings if not encoder.why_not(pooling)]


@pytest.mark.parametrize("name", LAYERED)
def test_several_layers_of_one_pass_are_those_of_a_pass_each(name, small) -> None:
    whole = small(name)
    first, last = whole.layers[0], whole.layers[-1]
    encoders = [small(name, layer=layer) for layer in (last, "last", first)]
    clips = noise(whole)
    pairs = [(encoder, pooling) for encoder in encoders for pooling in offered(encoder)]

    together = encoders[0].encode(
        clips, [encoder.in_shared_pass(pooling) for encoder, pooling in pairs]
    )

    assert all(encoders[0].shares_pass(encoder) for encoder in encoders)
    for (encoder, pooling), ours in zip(pairs, together, strict=True):
        (alone,) = encoder.encode(clips, [pooling])
        np.testing.assert_allclose(ours, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LAYERED)
def test_a_layer_has_a_fingerprint_from_which_it_is_built_again(name, small) -> None:
    facts = [
        configuration(small(name, **options), Preprocessing(), make_pooling("clip"))
        for options in ({}, {"layer": "last"}, {"layer": LAST}, {"layer": 1})
    ]

    prints = [fingerprint(each) for each in facts]

    assert prints[0] == prints[1] == prints[2] != prints[3]
    again, _, _ = encoder_from(json.loads(json.dumps(facts[3])))
    assert again.layer == 1


@pytest.mark.parametrize("name", LAYERED)
def test_a_layer_that_is_not_there_is_refused_with_those_that_are(name, small) -> None:
    encoder = small(name, layer=40)

    with pytest.raises(ValueError, match=r"has no layer 40: layer is [01] to \d+, or last") as told:
        encoder.check()
    with pytest.raises(ValueError, match="has no layer 40"):
        encoder.encode(noise(encoder, 1), [make_pooling("clip")])

    assert "\n" not in str(told.value)


@pytest.mark.parametrize("layer", ["first", 1.5, True, -2])
def test_what_is_no_layer_is_refused(layer) -> None:
    with pytest.raises(ValueError, match="layer"):
        make_encoder("panns", weights="random", layer=layer)


@pytest.mark.parametrize("name", ["panns", "ast", "vggish", "efficientat"])
def test_the_outputs_of_a_middle_layer_are_one_map_pooled(name, small) -> None:
    encoder = small(name, layer=2)
    poolings = [make_pooling(p) for p in ("clip", "bands", "frames", "mean")]

    clip, bands, frames, mean = encoder.encode(noise(encoder, seconds=1.2), poolings)

    np.testing.assert_array_equal(clip, bands.reshape(len(clip), -1))
    np.testing.assert_allclose(frames.mean(axis=1), mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(bands.mean(axis=1), mean, rtol=1e-4, atol=1e-5)


def test_encoders_that_differ_in_more_than_the_layer_share_no_pass(small) -> None:
    panns = small("panns", layer=2)

    assert not panns.shares_pass(small("panns", precision="bf16"))
    assert not panns.shares_pass(small("vggish", layer=2))
    assert not panns.shares_pass(make_encoder("logmel"))


def test_blocks_above_the_highest_wanted_one_do_not_run(small) -> None:
    encoder = small("panns", layer=2)
    network = encoder._parts[1]
    ran = []
    for number, convolution in enumerate(network.convolutions):
        convolution.register_forward_hook(lambda *_, n=number: ran.append(n))

    encoder.encode(noise(encoder, 1), [make_pooling("clip")])

    assert ran == [0, 1, 2, 3]


def test_layers_of_a_long_clip_follow_one_another(small) -> None:
    encoder = small("ast", layer=2)
    clips = noise(encoder, 1, seconds=3)  # windows of 128 frames

    frames, pooled = encoder.encode(
        clips, [make_pooling("frames"), make_pooling("bands", over_time="max")]
    )

    assert len(encoder.windows(clips.shape[1])) == 3
    n_bands = encoder.settings.n_bands
    assert pooled.shape == (1, n_bands, frames.shape[2])
    (grid,) = encoder.forward(torch.from_numpy(clips), frozenset({"map"})).values()
    np.testing.assert_allclose(grid.mean(dim=1).detach(), frames, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(grid.amax(dim=2).detach(), pooled, rtol=1e-6)


def test_a_map_is_pooled_over_time_and_over_frequency() -> None:
    grid = torch.arange(12.0).reshape(1, 2, 3, 2)

    outputs = outputs_of_map(grid, {"clip", "bands", "frames", "map"})

    assert outputs["bands"].tolist() == [[[2, 3], [8, 9]]]
    assert outputs["clip"].tolist() == [[2, 3, 8, 9]]
    assert outputs["frames"].tolist() == [[[3, 4], [5, 6], [7, 8]]]
    assert outputs["map"] is grid
