"""The folder of a run: its own, complete, and enough to run the same again."""

import json
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from pipeline import journal
from pipeline.run_folder import RunFolder
from pipeline.settings import Settings

SETTINGS = Settings(encoder="logmel")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_runs_that_start_in_the_same_second_get_a_folder_each(monkeypatch):
    monkeypatch.setattr("pipeline.run_folder.time.strftime", lambda *_: "2026-01-01T00-00-00")
    n, together = 16, Barrier(16)

    def begin(number: int) -> Path:
        folder = RunFolder.new("auto", replace(SETTINGS, seed=number))
        together.wait()
        return folder.make()

    with ThreadPoolExecutor(n) as threads:
        folders = list(threads.map(begin, range(n)))

    assert len(set(folders)) == n
    seeds = [
        tomllib.loads((folder / "config.toml").read_text())["settings"]["seed"]
        for folder in folders
    ]
    assert seeds == list(range(n))


def test_nothing_is_made_before_something_is_written():
    with RunFolder.new("auto", SETTINGS):
        pass

    assert not Path("runs").exists()


def test_a_config_holds_absolute_paths_and_names_as_they_are():
    for name in ("data", "hub"):
        Path(name).mkdir()
    Path("panns.pth").touch()
    settings = Settings(data="data", encoder="hf:hub,panns", weights="panns=panns.pth,ast=random")

    flags = tomllib.loads((RunFolder.new("grid", settings).make() / "config.toml").read_text())

    here = Path.cwd()
    assert flags["settings"]["data"] == str(here / "data")
    assert flags["settings"]["encoder"] == f"hf:{here / 'hub'},panns"
    assert flags["settings"]["weights"] == f"panns={here / 'panns.pth'},ast=random"


def test_a_half_written_config_of_a_combination_is_written_anew():
    part = RunFolder.new("grid", SETTINGS).inside("logmel-mean-knn", SETTINGS)
    part.path.mkdir()
    (part.path / "config.toml").write_text("[setti")

    part.make()

    assert tomllib.loads((part.path / "config.toml").read_text())["settings"]["encoder"] == "logmel"


def test_events_and_clips_that_are_left_out_are_lines_of_json():
    with RunFolder.new("auto", SETTINGS) as folder:
        for _ in range(2):
            folder.leave_out("a\x1b[31m.wav", "empty")
        folder.log("fitted", unit="fan")

    (line,) = (folder.path / "errors.jsonl").read_text().splitlines()
    assert json.loads(line) == {"key": "a\x1b[31m.wav", "reason": "empty"}
    events = [json.loads(each)["event"] for each in (folder.path / "log.jsonl").open()]
    assert events == ["fitted", "end"]


def test_many_clips_that_are_left_out_are_counted_not_listed(capsys):
    with RunFolder.new("auto", SETTINGS) as folder:
        for number in range(2_000):
            folder.leave_out(f"{number}.wav", f"it is {number} s long")

    assert len(capsys.readouterr().err.splitlines()) == journal.SAID + 1
    assert len((folder.path / "errors.jsonl").read_text().splitlines()) == 2_000
