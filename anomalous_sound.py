"""One import for other programs: the public functions of all rooms, loaded when they are used.

    import anomalous_sound as sound

    job = sound.run(data="demo", encoder="logmel", detector="mahalanobis,gmm")
    model = sound.load_model("press_hall")

docs/python.md shows each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ground.menu import loaded_on_use

if TYPE_CHECKING:
    from cache.store import EmbeddingStore
    from detect import DETECTORS, make_detector
    from detect.detector import anomaly_scores
    from detect.fusion import MemberScores, fuse
    from detect.metrics import auc, pauc
    from detect.thresholds import p_values, threshold_of
    from embed import ENCODERS, POOLINGS, make_encoder, make_pooling
    from embed.recordings.clips import find_clips
    from pipeline.checking import check, load_model
    from pipeline.job import run
    from pipeline.learning import learn
    from pipeline.recalibrating import recalibrate
    from pipeline.run_files import load_run

_PLACES: dict[str, str] = {
    "run": "pipeline.job",
    "load_run": "pipeline.run_files",
    "learn": "pipeline.learning",
    "recalibrate": "pipeline.recalibrating",
    "check": "pipeline.checking",
    "load_model": "pipeline.checking",
    "find_clips": "embed.recordings.clips",
    "make_encoder": "embed",
    "make_pooling": "embed",
    "ENCODERS": "embed",
    "POOLINGS": "embed",
    "EmbeddingStore": "cache.store",
    "make_detector": "detect",
    "DETECTORS": "detect",
    "anomaly_scores": "detect.detector",
    "auc": "detect.metrics",
    "pauc": "detect.metrics",
    "p_values": "detect.thresholds",
    "threshold_of": "detect.thresholds",
    "fuse": "detect.fusion",
    "MemberScores": "detect.fusion",
}
"""The module that each public name comes from."""

__all__ = [
    "DETECTORS",
    "ENCODERS",
    "POOLINGS",
    "EmbeddingStore",
    "MemberScores",
    "anomaly_scores",
    "auc",
    "check",
    "find_clips",
    "fuse",
    "learn",
    "load_model",
    "load_run",
    "make_detector",
    "make_encoder",
    "make_pooling",
    "p_values",
    "pauc",
    "recalibrate",
    "run",
    "threshold_of",
]


__getattr__ = loaded_on_use(__name__, _PLACES)


def __dir__() -> list[str]:
    return sorted(__all__)
