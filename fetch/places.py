"""Where fetched files are kept, and whether the network may be used."""

from __future__ import annotations

import os
from pathlib import Path


def weights_folder(encoder: str) -> Path:
    """Return the folder in which this project keeps an encoder's published weights."""
    import pooch

    return Path(pooch.os_cache("anomalous-sound-pipeline")) / "weights" / encoder


def is_offline(offline: bool = False) -> bool:
    """Say whether the network is not to be touched: asked for, or by `HF_HUB_OFFLINE`."""
    return offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
