"""The plain layout: a folder per machine, all recordings normal unless a folder says otherwise."""

import unicodedata
from collections import Counter

import pytest
from data_folders import fill

from embed.recordings.clips import find_clips
from embed.recordings.dataset import LABEL_WORDS, UnknownMachine


def names(folder: str, n: int) -> list[str]:
    return [f"{folder}/{i:03}.wav" for i in range(n)]


def counts(found) -> Counter:
    return Counter((clip.machine_type, clip.split, clip.label) for clip in found)


def test_each_sub_folder_is_a_machine_and_its_recordings_train_it(tmp_path):
    keys = [*names("press 7", 3), *names("press 8/monday/early", 2), *names("press 8/tuesday", 1)]
    found = find_clips(fill(tmp_path, keys))

    assert (found.layout, found.year) == ("plain", 2020)
    assert counts(found) == {("press 7", "train", "normal"): 3, ("press 8", "train", "normal"): 3}
    assert {clip.machine_id for clip in found} == {""}
    assert found.skipped == ()
    assert found.remarks == (
        "plain layout: 2 machine(s), named after their folders, with 6 recordings taken as normal "
        "and 0 as anomalous",
    )


def test_a_folder_of_files_is_one_machine_of_its_name(tmp_path):
    found = find_clips(fill(tmp_path / "press7", ["a.wav", "b.flac"]))

    assert counts(found) == {("press7", "train", "normal"): 2}


@pytest.mark.parametrize("below", ["", "press7"])
def test_folders_normal_and_anomalous_make_a_test_set_wherever_the_root_is(below, tmp_path):
    fill(tmp_path, [*names("press7/normal", 10), *names("press7/anomalous", 3)])
    found = find_clips(tmp_path / below)

    assert counts(found) == {
        ("press7", "train", "normal"): 7,
        ("press7", "test", "normal"): 3,
        ("press7", "test", "anomalous"): 3,
    }
    tested = {clip.key.rpartition("/")[2] for clip in found if clip.split == "test"}
    both = find_clips(tmp_path)
    assert tested == {clip.key.rpartition("/")[2] for clip in both if clip.split == "test"}


@pytest.mark.parametrize("word", LABEL_WORDS)
def test_every_word_for_a_label_is_read_in_any_case(word, tmp_path):
    found = find_clips(fill(tmp_path, [*names("fan", 4), *names(f"fan/{word.upper()}", 1)]))

    assert found.clips[-1].key == f"fan/{word.upper()}/000.wav" or LABEL_WORDS[word] == "normal"
    assert {c.label for c in found if word.upper() in c.key} == {LABEL_WORDS[word]}


def test_at_most_half_of_the_normal_recordings_are_kept_for_the_test(tmp_path):
    found = find_clips(fill(tmp_path, [*names("fan/ok", 5), *names("fan/nok", 50)]))

    assert counts(found)["fan", "test", "normal"] == 2
    assert counts(found)["fan", "train", "normal"] == 3


def test_a_new_recording_changes_the_test_set_by_one_clip_at_most(tmp_path):
    fill(tmp_path, [*names("fan/normal", 40), *names("fan/abnormal", 10)])
    before = {c.key for c in find_clips(tmp_path) if (c.split, c.label) == ("test", "normal")}
    fill(tmp_path, ["fan/normal/later.wav"])
    after = {c.key for c in find_clips(tmp_path) if (c.split, c.label) == ("test", "normal")}

    assert len(before) == len(after) == 10
    assert len(before - after) <= 1


def test_recordings_beside_a_folder_of_normal_ones_are_left_out(tmp_path):
    fill(tmp_path, [*names("fan/normal", 4), *names("fan/bad", 2), "fan/unclear.wav", "x.wav"])
    found = find_clips(tmp_path)

    assert len(found) == 6
    assert found.skipped == (
        ("fan/unclear.wav", "it lies beside the folder of normal recordings"),
        ("x.wav", "it lies beside the machines' folders, not in one"),
    )


def test_recordings_beside_a_folder_of_anomalous_ones_only_are_normal(tmp_path):
    found = find_clips(fill(tmp_path, [*names("fan", 4), *names("fan/bad", 2)]))

    assert counts(found) == {
        ("fan", "train", "normal"): 2,
        ("fan", "test", "normal"): 2,
        ("fan", "test", "anomalous"): 2,
    }


@pytest.mark.parametrize(
    "key",
    [
        "fan/test/000.wav",
        "test/000.wav",
        "fan/unit 3/abnormal/000.wav",
        "fan/abnormal 2/000.wav",
        "fan_abnormal/000.wav",
        "fan/normal/bad/000.wav",
        "fan/anomaly_id_00_00000000.wav",
        "fan/section_00_source_test_anomaly_0000_x.wav",
    ],
)
def test_what_looks_like_a_test_set_is_never_learned_as_normal(key, tmp_path):
    fill(tmp_path, [*names("pump", 3), key])

    with pytest.raises(ValueError, match=r"^cannot tell which machine .* belongs to: .*\. Known"):
        find_clips(tmp_path)


def test_a_recording_whose_own_name_says_anomalous_is_left_out(tmp_path):
    found = find_clips(fill(tmp_path, [*names("fan", 3), "fan/abnormal_07.wav"]))

    assert len(found) == 3
    assert found.skipped == (
        ("fan/abnormal_07.wav", "its name says anomalous, but no folder does"),
    )


def test_a_label_beside_machines_is_refused(tmp_path):
    fill(tmp_path, [*names("normal", 3), *names("press7", 3)])

    with pytest.raises(ValueError, match=r"'normal' and 'press7' lie side by side .* one machine"):
        find_clips(tmp_path)


@pytest.mark.parametrize("other", ["PRESS é", unicodedata.normalize("NFD", "Press é")])
def test_two_machines_of_one_name_are_refused(other, tmp_path):
    fill(tmp_path, [*names("Press é", 1), *names(other, 1)])

    with pytest.raises(ValueError, match="are two machines of one name"):
        find_clips(tmp_path)


def test_other_files_and_folders_without_recordings_are_counted(tmp_path):
    others = ["fan/notes.txt", "fan/more.TXT", "list.pdf", "empty/readme.txt"]
    found = find_clips(fill(tmp_path, [*names("fan", 2), *others]))

    assert found.remarks[1:] == (
        "1 folder(s) without any recording: 'empty'",
        "4 other file(s) are not recordings: 3 .txt, 1 .pdf",
    )
    with pytest.raises(UnknownMachine, match="no machine type 'empty'"):
        find_clips(tmp_path, ["empty"])


def test_a_machine_is_found_by_its_name_in_any_unicode_form(tmp_path):
    fill(tmp_path, names(unicodedata.normalize("NFD", "Lüfter"), 2))

    assert len(find_clips(tmp_path, ["Lüfter"])) == 2


def test_a_known_layout_wins_over_the_plain_one(tmp_path):
    found = find_clips(fill(tmp_path, ["fan/train/normal_id_00_00000000.wav", *names("pump", 2)]))

    assert found.layout == "dcase2020"
    assert len(found.skipped) == 2
