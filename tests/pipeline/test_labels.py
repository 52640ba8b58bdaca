"""Labels of a manifest are found by path or by file name; the recordings need not be there."""

from __future__ import annotations

import pytest

from pipeline.labels import Labels

HEADING = "path,machine_type,machine_id,split,label,domain\n"


def manifest(tmp_path, *lines):
    path = tmp_path / "labels.csv"
    path.write_text(HEADING + "\n".join(lines), encoding="utf-8")
    return path


def test_a_clip_is_found_by_its_path_or_by_its_name(tmp_path):
    labels = Labels(
        manifest(
            tmp_path,
            "a/1.wav,fan,id_00,test,anomaly,target",
            "b/2.wav,fan,id_00,test,normal,",
            "b/2.wav,fan,id_02,test,anomaly,",
            "a/3.wav,fan,id_00,train,normal,",
        )
    )

    assert labels.of(("fan", "id_00"), "a/1.wav") == ("anomalous", "target")
    assert labels.of(("fan", "id_00"), "else/1.wav") == ("anomalous", "target")
    assert labels.of(("fan", "id_00"), "2.wav") == ("normal", "")
    assert labels.of(("fan", "id_02"), "2.wav") == ("anomalous", "")
    assert labels.of(("fan", "id_00"), "3.wav") == ("unknown", "")


def test_a_name_that_is_two_clips_is_neither(tmp_path):
    labels = Labels(
        manifest(tmp_path, "a/1.wav,fan,id_00,test,normal,", "b/1.wav,fan,id_00,test,anomaly,")
    )

    assert labels.of(("fan", "id_00"), "1.wav") == ("unknown", "")
    assert labels.of(("fan", "id_00"), "b/1.wav") == ("anomalous", "")


def test_a_manifest_of_other_clips_is_refused(tmp_path):
    labels = Labels(manifest(tmp_path, "a/1.wav,fan,id_00,test,normal,"))
    labels.of(("fan", "id_00"), "9.wav")

    with pytest.raises(ValueError, match=r"names none of the test clips; first '9.wav' of fan"):
        labels.check()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a/1.wav,fan,id_00,test,odd,", "line 2: 'odd' is no label"),
        ("a/1.wav,fan", "line 2"),
    ],
)
def test_a_faulty_line_is_named(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        Labels(manifest(tmp_path, line))


def test_a_manifest_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there are no labels"):
        Labels(tmp_path / "labels.csv")
