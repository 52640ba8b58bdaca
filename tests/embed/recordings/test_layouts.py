"""What the real names of each data set are understood to say."""

import re
from collections import Counter

import pytest
from data_folders import DCASE_2020, MIMII, YEARS, by_key, fill

from embed.recordings.clips import find_clips
from embed.recordings.dataset import Clip


def test_dcase_2020_names_are_read(tmp_path):
    found = find_clips(fill(tmp_path / "dev_data", DCASE_2020))

    assert (found.layout, found.year, found.name) == ("dcase2020", 2020, "dev_data")
    assert found.skipped == ()
    assert [clip.key for clip in found.clips] == sorted(DCASE_2020)
    assert by_key(found)["slider/test/anomaly_id_00_00000355.wav"] == Clip(
        "slider/test/anomaly_id_00_00000355.wav", "slider", "id_00", "test", "anomalous"
    )
    assert by_key(found)["ToyCar/train/normal_id_01_00000000.wav"].machine == ("ToyCar", "id_01")


def test_dcase_2020_evaluation_clips_are_unlabelled_and_join_the_additional_training(tmp_path):
    keys = [
        "eval_data/slider/train/normal_id_01_00000000.wav",
        "eval_data/slider/test/id_01_00000000.wav",
        "dev_data/slider/train/normal_id_00_00000000.wav",
    ]
    found = find_clips(fill(tmp_path, keys))

    assert {clip.machine for clip in found.clips} == {("slider", "id_00"), ("slider", "id_01")}
    assert by_key(found)["eval_data/slider/test/id_01_00000000.wav"].label == "unknown"


@pytest.mark.parametrize("layout", YEARS)
def test_names_of_later_years_are_read(layout, tmp_path):
    found = find_clips(fill(tmp_path, YEARS[layout]))

    assert found.layout == layout
    assert found.year == int(layout[-4:])
    assert found.skipped == ()
    assert {
        c.key: (c.machine_id, c.split, c.label, c.domain, c.attributes) for c in found.clips
    } == YEARS[layout]
    assert all(clip.machine_type == clip.key.split("/")[0] for clip in found.clips)


def test_choosing_one_section_of_2022_does_not_make_it_2023(tmp_path):
    fill(tmp_path, YEARS["dcase2022"])

    assert find_clips(tmp_path, ids=["section_00"]).year == 2022


@pytest.mark.parametrize(
    "name",
    [
        "section_00_source_train_normal_0000x.wav",
        "section_00_train.wav",
        "section_00_0000.wav",
        "section_00_source_0000.wav",
    ],
)
def test_a_name_that_is_almost_a_section_is_not(name, tmp_path):
    found = find_clips(fill(tmp_path, [*YEARS["dcase2022"], f"fan/train/{name}"]))

    assert [skipped.key for skipped in found.skipped] == [f"fan/train/{name}"]


def test_a_domain_that_contradicts_its_folder_is_refused(tmp_path):
    stray = "fan/source_test/section_00_target_test_normal_0000_x.wav"
    fill(tmp_path, [*YEARS["dcase2021"], stray])

    assert [skipped.key for skipped in find_clips(tmp_path).skipped] == [stray]


def test_mimii_is_split_by_rule_and_abnormal_is_not_normal(tmp_path):
    found = find_clips(fill(tmp_path, MIMII))

    assert found.layout == "mimii"
    assert {c.key: (c.split, c.label) for c in found.clips} == {
        "fan/id_00/normal/00000000.wav": ("test", "normal"),
        "fan/id_00/normal/00000001.wav": ("test", "normal"),
        "fan/id_00/normal/00000002.wav": ("train", "normal"),
        "fan/id_00/normal/00000003.wav": ("train", "normal"),
        "fan/id_00/normal/00000004.wav": ("train", "normal"),
        "fan/id_00/abnormal/00000000.wav": ("test", "anomalous"),
        "fan/id_00/abnormal/00000001.wav": ("test", "anomalous"),
    }


@pytest.mark.parametrize("folder", ["{}_dB_fan", "{}_dB_fan/fan", "{}_dB/fan"])
def test_mimii_signal_to_noise_ratios_are_machines_of_their_own(folder, tmp_path):
    ratios = ["-6_dB_fan", "0_dB_fan", "6_dB_fan"]
    for ratio in ("-6", "0", "6"):
        keys = [key.removeprefix("fan/") for key in MIMII]
        fill(tmp_path / folder.format(ratio), keys)

    found = find_clips(tmp_path)
    assert Counter(clip.machine_type for clip in found.clips) == dict.fromkeys(ratios, 7)
    assert len(find_clips(tmp_path, machine_types=["fan"]).clips) == 21
    assert len(find_clips(tmp_path, machine_types=["0_dB_fan"]).clips) == 7


@pytest.mark.parametrize(
    "stray", ["fan/id_00b/normal/00000000.wav", "fan/id_00/abnormal 2/00000000.wav"]
)
def test_a_folder_that_is_almost_mimii_is_not(stray, tmp_path):
    found = find_clips(fill(tmp_path, [*MIMII, stray]))

    assert [skipped.key for skipped in found.skipped] == [stray]


