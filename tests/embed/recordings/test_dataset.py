"""What a data set tells of its clips."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from data_folders import DCASE_2020, fill

from embed.recordings.clips import find_clips
from embed.recordings.dataset import NAMED_PER_REASON, Skipped, data_set, file_stats_of, same_name


def test_file_stats_tell_size_and_modification_time(tmp_path):
    fill(tmp_path, DCASE_2020)
    os.utime(tmp_path / DCASE_2020[0], ns=(0, 123_456_789))
    found = find_clips(tmp_path)

    key = DCASE_2020[0]
    assert found.file_stats()[key] == (len(f"sound of {key}"), 123_456_789)
    assert list(found.file_stats()) == [clip.key for clip in found.clips]


@pytest.mark.parametrize("mtime_ns", [2**64, 2**63, -(2**64), 0])
def test_a_time_beyond_the_year_2262_is_shortened_to_64_bits(mtime_ns):
    size, kept = file_stats_of(SimpleNamespace(st_size=5, st_mtime_ns=mtime_ns))

    assert size == 5
    assert np.int64(kept) == kept
    assert kept == mtime_ns or abs(kept) == 2**63 - 1


def test_a_file_from_the_far_future_is_listed(tmp_path):
    fill(tmp_path, DCASE_2020)
    os.utime(tmp_path / DCASE_2020[0], (2**33 + 10**10, 2**33 + 10**10))

    assert np.array([*find_clips(tmp_path).file_stats().values()]).dtype == np.int64


def test_a_data_set_iterates_over_its_clips(tmp_path):
    found = find_clips(str(fill(tmp_path, DCASE_2020)))

    assert [*found] == [*found.clips]
    assert len(found) == len(DCASE_2020)


def test_a_part_of_a_data_set_keeps_the_size_and_time_of_each_clip(tmp_path):
    found = find_clips(fill(tmp_path, DCASE_2020))

    part = found.only(lambda clip: clip.split == "train")

    assert 0 < len(part) < len(found)
    assert part.file_stats() == {clip.key: found.file_stats()[clip.key] for clip in part}


def test_of_many_files_skipped_for_one_reason_some_are_named_and_all_counted():
    many = [Skipped(f"{i:04}.wav", "too old") for i in range(1_000)]
    found = data_set(Path(), "x", "plain", [], [*many, Skipped("a.wav", "too new")])

    assert len(found.skipped) == NAMED_PER_REASON + 2
    assert found.skipped[0].key == "0000.wav"
    assert ("a.wav", "too new") in found.skipped
    assert found.skipped[-1] == ("980 more", "too old")


@pytest.mark.parametrize(
    ("one", "other"), [("Lüfter", "Lu\u0308fter"), ("PRESS", "press"), ("Straße", "STRASSE")]
)
def test_names_that_differ_in_case_or_form_are_the_same(one, other):
    assert same_name(one) == same_name(other)
