"""What a machine sounds like is kept beside its detectors, and names what a clip has more of."""

import numpy as np
from machine_halls import RATE, hum, whistle, write

from pipeline.explaining import (
    MachineProfile,
    Sound,
    explain_clip,
    frames_of,
    learn_profile,
    listen_to,
)


def profile(vectors=None):
    sounds = [Sound(hum(i), RATE) for i in range(10)]
    return learn_profile(sounds, [f"{i}.wav" for i in range(10)], vectors)


def test_nothing_is_learned_from_nothing():
    assert learn_profile([]) is None


def test_a_profile_comes_back_as_it_was_saved(tmp_path):
    before = profile(np.ones((10, 4), np.float32))

    before.save(tmp_path)

    after = MachineProfile.load(tmp_path)
    np.testing.assert_allclose(after.sounds.mean, before.sounds.mean)
    assert after.ranges == before.ranges
    assert list(after.keys) == list(before.keys)
    np.testing.assert_array_equal(after.vectors, before.vectors)


def test_a_folder_without_a_profile_has_none(tmp_path):
    assert MachineProfile.load(tmp_path) is None


def test_the_band_of_a_tone_is_named():
    reason = explain_clip(profile(), frames_of(whistle(50)), [], {}, {})

    assert reason.direction == "louder"
    assert reason.low_hz <= 3000 <= reason.high_hz
    assert reason.nearest is None


def test_the_nearest_normal_clip_is_named():
    vectors = np.eye(10, dtype=np.float32)

    reason = explain_clip(profile(vectors), frames_of(hum(50)), [], {0: vectors[3]}, {})

    assert reason.nearest == "3.wav"


def test_a_recording_is_heard_at_16_khz_with_the_rate_of_its_file(tmp_path):
    sound = listen_to(write(tmp_path / "a.wav", hum(1, rate=8000), 8000), 0)

    assert (len(sound.waveform), sound.file_rate) == (16_000, 8000)


def test_what_cannot_be_read_is_not_heard(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no sound")

    assert listen_to(tmp_path / "a.wav", 0) is None


def test_members_are_named_without_detectors_where_that_tells_them_apart():
    z = {"logmel/mean/knn": 3.0, "logmel/max/knn": 1.0}
    same = {"logmel/mean/knn": 3.0, "logmel/mean/gmm": 1.0}

    named = explain_clip(profile(), frames_of(whistle(50)), [], {}, z)
    in_full = explain_clip(profile(), frames_of(whistle(50)), [], {}, same)

    assert "found by logmel/mean 75%, logmel/max 25%" in named.sentence
    assert "found by logmel/mean/knn 75%" in in_full.sentence
