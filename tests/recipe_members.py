"""The four members of `auto`, computed by plain numpy from the published recipe.

Slow and literal on purpose: an encoder, a pooling or a fusion is checked against this page.
"""

import librosa
import numpy as np

SAMPLE_RATE = 16_000
MEMBERS = ("fluctuation", "quiet", "spectrum", "wave")


def vectors(waveform):
    """Compute every member's vector of one clip; name -> (dim,), float32 as it is stored."""
    x = np.asarray(waveform, dtype=np.float64)
    log_mel = decibels(log_mel_power(x))
    found = {
        "fluctuation": np.concatenate([levels(log_mel), movement(log_mel, 16)]),
        "quiet": np.sort(log_mel, axis=0)[: max(1, len(log_mel) // 4)].mean(axis=0),
        "spectrum": spectrum(x),
        "wave": wave(x),
    }
    return {name: vector.astype(np.float32) for name, vector in found.items()}


def decibels(power):
    return 10 * np.log10(power + 1e-10)


def power_spectrogram(x, n_fft, hop):
    """(n_frames, n_fft // 2 + 1): periodic Hann, centred frames, zeros beyond the ends."""
    padded = np.pad(x, n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    return np.abs(np.fft.rfft(frames * window)) ** 2


def log_mel_power(x):
    bands = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=1024, n_mels=128, dtype=np.float64)
    return power_spectrogram(x, 1024, 512) @ bands.T


def levels(log_mel):
    pairs = (10 ** (log_mel / 10)).reshape(len(log_mel), 64, 2).mean(axis=2)
    return (10 * np.log10(pairs)).mean(axis=0)


def movement(log_bands, n_groups):
    grouped = log_bands.reshape(len(log_bands), n_groups, -1).mean(axis=2)
    fluctuation = np.log(grouped.std(axis=0) + 0.1)
    if len(grouped) <= 2:
        return np.concatenate([fluctuation, fluctuation])
    return np.concatenate([fluctuation, np.log(np.diff(grouped, axis=0).std(axis=0) + 0.1)])


def spectrum(x):
    edges = np.geomspace(20, 8000, 98)
    bins = np.arange(1025) * SAMPLE_RATE / 2048
    triangles = np.zeros((96, 1025))
    for i, (low, middle, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
        triangles[i] = np.maximum(0, np.minimum(rising, falling))
        if not triangles[i].any():
            triangles[i, np.argmin(np.abs(bins - middle))] = 1
        triangles[i] /= triangles[i].sum()
    bands = decibels(power_spectrogram(x, 2048, 512) @ triangles.T)
    return np.concatenate([bands.mean(axis=0), movement(bands, 12)])


def wave(x):
    def energy(u):
        return np.mean(u**2) + 1e-12

    def peakedness(u):
        return np.log(np.mean(u**4) / (np.mean(u**2) ** 2 + 1e-20) + 1e-3)

    v = x - x.mean()
    d = np.diff(v)
    ratio = 10 * np.log10(energy(d) / energy(v) + 1e-10)
    return np.array([10 * np.log10(energy(v)), peakedness(v), peakedness(d), ratio])


def squared_distances(train, others):
    """Squared Mahalanobis distances of `others` under the standardised Ledoit-Wolf covariance."""
    from sklearn.covariance import ledoit_wolf

    train, others = train.astype(np.float64), others.astype(np.float64)
    deviation = train.std(axis=0)
    median = np.median(deviation)
    scale = np.where(deviation < 1e-3 * median, median, deviation)
    mean = train.mean(axis=0)
    standardised = (train - mean) / scale
    covariance = ledoit_wolf(standardised)[0] + 1e-9 * np.eye(train.shape[1])
    offsets = (others - mean) / scale - standardised.mean(axis=0)
    return np.sum(offsets * np.linalg.solve(covariance, offsets.T).T, axis=1)


def left_out_distances(train):
    """Leave-one-out squared distances of up to 12 training clips."""
    kept = ~np.eye(len(train), dtype=bool)
    return np.array(
        [squared_distances(train[kept[i]], train[i : i + 1])[0] for i in range(len(train))]
    )
