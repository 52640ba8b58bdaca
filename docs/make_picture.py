"""The picture of a verdict in the README, from the demo: `python docs/make_picture.py`.

It needs `demo_data` and `demo_model`, which `make demo` leaves.
"""

import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.checking import Checked, Checker
from pipeline.explaining import frames_of
from pipeline.model import load_model
from pipeline.new_vectors import clip_vectors
from report.reason_picture import draw_reason

CLIP = Path("demo_data/slider/test/anomaly_id_00_00000002.wav")
MACHINE = ("slider", "id_00")


def main() -> None:
    from embed.recordings.new_clips import find_new_clips

    model = load_model("demo_model")
    checker = Checker(model)
    judge = checker.judge_of(MACHINE)
    dataset = find_new_clips(CLIP, list(model.names))
    ((key, vectors),) = clip_vectors(checker.parts, dataset, on_bad_clip=print).items()
    (row,) = judge.rows([key], [vectors])
    assert isinstance(row, Checked)
    waveform = np.asarray(soundfile.read(CLIP, dtype="float32")[0])
    frames = frames_of(waveform)
    assert judge.loaded.profile is not None
    reason = judge.reason(frames, row, vectors)
    picture = BytesIO()
    draw_reason(picture, frames, judge.loaded.profile.sounds, reason)
    palette = Image.open(picture).convert("P", palette=Image.Palette.ADAPTIVE, colors=128)
    palette.save(ROOT / "docs" / "verdict.png", optimize=True)  # a quarter of the bytes
    print(row.verdict, row.anomaly_score, row.p_value, reason.finding)


if __name__ == "__main__":
    main()
