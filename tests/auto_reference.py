"""The fusion `auto` in plain numpy, clip by clip: what the pipeline's own code is compared with.

The formulas are those of docs/default.md. Nothing here imports the pipeline. Run as a program on a
folder in the layout `<type>/<train|test>/<normal|anomaly>_id_<NN>_<number>.wav`, it prints the AUC
and pAUC of each member and of the fusion:

    python tests/auto_reference.py FOLDER
"""

import sys
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import soundfile
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score

RATE = 16_000
FLOOR = 1e-10
PUBLISHED = {
    0.0: {
        "fluctuation": (0.9313, 0.7105),
        "quiet": (0.9938, 0.9737),
        "spectrum": (1.0, 1.0),
        "wave": (1.0, 1.0),
        "first two": (0.9563, 0.8158),
        "auto": (1.0, 1.0),
    },
    0.05: {
        "fluctuation": (0.9313, 0.7105),
        "quiet": (0.9563, 0.8158),
        "spectrum": (1.0, 1.0),
        "wave": (0.9938, 0.9737),
        "first two": (0.9500, 0.7895),
        "auto": (1.0, 1.0),
    },
}
"""AUC and pAUC on the twelve training and 28 test clips of a fan, by the level of the clips."""


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """Return the log-mel spectrogram in dB, `(n_frames, 128)`."""
    power = librosa.feature.melspectrogram(
        y=waveform.astype(np.float64),
        sr=RATE,
        n_fft=1024,
        hop_length=512,
        n_mels=128,
        dtype=np.float64,
    )
    return 10 * np.log10(power.T + FLOOR)


def grouped(bands: np.ndarray, n_groups: int) -> np.ndarray:
    """Average neighbouring bands in dB, `(n_frames, n_bands)` to `(n_frames, n_groups)`."""
    return bands.reshape(len(bands), n_groups, -1).mean(axis=2)


def movement(groups: np.ndarray) -> np.ndarray:
    """Return fluctuation and flux of groups in dB, `(n_frames, k)` to `(2 * k,)`."""
    differences = np.diff(groups, axis=0) if len(groups) > 2 else groups
    return np.log(np.concatenate([groups.std(axis=0), differences.std(axis=0)]) + 0.1)


def fluctuation(waveform: np.ndarray, n_groups: int = 16) -> np.ndarray:
    bands = log_mel(waveform)
    power = 10 ** (bands / 10)
    level = 10 * np.log10(power.reshape(len(bands), 64, 2).mean(axis=2)).mean(axis=0)
    return np.concatenate([level, movement(grouped(bands, n_groups))])


