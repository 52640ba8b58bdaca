"""Every preset names entries of the registries, and says what it is in one line."""

import pytest

from detect import DETECTORS
from embed import ENCODERS, POOLINGS
from pipeline.systems import SYSTEMS


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_preset_names_what_there_is(name):
    system = SYSTEMS[name]
    members = [m.split("/") for m in system.fuse] or [
        (system.encoder, system.pooling, system.detector)
    ]

    for encoder, pooling, detector in members:
        assert encoder in ENCODERS
        assert pooling in POOLINGS
        assert detector in DETECTORS
    assert system.about
    assert "\n" not in system.about
