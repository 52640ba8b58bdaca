"""Encoders against their peers as people run them, wav file to vector, in one process.

The peers take one clip at a time, and those of BEATs, EAT, CED and Dasheng four: plain eager passes
of the same networks.

    python benchmarks/bench_encoders.py --backend torch,onnxruntime,openvino --rounds 7
    python benchmarks/bench_encoders.py --backend torch,compiled --bf16 --device cuda

Variants take turns within each round, so that a busy neighbour meets all of them; a ratio is of
medians over the rounds. `cpu` is the processor time of all threads, which a neighbour disturbs
less than the clock. Weights are random, clips are 10 s of noise at 16 kHz. `--json FOLDER` keeps
the last table as a record (records.py).
"""

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from peers import NAIVE, numpy_log_mel, published_ast, published_cnn14
from records import make_record, save, table

from embed import make_encoder, make_pooling
from embed.embedding import Task, embed_clips
from embed.encoder import Encoder
from embed.recordings.audio import load_recording
from embed.recordings.preprocessing import Preprocessing

SECONDS, RATE = 10, 16_000
GFLOP = {"panns": 40.1, "ast": 242.0, "vggish": 17.3}  # of one clip, after pruning
COLUMNS = {
    "batch": "batch",
    "peer ms": "peer, cpu ms",
    "ms": "here, cpu ms",
    "cpu": "over the peer, cpu",
    "clock": "over the peer, clock",
}
Variant = Callable[[], object]


def write_clips(folder: Path, n_clips: int) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:04d}.wav" for i in range(n_clips)]
    for path in paths:
        soundfile.write(path, rng.normal(0, 0.1, SECONDS * RATE), RATE, subtype="PCM_16")
    return paths


def ours(encoder: Encoder, paths: list[Path], batch_size: int) -> None:
    pooling = make_pooling("clip")
    for start in range(0, len(paths), batch_size):
        recordings = [
            load_recording(path, encoder.sample_rate, encoder.min_samples, Preprocessing())
            for path in paths[start : start + batch_size]
        ]
        encoder.encode(np.stack([r.waveform for r in recordings]), [pooling])


def loop(encoder: Encoder, paths: list[Path], batch_size: int) -> None:
    task = Task(
        encoders=[encoder],
        poolings=[make_pooling("clip")],
        write=lambda keys, vectors, contents: None,
        on_bad_clip=print,
    )
    files = [(path.name, path) for path in paths]
    embed_clips([task], Preprocessing(), files, batch_size=batch_size)


def encode_only(encoder: Encoder, waveforms: np.ndarray, batch_size: int) -> None:
    pooling = make_pooling("clip")
    for start in range(0, len(waveforms), batch_size):
        encoder.encode(waveforms[start : start + batch_size], [pooling])


def front_ends(name: str, waveforms: torch.Tensor, encoder) -> dict[str, Variant]:
    if name == "panns":
        model = published_cnn14("cpu")

        def theirs():
            for clip in waveforms.split(1):
                model.logmel_extractor(model.spectrogram_extractor(clip))

        return {"front end, torchlibrosa": theirs, "front end": lambda: encoder.log_mel(waveforms)}
    if name == "vggish":
        return {
            "front end, numpy": lambda: [numpy_log_mel(clip) for clip in waveforms.numpy()],
            "front end": lambda: encoder.log_mel(waveforms),
        }
    _, extractor = published_ast("cpu")

    def stock():
        for clip in waveforms.numpy():
            extractor(clip, sampling_rate=RATE, return_tensors="pt")

    return {"front end, stock": stock, "front end": lambda: encoder.features(waveforms)}


def matmul_peak(dtype: torch.dtype, device: str) -> float:
    """Return the best GFLOP/s of a large matrix product: what this machine can do."""
    n = 4096 if device.startswith("cuda") else 1536
    a, b = (torch.randn(n, n, dtype=dtype, device=device) for _ in range(2))
    best = 0.0
    for _ in range(10):
        started = time.perf_counter()
        (a @ b).sum().item()
        best = max(best, 2 * n**3 / (time.perf_counter() - started) / 1e9)
    return best


