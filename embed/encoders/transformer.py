"""Transformers over patches of a spectrogram: blocks, stacks of them, and random weights.

A block's tensors come under one set of names, whatever a checkpoint calls them: `qkv`, `project`,
`widen`, `narrow`, `norm1` and `norm2`, each with `.weight` and, where it has one, `.bias`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional


def fixed(tensor: Tensor, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    """Return a parameter that is never trained."""
    return nn.Parameter(tensor.to(dtype), requires_grad=False)


def linear(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> nn.Linear:
    """Return a linear map with these tensors."""
    n_out, n_in = weight.shape
    layer = nn.Linear(n_in, n_out, bias=bias is not None, device="meta", dtype=dtype)
    layer.weight = fixed(weight, dtype)
    if bias is not None:
        layer.bias = fixed(bias, dtype)
    return layer


def layer_norm(tensors: Mapping[str, Tensor], name: str, eps: float) -> nn.LayerNorm:
    """Return the layer norm whose tensors are `name.weight` and `name.bias`, in float32."""
    norm = nn.LayerNorm(len(tensors[f"{name}.weight"]), eps, device="meta")
    norm.weight = fixed(tensors[f"{name}.weight"])
    norm.bias = fixed(tensors[f"{name}.bias"])
    return norm


def patches(
    weight: Tensor, bias: Tensor | None, dtype: torch.dtype, stride: tuple[int, int] | None = None
) -> nn.Conv2d:
    """Return the convolution that maps patches `(d, 1, height, width)`, by default side by side."""
    d, _, height, width = weight.shape
    size = (height, width)
    layer = nn.Conv2d(1, d, size, stride or size, bias=bias is not None, device="meta", dtype=dtype)
    layer.weight = fixed(weight, dtype)
    if bias is not None:
        layer.bias = fixed(bias, dtype)
    return layer


class Block(nn.Module):
    """Attention, then two linear maps, each added to its input.

    Norms come before each of the two (`norm_first`) or after each sum. Tokens stay float32; the
    matrix products run in `dtype`.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        *,
        n_heads: int,
        eps: float,
        dtype: torch.dtype,
        norm_first: bool = True,
        residual: float = 1.0,
    ) -> None:
        super().__init__()
        self.n_heads, self.dtype = n_heads, dtype
        self.norm_first, self.residual = norm_first, residual
        self.norm1 = layer_norm(tensors, "norm1", eps)
        self.norm2 = layer_norm(tensors, "norm2", eps)
        self.qkv, self.project, self.widen, self.narrow = (
            linear(tensors[f"{part}.weight"], tensors.get(f"{part}.bias"), dtype)
            for part in ("qkv", "project", "widen", "narrow")
        )

    def forward(self, x: Tensor, n_kept: int = 0, position: Tensor | None = None) -> Tensor:
        """Compute the block's output `(n, n_tokens, d)`, or its first `n_kept` tokens."""
        queries, keys, values = self.heads(self.norm1(x) if self.norm_first else x, n_kept)
        attended = self.attend(queries, keys, values, position)
        return self._add(x[:, :n_kept] if n_kept else x, attended)

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the block's output and its attention, `(n, n_heads, n_tokens, n_tokens)`."""
        queries, keys, values = self.heads(self.norm1(x) if self.norm_first else x)
        scores = queries @ keys.transpose(2, 3) * queries.shape[3] ** -0.5
        attention = scores.float().softmax(dim=3)
        return self._add(x, attention.to(self.dtype) @ values), attention

    def _add(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add what the heads give, `(n, n_heads, n_tokens, d)`, then the two linear maps."""
        attended = attended.transpose(1, 2).flatten(2)
        if self.norm_first:
            x = x + self.project(attended)
            y: Tensor = x + self._mlp(self.norm2(x))
            return y
        x = self.norm1(x * self.residual + self.project(attended))
        z: Tensor = self.norm2(x * self.residual + self._mlp(x))
        return z

    def heads(self, x: Tensor, n_kept: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries of the kept tokens, keys and values, `(n, n_heads, n_tokens, d)` each."""
        d = x.shape[2]
        x = x.to(self.dtype)
        if n_kept:
            weight, bias = self.qkv.weight, self.qkv.bias
            kept = functional.linear(x[:, :n_kept], weight[:d], None if bias is None else bias[:d])
            rest = functional.linear(x, weight[d:], None if bias is None else bias[d:])
            parts = (kept, *torch.split(rest, d, dim=2))
        else:
            parts = torch.split(self.qkv(x), d, dim=2)
        queries, keys, values = (
            torch.unflatten(part, 2, (self.n_heads, -1)).transpose(1, 2) for part in parts
        )
        return queries, keys, values

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, position: Tensor | None
    ) -> Tensor:
        """Return what each head gives, `(n, n_heads, n_kept, d)`; `position` is not used here."""
        return functional.scaled_dot_product_attention(queries, keys, values)

    def _mlp(self, x: Tensor) -> Tensor:
        y: Tensor = self.narrow(functional.gelu(self.widen(x.to(self.dtype))))
        return y


