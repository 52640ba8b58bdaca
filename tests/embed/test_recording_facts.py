"""Remarks on recordings: what is wrong is named, held-out normal recordings are left alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import soxr

from embed.recording_facts import FactRanges, recording_facts, recording_remarks
from embed.recordings.demo import RAILS, record

RATE = 16_000


def noise(rng, seconds=4.0, level=0.05):
    return (level * rng.standard_normal(int(seconds * RATE))).astype(np.float32)


@pytest.fixture
def ranges(rng):
    return FactRanges.of(recording_facts(noise(rng), RATE) for _ in range(8))


def remarks(ranges, waveform, rate=RATE, **facts):
    return recording_remarks(ranges, replace(recording_facts(waveform, rate), **facts))


def test_facts_are_those_of_the_waveform():
    square = np.tile(np.float32([0.5, -0.5]), 8000)

    facts = recording_facts(square, RATE, file_sample_rate=44_100)

    assert (facts.seconds, facts.sample_rate, facts.peak) == (1.0, 44_100, 0.5)
    assert facts.level_dbfs == pytest.approx(-6.02, abs=0.01)
    assert facts.clipped_share == 0.0  # no run at an extreme value
    assert np.argmax(facts.band_levels) == 15


def test_band_levels_add_up_to_the_level(rng):
    facts = recording_facts(noise(rng), RATE)

    total = 10 * np.log10(np.sum(10 ** (np.array(facts.band_levels) / 10)))
    assert total == pytest.approx(facts.level_dbfs, abs=0.3)


def test_another_recording_of_the_kind_is_not_remarked(ranges, rng):
    assert remarks(ranges, noise(rng)) == []


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda w: 0 * w, "the recording is silent"),
        (
            lambda w: np.where(np.arange(len(w)) < len(w) // 2, 0, w),
            "49% of the recording is silent",
        ),
        (lambda w: np.clip(2 * w, -0.15, 0.15), "of the samples are clipped"),
        (lambda w: 10 * w, "20 dB louder than any normal one"),
        (lambda w: 0.1 * w, "20 dB quieter than any normal one"),
        (lambda w: soxr.resample(soxr.resample(w, RATE, 8000), 8000, RATE), "above 4.0 kHz"),
        (lambda w: w[: RATE * 2], "2 s long, the normal clips 4 s"),
        (lambda w: np.tile(w, 2), "8 s long, the normal clips 4 s"),
    ],
)
def test_what_is_wrong_with_a_recording_is_the_only_remark(ranges, rng, spoil, expected):
    found = remarks(ranges, spoil(noise(rng)).astype(np.float32))

    assert len(found) == 1
    assert expected in found[0]


def test_a_wide_recording_is_remarked_where_training_was_a_telephone(rng):
    narrow = [soxr.resample(soxr.resample(noise(rng), RATE, 8000), 8000, RATE) for _ in range(4)]
    ranges = FactRanges.of(recording_facts(waveform, RATE) for waveform in narrow)

    (remark,) = remarks(ranges, noise(rng))

    assert remark.startswith("sound above 4.0 kHz, where the normal clips have hardly any")


def test_a_hum_that_drowns_the_rest_is_no_change_of_bandwidth(ranges, rng):
    hum = 0.4 * np.sin(2 * np.pi * 100 * np.arange(4 * RATE) / RATE)

    found = remarks(ranges, (noise(rng) + hum).astype(np.float32))

    assert len(found) == 1
    assert "louder than any normal one" in found[0]


def test_another_sample_rate_of_the_file_is_remarked(ranges, rng):
    assert remarks(ranges, noise(rng), sample_rate=8000) == [
        "recorded at 8000 Hz, the normal clips at 16000 Hz"
    ]


def test_ranges_survive_json_and_the_order_of_clips(rng):
    facts = [recording_facts(noise(rng, level=level), RATE) for level in (0.01, 0.1, 0.03)]

    ranges = FactRanges.of(facts)

    assert FactRanges.from_dict(json.loads(json.dumps(ranges.to_dict()))) == ranges
    assert FactRanges.of(reversed(facts)) == ranges


def test_unusable_input_is_refused(ranges, rng):
    with pytest.raises(ValueError, match="finite samples"):
        recording_facts(np.float32([0.1, np.nan]), RATE)
    with pytest.raises(ValueError, match="at least one clip"):
        FactRanges.of([])
    with pytest.raises(ValueError, match="resample it first"):
        remarks(ranges, noise(rng), rate=8000)


def test_held_out_normals_of_the_demo_are_not_remarked():
    rail = RAILS[0]
    facts = [
        recording_facts(record(rail, "", 0.0, (5, 0, 0, number)) / np.float32(32_768), RATE)
        for number in range(30)
    ]
    ranges = FactRanges.of(facts[:15])

    assert [recording_remarks(ranges, one) for one in facts[15:]] == [[]] * 15


def test_held_out_normals_of_the_fan_are_not_remarked(shared_data):
    def facts(path):
        return recording_facts(*soundfile.read(path, dtype="float32"))

    fan = shared_data / "mimii_fan/fan"
    ranges = FactRanges.of(map(facts, sorted((fan / "train").glob("*.wav"))))

    held_out = sorted((fan / "test").glob("normal_*.wav"))
    assert [recording_remarks(ranges, facts(path)) for path in held_out] == [[]] * 8