def quiet(waveform: np.ndarray) -> np.ndarray:
    bands = np.sort(log_mel(waveform), axis=0)
    return bands[: max(1, len(bands) // 4)].mean(axis=0)


def triangles() -> np.ndarray:
    """Return 96 triangles of sum one on a logarithmic grid, `(96, 1025)`."""
    frequencies = np.arange(1025) * RATE / 2048
    grid = np.geomspace(20, 8000, 98)
    filters = np.zeros((96, 1025))
    for i in range(96):
        low, centre, high = grid[i : i + 3]
        filters[i] = np.interp(frequencies, [low, centre, high], [0, 1, 0], left=0, right=0)
        if not filters[i].any():
            filters[i, np.abs(frequencies - centre).argmin()] = 1
    return filters / filters.sum(axis=1, keepdims=True)


def spectrum(waveform: np.ndarray) -> np.ndarray:
    short_time = librosa.stft(
        waveform.astype(np.float64),
        n_fft=2048,
        hop_length=512,
        pad_mode="constant",
        dtype=np.complex128,
    )
    bands = 10 * np.log10((triangles() @ np.abs(short_time) ** 2).T + FLOOR)
    return np.concatenate([bands.mean(axis=0), movement(grouped(bands, 12))])


def wave(waveform: np.ndarray) -> np.ndarray:
    v = waveform.astype(np.float64) - waveform.astype(np.float64).mean()
    d = np.diff(v)

    def energy(u: np.ndarray) -> float:
        return np.mean(u**2) + 1e-12

    def kurtosis(u: np.ndarray) -> float:
        return np.log(np.mean(u**4) / (np.mean(u**2) ** 2 + 1e-20) + 1e-3)

    level, brightness = 10 * np.log10(energy(v)), 10 * np.log10(energy(d) / energy(v) + FLOOR)
    return np.array([level, kurtosis(v), kurtosis(d), brightness])


MEMBERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "fluctuation": fluctuation,
    "quiet": quiet,
    "spectrum": spectrum,
    "wave": wave,
}


def distances(train: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return squared Mahalanobis distances of `other` from `train`, both `(n_clips, dim)`."""
    deviation = train.std(axis=0)
    median = np.median(deviation)
    deviation = np.where(deviation < 1e-3 * median, median, deviation)
    z = (train - train.mean(axis=0)) / deviation
    covariance = ledoit_wolf(z)[0] + 1e-9 * np.eye(z.shape[1])
    centred = (other - train.mean(axis=0)) / deviation - z.mean(axis=0)
    return np.einsum("nd,dn->n", centred, np.linalg.solve(covariance, centred.T))


def folds_of(groups: np.ndarray) -> list[np.ndarray]:
    """Return the clips of each fold; the clips of one recording are in one fold."""
    recordings = np.unique(groups)
    n = len(recordings)
    n_folds = 10 if n >= 20 else 5 if n >= 13 else n
    order = np.random.RandomState(0).permutation(n)
    return [np.flatnonzero(np.isin(groups, recordings[order[k::n_folds]])) for k in range(n_folds)]


def member_z(
    train: np.ndarray, test: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return z of the training clips, out of fold, and of the test clips."""
    train, test = (x.astype(np.float32).astype(np.float64) for x in (train, test))
    held_out = np.empty(len(train))
    for fold in folds_of(groups):
        held_out[fold] = distances(np.delete(train, fold, axis=0), train[fold])
    logarithms = np.log(np.maximum(held_out, 1e-9))
    mean, deviation = logarithms.mean(), logarithms.std()

    def z(d: np.ndarray) -> np.ndarray:
        return (np.log(np.maximum(d, 1e-9)) - mean) / (deviation + 1e-12)

    return z(held_out), z(distances(train, test))


def fused_z(
    train: list[np.ndarray], test: list[np.ndarray], groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean z of members: of the training clips, out of fold, and of the test clips."""
    both = [member_z(a, b, groups) for a, b in zip(train, test, strict=True)]
    return np.mean([z for z, _ in both], axis=0), np.mean([z for _, z in both], axis=0)


def at_level(waveform: np.ndarray, rms: float) -> np.ndarray:
    samples = waveform.astype(np.float64)
    samples *= rms / np.sqrt(np.mean(samples**2) + 1e-12)
    return samples.astype(np.float32)


def views(paths: list[Path], rms: float = 0.0) -> dict[str, np.ndarray]:
    """Compute every member's vector of recordings, `(n_clips, dim)` each, at their level or one."""
    waveforms = [soundfile.read(path, dtype="float32", always_2d=True)[0][:, 0] for path in paths]
    waveforms = [at_level(w, rms) if rms else w for w in waveforms]
    return {name: np.stack([view(w) for w in waveforms]) for name, view in MEMBERS.items()}


def auc_and_pauc(is_anomalous: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    return roc_auc_score(is_anomalous, scores), roc_auc_score(is_anomalous, scores, max_fpr=0.1)


def figures_on(folder: Path, rms: float = 0.0) -> dict[str, tuple[float, float]]:
    """Return AUC and pAUC of each member, of the first two, and of all, on one machine."""
    paths = {split: sorted(folder.rglob(f"{split}/*.wav")) for split in ("train", "test")}
    x = {split: views(paths[split], rms) for split in paths}
    is_anomalous = np.array([path.name.startswith("anomaly") for path in paths["test"]])
    groups = np.arange(len(paths["train"]))
    figures = {}
    names = list(MEMBERS)
    for members in ([name] for name in names):
        figures[members[0]] = _figures(x, members, groups, is_anomalous)
    figures["first two"] = _figures(x, names[:2], groups, is_anomalous)
    figures["auto"] = _figures(x, names, groups, is_anomalous)
    return figures


def _figures(
    x: dict[str, dict[str, np.ndarray]],
    members: list[str],
    groups: np.ndarray,
    is_anomalous: np.ndarray,
) -> tuple[float, float]:
    train, test = ([x[split][name] for name in members] for split in ("train", "test"))
    return auc_and_pauc(is_anomalous, fused_z(train, test, groups)[1])


if __name__ == "__main__":
    for level in (0.0, 0.05):
        for name, (auc, pauc) in figures_on(Path(sys.argv[1]), level).items():
            print(f"{name:12} {level or 'recorded':>9} {auc:.4f}/{pauc:.4f}")
