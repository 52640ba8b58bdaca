"""What tests of jobs share: small recordings, a model of two machines, and no figures."""

import shutil
from pathlib import Path

import pytest
from finished_jobs import Finished, finish_jobs
from machine_halls import hall, learned
from small_recordings import write_recordings

from pipeline.page_evidence import Evidence


@pytest.fixture(scope="session")
def shared_hall(tmp_path_factory) -> tuple[Path, Path]:
    """Return the recordings and the model; nobody may change them."""
    root = tmp_path_factory.mktemp("hall")
    recordings = hall(root / "recordings")
    return recordings, learned(root, recordings)


@pytest.fixture
def press_hall(shared_hall, tmp_path) -> Path:
    """Return a copy of the model, moved to another folder."""
    return Path(shutil.copytree(shared_hall[1], tmp_path / "press_hall"))


@pytest.fixture(scope="session")
def recorded(tmp_path_factory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("recorded") / "dev_data")


@pytest.fixture
def data(recorded, tmp_path, monkeypatch) -> Path:
    """Have the recordings in ./dev_data of an empty working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("draw_scores", "draw_roc"):
        monkeypatch.setattr(f"report.figures.{name}", lambda *_, **__: False)
    monkeypatch.setattr("pipeline.run_page.page_evidence", lambda *_, **__: Evidence())
    return shutil.copytree(recorded, tmp_path / "dev_data")


@pytest.fixture(scope="session")
def finished_jobs(tmp_path_factory) -> Finished:
    """Return a finished grid and a run; nobody may change them."""
    return finish_jobs(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def finished(finished_jobs, tmp_path) -> Finished:
    """Return copies of a finished grid and a run, far from their recordings."""
    return Finished(
        Path(shutil.copytree(finished_jobs.grid, tmp_path / "grid")),
        Path(shutil.copytree(finished_jobs.single, tmp_path / "single")),
        finished_jobs.data,
    )
