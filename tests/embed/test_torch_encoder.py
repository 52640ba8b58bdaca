"""Torch networks get tensors without gradients, and batches that their device can hold."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import soundfile
import torch
from stand_in_card import CARD, StandInCard

from embed import ENCODERS, encoder_row, make_encoder, make_pooling
from embed.embedding import Task, embed_clips
from embed.encoders import vggish
from embed.pooling import Clip, Mean
from embed.recordings.preprocessing import Preprocessing
from embed.torch_encoder import TorchEncoder


@dataclass(frozen=True, kw_only=True)
class Small(TorchEncoder):
    """The mean of a waveform, on a device that holds `largest` clips at once."""

    sample_rate: int = 8000
    largest: int = 3

    outputs = ("frames", "clip")
    batches: ClassVar[list[int]] = []

    def forward(self, waveforms, wanted):
        self.batches.append(len(waveforms))
        if len(waveforms) > self.largest:
            raise torch.OutOfMemoryError
        assert not torch.is_grad_enabled()
        return {"frames": waveforms[:, :, None], "clip": waveforms.mean(dim=1, keepdim=True)}


@pytest.fixture(autouse=True)
def no_batches(monkeypatch):
    monkeypatch.setattr(Small, "batches", [])


def test_arrays_go_in_and_come_out(rng):
    waveforms = rng.normal(size=(3, 10))

    clip, mean = Small().encode(waveforms, [Clip(), Mean()])

    assert clip.dtype == mean.dtype == np.float32
    np.testing.assert_allclose(clip, waveforms.mean(axis=1, keepdims=True), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(mean, clip, rtol=1e-5, atol=1e-7)
    assert Small.batches == [3]


def test_a_batch_too_large_for_the_device_is_halved(rng):
    waveforms = rng.normal(size=(11, 10)).astype(np.float32)

    (clip,) = Small().encode(waveforms, [Clip()])

    np.testing.assert_allclose(clip[:, 0], waveforms.mean(axis=1), rtol=1e-5, atol=1e-7)
    assert max(n for n in Small.batches if n <= 3) == 3


def test_one_clip_too_large_for_the_device_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        Small(largest=0).encode(np.ones((4, 10), np.float32), [Clip()])


def test_a_card_is_waited_for_only_when_the_vectors_are_asked_for(rng, monkeypatch):
    waveforms = rng.normal(size=(3, 10)).astype(np.float32)
    expected = Small().encode(waveforms, [Clip(), Mean()])
    card = StandInCard(monkeypatch)

    wait = Small(device=CARD).begin(list(waveforms), [Clip(), Mean()])
    begun = [*card.events]
    found = wait()

    assert (begun, card.events) == (["begin"], ["begin", "wait"])
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_batch_too_large_for_a_card_is_halved(rng, monkeypatch):
    waveforms = rng.normal(size=(7, 10)).astype(np.float32)
    card = StandInCard(monkeypatch)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    (clip,) = Small(device=CARD).begin(list(waveforms), [Clip()])()

    np.testing.assert_allclose(clip[:, 0], waveforms.mean(axis=1), rtol=1e-5, atol=1e-7)
    assert card.events.count("wait") == 3  # of 3, 2 and 2 clips


def test_the_loop_gives_a_card_the_next_batch_before_it_waits_for_the_last(
    tmp_path, rng, monkeypatch
):
    waveforms = rng.uniform(-1, 1, (12, 800)).astype(np.float32)
    files = [(str(i), tmp_path / f"{i}.wav") for i in range(len(waveforms))]
    for (_, path), waveform in zip(files, waveforms, strict=True):
        soundfile.write(path, waveform, 8000, subtype="FLOAT")
    rows = {}
    task = Task(
        encoders=[Small(device=CARD)],
        poolings=[Clip()],
        write=lambda keys, vectors, contents: rows.update(zip(keys, vectors[0], strict=True)),
        on_bad_clip=lambda key, reason: pytest.fail(reason),
    )
    card = StandInCard(monkeypatch, n_batches=4)

    embed_clips([task], Preprocessing(), files, batch_size=3)

    assert card.events[:3] == ["begin", "begin", "wait"]
    assert sorted(card.events) == ["begin"] * 4 + ["wait"] * 4
    found = np.stack([rows[key] for key, _ in files])
    np.testing.assert_allclose(found[:, 0], waveforms.mean(axis=1), rtol=1e-4, atol=1e-6)


NOT_OURS = {"resnet50", "wav2vec2", "hf"}  # a front end in numpy, and networks of transformers
NETWORKS = [
    name
    for name in ENCODERS
    if name not in NOT_OURS and issubclass(encoder_row(name).resolve(), TorchEncoder)
]


@pytest.mark.parametrize("name", NETWORKS)
def test_no_network_waits_for_its_device_within_a_pass(name, monkeypatch):
    """On torch's meta device there are no numbers: whatever asks for one raises an error."""
    randn = torch.randn

    def without_numbers(*shape, generator=None, device=None, **options):
        return randn(*shape, device="meta", **options)

    monkeypatch.setattr(torch, "randn", without_numbers)
    encoder = make_encoder(name, weights="random", device="meta")
    monkeypatch.setitem(type(encoder).batch_size, "meta", 64)
    monkeypatch.setitem(vggish.WINDOWS_AT_ONCE, "meta", 64)
    outputs = encoder.forward(
        torch.empty(2, 2 * encoder.sample_rate, device="meta"), frozenset({"clip", "frames"})
    )

    pooling = make_pooling("clip")
    assert pooling(outputs["clip"]).shape[0] == 2
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        outputs["clip"].sum().item()
