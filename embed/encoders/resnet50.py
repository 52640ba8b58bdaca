"""ResNet50 trained on photographs; its input is a clip's log-mel spectrogram as a picture.

He et al., "Deep residual learning for image recognition", CVPR 2016. Weights: microsoft/resnet-50
on Hugging Face, Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from embed.encoders.logmel import LogMel
from embed.encoders.transformers_models import build, read_checkpoint, read_config
from embed.pretrained import PretrainedNetwork, compile_for, without_tf32

SPECTROGRAM: Mapping[str, Any] = {
    "sample_rate": 16_000,
    "n_fft": 1024,
    "win_length": 1024,
    "hop_length": 512,
    "n_mels": 128,
    "fmin": 0.0,
    "fmax": 8000.0,
}
"""All options of the spectrogram, so that a change of its defaults has no effect here."""
SIDE = 224
QUIETEST, LOUDEST = -80.0, 40.0
"""Range in dB from black to white; a full-scale sine is at 34 dB. It is the same for all clips, so
that a louder clip is a brighter picture. A range per clip would remove the level, and one click
would darken the rest of the clip."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's red, green, blue


@dataclass(frozen=True, kw_only=True)
class ResNet50(PretrainedNetwork):
    """Output of the last block, 7 x 7 places: `clip` (n, 2048), their mean; `frames` and `bands`.

    The picture is 224 x 224, low frequencies first, time to the right, three equal channels. Both
    `frames` (time kept) and `bands` (frequency kept) are (n, 7, 2048), however long the clip is.
    """

    sample_rate: int = 16_000

    native_rate: ClassVar[int] = 16_000
    version: ClassVar[int] = LogMel.version  # of the front end; a change here adds one to it
    outputs: ClassVar[tuple[str, ...]] = ("clip", "frames", "bands")
    batch_size: ClassVar[dict[str, int]] = {"cpu": 4, "cuda": 64}

    @property
    def min_samples(self) -> int:
        return self._log_mel.min_samples

    @cached_property
    def _log_mel(self) -> LogMel:
        return LogMel(**SPECTROGRAM)

    @cached_property
    def _run(self) -> Any:
        from transformers import ResNetConfig

        checkpoint = self.checkpoint
        if checkpoint is None:
            return compile_for(Map(build(ResNetConfig(), None, "resnet50"), self.dtype), self)
        path = checkpoint.path
        config = ResNetConfig() if path.is_file() else read_config(path, str(path), takes="pixels")
        if config.model_type != "resnet":
            raise ValueError(
                f"{path} holds a model of type {config.model_type!r}, expected 'resnet'"
            )
        resnet = build(config, read_checkpoint(path), str(path))
        return compile_for(Map(resnet, self.dtype), self)

    @without_tf32()
    def pictures(self, waveforms: Tensor) -> Tensor:
        """Return the input of the network, `(n, 3, 224, 224)`, normalised as for ImageNet."""
        frames = torch.from_numpy(self._log_mel.log_mel(waveforms.cpu().numpy()))
        log_mel = frames.to(waveforms.device).transpose(1, 2).unsqueeze(1)
        bright = ((log_mel - QUIETEST) / (LOUDEST - QUIETEST)).clamp(0, 1)
        scaled = nn.functional.interpolate(bright, (SIDE, SIDE), mode="bilinear", antialias=True)
        mean, deviation = (
            torch.tensor(values, device=scaled.device).view(3, 1, 1) for values in (MEAN, DEVIATION)
        )
        return (scaled - mean) / deviation

    @without_tf32()
    def forward(self, waveforms: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
        places = self._run(self.pictures(waveforms)).float()  # (n, 2048, frequency, time)
        outputs = {
            "clip": places.mean(dim=(2, 3)),
            "frames": places.mean(dim=2).transpose(1, 2),
            "bands": places.mean(dim=3).transpose(1, 2),
        }
        return {name: outputs[name] for name in wanted}


class Map(nn.Module):
    """Pictures to the last block's output, `(n, 2048, 7, 7)`, in `dtype`."""

    def __init__(self, resnet: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        resnet = resnet.eval().requires_grad_(False)
        self.resnet = resnet.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype

    def forward(self, pictures: Tensor) -> Tensor:
        output: Tensor = self.resnet(pictures.to(self.dtype)).last_hidden_state
        return output
