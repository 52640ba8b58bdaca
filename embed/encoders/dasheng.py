"""Dasheng: slices of a mel spectrogram, trained without labels on 272,000 h of sound, at 16 kHz.

Dinkel et al., "Scaling up masked audio encoder learning for general audio classification",
Interspeech 2024. Weights: Apache-2.0. Checkpoints carry the names of the published ones on Hugging
Face, or the older ones of Zenodo; the size of the model is read from the tensors.

A token is a slice of all bands by 4 frames, so that there is no axis of frequency: 250 for 10 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from embed.encoders.mel_vision_transformer import FrontEnd, Layout, Network
from embed.encoders.patch_transformer import PatchTransformer
from embed.encoders.transformer import Stack, random_tensors
from embed.pretrained import SEED

LAYOUT = Layout(name="Dasheng", patch=(64, 4), n_columns=252, batch_norm="encoder.init_bn.1")


@dataclass(frozen=True, kw_only=True)
class Dasheng(PatchTransformer):
    """Dasheng: `frames` (n, t, 768), one per 0.04 s, and `clip` (n, 768), their mean."""

    outputs: ClassVar[tuple[str, ...]] = ("clip", "frames")
    n_bands: ClassVar[int] = LAYOUT.n_bands
    frame: ClassVar[int] = 0  # frames are centred
    patch: ClassVar[int] = 4
    longest: ClassVar[int] = 1008

    def build(self) -> tuple[nn.Module, Stack]:
        checkpoint = self.checkpoint
        if checkpoint is None:
            tensors = random_tensors(LAYOUT.shapes(768, 12, 3072), SEED)
        else:
            tensors = LAYOUT.load(checkpoint.path)
        return FrontEnd(tensors, LAYOUT.batch_norm), Network(tensors, self.dtype)
