"""Reasons: a change that was made to a band at a time is named, in words and numbers."""

import time
from dataclasses import replace

import numpy as np
import pytest

from detect.profile import NormalProfile
from detect.reasons import Reason, explain, hertz, seconds
from detect.reconstruction import WorstRebuilt

N_BANDS, N_FRAMES, STEP = 40, 300, 0.032
LOW = np.arange(N_BANDS) * 200.0
HIGH = LOW + 200.0


def normal_clip(rng):
    return -40 + rng.normal(0, 0.5) + rng.normal(0, 3, (N_FRAMES, N_BANDS))


@pytest.fixture
def profile(rng):
    return NormalProfile.of((normal_clip(rng) for _ in range(40)), LOW, HIGH, STEP)


def test_a_louder_moment_in_a_band_is_named(profile, rng):
    frames = normal_clip(rng)
    frames[100:120, 10:13] += 25.0

    reason = explain(frames, profile)

    assert reason.direction == "louder"
    assert (reason.low_hz, reason.high_hz) == (2000.0, 2600.0)
    assert reason.start_s == pytest.approx(100 * STEP, abs=1.1 * STEP)
    assert reason.end_s == pytest.approx(119 * STEP, abs=1.1 * STEP)
    assert reason.sentence == (
        f"louder than usual by {reason.strength_db:.0f} dB at 2.0 to 2.6 kHz, from 3.2 to 3.8 s"
    )


def test_of_several_bursts_the_strongest_is_named_and_the_others_are_counted(profile, rng):
    frames = normal_clip(rng)
    for start, height in ((20, 20.0), (120, 30.0), (220, 20.0)):
        frames[start : start + 6, 25:28] += height

    reason = explain(frames, profile)

    assert reason.n_moments == 3
    assert reason.start_s == pytest.approx(120 * STEP, abs=1.1 * STEP)
    assert reason.finding.endswith("from 3.8 to 4.0 s and at 2 other moments")


@pytest.mark.parametrize(("change", "direction"), [(12.0, "louder"), (-12.0, "quieter")])
def test_a_band_that_changed_throughout_is_named_for_the_whole_clip(
    profile, rng, change, direction
):
    frames = normal_clip(rng)
    frames[:, 30:34] += change

    reason = explain(frames, profile)

    assert (reason.direction, reason.low_hz, reason.high_hz) == (direction, 6000.0, 6800.0)
    assert reason.start_s is None
    assert reason.strength_db == pytest.approx(12.0, abs=2.0)
    assert reason.finding == (
        f"{direction} than usual by {reason.strength_db:.0f} dB at 6.0 to 6.8 kHz, "
        "through the whole clip"
    )


def test_a_change_of_all_bands_is_named_as_one(profile, rng):
    reason = explain(normal_clip(rng) + 15.0, profile)

    assert reason.all_bands
    assert reason.finding.endswith("dB at all frequencies, through the whole clip")


def test_a_pause_is_quieter_and_has_its_time(profile, rng):
    frames = normal_clip(rng)
    frames[200:240, 5:8] -= 30.0

    reason = explain(frames, profile)

    assert (reason.direction, reason.low_hz, reason.high_hz) == ("quieter", 1000.0, 1600.0)
    assert reason.start_s == pytest.approx(200 * STEP, abs=1.1 * STEP)
    assert reason.end_s == pytest.approx(239 * STEP, abs=1.1 * STEP)


def test_a_band_that_stopped_moving_is_steadier(profile, rng):
    frames = normal_clip(rng)
    frames[:, 18:21] = frames[:, 18:21].mean(axis=0) + 0.55 * (
        frames[:, 18:21] - frames[:, 18:21].mean(axis=0)
    )

    reason = explain(frames, profile)

    assert reason.direction in ("steadier", "quieter")
    assert 3400 <= reason.low_hz < reason.high_hz <= 4400


def test_a_normal_clip_is_said_to_stand_out_nowhere(profile, rng):
    findings = [explain(normal_clip(rng), profile).finding for _ in range(20)]

    assert sum(finding.startswith("no band stands out; at most, ") for finding in findings) >= 15


