"""Clips as columns, and machines that nothing can be fitted to."""

import pytest
from data_folders import DCASE_2020, fill

from detect.fitting import units
from embed.recordings.clips import find_clips
from pipeline.clips import clip_table, only, table_of, trained, training_only, without


@pytest.fixture
def dataset(tmp_path):
    return find_clips(fill(tmp_path / "data", DCASE_2020))


def test_a_row_per_clip_in_the_order_of_the_keys(dataset):
    table = table_of(dataset)

    assert table.key == tuple(sorted(DCASE_2020))
    assert table.machine_type.count("slider") == 4


def test_a_machine_without_training_clips_is_left_out_with_the_reason(tmp_path):
    keys = [*DCASE_2020, "fan/test/normal_id_00_00000000.wav"]
    table, reasons = clip_table(find_clips(fill(tmp_path / "data", keys)))

    assert "fan" not in table.machine_type
    assert reasons == [
        "fan id_00: it has test clips but no normal training clips; add some, or leave it out "
        "with --ids"
    ]


def test_training_clips_alone_point_to_learn(tmp_path):
    dataset = find_clips(fill(tmp_path / "data", [k for k in DCASE_2020 if "train" in k]))

    with pytest.raises(ValueError, match="no test clip to judge; `learn` makes a model"):
        clip_table(dataset)
    assert len(training_only(dataset).file_stats()) == 3


def test_clips_without_a_vector_are_left_out_and_their_machine_with_them(dataset):
    table = table_of(dataset)
    kept, reasons = trained(only(table, frozenset(k for k in table.key if "ToyCar/tr" not in k)))

    assert set(kept.machine_type) == {"slider"}
    assert reasons[0].startswith("ToyCar id_01: it has test clips")


def test_damaged_clips_leave_a_unit_smaller_and_never_without_training(dataset):
    unit = next(u for u in units(table_of(dataset)) if u.machine_type == "slider")
    smaller = without(unit, frozenset({unit.train_keys[0], unit.test_keys[1]}))

    assert smaller.train_keys == unit.train_keys[1:]
    assert smaller.test_keys == unit.test_keys[:1]
    with pytest.raises(ValueError, match="every training clip has a damaged row"):
        without(unit, frozenset(unit.train_keys))
