"""Which clips a page lets people hear, and what it shows of each."""

from dataclasses import replace

import numpy as np
import pytest

from detect.profile import NormalProfile
from detect.reasons import explain
from detect.reconstruction import Reconstruction, worst_rebuilt
from detect.results import Decided, Result
from report.heard_clips import Rebuilt, attention_picture, heard_clip, worst_clips
from report.machine_scores import MachineScores

LOW = np.arange(40) * 200.0
STEP = 0.032
RATE = 16_000


def machine(labels, threshold=None):
    n = len(labels)
    decided = None if threshold is None else Decided(0.05, 1, 0, threshold=threshold)
    result = Result("fan", "id_00", 9, 5, 5, decided=decided)
    keys = tuple(f"{i}.wav" for i in range(n))
    return MachineScores("fan", "id_00", keys, tuple(labels), np.arange(n, 0.0, -1.0), result)


def test_misses_and_false_alarms_take_turns_the_worst_first():
    labels = ["anomalous", "normal", "anomalous", "normal", "anomalous", "normal"]

    worst = worst_clips(machine(labels, threshold=3.5), 5)

    assert [clip.key for clip in worst] == ["4.wav", "1.wav", "2.wav", "3.wav", "0.wav"]
    assert [clip.why.partition(":")[0] for clip in worst] == [
        "a miss",
        "a false alarm",
        "anomalous, with a low score",
        "normal, with a high score",
        "anomalous, with a low score",
    ]


def test_without_labels_the_most_anomalous_are_chosen():
    worst = worst_clips(machine(["unknown"] * 9), 3)

    assert [clip.key for clip in worst] == ["0.wav", "1.wav", "2.wav"]
    assert {clip.why for clip in worst} == {"among the most anomalous"}


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(0)
    normals = [-40 + rng.normal(0, 3, (60, 40)) for _ in range(10)]
    profile = NormalProfile.of(normals, LOW, LOW + 200, STEP)
    frames = normals[0].copy()
    frames[20:30, 10:13] += 25
    shown = Reconstruction(frames, frames - 1, np.square(frames + 40), np.full(40, 9.0))
    worst = worst_rebuilt(shown, LOW, LOW + 200, STEP)
    reason = replace(explain(frames, profile), rebuilt=worst, rebuilt_by="mlp")
    rebuilt = Rebuilt(shown, LOW, LOW + 200, STEP)
    waveform = rng.normal(0, 0.1, 2 * RATE).astype(np.float32)
    return heard_clip("a/b.wav", waveform, RATE, frames, profile, reason, rebuilt)


def test_a_clip_has_its_sound_and_maps_with_the_named_band_and_moment(drawn):
    titles = [picture.title for picture in drawn.pictures]
    box = drawn.pictures[0].box

    assert titles == ["level", "minus normal mean", "its reconstruction", "squared error"]
    assert drawn.player.uri.startswith("data:audio/mpeg")
    assert all(picture.uri.startswith("data:image/webp") for picture in drawn.pictures)
    assert (box.bottom, box.height) == (25.0, 7.5)
    assert box.left == pytest.approx(100 * 19.5 / 60, abs=2)
    assert "mlp rebuilds it with" in drawn.reason
    assert drawn.size > 2000


def test_axes_have_round_numbers(drawn):
    assert [mark.text for mark in drawn.hertz][-1] in ("4k", "8k")
    assert [mark.text for mark in drawn.seconds] == ["0 s", "0.5 s", "1 s", "1.5 s"]


def test_attention_has_an_axis_of_its_own():
    picture = attention_picture(np.eye(12), "ast", np.linspace(100, 7000, 12))

    assert "Abnar and Zuidema" in picture.says
    assert [mark.text for mark in picture.hertz]
