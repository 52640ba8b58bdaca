"""A network of one layer that is made as the published ones are: for programs that measure them."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import nn

from embed.pretrained import PretrainedNetwork, compile_for, without_tf32

FRAME = 100


class Layer(nn.Module):
    """Frames `(n, t, FRAME)` to `(n, t, 8)`, in `dtype`."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(8, FRAME, generator=generator) / FRAME**0.5
        self.weight = nn.Parameter(weight.to(dtype), requires_grad=False)

    def forward(self, frames):
        return (frames.to(self.weight.dtype) @ self.weight.T).float()


@dataclass(frozen=True, kw_only=True)
class SmallNetwork(PretrainedNetwork):
    """`clip` (n, 8), the mean over frames of their squares."""

    sample_rate: int = 16_000

    native_rate: ClassVar[int] = 16_000
    outputs: ClassVar[tuple[str, ...]] = ("clip",)

    @property
    def min_samples(self):
        return FRAME

    @cached_property
    def _run(self):
        return compile_for(Layer(self.dtype), self)

    @without_tf32()
    def forward(self, waveforms, wanted):
        return {"clip": self._run(waveforms.unfold(1, FRAME, FRAME)).square().mean(dim=1)}
