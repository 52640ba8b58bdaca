"""What every test shares: one torch thread, a seeded generator, the folder of real data."""

from pathlib import Path

import numpy as np
import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Start every test from the same seed, alone or in any company."""
    torch.manual_seed(0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the real recordings are not at {SHARED}")
    return SHARED
