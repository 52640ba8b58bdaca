"""Checkpoints in the published formats of BEATs, EAT, CED and Dasheng, with narrow layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from embed.encoders import beats, ced, dasheng, eat
from embed.encoders.transformer import random_tensors

WIDTH, DEPTH, WIDE = 64, 3, 96
BEATS = beats.BeatsConfig(
    depth=DEPTH,
    width=WIDTH,
    wide=WIDE,
    n_heads=4,
    patch_width=24,
    n_buckets=32,
    kernel=16,
    group_width=16,
)
CFG: dict[str, Any] = {
    "input_patch_size": 16,
    "embed_dim": 24,
    "conv_bias": False,
    "encoder_layers": DEPTH,
    "encoder_embed_dim": WIDTH,
    "encoder_ffn_embed_dim": WIDE,
    "encoder_attention_heads": 4,
    "activation_fn": "gelu",
    "layer_norm_first": False,
    "deep_norm": True,
    "dropout": 0.1,
    "encoder_layerdrop": 0.05,
    "conv_pos": 16,
    "conv_pos_groups": 4,
    "relative_position_embedding": True,
    "num_buckets": 32,
    "max_distance": 800,
    "gru_rel_pos": True,
    "finetuned_model": False,
}


def shapes_of(name: str, depth: int = DEPTH) -> dict[str, tuple[int, ...]]:
    """List the tensors of a small network that are used."""
    if name == "beats":
        return beats.expected_shapes(replace(BEATS, depth=depth))
    if name == "eat":
        return eat.expected_shapes(WIDTH, depth, WIDE)
    layout = {"ced": ced.LAYOUT, "dasheng": dasheng.LAYOUT}[name]
    return layout.shapes(WIDTH, depth, WIDE)


def tensors_of(name: str, depth: int = DEPTH) -> dict[str, Tensor]:
    """Draw the tensors of a small network, those that are not used included."""
    tensors = random_tensors(shapes_of(name, depth), 0)
    if name == "beats":
        table = "encoder.layers.{}.self_attn.relative_attention_bias.weight"
        tensors |= {table.format(i): tensors[table.format(0)] for i in range(1, depth)}
    if name == "ced":
        tensors["outputlayer.1.weight"] = torch.zeros(527, WIDTH)
    return tensors


def save_small(
    folder: Path, name: str, tensors: Mapping[str, Tensor] | None = None, cfg: Any = CFG
) -> Path:
    """Write a checkpoint as it is published; `cfg` is of BEATs."""
    tensors = tensors_of(name) if tensors is None else dict(tensors)
    if name == "beats":
        torch.save({"cfg": cfg, "model": tensors}, folder / "beats.pt")
        return folder / "beats.pt"
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors")
    return folder / "model.safetensors"
