"""Dasheng gives what its authors' code gives on the same weights, at every stage."""

import numpy as np
import pytest
import torch
from golden_encoders import Golden
from small_networks import save_small, tensors_of

from embed import make_encoder, make_pooling
from embed.encoders import dasheng
from embed.encoders.patch_transformer import n_heads

RATE = 16_000


@pytest.fixture(scope="module")
def golden(shared_data) -> Golden:
    return Golden(shared_data, "dasheng")


@pytest.fixture(scope="module")
def encoder(golden):
    """The whole network with the weights of the golden values."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dasheng, "random_tensors", lambda shapes, seed: golden.tensors())
        encoder = make_encoder("dasheng", weights="random")
        assert len(encoder._parts[1].blocks) == 12
    return encoder


@torch.inference_mode()
@pytest.mark.parametrize("case", ["fan", pytest.param("speech", marks=pytest.mark.slow)])
def test_every_stage_is_the_published_one(encoder, golden, case):
    waveforms = torch.from_numpy(golden.waveforms(case))
    listed = golden.content["cases"][case]["tensors"]
    front_end, network, _ = encoder._parts

    log_mel = front_end(waveforms)
    first, sixth, last = network(log_mel, 1, 0, 6, 0, 12, 0)
    before_norm = network.blocks[11](network(log_mel, 11, 0)[0])

    image = log_mel.transpose(1, 2)
    found = {
        "logmel": front_end.log_mel(waveforms).transpose(1, 2),
        "batch_norm": image,
        "patch_embed": network.patches(image.unsqueeze(1)).flatten(2).transpose(1, 2),
        "encoder_input": network.embed(log_mel),
        "block1": first,
        "block6": sixth,
        "block12": before_norm,
        "final": last,
        "clip_mean": last.mean(dim=1),
        "hub_logits": last.mean(dim=1).sigmoid(),
    }
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
