"""What a machine sounds like is kept beside its detectors, and names what a clip has more of."""

import numpy as np
from machine_halls import RATE, hum, whistle, write

from detect import make_detector
from embed import make_encoder, make_pooling
from pipeline.explaining import (
    MachineProfile,
    Sound,
    explain_clip,
    frames_of,
    learn_profile,
    listen_to,
)
from pipeline.model import LoadedMember, ModelMember


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
    reason = explain_clip(profile(), frames_of(whistle(50)), [], {}, {}).reason

    assert reason.direction == "louder"
    assert reason.low_hz <= 3000 <= reason.high_hz
    assert reason.nearest is None


def test_the_nearest_normal_clip_is_named():
    vectors = np.eye(10, dtype=np.float32)

    reason = explain_clip(profile(vectors), frames_of(hum(50)), [], {0: vectors[3]}, {}).reason

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

    named = explain_clip(profile(), frames_of(whistle(50)), [], {}, z).reason
    in_full = explain_clip(profile(), frames_of(whistle(50)), [], {}, same).reason

    assert "found by logmel/mean 75%, logmel/max 25%" in named.sentence
    assert "found by logmel/mean/knn 75%" in in_full.sentence


def member(number, encoder, pooling, detector, clips):
    """Return a fitted member of a model, and what computes its rows."""

    def row(waveform):
        return make_encoder(encoder).encode(waveform[None], [make_pooling(pooling)])[0][0]

    fitted = make_detector(detector, **({"epochs": 3} if detector.endswith("ae") else {}))
    fitted.fit(np.stack([row(clip) for clip in clips]))
    parts = {"encoder": encoder, "pooling": pooling, "encoder_options": {}, "pooling_options": {}}
    name = f"{encoder}/{pooling}/{detector}"
    return LoadedMember(number, ModelMember(name, detector, {"rebuild": parts}), fitted, None), row


def test_an_autoencoder_says_where_it_rebuilds_a_clip_badly():
    clips = [hum(i) for i in range(10)]
    clip = hum(50)
    clip[8000:11_200] = whistle(50)[8000:11_200]
    frames_ae, row = member(0, "logmel", "frames", "official_ae", clips)

    explanation = explain_clip(profile(), frames_of(clip), [frames_ae], {0: row(clip)}, {})

    worst = explanation.reason.rebuilt
    assert worst.low_hz <= 3000 <= worst.high_hz < 3500
    assert 0.35 < worst.start_s < 0.6 < worst.end_s < 0.8
    assert "; official_ae rebuilds it with " in explanation.reason.sentence
    assert explanation.errors.reconstruction.rebuilt.shape == row(clip).shape


def test_a_member_without_frequencies_says_what_it_heard():
    clips = [hum(i) for i in range(10)]
    click = hum(50)
    click[8000] = 1.0
    wave, row = member(0, "wave", "clip", "mahalanobis", clips)
    z = {"wave/clip/mahalanobis": 3.0, "logmel/mean/mahalanobis": 1.0}

    reason = explain_clip(profile(), frames_of(click), [wave], {0: row(click)}, z).reason

    assert "found by wave/clip 75% (peakedness" in reason.sentence
