"""Convolutions of published networks, with the BatchNorm after them folded into their weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def batch_norm_shapes(name: str, n: int) -> dict[str, tuple[int, ...]]:
    """List the tensors of a BatchNorm over `n` channels."""
    return {f"{name}.{part}": (n,) for part in ("weight", "bias", "running_mean", "running_var")}


def scale_and_shift(tensors: Mapping[str, Tensor], name: str, eps: float) -> tuple[Tensor, Tensor]:
    """Write a BatchNorm as `x * scale + shift`, in float64."""
    weight, bias, mean, var = (
        tensors[f"{name}.{part}"].double()
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = weight / (var + eps).sqrt()
    return scale, bias - mean * scale


def folded(
    tensors: Mapping[str, Tensor],
    convolution: str,
    batch_norm: str,
    eps: float,
    *,
    stride: int = 1,
    depthwise: bool = False,
) -> nn.Conv2d:
    """Return a padded convolution that includes the BatchNorm after it, in float32.

    A `depthwise` one has a filter for each channel.
    """
    weight = tensors[f"{convolution}.weight"]
    scale, shift = scale_and_shift(tensors, batch_norm, eps)
    n_out, per_group, size = weight.shape[:3]
    groups = n_out if depthwise else 1
    result = nn.Conv2d(
        per_group * groups, n_out, size, stride, padding=size // 2, groups=groups, device="meta"
    )
    result.weight = nn.Parameter(
        (weight.double() * scale[:, None, None, None]).float(), requires_grad=False
    )
    result.bias = nn.Parameter(shift.float(), requires_grad=False)
    return result
