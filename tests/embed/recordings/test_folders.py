"""Which files of a folder are recordings, whatever else lies there."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from data_folders import DCASE_2020, SUPPLEMENTAL, YEARS, fill

from embed.recordings.clips import find_clips
from embed.recordings.layouts import LAYOUTS


@pytest.fixture
def not_root() -> Iterator[Path]:
    """Give a folder whose permissions bind, also when the tests run as root."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        as_root = os.geteuid() == 0
        if as_root:
            os.chown(name, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            if as_root:
                os.seteuid(0)


@pytest.mark.parametrize("layout", ["dcase2025", "dcase2026"])
def test_supplemental_clips_are_left_out_and_said(layout, tmp_path):
    fill(tmp_path, YEARS[layout])
    fill(tmp_path, [f"fan/supplemental/{name}" for name in SUPPLEMENTAL])
    found = find_clips(tmp_path)

    assert found.layout == layout
    assert len(found.clips) == len(YEARS[layout])
    assert found.skipped == ()
    assert found.remarks == (
        "supplemental clips are not used: 2 of a machine alone and 1 of noise alone; "
        "--supplemental use trains with those of a machine",
    )


def test_supplemental_clips_of_a_machine_alone_can_train_it(tmp_path):
    fill(tmp_path, YEARS["dcase2025"])
    fill(tmp_path, [f"fan/supplemental/{name}" for name in SUPPLEMENTAL])
    added = set(find_clips(tmp_path, supplemental="use")) - set(find_clips(tmp_path))

    assert {clip.key.rpartition("/")[2]: clip.domain for clip in added} == {
        SUPPLEMENTAL[0]: "",
        SUPPLEMENTAL[1]: "source",
    }
    for clip in added:
        assert (clip.machine, clip.split, clip.label) == (("fan", "section_00"), "train", "normal")
    assert find_clips(tmp_path, supplemental="use").remarks == (
        "2 supplemental clip(s) of a machine alone train it too; 1 of noise alone are not used",
    )


@pytest.mark.parametrize("beside", [[], [f"fan/supplemental/{SUPPLEMENTAL[2]}"]])
def test_supplemental_clips_that_are_asked_for_must_be_there(beside, tmp_path):
    fill(tmp_path, [*YEARS["dcase2025"], *beside])

    with pytest.raises(FileNotFoundError, match="has no supplemental clip of a machine alone"):
        find_clips(tmp_path, supplemental="use")


def test_a_folder_called_supplemental_with_other_names_is_a_folder_like_others(tmp_path):
    found = find_clips(fill(tmp_path, ["press7/supplemental/monday.wav", "press7/friday.wav"]))

    assert {clip.machine_type for clip in found} == {"press7"}
    assert len(found) == 2


def test_clips_are_in_the_order_of_their_keys_however_folders_lie(tmp_path):
    keys = [f"{kind}/train/normal_id_00_00000000.wav" for kind in ("a", "a b", "a-b", "B", "é")]
    found = find_clips(fill(tmp_path, keys))

    assert [clip.key for clip in found.clips] == sorted(keys)


def test_flac_ogg_mp3_and_capital_letters_are_recordings_and_notes_are_not(tmp_path):
    keys = [f"fan/train/normal_id_00_0000000{i}.{e}" for i, e in enumerate(("flac", "OGG", "mp3"))]
    found = find_clips(fill(tmp_path, [*keys, "fan/train/readme.txt", "fan/attributes_00.csv"]))

    assert [clip.key for clip in found.clips] == keys
    assert found.skipped == ()


def test_an_empty_folder_names_the_layouts(tmp_path):
    with pytest.raises(ValueError, match=r"no recordings \(\.wav.*dcase2020: <machine_type>"):
        find_clips(tmp_path)


def test_names_that_no_layout_can_read_name_the_layouts(tmp_path):
    fill(tmp_path, ["slider/test/monday.wav", "slider/test/tuesday.wav"])

    with pytest.raises(ValueError, match=r"which machine '.*monday\.wav'.*2 recordings") as error:
        find_clips(tmp_path)
    assert all(f"{name}: {shape}" in str(error.value) for name, shape in LAYOUTS.items())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "stray",
    [
        "slider/train/anomaly_id_00_00000000.wav",
        "slider/train/normal_id_00_00000000 (1).wav",
        "slider/test/abnormal_id_00_00000000.wav",
        "slider/test/my normal_id_00_00000000.wav",
        "slider/normal_id_00_00000000.wav",
        "notes.wav",
    ],
)
def test_one_file_of_no_known_layout_is_skipped_and_the_others_are_used(stray, tmp_path):
    found = find_clips(fill(tmp_path, [*DCASE_2020, stray]))

    assert len(found.clips) == len(DCASE_2020)
    ((key, reason),) = found.skipped
    assert key == stray
    assert LAYOUTS["dcase2020"] in reason


