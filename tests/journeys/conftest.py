"""What journeys share: the command line in a folder of its own, and the real recordings."""

import sys
from pathlib import Path

import pytest
from command_line import Pipeline, Ran
from machine_halls import hall, learned

import run_pipeline
from pipeline.page_evidence import Evidence


@pytest.fixture
def pipeline(tmp_path, monkeypatch, capsys) -> Pipeline:
    """Run the command in this process, in a folder of its own, without sounds on its pages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.run_page.page_evidence", lambda *_, **__: Evidence())

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["run_pipeline.py", *map(str, arguments)])
        code = run_pipeline.main()
        shown = capsys.readouterr()
        folders = [p for p in Path("runs").glob("*") if p.is_dir()] if Path("runs").is_dir() else []
        newest = max(folders, key=lambda p: p.stat().st_mtime_ns, default=Path("no run folder"))
        assert "Traceback" not in shown.out + shown.err
        return Ran(code, shown.out, shown.err, newest.resolve())

    return run


@pytest.fixture(scope="session")
def hall_model(tmp_path_factory) -> Path:
    """A model of press7 and press8; nothing may be written to it."""
    folder = tmp_path_factory.mktemp("hall")
    return learned(folder, hall(folder / "recordings"))


@pytest.fixture
def fan(shared_data) -> Path:
    return shared_data / "mimii_fan"
