"""CED gives what its authors' code gives on the same weights, at every stage and size."""

import numpy as np
import pytest
import torch
from golden_encoders import Golden, compare, mel_vision_stages, whole_network
from small_networks import save_small, tensors_of

from embed import make_encoder, make_pooling
from embed.encoders import ced

RATE = 16_000


@pytest.fixture(scope="module")
def golden(shared_data) -> Golden:
    return Golden(shared_data, "ced")


def with_weights(golden: Golden, variant: str):
    """Build a whole network with the weights of the golden values."""
    return whole_network("ced", golden.tensors(ced.WIDTHS[variant]), variant=variant)


@pytest.fixture(scope="module")
def encoder(golden):
    return with_weights(golden, "base")


@torch.inference_mode()
@pytest.mark.parametrize("case", ["fan", pytest.param("speech", marks=pytest.mark.slow)])
def test_every_stage_is_the_published_one(encoder, golden, case):
    waveforms = torch.from_numpy(golden.waveforms(case))
    listed = golden.content["cases"][case]["tensors"]

    found = mel_vision_stages(encoder, waveforms)
    for stage, ours in found.items():
        golden.check(case, stage, ours)
    assert set(listed) - set(found) == {"clip_temporal_pool", "probs"}


def test_the_vector_of_a_clip_is_what_the_published_classifier_is_given(encoder, golden):
    (clip,) = encoder.encode(golden.waveforms("speech_1s"), [make_pooling("clip")])

    expected = golden.content["cases"]["speech_1s"]["clip_vectors"]["clip_mean"]
    np.testing.assert_allclose(clip, expected, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("variant", ["tiny", "mini", "small"])
def test_the_smaller_sizes_are_the_published_ones(golden, variant):
    encoder = with_weights(golden, variant)
    expected = golden.content["variants"][f"ced-{variant}"]["tensors"]
    front_end, network, _ = encoder._parts

    sixth, last = network(front_end(torch.from_numpy(golden.waveforms("fan"))), 6, 0, 12, 0)

    found = {"fan/block6": sixth, "fan/final": last, "fan/clip_mean": last.mean(dim=1)}
    for stage, tokens in found.items():
        compare(expected[stage], tokens, 1e-4, f"{variant} {stage}")


def test_the_floor_of_a_clip_does_not_depend_on_its_neighbours(tmp_path):
    encoder = make_encoder("ced", weights=str(save_small(tmp_path, "ced")))
    rng = np.random.default_rng(0)
    loud, silence = rng.normal(0, 0.3, RATE).astype(np.float32), np.zeros(RATE, np.float32)

    log_mel = encoder._parts[0].log_mel(torch.from_numpy(np.stack([loud, silence])))

    assert log_mel[0].max() > 20
    assert log_mel[1].unique().tolist() == [-100.0]


def test_the_older_form_of_a_checkpoint_gives_the_same(tmp_path):
    def older(name: str) -> str:
        name = name.removeprefix("encoder.")
        return name.replace("init_bn.", "init_bn.1.")

    tensors = {older(name): tensor for name, tensor in tensors_of("ced").items()}
    tensors |= {"front_end.0.spectrogram.window": torch.zeros(512)}
    torch.save(tensors, tmp_path / "audiotransformer.pt")
    paths = (tmp_path / "audiotransformer.pt", save_small(tmp_path, "ced"))
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, RATE)).astype(np.float32)

    old, new = (
        make_encoder("ced", weights=str(path)).encode(waveform, [make_pooling("clip")])[0]
        for path in paths
    )

    np.testing.assert_allclose(old, new, atol=1e-6)
