"""What a folder or a manifest is understood to hold, on the real names of each data set."""

import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from embed.recordings.clips import LAYOUTS, Clip, DataSet, UnknownMachine, find_clips

HEADER = "path,machine_type,machine_id,split,label"

DCASE_2020 = [
    "slider/train/normal_id_00_00000000.wav",
    "slider/train/normal_id_00_00000001.wav",
    "slider/test/normal_id_00_00000000.wav",
    "slider/test/anomaly_id_00_00000355.wav",
    "ToyCar/train/normal_id_01_00000000.wav",
    "ToyCar/test/anomaly_id_01_00000000.wav",
]
MIMII = [
    *(f"fan/id_00/normal/{i:08}.wav" for i in range(5)),
    *(f"fan/id_00/abnormal/{i:08}.wav" for i in range(2)),
]
YEARS = {
    "dcase2021": {
        "fan/train/section_00_source_train_normal_0000_strength_1_ambient.wav": (
            *("section_00", "train", "normal", "source", "strength_1_ambient"),
        ),
        "fan/train/section_00_source_train_normal_00000000_strength_1_ambient.wav": (
            *("section_00", "train", "normal", "source", "strength_1_ambient"),
        ),
        "fan/source_test/section_01_source_test_anomaly_0099_strength_2_ambient.wav": (
            *("section_01", "test", "anomalous", "source", "strength_2_ambient"),
        ),
        "ToyCar/target_test/section_02_target_test_normal_0005_A2Spd34VMic1.wav": (
            *("section_02", "test", "normal", "target", "A2Spd34VMic1"),
        ),
        "fan/source_test/section_03_source_test_0000.wav": (
            *("section_03", "test", "unknown", "source", ""),
        ),
        "fan/target_test/section_05_target_test_0199.wav": (
            *("section_05", "test", "unknown", "target", ""),
        ),
    },
    "dcase2022": {
        "fan/train/section_00_source_train_normal_0000_m-n_W.wav": (
            *("section_00", "train", "normal", "source", "m-n_W"),
        ),
        "valve/train/section_01_target_train_normal_0009_pat_00.wav": (
            *("section_01", "train", "normal", "target", "pat_00"),
        ),
        "fan/test/section_02_target_test_anomaly_0049_n-lv_L2.wav": (
            *("section_02", "test", "anomalous", "target", "n-lv_L2"),
        ),
        "bearing/test/section_03_test_0000.wav": ("section_03", "test", "unknown", "", ""),
    },
    "dcase2023": {
        "bearing/train/section_00_source_train_normal_0000_vel_6_loc_A_f-n_A.wav": (
            *("section_00", "train", "normal", "source", "vel_6_loc_A_f-n_A"),
        ),
        "ToyCar/test/section_00_source_test_normal_0000_car_A2_spd_28V_mic_1_noise_1.wav": (
            *("section_00", "test", "normal", "source", "car_A2_spd_28V_mic_1_noise_1"),
        ),
        "slider/test/section_00_target_test_anomaly_0049_noAttribute.wav": (
            *("section_00", "test", "anomalous", "target", ""),
        ),
        "ToyPet/train/section_00_target_train_normal_0009_.wav": (
            *("section_00", "train", "normal", "target", ""),
        ),
        "AutoTrash/test/section_00_test_0199.wav": ("section_00", "test", "unknown", "", ""),
        "ToyDrone/test/section_00_0000.wav": ("section_00", "test", "unknown", "", ""),
    },
}


def fill(root: Path, keys: Iterable[str]) -> Path:
    for key in keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound of " + os.fsencode(key))
    return root


def manifest(root: Path, rows: Iterable[str], header: str = HEADER) -> Path:
    path = root / "clips.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def by_key(found: DataSet) -> dict[str, Clip]:
    return {clip.key: clip for clip in found.clips}


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


def test_supplemental_clips_of_2025_are_left_out_and_said(tmp_path):
    fill(tmp_path, YEARS["dcase2023"])
    fill(tmp_path, [f"ToyPet/supplemental/section_00_machine_{i:04}_.wav" for i in range(3)])
    found = find_clips(tmp_path)

    assert len(found.clips) == len(YEARS["dcase2023"])
    assert found.skipped == ()
    assert found.remarks == ("3 supplemental clips belong to no split and are not used",)


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


