"""What encoders that are torch networks share: batches on the device, without gradients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from embed.encoder import Encoder

if TYPE_CHECKING:
    from embed.pooling import Pooling


@dataclass(frozen=True, kw_only=True)
class TorchEncoder(Encoder):
    """An encoder whose `forward` takes and returns tensors on its device."""

    @abstractmethod
    def forward(self, waveforms: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
        """Compute the wanted outputs, as `Encoder.forward` does, of waveforms on the device."""

    def encode(self, waveforms: np.ndarray, poolings: Sequence[Pooling]) -> list[np.ndarray]:
        """Return one float32 array `(n_clips, ...)` per pooling, from one forward pass.

        A batch that does not fit into the device's memory is encoded in halves.
        """
        return self._begin(waveforms, poolings)()

    def begin(
        self, waveforms: Sequence[np.ndarray], poolings: Sequence[Pooling]
    ) -> Callable[[], list[np.ndarray]]:
        """Start on a batch as `Encoder.begin` does; a GPU works on it after the return.

        Until the returned function is called, nothing waits for the GPU.
        """
        if self.device.startswith("cuda"):
            return self._begin(waveforms, poolings)
        return super().begin(waveforms, poolings)

    def _begin(
        self, waveforms: Sequence[np.ndarray] | np.ndarray, poolings: Sequence[Pooling]
    ) -> Callable[[], list[np.ndarray]]:
        try:
            return self._begin_at_once(waveforms, poolings)
        except torch.OutOfMemoryError:
            if len(waveforms) == 1:
                raise
        torch.cuda.empty_cache()  # after the exception, which keeps tensors alive
        half = len(waveforms) // 2
        # the first half is waited for, so that its tensors make room for the second
        halves = [self._begin(part, poolings)() for part in (waveforms[:half], waveforms[half:])]
        return lambda: [np.concatenate(arrays) for arrays in zip(*halves, strict=True)]

    @torch.inference_mode()
    def _begin_at_once(
        self, waveforms: Sequence[np.ndarray] | np.ndarray, poolings: Sequence[Pooling]
    ) -> Callable[[], list[np.ndarray]]:
        samples = on_device(waveforms, self.device)
        outputs = self.forward(samples, frozenset(pooling.source for pooling in poolings))
        return on_host([p(outputs[p.source]).float() for p in poolings], self.device)


def on_device(waveforms: Sequence[np.ndarray] | np.ndarray, device: str) -> Tensor:
    """Stack waveforms to a tensor `(n_clips, n_samples)` in float32 on the device.

    For a GPU they are stacked in pinned memory, from which it copies while the CPU goes on.
    """
    if not device.startswith("cuda"):
        return torch.from_numpy(np.ascontiguousarray(waveforms, dtype=np.float32))
    clips = [torch.from_numpy(np.ascontiguousarray(w, dtype=np.float32)) for w in waveforms]
    pinned = torch.empty((len(clips), len(clips[0])), dtype=torch.float32, pin_memory=True)
    torch.stack(clips, out=pinned)
    return pinned.to(device, non_blocking=True)


def on_host(tensors: Sequence[Tensor], device: str) -> Callable[[], list[np.ndarray]]:
    """Start to copy tensors to the host; return what waits for the copies and gives them."""
    if not device.startswith("cuda"):
        arrays = [tensor.cpu().numpy() for tensor in tensors]
        return lambda: arrays
    copies = [torch.empty(t.shape, dtype=torch.float32, pin_memory=True) for t in tensors]
    for copy, tensor in zip(copies, tensors, strict=True):
        copy.copy_(tensor, non_blocking=True)
    copied = torch.cuda.current_stream(device).record_event()

    def wait() -> list[np.ndarray]:
        copied.synchronize()
        return [copy.numpy() for copy in copies]

    return wait
