"""What a data set tells of its clips."""

import os

from data_folders import DCASE_2020, fill

from embed.recordings.clips import find_clips


def test_file_stats_tell_size_and_modification_time(tmp_path):
    fill(tmp_path, DCASE_2020)
    os.utime(tmp_path / DCASE_2020[0], ns=(0, 123_456_789))
    found = find_clips(tmp_path)

    key = DCASE_2020[0]
    assert found.file_stats()[key] == (len(f"sound of {key}"), 123_456_789)
    assert list(found.file_stats()) == [clip.key for clip in found.clips]
