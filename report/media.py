"""Sounds and spectrograms as data URIs, so that a page carries them wherever it goes."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLUMNS_AT_MOST = 500
QUALITY = 55
"""Of WebP: a spectrogram of 10 s takes about 20 kB, and its noise hides what is lost."""
LEAD_S = 3.0
"""A longer clip is cut so that its strongest moment comes after so many seconds."""


@dataclass(frozen=True)
class Sound:
    """A recording as a data URI, and what was cut of it."""

    uri: str
    first_s: float
    end_s: float
    is_cut: bool


def data_uri(kind: str, content: bytes) -> str:
    """Write content into an address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def sound_of(
    waveform: NDArray[np.float32],
    sample_rate: int,
    longest_s: float,
    moment_s: float | None = None,
    lead_s: float = LEAD_S,
) -> Sound:
    """Compress a waveform `(n_samples,)` as MP3, which every browser plays.

    Of a clip longer than `longest_s` the part around `moment_s` is kept.
    """
    import soundfile

    longest = round(longest_s * sample_rate)
    first = 0
    if len(waveform) > longest:
        first = min(
            max(0, round(((moment_s or 0.0) - lead_s) * sample_rate)), len(waveform) - longest
        )
    part = waveform[first : first + longest]
    file = io.BytesIO()
    soundfile.write(file, part, sample_rate, format="MP3", subtype="MPEG_LAYER_III")
    uri = data_uri("audio/mpeg", file.getvalue())
    end = first + len(part)
    return Sound(uri, first / sample_rate, end / sample_rate, len(part) < len(waveform))


def map_uri(
    values: NDArray[np.floating], limits: tuple[float, float], colours: str = "cividis"
) -> str:
    """Draw values (n_frames, n_bands) as a picture of one pixel each, low bands at the bottom.

    NaN is transparent. Longer clips are drawn by the largest of every few frames.
    """
    from matplotlib import colormaps
    from matplotlib.image import imsave

    step = -(-len(values) // COLUMNS_AT_MOST)
    if step > 1:
        values = np.fmax.reduceat(values, np.arange(0, len(values), step), axis=0)
    low, high = limits
    share = np.clip((values - low) / ((high - low) or 1.0), 0.0, 1.0)
    pixels = colormaps[colours](np.ma.masked_invalid(share.T), bytes=True)
    pixels[..., 3] = np.where(np.isnan(values.T), 0, 255)
    file = io.BytesIO()
    imsave(file, pixels, format="webp", origin="lower", pil_kwargs={"quality": QUALITY})
    return data_uri("image/webp", file.getvalue())
