"""Dasheng gives what its authors' code gives on the same weights, at every stage."""

import numpy as np
import pytest
import torch
from golden_encoders import Golden, mel_vision_stages, whole_network
from small_networks import save_small, tensors_of

from embed import make_encoder, make_pooling
from embed.encoders.patch_transformer import n_heads

RATE = 16_000


@pytest.fixture(scope="module")
def golden(shared_data) -> Golden:
    return Golden(shared_data, "dasheng")


@pytest.fixture(scope="module")
def encoder(golden):
    """The whole network with the weights of the golden values."""
    return whole_network("dasheng", golden.tensors())


@torch.inference_mode()
@pytest.mark.parametrize("case", ["fan", pytest.param("speech", marks=pytest.mark.slow)])
def test_every_stage_is_the_published_one(encoder, golden, case):
    waveforms = torch.from_numpy(golden.waveforms(case))
    listed = golden.content["cases"][case]["tensors"]

    found = mel_vision_stages(encoder, waveforms)
    found["hub_logits"] = found["clip_mean"].sigmoid()
    assert set(listed) == set(found)
    for stage in listed:
        golden.check(case, stage, found[stage])


def test_the_vector_of_a_clip_is_the_mean_over_time(encoder, golden):
    (clip,) = encoder.encode(golden.waveforms("speech_1s"), [make_pooling("clip")])

    expected = golden.content["cases"]["speech_1s"]["clip_vectors"]["clip_mean"]
    np.testing.assert_allclose(clip, expected, atol=1e-5)


def test_the_older_form_of_a_checkpoint_gives_the_same(tmp_path):
    tensors = {name.removeprefix("encoder."): t for name, t in tensors_of("dasheng").items()}
    torch.save({"model": tensors, "config": {"depth": 3}}, tmp_path / "dasheng.pt")
    paths = (tmp_path / "dasheng.pt", save_small(tmp_path, "dasheng"))
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, RATE)).astype(np.float32)

    old, new = (
        make_encoder("dasheng", weights=str(path)).encode(waveform, [make_pooling("clip")])[0]
        for path in paths
    )

    np.testing.assert_allclose(old, new, atol=1e-6)


def test_there_is_no_axis_of_frequency():
    encoder = make_encoder("dasheng", weights="random")

    assert "no 'bands' output" in encoder.why_not(make_pooling("bands"))


def test_the_larger_sizes_have_the_published_numbers_of_heads():
    assert [n_heads(width) for width in (768, 1280, 1536)] == [12, 16, 24]
