"""The encoders side by side: the table of docs/encoders.md.

    python benchmarks/encoder_table.py            # print it
    python benchmarks/encoder_table.py --write    # put it into docs/encoders.md

Dimension, parameters and GFLOP are counted on the real architectures with random weights; clips/s
are medians of batches of 10 s clips, fp32, torch, on the machine that runs this.
"""

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from embed import ENCODERS, make_encoder, make_pooling
from embed.encoder import Encoder
from embed.pretrained import PretrainedNetwork
from fetch.weights import RANDOM, WEIGHTS

DOCS = Path(__file__).resolve().parents[1] / "docs" / "encoders.md"
BEGIN, END = "<!-- made by benchmarks/encoder_table.py -->\n", "<!-- end -->\n"
HEADINGS = (
    "`--encoder`",
    "dim",
    "kHz",
    "least",
    "parameters",
    "GFLOP a clip",
    "clips/s",
    "licence",
    "trained on",
)
SECONDS = 10
ROUNDS = 3


def modules_of(thing: object) -> Iterator[nn.Module]:
    """Find the networks that an encoder has loaded."""
    if isinstance(thing, nn.Module):
        yield thing
    elif isinstance(thing, (tuple, list, dict)):
        for part in thing.values() if isinstance(thing, dict) else thing:
            yield from modules_of(part)


def n_parameters(encoder: Encoder) -> int:
    modules = [module for value in vars(encoder).values() for module in modules_of(value)]
    tensors = [each for module in modules for each in module.parameters()]
    # a weight norm that was multiplied out is a buffer
    tensors += [t for m in modules for name, t in m.named_buffers() if name.endswith(".weight")]
    return sum({id(tensor): tensor.numel() for tensor in tensors}.values())


def rounded(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"


def row(name: str) -> list[str]:
    cls = ENCODERS[name].resolve()
    is_network = issubclass(cls, PretrainedNetwork)
    encoder = make_encoder(name, **({"weights": RANDOM} if is_network else {}))
    pooling = [make_pooling(encoder.default_pooling)]
    batch = encoder.batch_size["cpu"]
    rng = np.random.default_rng(0)
    clips = rng.normal(0, 0.1, (batch, SECONDS * encoder.sample_rate)).astype(np.float32)
    (vectors,) = encoder.encode(clips[:1], pooling)
    # the counter knows attention by its products only
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        encoder.encode(clips[:1], pooling)
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        encoder.encode(clips, pooling)
        seconds.append(time.perf_counter() - started)
    weights = WEIGHTS.get(name)
    parameters, flops = n_parameters(encoder), counter.get_total_flops()
    return [
        f"`{name}`",
        "x".join(map(str, vectors.shape[1:])),
        f"{encoder.sample_rate / 1000:g}",
        f"{encoder.min_samples / encoder.sample_rate:.3g} s",
        f"{parameters / 1e6:.1f} M" if parameters else "",
        rounded(flops / 1e9) if parameters else "",
        rounded(batch / statistics.median(seconds)),
        weights.licence if weights else "",
        weights.trained_on if weights else "",
    ]


def table() -> str:
    rows = [list(HEADINGS), ["---"] * len(HEADINGS)]
    for name in ENCODERS:
        if name != "hf":  # whatever its model is
            print(name, file=sys.stderr, flush=True)
            rows.append(row(name))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put it into docs/encoders.md")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    made = table()
    if not options.write:
        print(made, end="")
        return
    before, rest = DOCS.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    DOCS.write_text(f"{before}{BEGIN}{made}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
