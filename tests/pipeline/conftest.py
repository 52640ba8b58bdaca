"""A model of two machines that tests of this room share; each test works on a copy of it."""

import shutil
from pathlib import Path

import pytest
from machine_halls import hall, learned


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
