"""Small detectors, vectors drawn from keys and clips of machines: what tests of fits share."""

from zlib import crc32

import numpy as np

from detect import detector_options, facts_of
from detect.fitting import ClipTable, DetectorChoice, fit_and_score, units

SMALL = {
    "mel_mlp_ae": {"hidden": (32, 8)},
    "resnet50_cnn": {"weights": "random", "widths": (8, 8, 8, 8, 8)},
    "lstm_predictor": {"hidden": 16},
    "gru_ae": {"hidden": 16},
}
SHAPES = {"vectors": (6,), "sequences": (24, 6), "bands": (4, 6)}


COLUMNS = ("key", "machine_type", "machine_id", "split", "label")


def quick(name):
    """Return a choice of this detector that fits in a moment, and the facts about it."""
    fast = {"epochs": 3, "weights": "random"}
    options = {option: fast[option] for option in detector_options(name) if option in fast}
    return DetectorChoice(name, {**options, **SMALL.get(name, {})}), facts_of(name)


class MedianDistance:
    """A detector of somebody else's: no scikit-learn, `fit` and `score_samples` only."""

    def __init__(self, power: float = 1.0):
        self.power = power

    def fit(self, X):
        self.centre = np.median(X, axis=0)
        return self

    def score_samples(self, X):
        return -(np.abs(X - self.centre).sum(axis=1) ** self.power)


class Embeddings:
    """Vectors by key, drawn from the key's own seed; counts what is read."""

    def __init__(self, shape=(6,), shift=0.0):
        self.shape, self.shift, self.keys_read = shape, shift, []

    def __call__(self, keys):
        self.keys_read += keys
        return np.stack([self.of(key) for key in keys]).astype(np.float32)

    def of(self, key):
        rng = np.random.default_rng(crc32(key.encode()))
        return rng.normal(size=self.shape) + self.shift * ("anomaly" in key)


def table(ids=("id_00", "id_02"), n_train=16, n_test=12, machine_type="slider"):
    clips = []
    for machine_id in ids:
        for j in range(n_train):
            key = f"{machine_type}/train/normal_{machine_id}_{j:08d}.wav"
            clips.append((key, machine_type, machine_id, "train", "normal"))
        for j in range(n_test):
            label = ("normal", "anomalous")[j % 2]
            key = f"{machine_type}/test/{label[:7]}_{machine_id}_{j:08d}.wav"
            clips.append(
                (key.replace("anomalo", "anomaly"), machine_type, machine_id, "test", label)
            )
    return ClipTable(*(tuple(column) for column in zip(*clips, strict=True)))


def score(clips, choice, read=None, fit_per="id"):
    read = read or Embeddings()
    return [fit_and_score(unit, read, choice, 0) for unit in units(clips, fit_per)]


def by_key(scored):
    return {key: value for one in scored for key, _, value in one.by_clip()}
