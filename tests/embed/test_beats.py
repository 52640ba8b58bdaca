"""BEATs gives what its authors' code gives on the same weights, at every stage."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden_encoders import Golden
from small_networks import BEATS, CFG, save_small, tensors_of
from torch.nn import functional

from embed import make_encoder, make_pooling
from embed.encoders import beats
from embed.encoders.kaldi import Fbank

RATE = 16_000


@pytest.fixture(scope="module")
def golden(shared_data) -> Golden:
    return Golden(shared_data, "beats")


@pytest.fixture(scope="module")
def encoder(golden):
    """The whole network with the weights of the golden values."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beats, "random_tensors", lambda shapes, seed: golden.tensors())
        encoder = make_encoder("beats", weights="random", window=16.0)
        assert len(encoder._parts[1].blocks) == 12
    return encoder


def stages(encoder, waveforms: torch.Tensor) -> dict[str, torch.Tensor]:
    """Compute what the golden values name, up to the first layer."""
    front_end, network, _ = encoder._parts
    fbank = front_end(waveforms)
    patches = network.patches(fbank.unsqueeze(1)).flatten(2).transpose(1, 2)
    normed = network.patch_norm(patches)
    projected = network.project(normed)
    around = network.convolution(projected.transpose(1, 2))[..., : projected.shape[1]]
    tokens = network.embed(fbank)
    queries, _, _ = network.blocks[0].heads(tokens)
    return {
        "fbank": front_end.log_mel(waveforms),
        "fbank_norm": fbank,
        "patch_conv": patches,
        "patch_layer_norm": normed,
        "post_extract_proj": projected,
        "pos_conv": functional.gelu(around).transpose(1, 2),
        "encoder_input": tokens,
        "position_bias": network.position(tokens)[None],
        "layer1_gate": network.blocks[0].gate(queries)[..., 0],
    }


@torch.inference_mode()
@pytest.mark.parametrize(
    "case", ["fan", "speech", "speech_1s", pytest.param("long", marks=pytest.mark.slow)]
)
def test_every_stage_is_the_published_one(encoder, golden, case):
    waveforms = torch.from_numpy(golden.waveforms(case))
    listed = golden.content["cases"][case]["tensors"]
    front_end, network, _ = encoder._parts

    found = stages(encoder, waveforms)
    wanted = [i for layer in range(1, 13) for i in (layer, 0)]
    layers = network(front_end(waveforms), *wanted)

    found |= {f"layer{number}": tokens for number, tokens in enumerate(layers, start=1)}
    grid = encoder.grid(layers[-1])
    found |= {
        "final": layers[-1],
        "clip_mean": grid.mean(dim=(1, 2)),
        "clip_layer_means": torch.stack([tokens.mean(dim=1) for tokens in layers], dim=1),
        "clip_temporal_pool": grid.mean(dim=2),
        "spectral_pool": grid.mean(dim=1),
    }
    assert set(listed) <= set(found)
    for stage in listed:
        golden.check(case, stage, found[stage])


def test_the_pooled_vectors_are_the_published_ones(encoder, golden):
    waveforms = golden.waveforms("speech_1s")

    clip, bands = encoder.encode(waveforms, [make_pooling("clip"), make_pooling("bands")])

    expected = golden.content["cases"]["speech_1s"]["clip_vectors"]["clip_mean"]
    np.testing.assert_allclose(clip, expected, atol=1e-5)
    golden.check("speech_1s", "clip_temporal_pool", bands)


def test_window_says_how_much_is_heard_at_once(tmp_path):
    path = save_small(tmp_path, "beats")

    short, long = (make_encoder("beats", weights=str(path), window=w) for w in (10.24, 16.0))

    assert (short.longest, long.longest) == (1024, 1600)
    assert len(short.windows(15 * RATE)) == 2
    assert long.windows(15 * RATE) == [(0, 15 * RATE)]
    with pytest.raises(ValueError, match=r"beats.window .*less than or equal to 120; got 1000.0"):
        make_encoder("beats", window=1000.0)


def test_a_mel_band_that_covers_no_bin_has_the_floor():
    fbank = Fbank(window="povey", scale=2.0**15).log_mel(torch.rand(1, RATE) - 0.5)

    assert fbank.shape == (1, 98, 128)
    assert (fbank[..., 3] == np.float32(np.log(1.1920928955078125e-07))).all()
    assert (fbank[..., 4] > 0).all()


def test_distances_have_buckets_of_their_own_up_to_a_quarter():
    buckets = beats.buckets(BEATS)

    near = buckets[800 - 8 : 800 + 9].tolist()
    assert near[8::-1] == [0, 1, 2, 3, 4, 5, 6, 7, 8]  # keys behind the query
    assert near[9:] == [17, 18, 19, 20, 21, 22, 23, 24]
    assert buckets[0] == 15
    assert buckets[-1] == 31


def message_of(path) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        make_encoder("beats", weights=str(path)).encode(
            np.zeros((1, RATE), np.float32), [make_pooling("clip")]
        )
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({**CFG, "deep_norm": False}, "asks for deep_norm False, supported is True"),
        ({**CFG, "layer_norm_first": True}, "asks for layer_norm_first True, supported is False"),
        ({**CFG, "activation_fn": ["gelu"]}, r"asks for activation_fn \['gelu'\]"),
        ({**CFG, "input_patch_size": 8}, "asks for input_patch_size 8, supported is 16"),
        ({**CFG, "max_distance": "far"}, "has max_distance 'far', expected 9 to 100,000"),
        ({**CFG, "max_distance": 10**12}, "has max_distance 1000000000000, expected 9 to"),
        ({**CFG, "max_distance": True}, "has max_distance True, expected"),
        ([1, 2], "has a list as cfg, expected a dict"),
        ("yaml", "has a str as cfg, expected a dict"),
    ],
)
def test_a_foreign_cfg_is_refused_in_one_line(cfg, message, tmp_path):
    path = save_small(tmp_path, "beats", cfg=cfg)

    said = message_of(path)

    assert str(path) in said
    assert re.search(message, said)


def test_the_largest_distance_is_that_of_cfg(tmp_path):
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, 2 * RATE)).astype(np.float32)
    vectors = {}
    for distance in (800, 20):
        path = save_small(tmp_path, "beats", cfg={**CFG, "max_distance": distance})
        encoder = make_encoder("beats", weights=str(path))
        (vectors[distance],) = encoder.encode(waveform, [make_pooling("clip")])

    assert np.abs(vectors[800] - vectors[20]).max() > 1e-4


def test_a_file_without_cfg_has_the_published_settings(tmp_path):
    torch.save(tensors_of("beats"), tmp_path / "plain.pt")

    _, config = beats.load_tensors(tmp_path / "plain.pt")

    assert config == replace(BEATS, max_distance=800)


def test_sizes_that_do_not_go_with_each_other_are_refused(tmp_path):
    tensors = tensors_of("beats")
    key = "encoder.layers.0.self_attn.relative_attention_bias.weight"

    path = save_small(tmp_path, "beats", {**tensors, key: torch.zeros(32, 5)})

    assert "width 64 cannot be divided among 5 heads" in message_of(path)
