"""The encoders side by side: the table of docs/encoders.md.

    python benchmarks/encoder_table.py            # print it
    python benchmarks/encoder_table.py --write    # put it into docs/encoders.md
    python benchmarks/encoder_table.py --write --only beats,eat    # measure these, keep the others

Dimension, parameters and GFLOP are counted on the real architectures with random weights; clips/s
are medians of batches of 10 s clips, fp32, torch, on the machine that runs this.
"""

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
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
Clock = Callable[[], float]


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


def processor_clock() -> float:
    """Return seconds that this process would have taken with all of torch's threads to itself."""
    return time.process_time() / torch.get_num_threads()


def row(name: str, clock: Clock) -> list[str]:
    """Measure one encoder and return the cells of its row."""
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
        started = clock()
        encoder.encode(clips, pooling)
        seconds.append(clock() - started)
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


def table(measured: list[str], clock: Clock) -> str:
    """Make the table; rows of encoders that are not to be measured are those of the docs."""
    lines = [line_of(HEADINGS), line_of(["---"] * len(HEADINGS))]
    before = DOCS.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    kept = {line.split("`")[1]: line for line in before.splitlines(True) if "`" in line[:3]}
    for name in ENCODERS:
        if name in measured:
            print(name, file=sys.stderr, flush=True)
            lines.append(line_of(row(name, clock)))
        elif name in kept:
            lines.append(kept[name])
    return "".join(lines)


def line_of(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put it into docs/encoders.md")
    parser.add_argument("--only", default="", help="encoders to measure; other rows stay")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="clips/s of networks on a machine that does other work",
    )
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    measured = options.only.split(",") if options.only else [n for n in ENCODERS if n != "hf"]
    made = table(measured, processor_clock if options.processor_time else time.perf_counter)
    if not options.write:
        print(made, end="")
        return
    before, rest = DOCS.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    DOCS.write_text(f"{before}{BEGIN}{made}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
