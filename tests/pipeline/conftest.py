"""What tests of jobs share: small recordings in a folder of their own, and no figures."""

import shutil
from pathlib import Path

import pytest
from small_recordings import write_recordings


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("recorded") / "dev_data")


@pytest.fixture
def data(recorded, tmp_path, monkeypatch) -> Path:
    """Have the recordings in ./dev_data of an empty working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("draw_scores", "draw_roc"):
        monkeypatch.setattr(f"report.figures.{name}", lambda *_: False)
    return shutil.copytree(recorded, tmp_path / "dev_data")
