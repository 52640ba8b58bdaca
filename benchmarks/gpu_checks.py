"""What must hold on a GPU, whatever its speed: the checks of bench_gpu.py."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_stages import Loop

from detect.detectors.autoencoder import Autoencoder
from embed import make_encoder, make_pooling

FP32_TOLERANCE = 1e-4
BF16_COSINE = 0.95
"""Deep networks with random weights come to 0.99; a front end in bf16 falls to 0.75."""
FLAT = 1.1
"""Memory may grow so much from a quarter of the clips to the end: allocators keep some."""

Check = dict[str, Any]


def check(name: str, found: str, *, passed: bool) -> Check:
    return {"name": name, "found": found, "passed": bool(passed)}


def parity(name: str, device: str, seconds: float) -> list[Check]:
    """Compare the vectors of a tone and of noise with those of a CPU, with TF32 allowed."""
    pooling = [make_pooling("clip")]
    on_cpu = make_encoder(name, weights="random")
    n_samples = max(round(seconds * on_cpu.sample_rate), on_cpu.min_samples)
    times = np.arange(n_samples) / on_cpu.sample_rate
    noise = np.random.default_rng(0).normal(0, 0.1, n_samples)
    waveforms = np.stack([0.5 * np.sin(2 * np.pi * 440 * times), noise]).astype(np.float32)
    (expected,) = on_cpu.encode(waveforms, pooling)
    switches = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [switch.allow_tf32 for switch in switches]
    checks = []
    try:
        for switch in switches:
            switch.allow_tf32 = True
        for precision in ("fp32", "bf16"):
            encoder = make_encoder(name, weights="random", device=device, precision=precision)
            (found,) = encoder.encode(waveforms, pooling)
            if precision == "fp32":
                off = float(np.abs(found - expected).max() / np.abs(expected).max())
                text, passed = f"largest difference {off:.1e}", off <= FP32_TOLERANCE
            else:
                like = cosines(found, expected).min()
                text, passed = f"least cosine {like:.4f}", like >= BF16_COSINE
            checks.append(check(f"{name}, {precision}: {device} as the CPU", text, passed=passed))
        kept = all(switch.allow_tf32 for switch in switches)
        checks.append(check(f"{name}: the user's TF32 settings stay", str(kept), passed=kept))
    finally:
        for switch, was in zip(switches, before, strict=True):
            switch.allow_tf32 = was
    return checks


def cosines(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return np.einsum("nd,nd->n", found, expected) / lengths


def several_devices(
    name: str, devices: Sequence[str], files: Sequence[Path], folder: Path
) -> Check:
    """Compare vectors from several devices with those of the first, and tell both speeds."""
    encoders = [make_encoder(name, weights="random", device=device) for device in devices]
    batch_size = encoders[0].batch_size[devices[0].partition(":")[0]]
    n_clips = max(len(files), 4 * len(devices) * batch_size) if len(files) > 8 else len(files)
    found, taken = [], []
    for some in (encoders[:1], encoders):
        loop = Loop(some, files, folder, batch_size)
        loop.run(len(files))
        started = time.perf_counter()
        found.append(loop.vectors(n_clips))
        taken.append(time.perf_counter() - started)
    off = float(np.abs(found[1] - found[0]).max() / np.abs(found[0]).max())
    text = f"largest difference {off:.1e}, {taken[0] / taken[1]:.2f} times as fast as one"
    return check(f"{name}: {','.join(devices)} as {devices[0]}", text, passed=off <= 1e-5)


def autoencoder(device: str, n_vectors: int, epochs: int) -> Check:
    """Train on the device and on the CPU; scores of new clips agree in rank."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(16, 768)) / 4
    X, new = (rng.normal(size=(n, 16)) @ mixing for n in (n_vectors, n_vectors // 2))
    new[::2] += rng.normal(0, 1.0, new[::2].shape)
    scores, taken = [], []
    for each in ("cpu", device):
        Autoencoder("mlp", epochs=1, device=each).fit(X)  # to warm up
        started = time.perf_counter()
        fitted = Autoencoder("mlp", epochs=epochs, device=each).fit(X)
        taken.append(time.perf_counter() - started)
        scores.append(fitted.score_samples(new))
    like = float(np.corrcoef(scores[0], scores[1])[0, 1])
    text = f"correlation of scores {like:.4f}, {taken[0]:.1f} s on the CPU, {taken[1]:.1f} s here"
    return check(f"autoencoder trains on {device}", text, passed=like >= 0.99)


def memory(rows: Sequence[dict]) -> list[Check]:
    """Check that no loop's memory grew with the clips."""
    grown = {row["name"]: row["memory growth"] for row in rows if "memory growth" in row}
    return [
        check(f"{name}: memory is flat", f"{growth:.2f} times", passed=growth <= FLAT)
        for name, growth in grown.items()
    ]