def test_clips_are_in_the_order_of_their_keys_however_folders_lie(tmp_path):
    keys = [f"{kind}/train/normal_id_00_00000000.wav" for kind in ("a", "a b", "a-b", "B", "é")]
    found = find_clips(fill(tmp_path, keys))

    assert [clip.key for clip in found.clips] == sorted(keys)


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
    assert len(find_clips(tmp_path, machines=["fan"]).clips) == 21
    assert len(find_clips(tmp_path, machines=["0_dB_fan"]).clips) == 7


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
    ("below", "key"),
    [
        ("", "slider/test/normal_id_00_00000000.wav"),
        ("slider", "test/normal_id_00_00000000.wav"),
        ("slider/test", "normal_id_00_00000000.wav"),
    ],
)
def test_the_root_may_be_the_data_folder_a_machine_or_a_split(below, key, tmp_path):
    fill(tmp_path, DCASE_2020)
    found = find_clips(tmp_path / below)

    assert by_key(found)[key].machine == ("slider", "id_00")
    assert found.path(key).read_bytes().startswith(b"sound of slider/test/normal")


def test_a_relative_root_is_the_same_as_an_absolute_one(tmp_path, monkeypatch):
    fill(tmp_path, DCASE_2020)
    monkeypatch.chdir(tmp_path / "slider")

    assert find_clips(Path()) == find_clips(tmp_path / "slider")
    assert find_clips(Path("../slider")) == find_clips(tmp_path / "slider")


def test_flac_ogg_mp3_and_capital_letters_are_recordings_and_notes_are_not(tmp_path):
    keys = [f"fan/train/normal_id_00_0000000{i}.{e}" for i, e in enumerate(("flac", "OGG", "mp3"))]
    found = find_clips(fill(tmp_path, [*keys, "fan/train/readme.txt", "fan/attributes_00.csv"]))

    assert [clip.key for clip in found.clips] == keys
    assert found.skipped == ()


def test_machines_and_ids_restrict_the_clips(tmp_path):
    fill(tmp_path, DCASE_2020)

    assert len(find_clips(tmp_path, machines=["slider"]).clips) == 4
    assert len(find_clips(tmp_path, ids=["id_01"]).clips) == 2
    assert find_clips(tmp_path, ids=["01"]) == find_clips(tmp_path, machines=["ToyCar"])
    assert set(find_clips(tmp_path, machines=["ToyCar"]).contents()) == set(DCASE_2020[4:])


@pytest.mark.parametrize(
    ("machines", "ids", "message"),
    [
        (["silder"], [], r"no machine type 'silder'; did you mean 'slider'\? It has ToyCar, sl"),
        ([], ["id_11"], r"no machine ID 'id_11'; did you mean 'id_01'\? It has id_00, id_01"),
        (["slider"], ["id_01"], r"no machine ID 'id_01'; did you mean 'id_00'\? It has id_00$"),
    ],
)
def test_a_machine_that_is_not_there_is_an_error_that_suggests_one(
    machines, ids, message, tmp_path
):
    fill(tmp_path, DCASE_2020)

    with pytest.raises(UnknownMachine, match=message):
        find_clips(tmp_path, machines, ids)


def test_contents_tell_size_and_modification_time(tmp_path):
    fill(tmp_path, DCASE_2020)
    os.utime(tmp_path / DCASE_2020[0], ns=(0, 123_456_789))
    found = find_clips(tmp_path)

    key = DCASE_2020[0]
    assert found.contents()[key] == (len(f"sound of {key}"), 123_456_789)
    assert list(found.contents()) == [clip.key for clip in found.clips]


