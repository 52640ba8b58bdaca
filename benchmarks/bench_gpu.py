"""Encoders on a GPU: wav files to HDF5, against the naive peer, and where the time goes.

    python benchmarks/bench_gpu.py --json gpu.json           # 8 minutes at most; needs no network
    python benchmarks/bench_gpu.py --encoder ast,panns --compiled ast,panns
    python benchmarks/bench_gpu.py --device cpu --encoder none    # what the host can feed
    python benchmarks/bench_gpu.py --device cpu --small      # every step once, without a GPU

Weights are random (the arithmetic is the same). Clips are 10 s of noise at 16 kHz; the files are
read again where more clips are needed, so that the disk is not what is measured. Rows are
`encoder, precision, backend`, and the loop without any network.

Checks end the run with 1 where they fail: vectors of the GPU equal those of the CPU to 1e-4 in fp32
although the user has allowed TF32, several GPUs give what one gives, the autoencoder trains on the
GPU as on the CPU, memory does not grow with the clips.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import gpu_checks
from gpu_stages import Loop, NoNetwork, matmul_peak, peer_speed, stages, write_clips
from records import Record, make_record, table

from embed import ENCODERS, make_encoder
from embed.pretrained import PretrainedNetwork

NETWORKS = tuple(
    name
    for name, row in ENCODERS.items()
    if name != "hf" and issubclass(row.resolve(), PretrainedNetwork)
)
RATES = (16_000, 32_000)
"""Of the clips, and of the encoders for which clips must be resampled, in Hz."""
COLUMNS = {
    "batch": "batch",
    "peer clips/s": "peer, clips/s",
    "clips/s": "wav to HDF5, clips/s",
    "clock": "over the peer",
    "GFLOP": "GFLOP a clip",
    "share of peak": "share of peak",
    "network share of peak": "network alone",
    "cpu ms": "processor, ms",
    "decode ms": "decode, ms of a thread",
    "copy ms": "stack and copy, ms",
    "front end ms": "front end, ms",
    "network ms": "network, ms",
    "back ms": "copy back, ms",
    "write ms": "write, ms",
    "device MB": "GPU memory, MB",
}


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    seconds: float
    """Length of a clip."""
    n_files: int
    batch_size: int
    """Or 0 for the encoder's own."""
    loop_s: float
    """How long a loop should take."""
    n_peer: int
    matmul: int
    epochs: int
    n_vectors: int


FULL = Sizes(10.0, 256, 0, 6.0, 16, 8192, 20, 1000)
SMALL = Sizes(1.0, 3, 2, 0.0, 1, 128, 2, 40)


def why_not(devices: list[str]) -> str:
    """Say what is missing to measure on these devices, or ""."""
    if not any(device.startswith("cuda") for device in devices):
        return ""
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"torch {torch.__version__} is built without CUDA: install a CUDA build of torch, or "
            "try the steps with --device cpu --small"
        )
    if not torch.cuda.is_available():
        return "torch finds no GPU (nvidia-smi tells whether the driver does)"
    absent = [d for d in devices if int(d.partition(":")[2] or 0) >= torch.cuda.device_count()]
    return f"there is no {', '.join(absent)}" if absent else ""


