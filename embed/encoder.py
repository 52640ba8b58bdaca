"""What every encoder is: a frozen dataclass whose fields are its options, and one method.

`encode` turns waveforms into vectors for several poolings at once, from one forward pass. An
encoder that computes by numpy derives from `Encoder`, a torch network from
`embed.torch_encoder.TorchEncoder`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from embed.fingerprint import ENVIRONMENT

if TYPE_CHECKING:
    from embed.pooling import Pooling
    from embed.recordings.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True)
class Encoder(ABC):
    """A frozen network or transform: waveforms `(n_clips, n_samples)` to vectors."""

    device: str = field(default="cpu", metadata=ENVIRONMENT)

    version: ClassVar[int] = 1
    """Raised whenever the same options and weights would give other vectors."""
    outputs: ClassVar[tuple[str, ...]] = ("frames",)
    """What `forward` can give, out of `frames`, `clip`, `cls`, `bands` and `map`."""
    default_pooling: ClassVar[str] = "clip"
    batch_size: ClassVar[dict[str, int]] = {"cpu": 8, "cuda": 64}
    """Clips per forward pass where the user does not say, per kind of device."""
    concurrent: ClassVar[bool] = False
    """True where `encode` uses one CPU core, gains nothing from batches, and may run in several
    threads at once: each clip is then encoded by the thread that decoded it."""

    @property
    @abstractmethod
    def sample_rate(self) -> int:
        """Rate of the waveforms that `encode` takes, in Hz."""

    @property
    def min_samples(self) -> int:
        """Shortest waveform, in samples, that gives a vector."""
        return 1

    @property
    def width(self) -> int:
        """Numbers per frame, or 0 where only the loaded network knows."""
        return 0

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights file, or "" for an encoder that has none."""
        return ""

    @property
    def warning(self) -> str:
        """What a reader of the results must know about these vectors, or ""."""
        return ""

    def check(self) -> None:  # noqa: B027
        """Raise ValueError for options that the weights do not go with; loads no network."""

    def why_not(self, pooling: Pooling) -> str:
        """Say why `pooling` does not go with this encoder, or "" where it does."""
        if pooling.source not in self.outputs:
            return f"{type(self).__name__} has no {pooling.source!r} output; it has {self.outputs}"
        return pooling.why_not(self.width) if pooling.source == "frames" and self.width else ""

    def shares_pass(self, other: Encoder) -> bool:
        """Say whether this encoder computes what another does in the same forward pass."""
        return self == other

    def in_shared_pass(self, pooling: Pooling) -> Pooling:
        """Return `pooling` of this encoder, for an encoder that shares its pass."""
        return pooling

    @abstractmethod
    def forward(self, waveforms: Any, wanted: frozenset[str]) -> dict[str, Any]:
        """Compute the wanted outputs of waveforms `(n_clips, n_samples)`, float32.

        `frames` is `(n_clips, n_frames, width)`, `clip` and `cls` are `(n_clips, dim)`, `bands` is
        `(n_clips, n_bands, dim)`, `map` is `(n_clips, n_bands, n_frames, dim)`.
        """

    def encode(self, waveforms: np.ndarray, poolings: Sequence[Pooling]) -> list[np.ndarray]:
        """Return one float32 array `(n_clips, ...)` per pooling, from one forward pass."""
        samples = np.ascontiguousarray(waveforms, dtype=np.float32)
        outputs = self.forward(samples, frozenset(pooling.source for pooling in poolings))
        return [
            np.asarray(pooling(outputs[pooling.source]), dtype=np.float32) for pooling in poolings
        ]

    def begin(
        self, waveforms: Sequence[np.ndarray], poolings: Sequence[Pooling]
    ) -> Callable[[], list[np.ndarray]]:
        """Start to encode waveforms of one length; return what waits for the arrays of `encode`."""
        vectors = self.encode(np.stack(waveforms), poolings)
        return lambda: vectors

    def embed(
        self,
        clips: np.ndarray | Sequence[str | PathLike[str] | np.ndarray],
        pooling: str | Pooling = "",
        preprocessing: Preprocessing | None = None,
    ) -> np.ndarray:
        """Return one vector per clip, `(n_clips, dim)` float32, in the order of the clips.

        `clips` are paths of recordings, or waveforms at `sample_rate`: `(n_clips, n_samples)`, or
        a list of `(n_samples,)`. The pooling is the encoder's own by default; `preprocessing`
        applies to recordings. Raises ValueError, with the name of the clip, for one that cannot
        be used.
        """
        from embed import make_pooling
        from embed.vectors import vectors_of

        if isinstance(pooling, str):
            pooling = make_pooling(pooling or self.default_pooling)
        return vectors_of(self, clips, pooling, preprocessing)
