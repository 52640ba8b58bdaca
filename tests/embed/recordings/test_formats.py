"""Which endings are recordings, and what is said where their decoder is not installed."""

import pytest
from data_folders import fill
from sounds import load

from embed.recordings import formats
from embed.recordings.clips import find_clips
from embed.recordings.formats import PYAV_FORMATS, SOUNDFILE_FORMATS, is_recording, why_unreadable


@pytest.fixture
def without_pyav(monkeypatch):
    monkeypatch.setattr(formats, "_has_pyav", lambda: False)


@pytest.mark.parametrize("ending", [*SOUNDFILE_FORMATS, *PYAV_FORMATS])
def test_every_format_is_readable_with_the_extra_in_any_case(ending):
    assert is_recording(f"a{ending.upper()}")
    assert why_unreadable(f"a{ending.upper()}") == ""


def test_without_the_extra_files_are_named_and_counted_with_what_to_install(tmp_path, without_pyav):
    keys = [f"fan/train/normal_id_00_{i:08}.m4a" for i in range(30)]
    found = find_clips(fill(tmp_path, ["fan/train/normal_id_00_00000099.wav", *keys]))

    assert len(found) == 1
    assert len(found.skipped) == 21
    assert found.skipped[0].key == keys[0]
    assert found.skipped[-1].key == "10 more"
    assert {skipped.reason for skipped in found.skipped} == {
        ".m4a files need pip install 'anomalous-sound-pipeline[formats]' (it brings PyAV)"
    }


def test_without_the_extra_a_folder_of_such_files_says_what_to_install(tmp_path, without_pyav):
    fill(tmp_path, ["fan/a.wma"])

    with pytest.raises(ValueError, match=r"no recordings .*first 'fan/a.wma': .wma files need pip"):
        find_clips(tmp_path)


def test_without_the_extra_a_file_that_is_opened_says_what_to_install(tmp_path, without_pyav):
    fill(tmp_path, ["a.aac"])

    with pytest.raises(ValueError, match=r"^\.aac files need pip install"):
        load(tmp_path / "a.aac")