VISION_PARTS = {
    "qkv": "attn.qkv",
    "project": "attn.proj",
    "widen": "mlp.fc1",
    "narrow": "mlp.fc2",
    "norm1": "norm1",
    "norm2": "norm2",
}
"""What the code of vision transformers calls the parts of a block."""


def block_shapes(name: str, width: int, wide: int) -> dict[str, tuple[int, ...]]:
    """List the tensors of a vision transformer's block, by the names of its checkpoint."""
    weights = {
        "qkv": (3 * width, width),
        "project": (width, width),
        "widen": (wide, width),
        "narrow": (width, wide),
        "norm1": (width,),
        "norm2": (width,),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for part, theirs in VISION_PARTS.items():
        shapes[f"{name}.{theirs}.weight"] = weights[part]
        shapes[f"{name}.{theirs}.bias"] = weights[part][:1]
    return shapes


def block_tensors(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the tensors of a vision transformer's block under the names of `Block`."""
    return {
        f"{ours}.{kind}": tensors[f"{name}.{theirs}.{kind}"]
        for ours, theirs in VISION_PARTS.items()
        for kind in ("weight", "bias")
    }


class Stack(nn.Module):
    """A spectrogram `(n, n_frames, n_bands)` to the tokens after some layers.

    Where there is a `norm` at the end, the tokens after the last layer have passed it.
    """

    def __init__(self, blocks: Iterable[Block], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def embed(self, spectrogram: Tensor) -> Tensor:
        """Return the tokens before the first block, `(n, n_tokens, d)`."""
        raise NotImplementedError

    def position(self, x: Tensor) -> Tensor | None:
        """Return what attention adds for the places of tokens `(n, n_tokens, d)`, if anything."""
        return None

    def forward(self, spectrogram: Tensor, *wanted: int) -> tuple[Tensor, ...]:
        """Return the first tokens after some layers, `(n, n_kept, d)` each.

        `wanted` is a layer (1, 2, ...) and a number of tokens (0: all) for each output, lowest
        layer first. Nothing is computed above the highest layer, which computes no other tokens.
        """
        pairs = list(zip(wanted[::2], wanted[1::2], strict=True))
        top = pairs[-1][0]
        x = self.embed(spectrogram)
        position = self.position(x)
        outputs = []
        for number, block in enumerate(self.blocks[:top], start=1):
            kept = [n_kept for layer, n_kept in pairs if layer == number]
            x = block(x, max(kept) if number == top and 0 not in kept else 0, position)
            normed = self.norm(x) if self.norm and number == len(self.blocks) else x
            outputs += [normed[:, :n_kept] if n_kept else normed for n_kept in kept]
        return tuple(outputs)


def random_tensors(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Draw weights that keep the signal's scale, under the names of `shapes`."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("running_var"):
            tensors[name] = 200 * (1 + 0.1 * noise.clamp(-5, 5))  # of log-mel in dB
        elif name.endswith("running_mean"):
            tensors[name] = 5 * noise - 20
        elif name.endswith((".weight", ".weight_v")) and len(shape) > 1:
            tensors[name] = noise / noise[0].numel() ** 0.5
        elif name.endswith((".weight", ".weight_g", "grep_a")):
            tensors[name] = 1 + 0.1 * noise
        else:
            tensors[name] = 0.1 * noise
    return tensors
