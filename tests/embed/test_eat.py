"""EAT gives what its authors' code gives on the same weights, at every stage."""

import numpy as np
import pytest
import torch
from golden_encoders import Golden, whole_network
from small_networks import WIDTH, save_small, tensors_of

from embed import make_encoder, make_pooling
from embed.encoders import eat

RATE = 16_000


@pytest.fixture(scope="module")
def golden(shared_data) -> Golden:
    return Golden(shared_data, "eat")


@pytest.fixture(scope="module")
def encoder(golden):
    """The whole network with the weights of the golden values."""
    return whole_network("eat", golden.tensors())


@torch.inference_mode()
@pytest.mark.parametrize("case", ["fan", pytest.param("speech", marks=pytest.mark.slow)])
def test_every_stage_is_the_published_one(encoder, golden, case):
    waveforms = torch.from_numpy(golden.waveforms(case))
    listed = golden.content["cases"][case]["tensors"]
    front_end, network, _ = encoder._parts

    fbank = front_end(waveforms)
    first, sixth, last = network(fbank, 1, 0, 6, 0, 12, 0)

    found = {
        "fbank": front_end.log_mel(waveforms),
        "fbank_norm": fbank,
        "patch_embed": network.patches(fbank.unsqueeze(1)).flatten(2).transpose(1, 2),
        "encoder_input": network.embed(fbank),
        "block1": first,
        "block6": sixth,
        "block12": last,
        "final": last,
        "clip_cls": last[:, 0],
        "clip_patch_mean": last[:, 1:].mean(dim=1),
        "clip_all_mean": last.mean(dim=1),
        "clip_temporal_pool": encoder.grid(last).mean(dim=2),
    }
    assert set(listed) <= set(found)
    for stage in listed:
        golden.check(case, stage, found[stage])


def test_the_vector_of_a_clip_is_the_published_token(encoder, golden):
    (clip,) = encoder.encode(golden.waveforms("speech_1s"), [make_pooling("clip")])

    expected = golden.content["cases"]["speech_1s"]["clip_vectors"]["clip_cls"]
    np.testing.assert_allclose(clip, expected, atol=1e-5)


def test_positions_are_the_published_ones(golden):
    ours = eat.positions(768)

    for row, column, value in golden.content["positional_embedding_entries"][
        "entries_row_col_value"
    ]:
        if row < len(ours):
            assert ours[row, column] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("stored", "is_fine"),
    [
        (eat.positions(WIDTH)[None], True),
        (torch.cat([eat.positions(WIDTH), torch.zeros(16, WIDTH)])[None], True),
        (eat.positions(WIDTH)[None].flip(1), False),
        (eat.positions(WIDTH)[None, :100], False),
        (eat.positions(WIDTH), False),
    ],
)
def test_positions_in_a_checkpoint_are_compared(stored, is_fine, tmp_path):
    tensors = {**tensors_of("eat"), eat.POSITIONS: stored}
    encoder = make_encoder("eat", weights=str(save_small(tmp_path, "eat", tensors)))
    waveform = np.zeros((1, RATE), np.float32)

    if is_fine:
        assert np.isfinite(encoder.encode(waveform, [make_pooling("clip")])[0]).all()
    else:
        with pytest.raises(ValueError, match=r"not a checkpoint of EAT: 'model.fixed_positional"):
            encoder.encode(waveform, [make_pooling("clip")])


def test_the_folder_of_a_repository_is_its_file_of_tensors(tmp_path):
    path = save_small(tmp_path, "eat")
    (tmp_path / "config.json").write_text("{}")

    by_folder = make_encoder("eat", weights=str(tmp_path))

    assert by_folder.checkpoint.path == path


def test_patches_in_the_padding_are_left_out(tmp_path):
    encoder = make_encoder("eat", weights=str(save_small(tmp_path, "eat")))
    waveform = np.random.default_rng(0).normal(0, 0.1, (1, 2 * RATE)).astype(np.float32)

    (frames,) = encoder.encode(waveform, [make_pooling("frames")])

    assert frames.shape == (1, 12, WIDTH)  # 198 frames
    assert encoder.features(torch.from_numpy(waveform))[0, 198:].unique().tolist() == [
        pytest.approx(0.467061, abs=1e-5)
    ]
