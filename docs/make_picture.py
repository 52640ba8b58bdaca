"""The picture of a verdict in the README, from the demo: `python docs/make_picture.py`.

It needs `demo_data` and `demo_model`, which `make demo` leaves.
"""

import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.checking import Evidence, load_model
from report.reason_picture import draw_reason

CLIP = Path("demo_data/slider/test/anomaly_id_00_00000002.wav")


def main() -> None:
    found: list[Evidence] = []
    checker = replace(load_model("demo_model", explain=True), on_evidence=found.append)
    checker.check(CLIP, machine="slider id_00")
    (evidence,) = found
    picture = BytesIO()
    draw_reason(picture, evidence.frames, evidence.profile.sounds, evidence.reason)
    palette = Image.open(picture).convert("P", palette=Image.Palette.ADAPTIVE, colors=128)
    palette.save(ROOT / "docs" / "verdict.png", optimize=True)  # a quarter of the bytes
    print(evidence.row.verdict, evidence.row.reason)


if __name__ == "__main__":
    main()
