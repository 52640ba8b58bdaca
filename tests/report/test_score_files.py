"""Score and decision files are DCASE's, and lead back to the machines and clips they are about."""

import csv
import itertools

import numpy as np
import pytest
from scored_machines import HOSTILE, both, one_clip, scored

from report.score_files import (
    DECISIONS,
    SCORES,
    machine_of,
    read_decision_file,
    read_score_file,
    write_decisions,
    write_scores,
)


def test_score_files_of_2020_are_named_and_filled_as_dcase_wants(rng, tmp_path):
    table, scores = scored(rng)

    paths = write_scores(tmp_path, table, scores)

    assert [path.name for path in paths] == [
        "anomaly_score_slider_id_00.csv", "anomaly_score_slider_id_02.csv",
    ]  # fmt: skip
    first = paths[0].read_text().splitlines()
    assert len(first) == 30
    name, value = first[0].split(",")
    assert name == "normal_id_00_00000000.wav"
    assert float(value) == scores[0].scores[0]


def test_score_files_of_2021_are_per_domain_and_of_2022_per_section(rng, tmp_path):
    table, scores = scored(rng, "fan", ("section_00",), domains=("source", "target"))

    in_2021 = write_scores(tmp_path / "2021", table, scores, 2021)
    in_2022 = write_scores(tmp_path / "2022", table, scores, 2022)

    assert [path.name for path in in_2021] == [
        "anomaly_score_fan_section_00_source_test.csv",
        "anomaly_score_fan_section_00_target_test.csv",
    ]
    assert [path.name for path in in_2022] == ["anomaly_score_fan_section_00_test.csv"]
    assert len(in_2021[0].read_text().splitlines()) + len(
        in_2021[1].read_text().splitlines()
    ) == len(in_2022[0].read_text().splitlines())


MACHINES = [
    ("a/b", "1"), ("a_b", "1"), ("fan_1", "2"), ("fan", "1_2"), ("fan", "A/1"), ("fan", "A#1"),
    ("fan", "hall_id_02"), ("fan_hall", "id_02"), ("fan", "id_02"), ("fan", "id_02_x"),
    ("fan", "x_"), ("fan", "section_00"), ("fan", "section_00_source"), ("fan", ""), ("", "fan"),
    ("Lüfter 扇\n", "id_00"), ("a+2Fb", "1"), *((name, name) for name in HOSTILE),
]  # fmt: skip


@pytest.mark.parametrize("year", [2020, 2021, 2022, 2026])
def test_files_of_different_machines_never_collide_and_say_which_machine_it_is(year, tmp_path):
    parts = [one_clip(machine, f"{i}.wav", i) for i, machine in enumerate(MACHINES)]

    paths = write_scores(tmp_path, both([t for t, _ in parts]), [s for _, s in parts], year)

    assert len(paths) == len(set(MACHINES)) == len(list(tmp_path.iterdir()))
    for path in paths:
        ((name, _),) = read_score_file(path)
        found = machine_of(path.stem.removeprefix(SCORES))
        assert (found.machine_type, found.machine_id) == MACHINES[int(name.removesuffix(".wav"))]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ToyCar_id_00", ("ToyCar", "id_00", "")),
        ("my_own_fan_id_00", ("my_own_fan", "id_00", "")),
        ("fan_section_03_target_test", ("fan", "section_03", "target")),
        ("fan_section_03_source", ("fan", "section_03", "source")),
        ("DCASE2023T2bandsaw_section_00_test_seed13711_id(0_)_Eval",
         ("DCASE2023T2bandsaw", "section_00", "")),
        ("press+207_north_hall", ("press 7", "north_hall", "")),
        ("x+FF_1", ("x+FF", "1", "")),
    ],
)  # fmt: skip
def test_names_of_anyones_score_files_are_understood(name, expected):
    found = machine_of(name)

    assert (found.machine_type, found.machine_id, found.domain) == expected


def test_a_name_without_a_machine_id_is_refused():
    with pytest.raises(ValueError, match="no machine type and ID, such as fan_id_01, in 'fan'"):
        machine_of("fan")


def test_file_names_in_score_files_are_exact(tmp_path):
    for number, name in enumerate(name for name in HOSTILE if "/" not in name):
        (path,) = write_scores(
            tmp_path / str(number), *map_to_lists(one_clip(("fan", "id_00"), f"fan/{name}", -2.5))
        )

        with path.open(newline="", encoding="utf-8") as file:
            assert list(csv.reader(file)) == [[name, "-2.5"]]
        assert read_score_file(path) == [(name, -2.5)]


def map_to_lists(part):
    table, fitted = part
    return table, [fitted]


def test_clips_of_one_file_name_in_two_folders_go_by_their_keys(tmp_path):
    parts = [one_clip(("fan", "id_00"), f"{folder}/1.wav", 0) for folder in ("a", "b")]

    (path,) = write_scores(tmp_path, both([t for t, _ in parts]), [s for _, s in parts])

    assert [name for name, _ in read_score_file(path)] == ["a/1.wav", "b/1.wav"]


@pytest.mark.parametrize(
    ("year", "names"),
    [
        (2021, ["fan_section_00_source_test", "fan_section_00_target_test"]),
        (2022, ["fan_section_00_test"]),
        (2025, ["fan_section_00_test"]),
    ],
)
def test_decision_files_are_named_and_filled_as_dcase_wants(year, names, rng, tmp_path):
    table, scores = scored(rng, "fan", ("section_00",), domains=("source", "target"))
    clips = [(key, bool(j % 3)) for j, key in enumerate(scores[0].unit.test_keys)]

    paths = write_decisions(tmp_path, table, {("fan", "section_00"): clips}, year)

    assert [path.stem for path in paths] == [f"{DECISIONS}{name}" for name in names]
    lines = list(itertools.chain.from_iterable(path.read_text().splitlines() for path in paths))
    expected = {f"{key.rpartition('/')[2]},{int(flag)}" for key, flag in clips}
    assert set(lines) == expected
    assert len(lines) == len(clips)
    read = dict(itertools.chain.from_iterable(read_decision_file(path) for path in paths))
    assert read == {key.rpartition("/")[2]: flag for key, flag in clips}


def test_decisions_of_2020_have_the_plain_name(rng, tmp_path):
    table, scores = scored(rng, "ToyCar", ("id_00",))
    clips = [(key, True) for key in scores[0].unit.test_keys]

    (path,) = write_decisions(tmp_path, table, {("ToyCar", "id_00"): clips})

    assert path.name == "decision_result_ToyCar_id_00.csv"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a.wav,0\nb.wav,2\n", r"line 2: expected 0 \(normal\) or 1 \(anomalous\), got '2'"),
        ("a.wav\n", "line 1: expected 'file name,0 or 1', got 'a.wav'"),
        ("a.wav,1\n\na.wav,0\n", "line 3: 'a.wav' is listed twice"),
    ],
)
def test_a_broken_decision_file_is_named_with_its_line(content, message, tmp_path):
    path = tmp_path / "decision_result_fan_id_00.csv"
    path.write_text(content)

    with pytest.raises(ValueError, match=f"{path.name}, {message}"):
        read_decision_file(path)


def test_clips_without_a_score_are_left_out_of_the_score_file(tmp_path):
    parts = [one_clip(("fan", "id_00"), key, score) for key, score in (("a", 1), ("b", np.nan))]

    (path,) = write_scores(tmp_path, both([t for t, _ in parts]), [s for _, s in parts])

    assert read_score_file(path) == [("a", 1.0)]
