"""What a manifest is understood to hold, and what is said of a faulty one."""

import csv
from collections.abc import Iterable
from pathlib import Path

import pytest
from data_folders import fill

from embed.recordings.clips import find_clips
from embed.recordings.dataset import Clip
from embed.recordings.manifest import MANIFEST_LABELS

HEADER = "path,machine_type,machine_id,split,label"


def manifest(root: Path, rows: Iterable[str], header: str = HEADER) -> Path:
    path = root / "clips.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


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
        (["a.wav,press,7,train,normal", "./a.wav,press,7,train,bad"], "lines 2 and 3 .*same cl"),
        (["a.wav,press,7,training,normal"], "line 2: split is 'train' or 'test'.*'training'"),
        (
            ["a.wav,press,7,test,broken"],
            "label one of 'normal', .*'test' and 'broken'",
        ),
        (["a.wav,press,,train,normal"], "line 2: machine_id is empty"),
        (["a.wav,press,7,train"], "line 2: the number of fields is wrong; expected 5"),
        (["a.wav,press,7,train,normal,more"], "line 2: the number of fields is wrong"),
        (
            ["b.wav,press,7,train,normal"],
            "names no clip that is there; first 'b.wav': .*No such",
        ),
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
        ("folder.wav", "the manifest names it, but it is not a regular file"),
        ("gone.wav", "the manifest names it, but: No such file or directory"),
    )


@pytest.mark.parametrize("separator", [";", "\t", ","])
def test_what_excel_saves_is_read(separator, tmp_path):
    fill(tmp_path, ["a b.wav"])
    text = f"\ufeff{HEADER}\r\na b.wav,press,7,Test,NOK\r\n".replace(",", separator)
    (tmp_path / "clips.csv").write_bytes(text.encode())

    assert find_clips(tmp_path / "clips.csv").clips == (
        Clip("a b.wav", "press", "7", "test", "anomalous"),
    )


@pytest.mark.parametrize(("word", "label"), MANIFEST_LABELS.items())
def test_every_word_for_a_label_is_read(word, label, tmp_path):
    fill(tmp_path, ["a.wav"])

    found = find_clips(manifest(tmp_path, [f"a.wav,press,7,test, {word.title()}"]))
    assert [clip.label for clip in found] == [label]


def test_a_field_of_any_length_is_read(tmp_path):
    fill(tmp_path, ["a.wav"])
    limit = csv.field_size_limit()
    path = manifest(tmp_path, [f"a.wav,press,7,train,normal,{'x' * 200_000}"], f"{HEADER},group")

    assert len(find_clips(path).clips[0].group) == 200_000
    assert csv.field_size_limit() == limit


def test_a_nul_byte_in_a_path_names_the_line(tmp_path):
    with pytest.raises(ValueError, match=r"line 2: the path holds a NUL byte"):
        find_clips(manifest(tmp_path, ["a\0.wav,press,7,train,normal"]))


def test_a_recording_may_be_normal_for_one_machine_and_anomalous_for_another(tmp_path):
    fill(tmp_path, ["a.wav", "b.wav"])
    rows = ["a.wav,press,7,train,normal", "b.wav,press,7,test,normal", "b.wav,press,8,test,bad"]
    found = find_clips(manifest(tmp_path, rows))

    assert [(c.key, c.machine_id, c.label) for c in found] == [
        ("a.wav", "7", "normal"),
        ("b.wav", "7", "normal"),
        ("b.wav#press 8 test", "8", "anomalous"),
    ]
    assert found.path("b.wav#press 8 test") == found.path("b.wav") == tmp_path / "b.wav"
    assert len(found.file_stats()) == 3
    assert found.remarks == ()


def test_a_recording_that_trains_and_tests_one_machine_is_remarked(tmp_path):
    fill(tmp_path, ["a.wav"])
    rows = ["a.wav,press,7,train,normal", "a.wav,press,7,test,normal"]
    found = find_clips(manifest(tmp_path, rows))

    assert len(found) == 2
    (remark,) = found.remarks
    assert remark.startswith("1 recording(s) are in the training and in the test of one machine")


def test_many_absent_recordings_are_counted_and_some_named(tmp_path):
    fill(tmp_path, ["a.wav"])
    rows = [f"gone/{i}.wav,press,7,train,normal" for i in range(100_000)]
    found = find_clips(manifest(tmp_path, ["a.wav,press,7,train,normal", *rows]))

    assert len(found) == 1
    assert len(found.skipped) == 21
    assert found.skipped[-1].key == "99,980 more"
    assert len(str(found.skipped)) < 5_000
