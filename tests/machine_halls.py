"""Short synthetic recordings of machines in the plain layout, and models that know them."""

from pathlib import Path

import numpy as np
import soundfile

from pipeline.learning import learn

RATE = 16_000
FAST = {"encoder": "logmel", "pooling": "mean", "detector": "mahalanobis"}


def hum(seed: int, pitch: float = 120.0, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """Return a hum in noise, `(n_samples,)`."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    tones = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in (1, 2, 3))
    return (0.05 * tones + 0.02 * rng.normal(size=len(time))).astype(np.float32)


def whistle(seed: int, pitch: float = 120.0, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """Return a hum with a loud tone at 3 kHz: a fault that every detector finds."""
    time = np.arange(round(seconds * rate)) / rate
    sound = hum(seed, pitch, seconds, rate) + 0.2 * np.sin(2 * np.pi * 3000 * time)
    return sound.astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return path


def hall(
    root: Path, machines: tuple[str, ...] = ("press7", "press8"), n: int = 25, first: int = 0
) -> Path:
    """Write a folder of normal recordings per machine; each machine has a pitch of its own."""
    for number, machine in enumerate(machines):
        for i in range(n):
            sound = hum(1000 * number + first + i, pitch=120.0 + 90 * number)
            write(root / machine / f"{first + i:03d}.wav", sound)
    return root


def learned(folder: Path, recordings: Path, **flags: object) -> Path:
    """Learn a small model quickly."""
    model = folder / "model"
    options = {**FAST, "quiet": True, "cache_dir": folder / "cache", **flags}
    learn(recordings, model=model, **options)
    return model
