"""Different names make different file names, and a person still reads them."""

import itertools
import unicodedata

import pytest

from ground.file_names import LONGEST, file_name

PAIRS = [
    ("a/b", "1"), ("a_b", "1"), ("a", "b_1"), ("fan_1", "2"), ("fan", "1_2"), ("A/1", ""),
    ("A#1", ""), ("A+2F1", ""), ("A", "1"), ("a b", "1"), ("..", "x"), ("", "x"), ("é", "1"),
    ("x" * 400, "1"), ("x" * 400, "2"), ("x" * 399, "1"), ("a\n", "1"), ("a\\", "1"), ("++", "1"),
    ("a", "b\ud800"),
]  # fmt: skip


def test_different_names_give_different_file_names():
    names = [file_name(*pair) for pair in PAIRS]

    for one, other in itertools.combinations(range(len(names)), 2):
        assert names[one] != names[other], (PAIRS[one], PAIRS[other])


@pytest.mark.parametrize("pair", PAIRS)
def test_a_file_of_that_name_can_be_made_in_its_folder(pair, tmp_path):
    path = tmp_path / f"anomaly_score_{file_name(*pair)}.csv"

    path.touch()

    assert list(tmp_path.iterdir()) == [path]
    assert len(path.name.encode()) < LONGEST + 60


def test_usual_names_stay_as_they_are():
    assert file_name("ToyCar", "id_00") == "ToyCar_id_00"
    assert file_name("bearingEmu", "section_00") == "bearingEmu_section_00"
    assert file_name("hf:facebook/hubert") == "hf+3Afacebook+2Fhubert"


def test_both_ways_to_write_an_accent_are_one_name():
    assert file_name(unicodedata.normalize("NFD", "Gerät")) == file_name("Gerät") == "Gerät"
