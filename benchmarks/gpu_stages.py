"""The steps from wav files to HDF5 on a device, each timed: what bench_gpu.py measures."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import soundfile
import torch
from encoder_table import modules_of
from peers import NAIVE
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cache.store import EmbeddingStore
from embed import make_pooling
from embed.embedding import Task, embed_clips
from embed.encoder import Encoder
from embed.fingerprint import configuration, fingerprint
from embed.pretrained import PRECISIONS
from embed.recordings.audio import load_recording
from embed.recordings.preprocessing import Preprocessing
from embed.torch_encoder import TorchEncoder, on_device, on_host

RATE = 16_000
MOST_CLIPS = 40_000
PEER_NEEDS = {"panns": "panns_inference"}


def write_clips(folder: Path, n_clips: int, seconds: float) -> list[Path]:
    """Write noise as 16-bit wav files."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:04d}.wav" for i in range(n_clips)]
    for path in paths:
        samples = rng.normal(0, 0.1, round(seconds * RATE))
        soundfile.write(path, samples, RATE, subtype="PCM_16")
    return paths


def matmul_peak(precision: str, device: str, n: int) -> float:
    """Return the best TFLOP/s of a matrix product `(n, n)`, without TF32."""
    a, b = (torch.randn(n, n, device=device).to(PRECISIONS[precision]) for _ in range(2))
    clock, best, n_products = Clock(device), 0.0, 8
    for _ in range(3):
        begin = clock.mark()
        for _ in range(n_products):
            torch.mm(a, b)
        best = max(best, n_products * 2 * n**3 / clock.seconds(begin, clock.mark()) / 1e12)
    return best


