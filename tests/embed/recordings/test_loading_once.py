"""One decode for several encoders gives each what reading the file alone gives."""

import numpy as np
import pytest
import soundfile

from embed.recordings.audio import Need, load_for, load_recording
from embed.recordings.dataset import ClipError
from embed.recordings.preprocessing import Preprocessing


@pytest.fixture
def clip(tmp_path, rng):
    path = tmp_path / "a.wav"
    samples = np.concatenate([np.zeros(4000), rng.normal(0, 0.1, 16_000), np.zeros(4000)])
    soundfile.write(path, np.stack([samples, samples / 2], axis=1), 16_000, subtype="PCM_16")
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"normalize": "rms", "channel": 1},
        {"trim": True, "short": "repeat"},
        {"denoise": True, "channel": "mean", "short": "pad"},
    ],
)
def test_each_need_gets_what_it_gets_alone(clip, options):
    preprocessing = Preprocessing(**options)
    needs = [Need(16_000, 1), Need(8000, 1024), Need(16_000, 2048), Need(32_000, 1)]

    recordings = load_for(clip, needs, preprocessing)

    for need, recording in zip(needs, recordings, strict=True):
        alone = load_recording(clip, need.sample_rate, need.min_samples, preprocessing)
        np.testing.assert_array_equal(recording.waveform, alone.waveform)
        assert recording.sha256 == alone.sha256
        assert (recording.size, recording.mtime_ns) == (alone.size, alone.mtime_ns)
        assert recording.note == alone.note


def test_a_clip_that_is_too_short_is_the_error_of_who_needs_more(clip):
    enough, short = load_for(clip, [Need(16_000, 1), Need(16_000, 99_999)], Preprocessing())

    assert len(enough.waveform) == 24_000
    assert isinstance(short, ClipError)
    assert "1.500 s long" in str(short)


def test_a_broken_file_is_the_error_of_all(tmp_path):
    (tmp_path / "b.wav").write_text("not a recording")

    errors = load_for(tmp_path / "b.wav", [Need(16_000, 1), Need(8000, 1)], Preprocessing())

    assert [type(error) for error in errors] == [ClipError, ClipError]