def test_mimii_without_normals_left_to_train_on_is_an_error_of_that_machine_only(tmp_path):
    fill(tmp_path, MIMII)
    fill(tmp_path, ["fan/id_02/normal/00000000.wav", "fan/id_02/abnormal/00000000.wav"])

    with pytest.raises(ValueError, match=r"fan/id_02 has 1 normal and 1 abnormal .* manifest"):
        find_clips(tmp_path)
    assert len(find_clips(tmp_path, ids=["00"]).clips) == len(MIMII)


@pytest.mark.parametrize("parent", ["normal", "abnormal/normal recordings", "anomaly/test"])
def test_a_word_in_a_folder_further_up_is_no_label(parent, tmp_path):
    found = find_clips(fill(tmp_path / parent, DCASE_2020))

    labels = Counter(clip.label for clip in found.clips)
    assert labels == {"normal": 4, "anomalous": 2}
    assert {clip.machine_type for clip in found.clips} == {"slider", "ToyCar"}


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("fan/train/sect_00_source_train_normal_0000.wav", "dcase2022: .*/train/section_00_so"),
        ("fan/test/section_00_source_test_anomly_0001_vel_6.wav", "dcase2022: .*/test/section_00"),
        ("fan/target_test/section_00-target_test_normal_0001.wav", "dcase2021: .*/target_test/"),
        ("slider/train/normal_id00_00000000.wav", "dcase2020: .*/train/normal_id_00_00000000"),
        ("slider/anomaly_id_00_00000001.wav", "dcase2020: .*/test/anomaly_id_00_00000000"),
    ],
)
def test_a_name_that_nearly_matches_is_told_its_nearest_layout(key, nearest, tmp_path):
    fill(tmp_path, [key])
    if "anomaly" not in key:
        with pytest.raises(ValueError, match=f"it is nearest to {nearest}"):
            find_clips(tmp_path)
    ((_, reason),) = find_clips(fill(tmp_path, DCASE_2020)).skipped

    assert re.search(f"it is nearest to {nearest}", reason)


def test_a_name_that_is_like_no_other_has_no_nearest_layout(tmp_path):
    ((_, reason),) = find_clips(fill(tmp_path, [*DCASE_2020, "slider/test/monday.wav"])).skipped

    assert "nearest" not in reason


def test_years_with_other_rules_in_one_folder_are_refused(tmp_path):
    fill(tmp_path, [*YEARS["dcase2021"], *YEARS["dcase2026"]])

    with pytest.raises(ValueError, match=r"several layouts: dcase2021 \('.*'\), dcase2022 \('"):
        find_clips(tmp_path)


def test_years_with_the_same_rules_in_one_folder_are_remarked(tmp_path):
    found = find_clips(fill(tmp_path, [*YEARS["dcase2024"], *YEARS["dcase2026"]]))

    assert found.year == 2023
    (remark,) = found.remarks
    assert "several years of DCASE lie side by side" in remark
    assert "3DPrinter (2024)" in remark
    assert "sliderEmu (2026)" in remark


def test_two_layouts_under_one_root_are_refused(tmp_path):
    fill(tmp_path, [*DCASE_2020, *MIMII])

    with pytest.raises(ValueError, match=r"several layouts: dcase2020 \('.*'\), mimii \('"):
        find_clips(tmp_path)


@pytest.mark.parametrize(
    ("places", "keys"),
    [
        (("2023/dev_data", "2024/dev_data"), list(YEARS["dcase2023"])),
        (("dev_data", "dev_data (copy)"), DCASE_2020),
        (("low noise", "high noise"), MIMII),
    ],
)
def test_a_machine_that_lies_in_two_places_is_refused(places, keys, tmp_path):
    for place in places:
        fill(tmp_path / place, keys)

    with pytest.raises(ValueError, match=r"lies in two places, '.*point --data at one of them"):
        find_clips(tmp_path)
    assert len(find_clips(tmp_path / places[0]).clips) == len(keys)


def test_training_and_test_clips_may_lie_in_different_places(tmp_path):
    keys = ["additional/fan/train/normal_id_01_00000000.wav", "eval/fan/test/id_01_00000000.wav"]
    found = find_clips(fill(tmp_path, keys))

    assert {clip.machine for clip in found.clips} == {("fan", "id_01")}


def test_attributes_may_hold_anything(tmp_path):
    key = "fan/train/section_00_source_train_normal_0000_überlast 3\nzweite_Zeile.wav"
    found = find_clips(fill(tmp_path, [key]))

    assert found.clips[0].attributes == "überlast 3\nzweite_Zeile"


def test_the_real_recordings_are_understood(shared_data):
    found = find_clips(shared_data / "mimii_fan")

    counts = Counter((clip.split, clip.label) for clip in found.clips)
    assert counts == {("train", "normal"): 12, ("test", "normal"): 8, ("test", "anomalous"): 20}
