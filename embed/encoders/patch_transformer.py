"""What transformers over patches of a spectrogram share: layers, windows of long clips, outputs."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from embed.encoders.kaldi import HOP
from embed.encoders.transformer import Stack
from embed.layers import LAST, LayeredNetwork, outputs_of_map
from embed.pretrained import compile_for, without_tf32
from fetch.weights import RANDOM

log = logging.getLogger(__name__)

PUBLISHED_DEPTH = 12  # of all that have a row in the table of weights
HEAD_WIDTH = 64  # of the published models, whatever their size, but for these:
N_HEADS = {1280: 16}  # Dasheng 0.6B


@dataclass(frozen=True, kw_only=True)
class PatchTransformer(LayeredNetwork):
    """Tokens are patches, `n_bands` along frequency, in time after `n_whole` others.

    `bands` is the mean of the patches over time, `frames` over frequency; patches that reach into
    padding are left out of both. `clip` of the last layer is the mean of the `n_whole` tokens that
    stand for the whole, or else of all patches. `layer` is the block whose output is taken.
    A clip of more than `longest` frames is cut into windows of that length, the last one moved
    back to end with the clip, and their vectors are averaged; `frames` then follow one another
    without the overlap.
    """

    sample_rate: int = 16_000

    native_rate: ClassVar[int] = 16_000
    outputs: ClassVar[tuple[str, ...]] = ("clip", "bands", "frames", "map")
    batch_size: ClassVar[dict[str, int]] = {"cpu": 4, "cuda": 64}

    usual_variant: ClassVar[str] = ""
    """Default of the field `variant`, for an encoder with several published models."""
    n_whole: ClassVar[int] = 0
    is_time_major: ClassVar[bool] = False
    """Whether patches of one time are neighbours, instead of those of one band."""
    frame: ClassVar[int]
    """Samples of a frame that must lie within the waveform."""
    patch: ClassVar[int] = 16
    """Frames per patch."""

    @property
    def published_name(self) -> str:
        name, variant = self.registered_name, getattr(self, "variant", self.usual_variant)
        return name if variant == self.usual_variant else f"{name}-{variant}"

    @property
    def min_samples(self) -> int:
        return self.frame + (self.patch - 1) * HOP

    @property
    @abstractmethod
    def n_bands(self) -> int:
        """Patches along frequency."""

    @property
    def stride(self) -> int:
        """Frames from one patch to the next."""
        return self.patch

    @property
    @abstractmethod
    def longest(self) -> int:
        """Most frames that are heard at once."""

    @abstractmethod
    def build(self) -> tuple[nn.Module, Stack]:
        """Return the front end, waveforms to spectrogram, and the network with its weights."""

    @cached_property
    def _parts(self) -> tuple[nn.Module, Stack, Any]:
        front_end, network = self.build()
        return front_end.to(self.device), network, compile_for(network, self)

    @property
    def layers(self) -> range:
        is_published = self.weights in ("", RANDOM)
        return range(1, 1 + (PUBLISHED_DEPTH if is_published else len(self._parts[1].blocks)))

    def windows(self, n_samples: int) -> list[tuple[int, int]]:
        """List the windows of a clip as samples, start and stop."""
        n_frames, longest = self._n_frames(n_samples), self.longest
        if n_frames <= longest:
            return [(0, n_samples)]
        starts = [*range(0, n_frames - longest, longest), n_frames - longest]
        length = (longest - 1) * HOP + self.frame
        return [(start * HOP, start * HOP + length) for start in starts]

    def _n_frames(self, n_samples: int) -> int:
        return 1 + (n_samples - self.frame) // HOP

    def features(self, waveforms: Tensor) -> Tensor:
        """Return the input of the network for waveforms of one window each."""
        with without_tf32():
            return self._parts[0](waveforms)  # type: ignore[no-any-return]

    @without_tf32()
    def forward_layers(
        self, waveforms: Tensor, wanted: Mapping[int, frozenset[str]]
    ) -> dict[int, dict[str, Tensor]]:
        """Compute outputs of the wanted layers window by window, and join them clip by clip."""
        windows = self.windows(waveforms.shape[1])
        rows = torch.stack([waveforms[:, start:stop] for start, stop in windows], dim=1)
        at_once = max(len(waveforms), self.batch_size[waveforms.device.type])
        parts = [self._encode(part, wanted) for part in torch.split(rows.flatten(0, 1), at_once)]
        outputs: dict[int, dict[str, Tensor]] = {}
        for layer, names in wanted.items():
            whole = {name: torch.cat([part[layer][name] for part in parts]) for name in names}
            outputs[layer] = {
                name: self._of_clips(name, torch.unflatten(output, 0, rows.shape[:2]), windows)
                for name, output in whole.items()
            }
        return outputs

    def _encode(
        self, waveforms: Tensor, wanted: Mapping[int, frozenset[str]]
    ) -> dict[int, dict[str, Tensor]]:
        """Compute the wanted outputs of waveforms of one window each."""
        front_end, network, run = self._parts
        ints = []
        for layer, names in wanted.items():
            of_whole = {"clip", "cls"} if layer == LAST else {"cls"}
            number = len(network.blocks) if layer == LAST else layer
            ints += [number, self.n_whole if names <= of_whole else 0]
        tokens = run(front_end(waveforms), *ints)
        return {
            layer: self._outputs(each.float(), names, waveforms.shape[1], is_last=layer == LAST)
            for each, (layer, names) in zip(tokens, wanted.items(), strict=True)
        }

    def _outputs(
        self, tokens: Tensor, wanted: frozenset[str], n_samples: int, *, is_last: bool
    ) -> dict[str, Tensor]:
        """Pool the tokens `(n, n_tokens, d)` of waveforms of `n_samples`."""
        outputs = {"cls": tokens[:, 0]}
        if is_last:
            outputs["clip"] = tokens[:, : self.n_whole or None].mean(dim=1)
        if of_patches := wanted - outputs.keys():
            n_columns = self.n_columns(self._n_frames(n_samples))
            outputs |= outputs_of_map(self.grid(tokens)[:, :, :n_columns], of_patches)
        return {name: outputs[name] for name in wanted}

    def n_columns(self, n_frames: int) -> int:
        """Count the patches along time that lie within the frames of a clip; at least one."""
        return max(1, n_frames // self.patch)

    def grid(self, tokens: Tensor) -> Tensor:
        """Return the patches, `(n, n_bands, t, d)`."""
        patches = tokens[:, self.n_whole :]
        if self.is_time_major:
            return torch.unflatten(patches, 1, (-1, self.n_bands)).transpose(1, 2)
        return torch.unflatten(patches, 1, (self.n_bands, -1))

    def _of_clips(self, name: str, output: Tensor, windows: list[tuple[int, int]]) -> Tensor:
        """Join the outputs of windows, `(n, n_windows, ...)`."""
        if name == "frames":
            return self._in_a_row(output, windows)
        if name == "map":  # (n, n_windows, n_bands, t, d)
            by_band = output.transpose(1, 2)
            rows = self._in_a_row(by_band.flatten(0, 1), windows)
            return torch.unflatten(rows, 0, by_band.shape[:2])
        return output.mean(dim=1)

    def _in_a_row(self, frames: Tensor, windows: list[tuple[int, int]]) -> Tensor:
        """Join `(n, n_windows, t, d)` along time, without frames that the last window repeats."""
        if len(windows) == 1:
            return frames[:, 0]
        step = self.stride * HOP
        end_of_last_but_one = windows[-2][0] + (frames.shape[2] - 1) * step
        first_new = max(0, (end_of_last_but_one - windows[-1][0]) // step + 1)
        return torch.cat([frames[:, :-1].flatten(1, 2), frames[:, -1, first_new:]], dim=1)


def n_blocks(tensors: Iterable[str], pattern: str) -> int:
    """Count the blocks 0, 1, ... of which the tensor `pattern.format(number)` is there."""
    names, number = set(tensors), 0
    while pattern.format(number) in names:
        number += 1
    return number


def n_heads(width: int) -> int:
    """Return how many attention heads a published model of this width has."""
    return N_HEADS.get(width, width // HEAD_WIDTH)


def check_width(width: int, path: Path, what: str) -> None:
    """Raise ValueError for a width that no attention heads of the usual width make up."""
    if width < HEAD_WIDTH or width % HEAD_WIDTH:
        raise ValueError(
            f"{path} is not a checkpoint of {what}: its width {width} is no multiple of "
            f"{HEAD_WIDTH}, the width of an attention head"
        )


def say_unused(
    tensors: Mapping[str, Tensor],
    expected: Iterable[str],
    path: Path,
    *,
    head: tuple[str, ...] = (),
    known: tuple[str, ...] = (),
) -> None:
    """Say which tensors of a checkpoint are not used; those that start with `known` are usual.

    `head` are the names with which the classifier of a fine-tuned model starts.
    """
    extra = [name for name in tensors.keys() - set(expected) if not name.startswith(known)]
    classifier = sorted(name for name in extra if name.startswith(head))
    other = sorted(set(extra) - set(classifier))
    if classifier:
        log.warning(
            "%s is fine-tuned: its classifier (%s) is not used, its encoder is",
            path,
            ", ".join(classifier),
        )
    if other:
        log.warning("%s has %d more tensors, not used, first %r", path, len(other), other[0])
