"""Middle layers: the option `layer` of a network, and several layers from one forward pass.

A network whose layers can be chosen derives from `LayeredNetwork` and computes them by
`forward_layers`. Encoders that differ in `layer` only share a forward pass (`shares_pass`): any of
them encodes the poolings of all, each of which knows its layer (`in_shared_pass`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from embed.fingerprint import ADDED_LATER
from embed.pooling import Pooling
from embed.pretrained import PretrainedNetwork

if TYPE_CHECKING:
    from torch import Tensor

    from embed.encoder import Encoder

LAST = -1
"""The network's own output, which `layer=last` is too."""
LAST_WORD = "last"
AT = "@"
"""Between an output and its layer, where several layers are wanted: `frames@4`."""

Layer = int | Literal["last"]


@dataclass(frozen=True, kw_only=True)
class LayeredNetwork(PretrainedNetwork):
    """A network whose outputs can be those of a middle layer.

    `layer` is -1 or "last", the network's own output, or one of `layers`. A middle layer is a map
    over frequency and time: `map` (n, n_bands, t, d), of which `bands` is the mean over time,
    `frames` the mean over frequency, and `clip` the bands side by side, (n, n_bands * d). What lies
    above the highest wanted layer is not computed.
    """

    layer: Layer = field(default=LAST, metadata=ADDED_LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layer == LAST_WORD:
            object.__setattr__(self, "layer", LAST)
        if type(self.layer) is not int or self.layer < LAST:
            raise ValueError(f"layer is {LAST} (the last) or counted from 0, got {self.layer!r}")

    @property
    def display_name(self) -> str:
        """The user's name of this network, for messages."""
        return self.registered_name

    @property
    @abstractmethod
    def layers(self) -> range:
        """Numbers of the layers that can be had; reads the settings of the weights, if any."""

    def check(self) -> None:
        super().check()
        if self.layer != LAST and self.layer not in self.layers:
            raise ValueError(
                f"{self.display_name} has no layer {self.layer}: layer is {self.layers[0]} to "
                f"{self.layers[-1]}, or {LAST_WORD}"
            )

    @abstractmethod
    def forward_layers(
        self, waveforms: Tensor, wanted: Mapping[int, frozenset[str]]
    ) -> dict[int, dict[str, Tensor]]:
        """Compute the wanted outputs of each wanted layer, in one pass.

        `wanted` has the lowest layer first, and `LAST` after all others.
        """

    def forward(self, waveforms: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
        """Compute outputs of the own layer, and of others where their names say so."""
        self.check()
        parts = {source: self._layer_and_output(source) for source in wanted}
        layers = sorted({layer for layer, _ in parts.values()}, key=_depth)
        by_layer = {
            layer: frozenset(name for each, name in parts.values() if each == layer)
            for layer in layers
        }
        outputs = self.forward_layers(waveforms, by_layer)
        return {source: outputs[layer][name] for source, (layer, name) in parts.items()}

    def shares_pass(self, other: Encoder) -> bool:
        is_alike = isinstance(other, LayeredNetwork) and type(self) is type(other)
        return is_alike and replace(self, layer=other.layer) == other  # type: ignore[attr-defined]

    def in_shared_pass(self, pooling: Pooling) -> Pooling:
        return OfLayer(layer=cast(int, self.layer), pooling=pooling)

    def _layer_and_output(self, source: str) -> tuple[int, str]:
        name, _, layer = source.partition(AT)
        return int(layer or self.layer), name


def _depth(layer: int) -> float:
    return float("inf") if layer == LAST else layer


@dataclass(frozen=True, kw_only=True)
class OfLayer(Pooling):
    """A pooling of the output of one layer, whatever the encoder's own layer is."""

    layer: int
    pooling: Pooling

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.pooling.name

    @property
    def source(self) -> str:
        return f"{self.pooling.source}{AT}{self.layer}"

    def __call__(self, x: Any) -> Any:
        return self.pooling(x)


def outputs_of_map(grid: Tensor, wanted: Iterable[str]) -> dict[str, Tensor]:
    """Pool the map of a middle layer, `(n, n_bands, t, d)`, to the wanted outputs."""
    pool: dict[str, Callable[[], Tensor]] = {
        "map": lambda: grid,
        "frames": lambda: grid.mean(dim=1),
        "bands": lambda: grid.mean(dim=2),
        "clip": lambda: grid.mean(dim=2).flatten(1),
    }
    return {name: pool[name]() for name in wanted}
