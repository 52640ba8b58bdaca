"""Sounds to write and to read back, for the tests of recordings."""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from embed.recordings.audio import Recording, load_recording
from embed.recordings.preprocessing import Preprocessing

RATE = 16_000


def load(path: Path, rate: int = RATE, min_samples: int = 1, **options: Any) -> Recording:
    return load_recording(path, rate, min_samples, Preprocessing(**options))


def noise(n_samples: int = RATE, n_channels: int = 1, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(n_samples, n_channels)) * 0.1
    return drawn.astype(np.float32).squeeze()


def rewrite_data_size(path: Path, size: int) -> None:
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(content)


ENCODED = {
    "m4a": ("ipod", "aac"),
    "mp4": ("mp4", "aac"),
    "mov": ("mov", "pcm_f32le"),
    "aac": ("adts", "aac"),
    "ac3": ("ac3", "ac3"),
    "wma": ("asf", "wmav2"),
    "webm": ("webm", "libopus"),
    "mka": ("matroska", "aac"),
    "opus": ("ogg", "libopus"),
    "aiff": ("aiff", "pcm_s16be"),
    "au": ("au", "pcm_s16be"),
    "caf": ("caf", "pcm_s16le"),
    "w64": ("w64", "pcm_s16le"),
    "mp2": ("mp2", "mp2"),
    "wv": ("wv", "wavpack"),
}
"""By ending: ffmpeg's names of a container and of an encoder that PyAV's wheels have."""


def write_by_pyav(path: Path, samples: np.ndarray, rate: int, **options: str) -> None:
    """Write float32 samples `(n_samples, n_channels)` in the format of the path's ending."""
    import av

    container_format, codec = ENCODED[path.suffix[1:]]
    layout = {1: "mono", 2: "stereo"}[samples.shape[1]]
    with av.open(path, "w", format=container_format, options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = 128_000
        channels = np.ascontiguousarray(samples.T, np.float32)
        frame = av.AudioFrame.from_ndarray(channels, format="fltp", layout=layout)
        frame.sample_rate = rate
        encoder = stream.codec_context
        encoder.open()
        converter = av.AudioResampler(encoder.format, layout, rate, encoder.frame_size or 1024)
        for part in [*converter.resample(frame), *converter.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
