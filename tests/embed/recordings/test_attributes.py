"""Attributes CSVs are joined to the clips beside them, however they write names."""

import pytest
from data_folders import by_key, fill

from embed.recordings.clips import find_clips

TRAIN = "fan/train/section_00_source_train_normal_0000_noAttribute.wav"
TEST = "fan/test/section_00_0001.wav"
OTHER = "slider/train/section_00_target_train_normal_0000_vel_6.wav"


@pytest.fixture
def data(tmp_path):
    return fill(tmp_path, [TRAIN, TEST, OTHER])


def found_with(data, csv, name="attributes_00.csv"):
    (data / "fan" / name).write_text(csv, encoding="utf-8")
    return find_clips(data)


@pytest.mark.parametrize(
    "written",
    [
        TRAIN,
        TRAIN.removesuffix(".wav"),
        TRAIN.removeprefix("fan/"),
        TRAIN.rpartition("/")[2],
        TRAIN.rpartition("/")[2].removesuffix(".wav"),
        "/data/dcase/" + TRAIN,
        TRAIN.replace("/", "\\"),
    ],
)
def test_names_have_folders_and_endings_or_not(written, data):
    found = found_with(data, f"file_name,d1p,d1v,d2p,d2v\n{written},vel,8,loc,A\n")

    assert by_key(found)[TRAIN].attributes == "vel_8_loc_A"
    assert by_key(found)[TEST].attributes == ""
    assert by_key(found)[OTHER].attributes == "vel_6"
    assert found.remarks == found.skipped == ()


def test_empty_parameters_and_missing_columns_are_no_attributes(data):
    csv = f"file_name,d1p,d1v,d2p,d2v\n{TRAIN},noAttribute,,,\n{TEST},n,B\n"
    found = by_key(found_with(data, csv))

    assert (found[TRAIN].attributes, found[TEST].attributes) == ("", "n_B")


def test_a_domain_is_taken_where_the_name_has_none(data):
    csv = f"file_name,d1p,d1v,domain\n{TEST},n,B,target\n{TRAIN},n,A,target\n"
    found = by_key(found_with(data, csv))

    assert (found[TEST].domain, found[TRAIN].domain) == ("target", "source")


def test_a_list_of_correspondence_gives_the_attributes_of_the_hidden_name(data):
    hidden = "section_00_source_train_normal_0000_id_A1_spd_1.wav"
    csv = f"source_file_name,target_file_name\n{hidden},{TRAIN.rpartition('/')[2]}\n"
    found = found_with(data, csv, "attributes_00_train_correspondence.csv")

    assert by_key(found)[TRAIN].attributes == "id_A1_spd_1"


def test_a_file_beside_another_machine_says_nothing_of_this_one(data):
    found = found_with(data, f"file_name,d1p,d1v\n{OTHER},vel,9\n")

    assert by_key(found)[OTHER].attributes == "vel_6"
    assert "names 1 clip(s) that are not there" in found.remarks[0]


@pytest.mark.parametrize(
    ("csv", "remark"),
    [
        (
            f"file_name,d1p,d1v\n{TRAIN},n,A\nfan/train/gone.wav,n,B\n",
            "fan/attributes_00.csv: it names 1 clip(s) that are not there, first 'gone'",
        ),
        (
            f"file_name,d1p,d1v\n{TRAIN},n,A\n{TRAIN},n,B\n",
            "fan/attributes_00.csv: it names 1 clip(s) again, whose first row counts, first "
            "'section_00_source_train_normal_0000_noAttribute'",
        ),
        ("", "fan/attributes_00.csv: not joined to clips: expected the columns file_name,d1p,d1v"),
        ("clip,n\n", "expected the columns file_name,d1p,d1v, found clip,n"),
    ],
)
def test_what_is_odd_about_such_a_file_is_remarked_and_costs_no_clip(csv, remark, data):
    found = found_with(data, csv)

    assert len(found) == 3
    assert remark in found.remarks[0]
    assert by_key(found)[TRAIN].attributes == ("n_A" if TRAIN in csv else "")


def test_a_file_that_is_no_text_is_remarked(data):
    (data / "fan" / "attributes_00.csv").write_bytes(b"file_name,d1p\n\xff\xfe\n")

    assert "not joined to clips" in find_clips(data).remarks[0]