class Clock:
    """Moments on a device: of a GPU, when it comes to them."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._is_gpu = device.startswith("cuda")

    def mark(self) -> Any:
        if not self._is_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds(self, begin: Any, end: Any) -> float:
        """Return the time between two moments, once the device is done."""
        if not self._is_gpu:
            return float(end - begin)
        torch.cuda.synchronize(self._device)
        return float(begin.elapsed_time(end)) / 1e3


@torch.inference_mode()
def peer_speed(name: str, files: Sequence[Path], device: str) -> float | None:
    """Return the clips/s of the naive peer; None for an encoder without one installed here."""
    needed = PEER_NEEDS.get(name)
    if name not in NAIVE or (needed and find_spec(needed) is None):
        return None
    NAIVE[name](list(files[:1]), device)
    started = time.perf_counter()
    NAIVE[name](list(files), device)
    return len(files) / (time.perf_counter() - started)


@torch.inference_mode()
def stages(
    encoder: TorchEncoder, files: Sequence[Path], batch_size: int, gflop: float
) -> dict[str, float]:
    """Time each step of a batch alone, in ms a clip; count the GFLOP of a clip if given as 0."""
    paths = list(islice(cycle(files), batch_size))
    started = time.perf_counter()
    loaded = [
        load_recording(path, encoder.sample_rate, encoder.min_samples, Preprocessing())
        for path in paths
    ]
    decode = time.perf_counter() - started
    waveforms = [recording.waveform for recording in loaded]
    wanted = frozenset({"clip"})
    for _ in range(2):  # loads the weights, chooses the kernels
        encoder.forward(on_device(waveforms, encoder.device), wanted)
    if not gflop:
        counter = FlopCounterMode(display=False)
        with counter, sdpa_kernel(SDPBackend.MATH):  # it does not know every fused attention
            encoder.forward(on_device(waveforms[:1], encoder.device), wanted)
        gflop = counter.get_total_flops() / 1e9
    seconds = {"decode": decode, **step_seconds(encoder, waveforms)}
    return {"GFLOP": gflop} | {f"{k} ms": 1e3 * v / len(paths) for k, v in seconds.items()}


def step_seconds(encoder: TorchEncoder, waveforms: list[np.ndarray]) -> dict[str, float]:
    """Time what a device does with a batch, with nothing else under way."""
    clock, marks, wanted = Clock(encoder.device), [], frozenset({"clip"})
    network = largest_network(encoder)

    def mark(*_: object) -> None:
        marks.append(clock.mark())

    hooks = [network.register_forward_pre_hook(mark), network.register_forward_hook(mark)]
    begin = clock.mark()
    samples = on_device(waveforms, encoder.device)
    copied = clock.mark()
    outputs = encoder.forward(samples, wanted)
    done = clock.mark()
    wait = on_host([outputs["clip"]], encoder.device)
    back = clock.mark()
    wait()
    for hook in hooks:
        hook.remove()
    inside = sum(clock.seconds(a, b) for a, b in zip(marks[::2], marks[1::2], strict=True))
    return {
        "copy": clock.seconds(begin, copied),
        "front end": clock.seconds(copied, done) - inside,
        "network": inside,
        "back": clock.seconds(done, back),
    }


def largest_network(encoder: Encoder) -> nn.Module:
    """Find the module with the most parameters that an encoder has loaded.

    Of a compiled network and the network itself, the compiled one, which comes later.
    """
    found = [module for part in vars(encoder).values() for module in modules_of(part)]
    return max(reversed(found), key=lambda module: sum(p.numel() for p in module.parameters()))


@dataclass(frozen=True, kw_only=True)
class NoNetwork(TorchEncoder):
    """Takes the first samples for a vector: what a loop costs without a network."""

    sample_rate: int = RATE
    outputs: ClassVar[tuple[str, ...]] = ("clip",)

    def forward(self, waveforms: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
        return {"clip": waveforms[:, :128]}


@dataclass(frozen=True)
class Measured:
    """What a loop took."""

    clips: int
    seconds: float
    cpu_seconds: float
    write_seconds: float
    device_mb: float | None
    growth: float
    """Memory of the process at the end over that after a quarter of the clips."""


class Loop:
    """From wav files to a store, by the loop that a run uses."""

    def __init__(
        self, encoders: Sequence[Encoder], files: Sequence[Path], folder: Path, batch_size: int
    ) -> None:
        self.encoders, self.files, self.batch_size = encoders, files, batch_size
        self._folder, self._n_stores = folder, 0
        self._pooling = make_pooling("clip")

    def run_for(self, seconds: float) -> Measured:
        """Run over as many clips as take about so long, and remove what was stored."""
        measured = self.run(max(len(self.files), 2 * self.batch_size if seconds else 0))
        if seconds:
            n_clips = round(seconds * measured.clips / measured.seconds)
            measured = self.run(min(MOST_CLIPS, max(measured.clips, n_clips)))
        for folder in self._folder.glob(f"store-{id(self)}-*"):
            shutil.rmtree(folder)
        return measured

    def run(self, n_clips: int) -> Measured:
        """Encode and store so many clips, the files again and again; measure it."""
        store = self._store()
        resident: list[float] = []
        write_seconds = 0.0

        def write(keys: list[str], vectors: list[np.ndarray], contents: list) -> None:
            nonlocal write_seconds
            started = time.perf_counter()
            store.append(keys, vectors[0], contents)
            write_seconds += time.perf_counter() - started
            resident.append(resident_mb())

        task = Task(
            encoders=self.encoders, poolings=[self._pooling], write=write, on_bad_clip=refuse
        )
        paths = enumerate(islice(cycle(self.files), n_clips))
        device = self.encoders[0].device
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats(device)
        started, cpu_started = time.perf_counter(), time.process_time()
        embed_clips(
            [task],
            Preprocessing(),
            ((f"{i}.wav", path) for i, path in paths),
            batch_size=self.batch_size,
        )
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        return Measured(
            n_clips,
            seconds,
            cpu_seconds,
            write_seconds,
            torch.cuda.max_memory_allocated(device) / 1e6 if device.startswith("cuda") else None,
            resident[-1] / resident[len(resident) // 4],
        )

    def vectors(self, n_clips: int) -> np.ndarray:
        """Encode so many clips and read them back, `(n_clips, dim)`."""
        self.run(n_clips)
        store = self._store(new=False)
        return store.read([f"{i}.wav" for i in range(n_clips)])

    def _store(self, *, new: bool = True) -> EmbeddingStore:
        self._n_stores += new
        facts = configuration(self.encoders[0], Preprocessing(), self._pooling)
        return EmbeddingStore.open(
            self._folder / f"store-{id(self)}-{self._n_stores}",
            data_name="noise",
            data_root=self._folder,
            encoder="network",
            pooling="clip",
            fingerprint=fingerprint(facts),
            configuration=facts,
        )


def refuse(key: str, reason: str) -> None:
    raise ValueError(f"{key}: {reason}")


def resident_mb() -> float:
    """Return the memory of this process in MB; 1 where the system does not tell."""
    about = Path("/proc/self/statm")
    return int(about.read_text().split()[1]) * 4096 / 1e6 if about.is_file() else 1.0
