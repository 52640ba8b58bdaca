"""BEATs, EAT, CED and Dasheng as plain eager passes: nothing is folded, fused, pruned or kept.

What a first implementation from the papers does, on the published tensors: a front end in float32,
one linear map each for queries, keys and values, attention by two products and a softmax, weight
norms, position biases and all gates computed in each pass. The peers of bench_encoders.py.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from embed.encoders import beats, ced, dasheng, eat
from embed.encoders.kaldi import FRAME, HOP, LOG_FLOOR, PREEMPHASIS, Fbank, window_of
from embed.encoders.mel_vision_transformer import mel_filters
from embed.encoders.transformer import block_tensors, random_tensors

WEIGHTS = {
    "beats": lambda: random_tensors(beats.expected_shapes(beats.BeatsConfig()), 0),
    "eat": lambda: random_tensors(eat.expected_shapes(), 0),
    "ced": lambda: random_tensors(ced.LAYOUT.shapes(768, 12, 3072), 0),
    "dasheng": lambda: random_tensors(dasheng.LAYOUT.shapes(768, 12, 3072), 0),
}
N_HEADS = 12


def plain_pass(name: str, tensors: Mapping[str, Tensor], waveforms: Tensor) -> Tensor:
    """Return the vectors of clips of one window, `(n, 768)`."""
    passes = {"beats": beats_pass, "eat": eat_pass, "ced": ced_pass, "dasheng": dasheng_pass}
    return passes[name](tensors, waveforms)


def fbank(waveforms: Tensor, window: str, scale: float) -> Tensor:
    frames = (waveforms * scale).unfold(1, FRAME, HOP)
    frames = frames - frames.mean(dim=2, keepdim=True)
    before = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
    frames = (frames - PREEMPHASIS * before) * window_of(window).to(frames)
    power = torch.fft.rfft(frames, 512).abs() ** 2
    return (power @ Fbank().mel.to(power)).clamp(min=LOG_FLOOR).log()


def layer_norm(tensors: Mapping[str, Tensor], name: str, x: Tensor, eps: float) -> Tensor:
    weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    return functional.layer_norm(x, weight.shape, weight, bias, eps)


def linear(tensors: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return functional.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def heads(x: Tensor) -> Tensor:
    return x.view(*x.shape[:2], N_HEADS, -1).transpose(1, 2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    scores = queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[3]) + bias
    return (scores.softmax(dim=3) @ values).transpose(1, 2).flatten(2)


def vision_block(
    tensors: Mapping[str, Tensor], name: str, x: Tensor, *, norm_first: bool
) -> Tensor:
    block = block_tensors(tensors, name)
    y = layer_norm(block, "norm1", x, 1e-6) if norm_first else x
    weights, biases = block["qkv.weight"].chunk(3), block["qkv.bias"].chunk(3)
    parts = [heads(functional.linear(y, w, b)) for w, b in zip(weights, biases, strict=True)]
    x = x + linear(block, "project", attend(*parts))
    x = x if norm_first else layer_norm(block, "norm1", x, 1e-6)
    y = layer_norm(block, "norm2", x, 1e-6) if norm_first else x
    x = x + linear(block, "narrow", functional.gelu(linear(block, "widen", y)))
    return x if norm_first else layer_norm(block, "norm2", x, 1e-6)


def eat_pass(tensors: Mapping[str, Tensor], waveforms: Tensor) -> Tensor:
    log_mel = fbank(waveforms, "hann", 1.0)
    log_mel = functional.pad(log_mel, (0, 0, 0, eat.N_FRAMES - log_mel.shape[1]))
    image = ((log_mel - eat.MEAN) / (2 * eat.STD)).unsqueeze(1)
    name = "model.local_encoder.proj"
    patches = functional.conv2d(image, tensors[f"{name}.weight"], tensors[f"{name}.bias"], 16)
    x = patches.flatten(2).transpose(1, 2) + eat.positions(768).to(patches)
    x = torch.cat([tensors["model.extra_tokens"].expand(len(x), -1, -1), x], dim=1)
    x = layer_norm(tensors, "model.pre_norm", x, 1e-6)
    for i in range(12):
        x = vision_block(tensors, f"model.blocks.{i}", x, norm_first=False)
    return x[:, 0]


def mel_pass(tensors: Mapping[str, Tensor], waveforms: Tensor, batch_norm: str) -> Tensor:
    window = torch.hann_window(512, device=waveforms.device)
    power = torch.stft(waveforms, 512, 160, window=window, return_complex=True).abs() ** 2
    log_mel = 10 * (mel_filters().to(power).T @ power).clamp(min=1e-10).log10()
    log_mel = log_mel.maximum(log_mel.amax(dim=(1, 2), keepdim=True) - 120)
    parts = ("running_mean", "running_var", "weight", "bias")
    norm = [tensors[f"{batch_norm}.{part}"] for part in parts]
    image = functional.batch_norm(log_mel, *norm, eps=1e-5).unsqueeze(1)
    weight = tensors["encoder.patch_embed.proj.weight"]
    stride = weight.shape[2:]
    patches = functional.conv2d(image, weight, tensors["encoder.patch_embed.proj.bias"], stride)
    patches = patches + tensors["encoder.time_pos_embed"][..., : patches.shape[3]]
    x = (patches + tensors["encoder.freq_pos_embed"]).flatten(2).transpose(1, 2)
    for i in range(12):
        x = vision_block(tensors, f"encoder.blocks.{i}", x, norm_first=True)
    return layer_norm(tensors, "encoder.norm", x, 1e-6).mean(dim=1)


def ced_pass(tensors: Mapping[str, Tensor], waveforms: Tensor) -> Tensor:
    return mel_pass(tensors, waveforms, ced.LAYOUT.batch_norm)


def dasheng_pass(tensors: Mapping[str, Tensor], waveforms: Tensor) -> Tensor:
    return mel_pass(tensors, waveforms, dasheng.LAYOUT.batch_norm)


def beats_pass(tensors: Mapping[str, Tensor], waveforms: Tensor) -> Tensor:
    log_mel = fbank(waveforms, "povey", 2.0**15)
    image = ((log_mel - beats.MEAN) / (2 * beats.STD)).unsqueeze(1)
    patches = functional.conv2d(image, tensors["patch_embedding.weight"], stride=16)
    x = layer_norm(tensors, "layer_norm", patches.flatten(2).transpose(1, 2), 1e-5)
    x = linear(tensors, "post_extract_proj", x)
    g, v = (tensors[f"encoder.pos_conv.0.weight_{part}"] for part in "gv")
    weight = g * v / v.square().sum(dim=(0, 1), keepdim=True).sqrt()
    bias = tensors["encoder.pos_conv.0.bias"]
    around = functional.conv1d(x.transpose(1, 2), weight, bias, padding=64, groups=16)
    around = functional.gelu(around[..., :-1]).transpose(1, 2)
    x = layer_norm(tensors, "encoder.layer_norm", x + around, 1e-5)
    place = torch.arange(x.shape[1], device=x.device)
    bucket = beats.buckets(beats.BeatsConfig()).to(x.device)[place[None, :] - place[:, None] + 800]
    table = tensors["encoder.layers.0.self_attn.relative_attention_bias.weight"]
    position = functional.embedding(bucket, table).permute(2, 0, 1)
    for i in range(12):
        x = beats_block(tensors, f"encoder.layers.{i}", x, position)
    return x.mean(dim=1)


def beats_block(tensors: Mapping[str, Tensor], name: str, x: Tensor, position: Tensor) -> Tensor:
    own = f"{name}.self_attn"
    queries, keys, values = (heads(linear(tensors, f"{own}.{part}_proj", x)) for part in "qkv")
    numbers = linear(tensors, f"{own}.grep_linear", queries)
    first, second = numbers.view(*numbers.shape[:3], 2, 4).sum(dim=4).sigmoid().chunk(2, dim=3)
    gate = first * (second * tensors[f"{own}.grep_a"] - 1) + 2
    attended = linear(tensors, f"{own}.out_proj", attend(queries, keys, values, gate * position))
    scale = 24**0.25
    x = layer_norm(tensors, f"{name}.self_attn_layer_norm", x * scale + attended, 1e-5)
    y = linear(tensors, f"{name}.fc2", functional.gelu(linear(tensors, f"{name}.fc1", x)))
    return layer_norm(tensors, f"{name}.final_layer_norm", x * scale + y, 1e-5)