def test_names_with_spaces_accents_and_newlines_are_names(tmp_path):
    keys = [
        "Lüfter no 1/train/normal_id_00_00000000.wav",
        "扇風機/test/anomaly_id_00_00000000.wav",
        "two\nlines/test/normal_id_00_00000000.wav",
    ]
    found = find_clips(fill(tmp_path, keys))

    assert [clip.key for clip in found.clips] == sorted(keys)
    assert {c.machine_type for c in found.clips} == {"Lüfter no 1", "扇風機", "two\nlines"}


def test_names_that_are_not_text_are_skipped(tmp_path):
    fill(tmp_path, DCASE_2020)
    os.close(os.open(os.fsencode(tmp_path) + b"/slider/test/normal_id_00_\xff.wav", os.O_CREAT))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/fan\xe9")).mkdir()
    found = find_clips(tmp_path)

    assert len(found.clips) == len(DCASE_2020)
    assert [(s.key, "UTF-8" in s.reason) for s in found.skipped] == [
        ("fan\\xe9", True),
        ("slider/test/normal_id_00_\\xff.wav", True),
    ]


def test_folders_links_and_pipes_that_look_like_recordings_are_skipped(tmp_path):
    fill(tmp_path, [*DCASE_2020, "slider/test/._normal_id_00_00000009.wav"])
    folder = tmp_path / "slider" / "test"
    (folder / "normal_id_00_00000001.wav").mkdir()
    (folder / "normal_id_00_00000002.wav").symlink_to("nowhere.wav")
    (folder / "normal_id_00_00000003.wav").symlink_to("normal_id_00_00000003.wav")
    os.mkfifo(folder / "normal_id_00_00000004.wav")
    found = find_clips(tmp_path)

    assert len(found.clips) == len(DCASE_2020)
    assert {s.key.removeprefix("slider/test/"): s.reason for s in found.skipped} == {
        "._normal_id_00_00000009.wav": "a hidden file, not a recording",
        "normal_id_00_00000001.wav": "a folder, not a recording",
        "normal_id_00_00000002.wav": "a link to nothing",
        "normal_id_00_00000003.wav": "cannot be read: Too many levels of symbolic links",
        "normal_id_00_00000004.wav": "not a regular file",
    }


def test_links_to_folders_are_followed_and_loops_end(tmp_path):
    fill(tmp_path / "elsewhere", DCASE_2020)
    data = tmp_path / "data"
    data.mkdir()
    (data / "slider").symlink_to(tmp_path / "elsewhere" / "slider")
    (data / "loop").symlink_to(data)
    (data / "slider" / "up").symlink_to(tmp_path / "elsewhere" / "slider")
    found = find_clips(data)

    assert [clip.key for clip in found.clips] == sorted(DCASE_2020[:4])
    assert [s.key for s in found.skipped] == ["loop", "slider/up"]
    assert "listed already" in found.skipped[1].reason


def test_a_link_to_the_data_folder_keeps_its_own_name(tmp_path):
    fill(tmp_path / "fan_2019_v2", ["train/normal_id_00_00000000.wav"])
    (tmp_path / "fan").symlink_to(tmp_path / "fan_2019_v2")

    assert find_clips(tmp_path / "fan").clips[0].machine_type == "fan"


def test_a_folder_that_may_not_be_read_is_skipped(not_root):
    fill(not_root, DCASE_2020)
    (not_root / "ToyCar").chmod(0)
    try:
        found = find_clips(not_root)
    finally:
        (not_root / "ToyCar").chmod(0o700)

    assert len(found.clips) == 4
    assert found.skipped == (("ToyCar", "the folder cannot be read: Permission denied"),)


def test_a_data_folder_that_may_not_be_read_is_an_error(not_root):
    (not_root / "data").mkdir(mode=0)

    with pytest.raises(PermissionError, match=r"^the data folder .* cannot be read: Permission"):
        find_clips(not_root / "data")
