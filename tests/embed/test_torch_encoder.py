"""Torch networks get tensors without gradients, and batches that their device can hold."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from embed.pooling import Clip, Mean
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
