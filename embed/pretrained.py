"""Pretrained networks: their weights, precision, backend and device."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any, ClassVar

import torch

from embed import ENCODERS
from embed.backends import AUTO, check_backend, fastest, run_on_backend
from embed.fingerprint import ENVIRONMENT, RUNTIME
from embed.torch_encoder import TorchEncoder
from fetch.checkpoints import Checkpoint
from fetch.weights import RANDOM, RANDOM_WARNING, WEIGHTS, find_checkpoint

log = logging.getLogger(__name__)

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
SEED = 0  # of random weights


@dataclass(frozen=True, kw_only=True)
class PretrainedNetwork(TorchEncoder):
    """A network whose weights are published, the user's own, or random for a trial.

    `weights` is "" (published), "random", or a path; the hash of the checkpoint enters the
    fingerprint. `precision` is that of the network; front ends always compute in float32 or finer.
    `backend` runs the network; "auto" becomes the fastest one here when the encoder is made.
    """

    weights: str = field(default="", metadata=RUNTIME)
    precision: str = "fp32"
    backend: str = "torch"
    offline: bool = field(default=False, metadata=ENVIRONMENT)

    fastest_backends: ClassVar[tuple[str, ...]] = ("openvino", "onnxruntime")
    """Backends that "auto" tries on a CPU, usually the fastest first."""
    native_rate: ClassVar[int]
    """Sample rate of the training data, in Hz."""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.backend == AUTO:
            object.__setattr__(self, "backend", self.fastest_backend()[0])
        check_backend(self.backend, self.precision, self.device)
        if "sample_rate" in self.__dataclass_fields__ and self.sample_rate != self.native_rate:
            raise ValueError(
                f"{self.registered_name} was trained at {self.native_rate} Hz and takes no other "
                f"sample_rate, got {self.sample_rate}; clips are resampled to it"
            )

    @property
    def registered_name(self) -> str:
        """Name of the class in `ENCODERS`."""
        names = {row.target: name for name, row in ENCODERS.items()}
        targets = (f"{cls.__module__}:{cls.__qualname__}" for cls in type(self).__mro__)
        return next((names[t] for t in targets if t in names), type(self).__name__)

    @property
    def published_name(self) -> str:
        """Name of the row in `WEIGHTS` of what `weights=""` stands for."""
        return self.registered_name

    @cached_property
    def checkpoint(self) -> Checkpoint | None:
        """The weights on disk, fetched if need be; None for random ones."""
        if self.weights == RANDOM:
            return None
        return find_checkpoint(self.weights, WEIGHTS[self.published_name], offline=self.offline)

    @property
    def weights_sha256(self) -> str:
        return f"{RANDOM}:{SEED}" if self.checkpoint is None else self.checkpoint.sha256

    @property
    def warning(self) -> str:
        return RANDOM_WARNING if self.weights == RANDOM else ""

    def fastest_backend(self) -> tuple[str, str]:
        """Return the backend that "auto" becomes, and why."""
        return fastest(self.fastest_backends, self.precision, self.device)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the network's tensors; OpenVINO is given float32 and rounds them itself."""
        return torch.float32 if self.backend == "openvino" else PRECISIONS[self.precision]

    def __getstate__(self) -> dict[str, Any]:
        """Leave loaded networks out: a copy in another process loads its own."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


_tf32_lock = Lock()
_tf32_before: list[
    tuple[bool, bool]
] = []  # one entry per caller; the first holds the user's settings


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute float32 on a GPU as float32, in however many threads at once.

    TF32 keeps 10 bits of the mantissa; in a front end that moves quiet mel bands by 22 dB.
    """
    convolution, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    with _tf32_lock:
        _tf32_before.append((convolution.allow_tf32, matmul.allow_tf32))
        convolution.allow_tf32 = matmul.allow_tf32 = False
    try:
        yield
    finally:
        with _tf32_lock:
            if len(_tf32_before) == 1:
                convolution.allow_tf32, matmul.allow_tf32 = _tf32_before[0]
                _tf32_before.clear()
            else:
                _tf32_before.pop()


def compile_for(network: torch.nn.Module, encoder: PretrainedNetwork) -> Any:
    """Put a network on the encoder's device and backend; return `run(tensor, *ints) -> tensor`."""
    by_torch = encoder.device == "cpu" and encoder.dtype == torch.bfloat16
    if by_torch and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        log.warning("this CPU has no bf16 arithmetic: fp32 is several times faster here")
    return run_on_backend(network.to(encoder.device).eval(), encoder)
