"""Recordings to be judged: labels are not read, machines only where a name tells them."""

import pytest
from data_folders import DCASE_2020, fill

from embed.recordings.new_clips import find_new_clips

MACHINES = [("press7", ""), ("press 8", ""), ("slider", "id_00"), ("slider", "id_02")]


def machines(path, known=MACHINES):
    found = find_new_clips(path, known)
    assert {(clip.split, clip.label) for clip in found} == {("test", "unknown")}
    return {clip.key: clip.machine for clip in found}


def test_a_file_has_no_machine_unless_its_folder_names_one(tmp_path):
    fill(tmp_path, ["new.wav", "press7/new.wav", "press7/deeper/new.wav"])

    assert machines(tmp_path / "new.wav") == {"new.wav": ("", "")}
    assert machines(tmp_path / "press7" / "new.wav") == {"new.wav": ("press7", "")}
    assert find_new_clips(tmp_path / "new.wav", []).path("new.wav").is_file()


def test_folders_name_machines_in_any_case_and_files_beside_have_none(tmp_path):
    keys = ["PRESS7/a.wav", "press 8/normal/b.wav", "slider_id_02/c.wav", "slider/id_00/d.wav"]
    fill(tmp_path, [*keys, "e.wav", "unknown/f.wav"])

    assert machines(tmp_path) == {
        "PRESS7/a.wav": ("press7", ""),
        "press 8/normal/b.wav": ("press 8", ""),
        "slider_id_02/c.wav": ("slider", "id_02"),
        "slider/id_00/d.wav": ("slider", "id_00"),
        "e.wav": ("", ""),
        "unknown/f.wav": ("unknown", ""),
    }


def test_the_folder_of_a_machine_is_one_however_its_recordings_lie(tmp_path):
    keys = ["a.wav", "tuesday/b.wav", "normal/c.wav"]
    fill(tmp_path / "press7", keys)

    assert machines(tmp_path / "press7") == dict.fromkeys(keys, ("press7", ""))


def test_a_type_with_one_id_is_named_by_the_type(tmp_path):
    fill(tmp_path, ["slider/a.wav"])

    assert machines(tmp_path, [("slider", "id_00")]) == {"slider/a.wav": ("slider", "id_00")}
    assert machines(tmp_path) == {"slider/a.wav": ("slider", "")}


def test_a_known_layout_tells_the_machine_and_its_label_is_not_read(tmp_path):
    fill(tmp_path, DCASE_2020)

    found = machines(tmp_path)
    assert found["slider/test/anomaly_id_00_00000355.wav"] == ("slider", "id_00")
    assert found["ToyCar/train/normal_id_01_00000000.wav"] == ("ToyCar", "id_01")


def test_a_manifest_needs_paths_only(tmp_path):
    fill(tmp_path, ["a.wav", "b.wav"])
    (tmp_path / "new.csv").write_text("path\na.wav\ngone.wav\n")
    found = find_new_clips(tmp_path / "new.csv", MACHINES)

    assert [(clip.key, clip.machine) for clip in found] == [("a.wav", ("", ""))]
    assert [skipped.key for skipped in found.skipped] == ["gone.wav"]


def test_a_manifest_may_name_a_recording_for_two_machines(tmp_path):
    fill(tmp_path, ["a.wav"])
    rows = "path;machine_type;machine_id\na.wav;PRESS7;\na.wav;slider;id_00\na.wav;slider;id_00\n"
    (tmp_path / "new.csv").write_text(rows)
    found = find_new_clips(tmp_path / "new.csv", MACHINES)

    assert [(clip.key, clip.machine) for clip in found] == [
        ("a.wav", ("press7", "")),
        ("a.wav#slider id_00", ("slider", "id_00")),
    ]
    assert found.path("a.wav#slider id_00") == tmp_path / "a.wav"


@pytest.mark.parametrize(
    ("keys", "path", "error", "message"),
    [
        ([], "gone.wav", FileNotFoundError, "there is no recording or folder at"),
        (["notes.txt"], "notes.txt", ValueError, "is no recording by its ending"),
        (["notes.txt"], "", ValueError, "there are no recordings in"),
        (["._a.wav"], "", ValueError, r"1 cannot be used, first '\._a\.wav': a hidden file"),
    ],
)
def test_what_cannot_be_judged_is_one_line(keys, path, error, message, tmp_path):
    fill(tmp_path, keys)

    with pytest.raises(error, match=message) as caught:
        find_new_clips(tmp_path / path, MACHINES)
    assert "\n" not in str(caught.value)
