"""Any audio model of the Hugging Face hub that gives hidden states: `hf:MODEL`.

wav2vec 2.0, HuBERT, WavLM, data2vec, UniSpeech, SEW, wav2vec2-BERT, Whisper's encoder, CLAP's audio
tower, the Audio Spectrogram Transformer, and the other audio models of transformers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from embed.encoders.hidden_states import HiddenStates
from embed.encoders.transformers_models import takes_torchaudio
from embed.fingerprint import RUNTIME
from embed.pretrained import SEED
from fetch.checkpoints import Checkpoint
from fetch.hub import find_model
from fetch.weights import RANDOM


@dataclass(frozen=True, kw_only=True)
class HubModel(HiddenStates):
    """Hidden states of `model`, a folder or a model id, at `revision`.

    The fingerprint has the content of the model's files, not their place, and whether torchaudio
    is installed, for the two extractors that use it then. `weights` is "" (the model's own) or
    "random" (only its settings are read).
    """

    model: str = field(default="", metadata=RUNTIME)
    revision: str = field(default="", metadata=RUNTIME)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model:
            raise ValueError(
                "hf needs a model: --encoder hf:facebook/hubert-base-ls960, or hf:FOLDER"
            )
        if self.weights not in ("", RANDOM):
            raise ValueError(
                f"hf has its weights from its model: --encoder hf:{self.weights} instead of "
                f"--weights {self.weights}; --weights takes {RANDOM!r} only"
            )

    @property
    def display_name(self) -> str:
        return f"hf:{self.model}"

    @cached_property
    def found(self) -> Checkpoint:
        """The model on disk, fetched if it is not there; for random weights only its settings."""
        return find_model(
            self.model,
            revision=self.revision,
            offline=self.offline,
            tensors=self.weights != RANDOM,
        )

    @cached_property
    def checkpoint(self) -> Checkpoint | None:
        return None if self.weights == RANDOM else self.found

    @property
    def weights_sha256(self) -> str:
        sha256 = self.found.sha256
        if takes_torchaudio(self.folder):
            sha256 += ":torchaudio"
        return f"{RANDOM}:{SEED}:{sha256}" if self.weights == RANDOM else sha256

    @property
    def folder(self) -> Path:
        return self.found.path
