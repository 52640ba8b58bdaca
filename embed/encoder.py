"""What every encoder shares: options as fields, one forward pass for several poolings.

An encoder is a frozen dataclass. Its fields are all its options, and the fingerprint hashes
them all, so that no option can be forgotten; a field that cannot change a vector (the device)
carries `RUNTIME`.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

if TYPE_CHECKING:
    from embed.pooling import Pooling
    from embed.recordings.audio import Preprocessing

RUNTIME = {"decides_vectors": False}
"""Metadata of a field that cannot change a vector and so stays out of the fingerprint."""

RESAMPLER = "soxr_hq"


@dataclass(frozen=True, kw_only=True)
class Encoder(ABC):
    """A frozen network or transform: waveforms `(n_clips, n_samples)` to vectors."""

    device: str = field(default="cpu", metadata=RUNTIME)

    version: ClassVar[int] = 1
    """Raised whenever the same options and weights would give other vectors."""
    outputs: ClassVar[tuple[str, ...]] = ("frames",)
    """What `forward` can give, out of `frames`, `clip`, `cls` and `bands`."""
    default_pooling: ClassVar[str] = "clip"
    batch_size: ClassVar[dict[str, int]] = {"cpu": 8, "cuda": 64}
    """Clips per forward pass where the user does not say, per kind of device."""

    @property
    @abstractmethod
    def sample_rate(self) -> int:
        """Rate of the waveforms that `encode` takes, in Hz."""

    @property
    def min_samples(self) -> int:
        """Shortest waveform, in samples, that gives a vector."""
        return 1

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights file, or "" for an encoder that has none."""
        return ""

    @property
    def warning(self) -> str:
        """What a reader of the results must know about these vectors, or ""."""
        return ""

    def refuses(self, pooling: Pooling) -> str:
        """Say why `pooling` does not go with this encoder, or "" where it does."""
        if pooling.source not in self.outputs:
            return f"{type(self).__name__} has no {pooling.source!r} output; it has {self.outputs}"
        return ""

    @abstractmethod
    def forward(self, waveforms: torch.Tensor, wanted: frozenset[str]) -> dict[str, torch.Tensor]:
        """Compute the wanted outputs of waveforms `(n_clips, n_samples)` on the device.

        `frames` is `(n_clips, n_frames, dim)`, `clip` and `cls` are `(n_clips, dim)`, `bands` is
        `(n_clips, n_bands, dim)`.
        """

    @torch.inference_mode()
    def encode(self, waveforms: np.ndarray, poolings: Sequence[Pooling]) -> list[np.ndarray]:
        """Return one float32 array `(n_clips, ...)` per pooling, from one forward pass."""
        samples = torch.from_numpy(np.ascontiguousarray(waveforms, dtype=np.float32))
        if self.device.startswith("cuda"):
            samples = samples.pin_memory().to(self.device, non_blocking=True)
        outputs = self.forward(samples, frozenset(p.source for p in poolings))
        return [p(outputs[p.source]).float().cpu().numpy() for p in poolings]


def configuration(
    encoder: Encoder, preprocessing: Preprocessing, pooling: Pooling
) -> dict[str, Any]:
    """List everything that decides a vector, as JSON-able values."""
    return {
        "encoder": type(encoder).__name__,
        "version": encoder.version,
        "options": _options(encoder),
        "weights_sha256": encoder.weights_sha256,
        "resampler": RESAMPLER,
        "preprocessing": _options(preprocessing),
        "pooling": pooling.name,
        "pooling_options": _options(pooling),
    }


def fingerprint(configuration: dict[str, Any]) -> str:
    """Hash a configuration; embeddings are cached under it."""
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()


def _options(thing: Any) -> dict[str, Any]:
    return {
        f.name: getattr(thing, f.name)
        for f in fields(thing)
        if f.metadata.get("decides_vectors", True)
    }
