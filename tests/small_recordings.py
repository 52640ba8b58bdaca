"""A folder of small recordings: two machine IDs of a valve, 10 training and 6 test clips each."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
CLIPS = (("train", "normal", 10), ("test", "normal", 3), ("test", "anomaly", 3))


def write_recordings(root: Path, ids: tuple[str, ...] = ("id_00", "id_02")) -> Path:
    """Write half a second of noise per clip; anomalous clips are louder."""
    rng = np.random.default_rng(0)
    for machine_id in ids:
        for split, label, count in CLIPS:
            for i in range(count):
                path = root / "valve" / split / f"{label}_{machine_id}_{i:08d}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                level = 0.08 if label == "anomaly" else 0.05
                soundfile.write(path, rng.normal(0, level, RATE // 2), RATE)
    return root