def measure(variants: dict[str, Variant], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Run every variant once to warm up, then in turns: wall and processor seconds of each."""
    for name, run in variants.items():
        print(f"warming up: {name}", file=sys.stderr, flush=True)
        run()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        for name, run in variants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            taken = time.perf_counter() - wall, time.process_time() - cpu
            seconds[name].append(taken)
    return seconds


def bench(name: str, paths: list[Path], options: argparse.Namespace) -> list[dict]:
    """Measure one encoder; return the rows of its record."""
    exact = make_encoder(name, weights="random", device=options.device)
    batch = options.batch_size or exact.batch_size[options.device.split(":")[0]]
    peer = f"{name}: peer"
    variants: dict[str, Variant] = {peer: lambda: NAIVE[name](paths, options.device)}
    ways = []
    for precision in ("fp32", "bf16") if options.bf16 else ("fp32",):
        for backend in options.backend.split(","):
            if (precision, backend) == ("bf16", "onnxruntime"):
                continue
            encoder = make_encoder(
                name, weights="random", device=options.device, precision=precision, backend=backend
            )
            ways.append((precision, backend))
            variants[f"{name}: {precision}, {backend}"] = lambda e=encoder: ours(e, paths, batch)
    load = [load_recording(p, exact.sample_rate, 1, Preprocessing()).waveform for p in paths]
    waveforms = np.stack(load)
    if options.parts:
        variants[f"{name}: fp32, the loop"] = lambda: loop(exact, paths, batch)
        variants[f"{name}: fp32, network and front end alone"] = lambda: encode_only(
            exact, waveforms, batch
        )
        if options.device == "cpu" and name in GFLOP:
            ends = front_ends(name, torch.from_numpy(waveforms), exact)
            variants |= {f"{name}: {label}": run for label, run in ends.items()}
    with torch.inference_mode():
        seconds = measure(variants, options.rounds)
    print_table(name, seconds, len(paths), peer)
    rows = []
    for precision, backend in ways:
        (wall, cpu), (peer_wall, peer_cpu) = (
            [1e3 * statistics.median(column) / len(paths) for column in zip(*taken, strict=True)]
            for taken in (seconds[f"{name}: {precision}, {backend}"], seconds[peer])
        )
        ratios = {"cpu": peer_cpu / cpu, "clock": peer_wall / wall}
        label = f"{name}, {precision}, {backend}"
        rows.append(
            {"name": label, "batch": batch, "peer ms": peer_cpu, "ms": cpu, "ratios": ratios}
        )
    return rows


def print_table(
    name: str, seconds: dict[str, list[tuple[float, float]]], n_clips: int, peer: str
) -> None:
    print("| variant | ms a clip (median) | ms (least) | cpu ms | over peer | over peer, cpu |")
    print("|---|---|---|---|---|---|")
    front_end_peer = next((label for label in seconds if "front end, " in label), peer)
    for label, taken in seconds.items():
        base = front_end_peer if "front end" in label and "alone" not in label else peer
        wall = [w for w, _ in taken]
        cpu = statistics.median(c for _, c in taken)
        ratio = statistics.median(w for w, _ in seconds[base]) / statistics.median(wall)
        ratio_cpu = statistics.median(c for _, c in seconds[base]) / cpu
        cells = (statistics.median(wall), min(wall), cpu)
        times = " | ".join(f"{1e3 * cell / n_clips:.0f}" for cell in cells)
        print(f"| {label} | {times} | {ratio:.2f} | {ratio_cpu:.2f} |", flush=True)
    best = min(w for w, _ in seconds.get(f"{name}: fp32, torch", [(0, 0)])) / n_clips
    if name in GFLOP and best:
        print(f"{name} fp32, torch: {GFLOP[name] / best:.0f} GFLOP/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default=",".join(NAIVE))
    parser.add_argument("--backend", default="torch,onnxruntime,openvino")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as torch chooses")
    parser.add_argument("--batch-size", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--json", type=Path, help="folder to write a record to")
    parser.add_argument("--parts", action="store_true", help="the loop and front ends, too")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_clips(Path(folder), options.clips)
        rows = [r for name in options.encoder.split(",") for r in bench(name, paths, options)]
    for precision in ("float32", "bfloat16") if options.bf16 else ("float32",):
        peak = matmul_peak(getattr(torch, precision), options.device)
        print(f"matrix products in {precision} on {options.device}: {peak:.0f} GFLOP/s")
    note = f"{options.rounds} rounds, {torch.get_num_threads()} threads of torch"
    record = make_record("encoders", COLUMNS, rows, note)
    print(f"\n{note}\n\n{table(record)}", end="")
    if options.json:
        save(record, options.json)


if __name__ == "__main__":
    main()
