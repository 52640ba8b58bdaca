"""Backends, which run a network: torch, its compiler, OpenVINO or ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from embed.converted import PACKAGES, Converted, Settings

AUTO = "auto"
BACKENDS = ("torch", "compiled", *PACKAGES, AUTO)


def check_backend(backend: str, precision: str, device: str) -> None:
    """Raise a ValueError if a backend cannot run here, or not like this."""
    if backend not in BACKENDS:
        raise ValueError(f"backend is one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend not in PACKAGES:
        return
    if device != "cpu":
        raise ValueError(
            f"backend {backend} runs networks on the CPU only, got device {device}: take "
            "--device cpu, or --backend torch or compiled"
        )
    if absent := _absent(backend):
        raise ValueError(
            f"backend {backend} needs {', '.join(absent)}, not installed here: "
            f"pip install 'anomalous-sound-pipeline[{backend}]'"
        )
    if backend == "onnxruntime" and precision != "fp32":
        raise ValueError(
            f"backend onnxruntime computes in fp32 only, got precision {precision}: take "
            "--backend openvino or torch"
        )
    if not _computes(backend, precision):
        raise ValueError(
            f"backend {backend} computes in fp32 on this CPU, which has no bf16 arithmetic, got "
            f"precision {precision}: take --precision fp32"
        )


def _computes(backend: str, precision: str) -> bool:
    """Say whether an installed backend computes in this precision on this CPU."""
    return precision == "fp32" or (backend == "openvino" and "BF16" in _openvino_capabilities())


@cache
def _openvino_capabilities() -> tuple[str, ...]:
    import openvino

    return tuple(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def fastest(ranking: tuple[str, ...], precision: str, device: str) -> tuple[str, str]:
    """Return the first backend of a ranking that can run here, and why it was chosen."""
    if device != "cpu":
        return "torch", "the others run on a CPU only, or compile again for every length"
    able = [b for b in ranking if b != "onnxruntime" or precision == "fp32"]
    able = [b for b in able if _absent(b) or _computes(b, precision)]
    installed = [b for b in able if not _absent(b)]
    if not able:
        return "torch", f"no other computes in {precision} on this CPU"
    if not installed:
        extras = " or ".join(f"'anomalous-sound-pipeline[{b}]'" for b in able)
        return "torch", f"no faster one is installed, pip install {extras}"
    if installed[0] != able[0]:
        extra = f"'anomalous-sound-pipeline[{able[0]}]'"
        return installed[0], f"{able[0]} is usually faster, pip install {extra}"
    return installed[0], f"usually the fastest on a CPU in {precision}"


def _absent(backend: str) -> list[str]:
    return [name for name in PACKAGES[backend] if find_spec(name) is None]


def run_on_backend(network: nn.Module, settings: Settings) -> Callable[..., Any]:
    """Return what computes `network(tensor, *ints)` on the backend of an encoder."""
    if settings.backend == "compiled":
        compiled: Callable[..., Any] = torch.compile(network, options={"freezing": True})
        return compiled
    return Converted(network, settings) if settings.backend in PACKAGES else network
