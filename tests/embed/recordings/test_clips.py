"""How the clips of a folder or a manifest are found and restricted."""

import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from data_folders import DCASE_2020, by_key, fill

from embed.recordings.clips import find_clips
from embed.recordings.dataset import UnknownMachine


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


def test_machines_and_ids_restrict_the_clips(tmp_path):
    fill(tmp_path, DCASE_2020)

    assert len(find_clips(tmp_path, machine_types=["slider"]).clips) == 4
    assert len(find_clips(tmp_path, ids=["id_01"]).clips) == 2
    assert find_clips(tmp_path, ids=["01"]) == find_clips(tmp_path, machine_types=["ToyCar"])
    assert set(find_clips(tmp_path, machine_types=["ToyCar"]).file_stats()) == set(DCASE_2020[4:])


@pytest.mark.parametrize(
    ("machines", "ids", "message"),
    [
        (["silder"], [], r"no machine type 'silder'; did you mean 'slider'\?$"),
        ([], ["id_11"], r"no machine ID 'id_11'; did you mean 'id_01'\?$"),
        (["slider"], ["id_01"], r"no machine ID 'id_01'; did you mean 'id_00'\?$"),
    ],
)
def test_a_machine_that_is_not_there_is_an_error_that_suggests_one(
    machines, ids, message, tmp_path
):
    fill(tmp_path, DCASE_2020)

    with pytest.raises(UnknownMachine, match=message):
        find_clips(tmp_path, machines, ids)


def test_data_that_is_not_there_names_the_ways(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no data at .*absent.*manifest, 'demo'"):
        find_clips(tmp_path / "absent")


def test_an_archive_is_not_data(tmp_path):
    (tmp_path / "dev_data_slider.zip").write_bytes(b"PK")

    with pytest.raises(ValueError, match="unpack an archive first"):
        find_clips(tmp_path / "dev_data_slider.zip")


def test_many_clips_are_listed_fast_and_in_little_memory(tmp_path):
    n_clips = 20_000
    folder = tmp_path / "fan" / "train"
    folder.mkdir(parents=True)
    for i in range(n_clips):
        (folder / f"normal_id_{i % 10:02}_{i:08}.wav").touch()

    start = time.process_time()
    found = find_clips(tmp_path)
    found.file_stats()
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