def test_data_that_is_not_there_names_the_ways(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no data at .*absent.*manifest, 'demo'"):
        find_clips(tmp_path / "absent")


def test_an_empty_folder_names_the_layouts(tmp_path):
    with pytest.raises(ValueError, match=r"no recordings \(\.wav.*dcase2020: <machine_type>"):
        find_clips(tmp_path)


def test_recordings_of_no_known_layout_name_the_layouts(tmp_path):
    fill(tmp_path, ["recordings/machine 7/monday.wav", "recordings/machine 7/tuesday.wav"])

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


def test_an_archive_is_not_data(tmp_path):
    (tmp_path / "dev_data_slider.zip").write_bytes(b"PK")

    with pytest.raises(ValueError, match="unpack an archive first"):
        find_clips(tmp_path / "dev_data_slider.zip")


def test_names_with_spaces_accents_and_newlines_are_names(tmp_path):
    keys = [
        "Lüfter no 1/train/normal_id_00_00000000.wav",
        "扇風機/test/anomaly_id_00_00000000.wav",
        "two\nlines/test/normal_id_00_00000000.wav",
    ]
    found = find_clips(fill(tmp_path, keys))

    assert [clip.key for clip in found.clips] == sorted(keys)
    assert {c.machine_type for c in found.clips} == {"Lüfter no 1", "扇風機", "two\nlines"}


def test_attributes_may_hold_anything(tmp_path):
    key = "fan/train/section_00_source_train_normal_0000_überlast 3\nzweite_Zeile.wav"
    found = find_clips(fill(tmp_path, [key]))

    assert found.clips[0].attributes == "überlast 3\nzweite_Zeile"


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


def test_a_manifest_is_read_with_all_its_columns(tmp_path):
    fill(tmp_path, ["monday.wav", "far away/tuesday é.flac", "wednesday.wav"])
    path = manifest(
        tmp_path,
        [
            "monday.wav,press,7,train,normal,source,load=3,shift 1",
            "./far away/tuesday é.flac,press,7,test,anomaly,target,,shift 2",
            f"{tmp_path}/wednesday.wav,press,8,test,,,,",
        ],
        HEADER + ",domain,attributes,group",
    )
    found = find_clips(path)

    assert (found.layout, found.name, found.root) == ("manifest", "clips", tmp_path)
    assert found.clips == (
        Clip(f"{tmp_path}/wednesday.wav", "press", "8", "test", "unknown"),
        Clip(
            *("far away/tuesday é.flac", "press", "7", "test", "anomalous"),
            *("target", "", "shift 2"),
        ),
        Clip(*("monday.wav", "press", "7", "train", "normal", "source", "load=3", "shift 1")),
    )
    assert all(found.path(clip.key).is_file() for clip in found.clips)
    assert found.year == 2023


def test_a_manifest_without_domains_follows_the_rules_of_2020(tmp_path):
    fill(tmp_path, ["a.wav"])

    assert find_clips(manifest(tmp_path, ["a.wav,press,7,train,normal"])).year == 2020


def test_a_spreadsheets_byte_order_mark_is_no_column_name(tmp_path):
    fill(tmp_path, ["a.wav"])
    path = tmp_path / "clips.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEADER}\r\na.wav,press,7,train,normal\r\n".encode())

    assert find_clips(path).clips[0].machine == ("press", "7")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a.wav,press,7,train,normal", "./a.wav,press,7,test,normal"], "lines 2 and 3 .*same cl"),
        (["a.wav,press,7,training,normal"], "line 2: split is 'train' or 'test'.*'training'"),
        (["a.wav,press,7,test,broken"], "line 2: .*label 'normal'.*found 'test' and 'broken'"),
        (["a.wav,press,,train,normal"], "line 2: machine_id is empty"),
        (["a.wav,press,7,train"], "line 2: the number of fields is wrong; expected 5"),
        (["a.wav,press,7,train,normal,more"], "line 2: the number of fields is wrong"),
        (["b.wav,press,7,train,normal"], "names no clip that is there; first 'b.wav': line 2"),
        ([], "names no clip that is there$"),
    ],
)
def test_a_faulty_manifest_names_the_line(rows, message, tmp_path):
    fill(tmp_path, ["a.wav"])

    with pytest.raises(ValueError, match=message) as error:
        find_clips(manifest(tmp_path, rows))
    assert str(tmp_path / "clips.csv") in str(error.value)


def test_a_manifest_with_other_columns_is_told_the_right_ones(tmp_path):
    with pytest.raises(ValueError, match=r"lacks the columns machine_id, split.*found path, mach"):
        find_clips(manifest(tmp_path, [], "path,machine_type,label"))


def test_a_manifest_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "clips.csv").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ValueError, match=r"clips\.csv is not UTF-8 text"):
        find_clips(tmp_path / "clips.csv")


def test_a_clip_of_a_manifest_that_is_not_there_is_skipped(tmp_path):
    fill(tmp_path, ["a.wav"])
    (tmp_path / "folder.wav").mkdir()
    rows = [f"{name}.wav,press,7,train,normal" for name in ("gone", "a", "folder")]
    found = find_clips(manifest(tmp_path, rows))

    assert [clip.key for clip in found.clips] == ["a.wav"]
    assert found.skipped == (
        ("folder.wav", "line 4 of the manifest: not a regular file"),
        ("gone.wav", "line 2 of the manifest: No such file or directory"),
    )


def test_the_real_recordings_are_understood(shared_data):
    found = find_clips(shared_data / "mimii_fan")

    counts = Counter((clip.split, clip.label) for clip in found.clips)
    assert counts == {("train", "normal"): 12, ("test", "normal"): 8, ("test", "anomalous"): 20}


def test_many_clips_are_listed_fast_and_in_little_memory(tmp_path):
    n_clips = 20_000
    folder = tmp_path / "fan" / "train"
    folder.mkdir(parents=True)
    for i in range(n_clips):
        (folder / f"normal_id_{i % 10:02}_{i:08}.wav").touch()

    start = time.process_time()
    found = find_clips(tmp_path)
    found.contents()
    seconds = time.process_time() - start
    tracemalloc.start()
    find_clips(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(found.clips) == n_clips
    assert seconds < 3 * n_clips / 100_000 * 2  # twice what 10^5 clips in 3 s allows
    assert peak / n_clips < 2_000  # bytes


def test_listing_clips_imports_nothing_heavy():
    code = (
        "import sys, embed.recordings.clips; "
        "print({'numpy', 'torch', 'soundfile'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
