"""Middle layers of a real network on the fan recordings: AUC of each layer of EfficientAT mn04.

    python benchmarks/layers_on_fan.py ../shared/data

The folder holds `weights/mn04_as_mAP_432.pt` and `mimii_fan/fan`: 20 normal and 20 anomalous clips
of one fan. Each layer's vectors (mean over time, frequency kept) are rated by the Mahalanobis
distance of 12 normal clips; the other 8 and the anomalous ones are rated. Of 20 splits, the first
is the folder's; the others are drawn.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from detect.detectors.mahalanobis import Mahalanobis
from detect.metrics import auc, pauc
from detect.scaler import ColumnScaler
from embed import make_encoder, make_pooling
from embed.encoders.efficientat import LAST_LAYER
from embed.recordings.audio import load_recording
from embed.recordings.preprocessing import Preprocessing

N_SPLITS, N_TRAIN = 20, 12
LAYERS = [*range(LAST_LAYER + 1), "last"]


def vectors(weights: Path, clips: list[Path], normalize: str) -> dict[object, np.ndarray]:
    """Encode clips by all layers, `(n_clips, dim)` each, in one pass per clip."""
    encoders = [make_encoder("efficientat", weights=str(weights), layer=n) for n in LAYERS]
    poolings = [encoder.in_shared_pass(make_pooling("clip")) for encoder in encoders]
    first, preprocessing = encoders[0], Preprocessing(normalize=normalize)
    rows = []
    for clip in clips:
        recording = load_recording(clip, first.sample_rate, first.min_samples, preprocessing)
        rows.append(first.encode(recording.waveform[None], poolings))
    return {
        layer: np.concatenate([row[i] for row in rows]).astype(np.float64)
        for i, layer in enumerate(LAYERS)
    }


def figures(normal: np.ndarray, anomalous: np.ndarray) -> np.ndarray:
    """Return AUC and pAUC of every split, `(N_SPLITS, 2)`."""
    found = []
    for split in range(N_SPLITS):
        order = np.arange(len(normal))
        if split:
            order = np.random.RandomState(split - 1).permutation(len(normal))
        train, rest = normal[order[:N_TRAIN]], normal[order[N_TRAIN:]]
        scaler = ColumnScaler().fit(train)
        detector = Mahalanobis().fit(scaler.transform(train))
        scores = detector.mahalanobis(scaler.transform(np.concatenate([rest, anomalous])))
        is_anomalous = np.arange(len(scores)) >= len(rest)
        found.append((auc(is_anomalous, scores), pauc(is_anomalous, scores)))
    return np.array(found)


def main() -> None:
    shared = Path(sys.argv[1])
    weights = shared / "weights" / "mn04_as_mAP_432.pt"
    fan = shared / "mimii_fan" / "fan"
    normal = sorted(fan.glob("train/normal*.wav")) + sorted(fan.glob("test/normal*.wav"))
    anomalous = sorted(fan.glob("test/anomaly*.wav"))
    print(
        "| layer | numbers | as recorded, folder's split | mean of 20 | at RMS 0.05 | mean of 20 |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    made = [vectors(weights, normal + anomalous, level) for level in ("none", "rms")]
    for layer in LAYERS:
        cells = [str(layer), str(made[0][layer].shape[1])]
        for by_layer in made:
            found = figures(by_layer[layer][: len(normal)], by_layer[layer][len(normal) :])
            for both in (found[0], found.mean(axis=0)):
                cells.append(" / ".join(f"{figure:.3f}" for figure in both))
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
