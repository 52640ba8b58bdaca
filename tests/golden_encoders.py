"""Golden values of encoders: weights drawn by a recipe, inputs, and what their authors' code gives.

`shared/data/golden/golden_<encoder>.json` explains itself under `how_to_read`.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from embed import make_encoder

ATOL = 1e-4
FULL_WIDTH = 768
EMBEDDING_STD = 0.5  # of position embeddings, whatever the width


@dataclass(frozen=True)
class Golden:
    """The golden values of one encoder, and what they were computed from."""

    data: Path
    """Folder of the shared data."""
    encoder: str

    @cached_property
    def content(self) -> dict[str, Any]:
        file = self.data / "golden" / f"golden_{self.encoder}.json"
        content: dict[str, Any] = json.loads(file.read_text())
        return content

    def tensors(self, width: int = FULL_WIDTH) -> dict[str, Tensor]:
        """Draw the published tensors; of another width where the encoder comes in several."""
        drawn: dict[str, Tensor] = {}
        aliases = {}
        for key, shape, rule, parameters in self.content["keys"]:
            if rule == "alias":
                aliases[key] = parameters
            elif rule == "normal":
                mean, std = parameters
                sizes = [
                    size if size % FULL_WIDTH else size * width // FULL_WIDTH for size in shape
                ]
                if sizes != shape and len(sizes) > 1 and std != EMBEDDING_STD:
                    std = round(float(np.prod(sizes[1:])) ** -0.5, 6)
                noise = _generator(key).standard_normal(sizes)
                drawn[key] = torch.from_numpy((mean + std * noise).astype(np.float32))
            elif rule == "uniform_var":
                values = parameters[0] * (0.5 + _generator(key).random(shape))
                drawn[key] = torch.from_numpy(values.astype(np.float32))
        return drawn | {key: drawn[of] for key, of in aliases.items()}

    def waveforms(self, case: str) -> np.ndarray:
        """Return the input of a case, `(n_clips, n_samples)` float32."""
        return np.stack([self._waveform(row) for row in self.content["cases"][case]["input"]])

    def _waveform(self, row: dict[str, Any]) -> np.ndarray:
        pieces = []
        for name, start, stop in row["concat"]:
            path = self.data.parent.parent / self.content["input_files"][name]["path"]
            samples, _ = soundfile.read(path, dtype="float32", start=start, stop=stop)
            pieces.append(samples)
        waveform = np.concatenate(pieces)
        waveform = np.pad(waveform, (0, row["samples"] - len(waveform)))
        assert hashlib.sha256(waveform.tobytes()).hexdigest() == row["sha256_f32le"]
        return waveform

    def check(self, case: str, stage: str, ours: Tensor | np.ndarray, atol: float = ATOL) -> None:
        """Compare a tensor with the listed entries, the mean and the deviation of its stage.

        `atol` is added to what float32 itself left uncertain in the reference.
        """
        compare(self.content["cases"][case]["tensors"][stage], ours, atol, f"{case}/{stage}")


def compare(expected: dict[str, Any], ours: Tensor | np.ndarray, atol: float, what: str) -> None:
    """Compare a tensor with an entry of a golden file."""
    ours = np.asarray(ours, dtype=np.float64)
    atol += expected.get("f32_f64_maxdiff") or 0
    assert list(ours.shape) == expected["shape"], what
    listed = ours.flatten()[expected["index"]]
    np.testing.assert_allclose(listed, expected["value"], rtol=0, atol=atol, err_msg=what)
    if "mean" in expected:
        np.testing.assert_allclose(ours.mean(), expected["mean"], rtol=1e-4, atol=atol)
        np.testing.assert_allclose(ours.std(), expected["std"], rtol=1e-4, atol=atol)


def _generator(key: str) -> np.random.Generator:
    seed = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16)
    return np.random.Generator(np.random.PCG64(seed))


def mel_vision_stages(encoder: Any, waveforms: Tensor) -> dict[str, Tensor]:
    """Compute what CED and Dasheng give at each stage, by the names of the golden values."""
    front_end, network, _ = encoder._parts

    log_mel = front_end(waveforms)
    first, sixth, last = network(log_mel, 1, 0, 6, 0, 12, 0)
    before_norm = network.blocks[11](network(log_mel, 11, 0)[0])

    image = log_mel.transpose(1, 2)
    return {
        "logmel": front_end.log_mel(waveforms).transpose(1, 2),
        "batch_norm": image,
        "patch_embed": network.patches(image.unsqueeze(1)).flatten(2).transpose(1, 2),
        "encoder_input": network.embed(log_mel),
        "block1": first,
        "block6": sixth,
        "block12": before_norm,
        "final": last,
        "clip_mean": last.mean(dim=1),
    }


def whole_network(name: str, tensors: dict[str, Tensor], **options: Any) -> Any:
    """Build an encoder of twelve blocks with these tensors in place of random ones."""
    module = importlib.import_module(f"embed.encoders.{name}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "random_tensors", lambda shapes, seed: tensors)
        encoder = make_encoder(name, weights="random", **options)
        assert len(encoder._parts[1].blocks) == 12
    return encoder
