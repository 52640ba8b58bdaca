"""CED: patches of a mel spectrogram, distilled from larger taggers on AudioSet, at 16 kHz.

Dinkel et al., "CED: consistent ensemble distillation for audio tagging", ICASSP 2024. Weights:
Apache-2.0. Checkpoints carry the names of the published ones on Hugging Face, or the older ones of
Zenodo; the size of the model is read from the tensors.

A token is a patch of 16 bands by 16 frames: 4 along frequency, 62 along time for 10 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from embed.encoders.mel_vision_transformer import FrontEnd, Layout, Network
from embed.encoders.patch_transformer import PUBLISHED_DEPTH, PatchTransformer
from embed.encoders.transformer import Stack, random_tensors
from embed.pretrained import SEED

LAYOUT = Layout(
    name="CED",
    patch=(16, 16),
    n_columns=63,
    batch_norm="encoder.init_bn",
    classifier=("outputlayer.",),
)
WIDTHS = {"tiny": 192, "mini": 256, "small": 384, "base": 768}


@dataclass(frozen=True, kw_only=True)
class Ced(PatchTransformer):
    """CED: `clip` (n, d), `bands` (n, 4, d), `frames` (n, t, d), one per 0.16 s.

    d is 768, or 192, 256 and 384 of the smaller variants. `clip` is the mean of all patches, which
    the published classifier is given.
    """

    variant: Literal["base", "small", "mini", "tiny"] = "base"

    usual_variant: ClassVar[str] = "base"
    n_bands: ClassVar[int] = LAYOUT.n_bands
    frame: ClassVar[int] = 0  # frames are centred
    longest: ClassVar[int] = 1012

    def build(self) -> tuple[nn.Module, Stack]:
        checkpoint = self.checkpoint
        if checkpoint is None:
            width = WIDTHS[self.variant]
            tensors = random_tensors(LAYOUT.shapes(width, PUBLISHED_DEPTH, 4 * width), SEED)
        else:
            tensors = LAYOUT.load(checkpoint.path)
        return FrontEnd(tensors, LAYOUT.batch_norm), Network(tensors, self.dtype)
