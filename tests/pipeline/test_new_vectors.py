"""Vectors outside the cache: encoders are shared, windows equal clips, frames are padded."""

import io

import numpy as np
import pytest
from machine_halls import RATE, hum, write

from embed import make_encoder, make_pooling
from embed.recordings.preprocessing import Preprocessing
from embed.recordings.streams import RawFormat
from pipeline.new_vectors import clip_vectors, joined, stacked, stream_vectors, window_vectors


def parts(*poolings, **options):
    return joined(
        [(make_encoder("logmel"), Preprocessing(**options), make_pooling(p)) for p in poolings]
    )


def test_members_with_one_encoder_share_it():
    (part,) = parts("mean", "max")

    assert list(part.members) == [0, 1]


def test_members_that_prepare_recordings_differently_are_refused():
    built = [
        (make_encoder("logmel"), Preprocessing(normalize=how), make_pooling("mean"))
        for how in ("none", "rms")
    ]

    with pytest.raises(ValueError, match="prepare recordings in different ways"):
        joined(built)


@pytest.mark.parametrize("normalize", ["none", "rms"])
def test_a_window_has_the_vectors_of_a_clip_and_the_samples_of_the_recording(tmp_path, normalize):
    two = [hum(1), hum(2)]
    long = write(tmp_path / "long.wav", np.concatenate(two))
    short = write(tmp_path / "short.wav", two[1])
    own = parts("mean", normalize=normalize)

    _, second = window_vectors(own, long, 1.0, 1.0)
    whole = clip_vectors(own, {"short.wav": short}, on_bad_clip=pytest.fail)

    np.testing.assert_allclose(second.rows[0], whole["short.wav"][0], rtol=1e-5)
    np.testing.assert_allclose(second.waveform, two[1], atol=1e-4)


def test_an_encoder_that_fails_is_an_error_and_not_a_missing_member(tmp_path, monkeypatch):
    clip = write(tmp_path / "a.wav", hum(1))
    own = parts("mean")
    monkeypatch.setattr(type(own[0].encoder), "encode", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        clip_vectors(own, {"a.wav": clip}, on_bad_clip=pytest.fail)


def test_a_stream_is_read_at_one_rate_only():
    both = [*parts("mean"), *parts("mean")]
    object.__setattr__(both[1].encoder, "sample_rate", 32_000)

    with pytest.raises(ValueError, match="16000 and 32000 Hz"):
        next(stream_vectors(both, io.BytesIO(), RawFormat(RATE, "s16le", 1), 1.0, 1.0))


def test_frames_of_different_numbers_are_padded_with_nan():
    both = stacked([np.ones((2, 3)), np.ones((4, 3))])

    assert both.shape == (2, 4, 3)
    assert np.isnan(both[0, 2:]).all()
    assert np.isfinite(both[1]).all()


def test_vectors_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="vectors of different shapes"):
        stacked([np.ones((2, 3)), np.ones((2, 4))])
