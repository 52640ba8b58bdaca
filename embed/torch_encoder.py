"""What encoders that are torch networks share: batches on the device, without gradients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
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
        try:
            return self._encode_at_once(waveforms, poolings)
        except torch.OutOfMemoryError:
            if len(waveforms) == 1:
                raise
        torch.cuda.empty_cache()  # after the exception, which keeps tensors alive
        half = len(waveforms) // 2
        parts = [self.encode(part, poolings) for part in (waveforms[:half], waveforms[half:])]
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    @torch.inference_mode()
    def _encode_at_once(
        self, waveforms: np.ndarray, poolings: Sequence[Pooling]
    ) -> list[np.ndarray]:
        samples = torch.from_numpy(np.ascontiguousarray(waveforms, dtype=np.float32))
        if self.device.startswith("cuda"):
            samples = samples.pin_memory().to(self.device, non_blocking=True)
        outputs = self.forward(samples, frozenset(pooling.source for pooling in poolings))
        return [pooling(outputs[pooling.source]).float().cpu().numpy() for pooling in poolings]