def test_weights_choose_between_two_changes(profile, rng):
    frames = normal_clip(rng)
    frames[:, 5:8] += 12.0
    frames[:, 30:33] += 14.0
    weights = np.zeros(N_BANDS)
    weights[5:8] = 1.0

    assert explain(frames, profile).low_hz == 6000.0
    assert explain(frames, profile, weights=weights).low_hz == 1000.0
    assert explain(frames, profile, weights=np.zeros(N_BANDS)).low_hz == 6000.0


def test_weights_of_another_number_of_bands_are_refused(profile, rng):
    with pytest.raises(ValueError, match=r"weights are \(n_bands,\) = \(40,\)"):
        explain(normal_clip(rng), profile, weights=np.ones(3))


@pytest.mark.parametrize("n_frames", [1, 2, 7])
def test_short_clips_have_a_reason_within_their_length(profile, n_frames):
    reason = explain(np.full((n_frames, N_BANDS), -10.0), profile)

    assert reason.direction == "louder"
    assert reason.end_s is None or 0 <= reason.start_s <= reason.end_s <= n_frames * STEP


def test_a_reason_of_a_window_counts_from_the_beginning_of_the_recording(profile, rng):
    frames = normal_clip(rng)
    frames[20:24, 10] += 30.0
    reason = explain(frames, profile)

    later = reason.later_by(60.0)

    assert (later.start_s, later.end_s) == (reason.start_s + 60.0, reason.end_s + 60.0)
    assert later.finding != reason.finding
    whole = explain(normal_clip(rng) + 20.0, profile)
    assert whole.later_by(60.0) == whole


def test_a_sentence_names_members_and_the_nearest_clip():
    reason = Reason(
        "louder",
        90.0,
        260.0,
        False,
        3.21,
        3.24,
        2,
        6.2,
        5.0,
        {"b": 0.4, "a": 0.6, "c": 0.0},
        "x.wav",
    )

    assert reason.sentence == (
        "louder than usual by 6 dB at 90 to 260 Hz, at 3.2 s and at 1 other moment; "
        "found by a 60%, b 40%; the nearest normal clip is x.wav"
    )


def test_frequencies_and_times_are_rounded_as_people_say_them():
    assert hertz(2130, 2580) == "at 2.1 to 2.6 kHz"
    assert hertz(810, 1190) == "at 0.8 to 1.2 kHz"
    assert hertz(88, 262) == "at 90 to 260 Hz"
    assert hertz(0, 121) == "below 120 Hz"
    assert hertz(1180, 1230) == "near 1.2 kHz"
    assert seconds(3.18, 4.03) == "from 3.2 to 4.0 s"
    assert seconds(3.18, 3.21) == "at 3.2 s"


def test_a_reason_takes_a_few_milliseconds(rng):
    low = np.arange(128) * 60.0
    normal = [rng.normal(-40, 4, (313, 128)) for _ in range(5)]
    profile = NormalProfile.of(normal, low, low + 60.0, STEP)
    spent = []
    for _ in range(10):
        start = time.process_time()
        explain(normal[0], profile)
        spent.append(time.process_time() - start)

    assert min(spent) < 0.02


def test_the_sentence_says_where_an_autoencoder_is_wrong_and_what_a_member_heard(profile, rng):
    reason = explain(normal_clip(rng), profile, shares={"mlp": 0.6, "wave": 0.4})
    worst = WorstRebuilt(3.12, 2100.0, 2600.0, 0.5, 1.0)
    reason = replace(reason, rebuilt=worst, rebuilt_by="mlp", kinds={"wave": "brightness"})

    assert (
        reason.later_by(10.0)
        .sentence.removeprefix(reason.finding)
        .startswith(
            "; mlp rebuilds it with 3.1 times the error of the training clips at 2.1 to 2.6 kHz, "
            "from 10.5 to 11.0 s; found by mlp 60%, wave 40% (brightness)"
        )
    )
