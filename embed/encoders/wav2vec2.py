"""wav2vec 2.0: raw waveforms at 16 kHz to contextual speech representations, one per 20 ms.

Baevski et al., "wav2vec 2.0: a framework for self-supervised learning of speech representations",
NeurIPS 2020. Weights: facebook/wav2vec2-base on Hugging Face, Apache-2.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from embed.encoders.hidden_states import HiddenStates


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2(HiddenStates):
    """wav2vec 2.0 base: `frames` (n, t, 768), 499 for 10 s, and `clip`, their mean.

    Waveforms are scaled to mean 0 and variance 1 first, so the level of a clip has no effect.
    """

    @property
    def folder(self) -> Path | None:
        checkpoint = self.checkpoint
        is_folder = checkpoint is not None and checkpoint.path.is_dir()
        return checkpoint.path if checkpoint and is_folder else None

    @cached_property
    def config(self) -> Any:
        """Settings of the folder; random weights and single files have those of the base model."""
        if self.folder is not None:
            config = super().config
            if config.model_type != "wav2vec2":
                raise ValueError(
                    f"{self.folder} holds a model of type {config.model_type!r}, expected "
                    f"'wav2vec2'; --encoder hf:{self.folder} takes any"
                )
            return config
        from transformers import Wav2Vec2Config

        return Wav2Vec2Config()

    @cached_property
    def extractor(self) -> Any:
        if self.folder is not None:
            return super().extractor
        from transformers import Wav2Vec2FeatureExtractor

        return Wav2Vec2FeatureExtractor()  # type: ignore[no-untyped-call]
