"""Detectors that read a clip frame by frame: predict the next one, or rebuild what was read."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from detect.detectors.sequences import SequenceDetector, joined_windows
from detect.detectors.training import Examples, Windows, all_windows
from ground.options import Count

Layers = Annotated[int, Ge(1), Le(16)]


class Predictor(nn.Module):
    """LSTM over some frames, and a linear layer from its last state to the frame after them."""

    def __init__(self, dim: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dim, hidden, layers, batch_first=True)
        self.out = nn.Linear(hidden, dim)

    def forward(self, frames: Tensor) -> Tensor:
        return self.out(self.lstm(frames)[0][:, -1])  # type: ignore[no-any-return]


class GRUAutoencoder(nn.Module):
    """GRU to one state, which a GRU decoder reads at every step; linear to the frames."""

    def __init__(self, dim: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.encoder = nn.GRU(dim, hidden, layers, batch_first=True)
        self.decoder = nn.GRU(hidden, hidden, layers, batch_first=True)
        self.out = nn.Linear(hidden, dim)

    def forward(self, frames: Tensor) -> Tensor:
        state = self.encoder(frames)[0][:, -1:]  # (n, 1, hidden)
        rising, _ = self.decoder(state.expand(-1, frames.shape[1], -1))
        return self.out(rising)  # type: ignore[no-any-return]


class LSTMAutoencoder(nn.Module):
    """LSTM to the state at each clip's end, repeated; LSTM, then an MLP to the frames."""

    def __init__(self, dim: int, hidden: int, mlp: int) -> None:
        super().__init__()
        self.encoder = nn.LSTM(dim, hidden, batch_first=True)
        self.decoder = nn.LSTM(hidden, hidden, batch_first=True)
        self.out = nn.Sequential(nn.Linear(hidden, mlp), nn.ReLU(), nn.Linear(mlp, dim))

    def forward(self, frames: Tensor, ends: Tensor) -> Tensor:
        states, _ = self.encoder(frames)
        rows = torch.arange(len(frames), device=frames.device)
        state = states[rows, ends - 1][:, None]  # (n, 1, hidden)
        rising, _ = self.decoder(state.expand(-1, frames.shape[1], -1))
        return self.out(rising)  # type: ignore[no-any-return]


@dataclass(kw_only=True, eq=False, repr=False)
class RecurrentWindows(SequenceDetector, ABC):
    """Mean loss over all windows of `frames` frames, with `n_predicted` frames after them."""

    epochs: Count = 10
    frames: Count = 10
    hidden: Count = 256
    layers: Layers = 2

    wants_scaling: ClassVar[bool] = False
    n_predicted: ClassVar[int] = 0

    def _examples(self, clips: Tensor) -> Examples:
        return Windows(clips, self.frames + self.n_predicted)

    def _anomaly(self, clip: Tensor) -> float:
        windows = all_windows(clip, self.frames + self.n_predicted)
        return self._loss(self.network_, windows).item()


@dataclass(kw_only=True, eq=False, repr=False)
class LSTMPredictor(RecurrentWindows):
    """Mean squared error of the next frame, predicted from the `frames` before it."""

    n_predicted: ClassVar[int] = 1

    def _network(self, clips: Tensor) -> nn.Module:
        return Predictor(clips.shape[2], self.hidden, self.layers)

    def _loss(self, network: nn.Module, batch: Tensor) -> Tensor:
        return nn.functional.mse_loss(network(batch[:, :-1]), batch[:, -1])

    def _rebuild(self, clip: Tensor) -> Tensor:
        predicted = torch.full_like(clip, torch.nan)
        predicted[self.frames :] = self.network_(all_windows(clip, self.frames)[:-1])
        return predicted


@dataclass(kw_only=True, eq=False, repr=False)
class GRUWindows(RecurrentWindows):
    """Mean squared error of windows of `frames` frames, rebuilt from one state."""

    batch_size: Count = 64

    def _network(self, clips: Tensor) -> nn.Module:
        return GRUAutoencoder(clips.shape[2], self.hidden, self.layers)

    def _loss(self, network: nn.Module, batch: Tensor) -> Tensor:
        return nn.functional.mse_loss(network(batch), batch)

    def _rebuild(self, clip: Tensor) -> Tensor:
        return joined_windows(self.network_(all_windows(clip, self.frames)))


@dataclass(kw_only=True, eq=False, repr=False)
class LSTMClips(SequenceDetector):
    """Mean squared error of whole clips, rebuilt from one state, without frames after their end."""

    epochs: Count = 500
    hidden: Count = 256
    mlp: Count = 512

    def _network(self, clips: Tensor) -> nn.Module:
        return LSTMAutoencoder(clips.shape[2], self.hidden, self.mlp)

    def _loss(self, network: nn.Module, batch: Tensor) -> Tensor:
        within = ~batch[:, :, 0].isnan()  # (n, n_frames)
        frames = batch.nan_to_num()
        rebuilt = network(frames, within.sum(dim=1))
        return (rebuilt - frames)[within].square().mean()  # type: ignore[no-any-return]

    def _anomaly(self, clip: Tensor) -> float:
        return self._loss(self.network_, clip[None]).item()

    def _rebuild(self, clip: Tensor) -> Tensor:
        return self.network_(clip[None], torch.tensor([len(clip)]))[0]  # type: ignore[no-any-return]
