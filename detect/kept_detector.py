"""A fitted detector that lies on disk, with what results and models ask it for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detect.detector import last_step, warning_of


@dataclass(frozen=True)
class ScaleRange:
    """The lowest and the highest scale of a scaler's columns, in place of all."""

    scale_: NDArray[np.float64]


@dataclass(frozen=True)
class KeptDetector:
    """It stands in `Scores` for a detector that `detect.saving.keep_detector` wrote.

    The detectors of thousands of machines would not fit into memory. The names of its attributes
    are those that a detector has.
    """

    path: Path
    """As given to `save_detector`."""
    warning: str
    offset_: float | None
    weights: str
    """The folder of a published network; "" where it holds none."""
    scaler: ScaleRange | None

    @classmethod
    def of(cls, detector: Any, path: Path) -> KeptDetector:
        """Take down what is asked of a fitted detector that lies at `path`."""
        last = last_step(detector)
        scale = getattr(getattr(detector, "scaler", None), "scale_", None)
        return cls(
            path,
            warning_of(detector),
            getattr(last, "offset_", None),
            str(getattr(last, "weights", "")),
            None if scale is None else ScaleRange(np.array([scale.min(), scale.max()])),
        )