@dataclass(frozen=True)
class Bench:
    """Measures encoders on one device, until the deadline."""

    files: list[Path]
    folder: Path
    device: str
    sizes: Sizes
    deadline: float

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.deadline

    def rows(self, name: str, backend: str, precisions: list[str], gflop: float) -> Iterator[dict]:
        """Measure one encoder in each precision; 0 GFLOP are counted first."""
        peer = None
        for precision in precisions:
            label = f"{name}, {precision}, {backend}"
            if self.is_over:
                yield {"name": label, "clips/s": "out of time"}
                continue
            peer = peer or peer_speed(name, self.files[: self.sizes.n_peer], self.device)
            encoder = make_encoder(
                name, weights="random", device=self.device, precision=precision, backend=backend
            )
            row = {"name": label, "encoder": name, **self.row(encoder, peer, gflop)}
            gflop = row["GFLOP"]
            yield row

    def row(self, encoder: PretrainedNetwork, peer: float | None, gflop: float) -> dict:
        """Measure an encoder; `peer` is the clips/s of its peer, if there is one."""
        batch_size = self.sizes.batch_size or encoder.batch_size[self.device.partition(":")[0]]
        found = stages(encoder, self.files, batch_size, gflop)
        loop = Loop([encoder], self.files, self.folder, batch_size).run_for(self.sizes.loop_s)
        peak = 1e3 * matmul_peak(encoder.precision, self.device, self.sizes.matmul)  # GFLOP/s
        speed = loop.clips / loop.seconds
        return {
            "batch": batch_size,
            "peer clips/s": peer or "none here",
            "clips/s": speed,
            "ratios": {"clock": speed / peer} if peer else {},
            "cpu ms": 1e3 * loop.cpu_seconds / loop.clips,
            "share of peak": found["GFLOP"] * speed / peak,
            "network share of peak": 1e3 * found["GFLOP"] / found["network ms"] / peak,
            "write ms": 1e3 * loop.write_seconds / loop.clips,
            "device MB": loop.device_mb,
            "memory growth": loop.growth,
            **found,
        }

    def row_of_host(self, rate: int) -> dict:
        """Measure the loop without a network: what the host does for clips at `rate` in Hz."""
        encoder = NoNetwork(sample_rate=rate, device=self.device)
        batch_size = self.sizes.batch_size or encoder.batch_size["cuda"]
        loop = Loop([encoder], self.files, self.folder, batch_size).run_for(self.sizes.loop_s)
        return {
            "name": f"no network, {rate} Hz",
            "batch": batch_size,
            "clips/s": loop.clips / loop.seconds,
            "cpu ms": 1e3 * loop.cpu_seconds / loop.clips,
            "write ms": 1e3 * loop.write_seconds / loop.clips,
            "memory growth": loop.growth,
        }


def measure(options: argparse.Namespace, folder: Path) -> Record:
    """Measure all encoders and carry out the checks."""
    sizes = SMALL if options.small else FULL
    sizes = replace(sizes, seconds=options.seconds or sizes.seconds)
    devices = options.device.split(",")
    names = [name for name in options.encoder.split(",") if name != "none"]
    precisions = options.precision.split(",")
    files = write_clips(folder, sizes.n_files, sizes.seconds)
    deadline = time.monotonic() + 60 * options.minutes
    bench = Bench(files, folder, devices[0], sizes, deadline)
    checks = [gpu_checks.autoencoder(devices[0], sizes.n_vectors, sizes.epochs)]
    rows = [bench.row_of_host(rate) for rate in RATES]
    for name in names:
        print(name, file=sys.stderr, flush=True)
        if not bench.is_over:
            checks += gpu_checks.parity(name, devices[0], sizes.seconds)
        rows += bench.rows(name, "torch", precisions, 0.0)
    if len(devices) > 1 and names and not bench.is_over:
        checks.append(gpu_checks.several_devices(names[0], devices, files, folder))
    gflop = {row["encoder"]: row["GFLOP"] for row in rows if "GFLOP" in row}
    for name in filter(gflop.get, options.compiled.split(",")):
        print(name, "compiled", file=sys.stderr, flush=True)
        rows += bench.rows(name, "compiled", precisions, gflop[name])
    checks += gpu_checks.memory(rows)
    record = make_record("gpu", COLUMNS, rows, f"on {options.device}")
    return {**record, "checks": checks}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default=",".join(NETWORKS))
    parser.add_argument("--precision", default="fp32,bf16")
    parser.add_argument(
        "--compiled", default="", help="of these, the ones to measure with torch.compile, too"
    )
    parser.add_argument("--device", default="", help="all GPUs by default; cpu tries the steps")
    parser.add_argument("--small", action="store_true", help="a few clips of 1 s: no measurement")
    parser.add_argument("--seconds", type=float, default=0.0, help="length of the clips")
    parser.add_argument("--minutes", type=float, default=6.0, help="nothing is begun after these")
    parser.add_argument("--json", type=Path, help="write the record to this file")
    options = parser.parse_args(arguments)
    n_cards = torch.cuda.device_count()
    options.device = options.device or ",".join(f"cuda:{i}" for i in range(max(1, n_cards)))
    if reason := why_not(options.device.split(",")):
        print(f"not measured: {reason}", file=sys.stderr)
        return 1
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        record = measure(options, Path(folder))
    if options.json:
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(table(record))
    for check in record["checks"]:
        print(f"{'ok' if check['passed'] else 'FAILED'}: {check['name']}: {check['found']}")
    return 0 if all(check["passed"] for check in record["checks"]) else 1


if __name__ == "__main__":
    sys.exit(main())
