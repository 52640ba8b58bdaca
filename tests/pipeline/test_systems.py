"""Every preset goes together, and the default is what the recipe says."""

import pytest

from detect import detector_options, facts_of
from embed import ENCODERS
from pipeline.plan import GIVES, combinations_of
from pipeline.settings import Settings, settings_of
from pipeline.systems import SYSTEMS

SINGLE = [name for name, system in SYSTEMS.items() if not system.fuse]


@pytest.mark.parametrize("name", SINGLE)
def test_a_system_goes_together(name):
    system = SYSTEMS[name]

    assert system.encoder in ENCODERS
    assert facts_of(system.detector).takes == GIVES.get(system.pooling, "vectors")
    for setting in system.set:
        target, option = setting.split("=")[0].split(".")
        if target == system.detector:
            assert option in detector_options(target)
        else:
            assert target in (system.encoder, system.pooling)


def test_auto_is_the_fusion_of_four_members_without_weights():
    (combination,), refused = combinations_of(settings_of(Settings, {"system": "auto"}))

    assert refused == []
    assert [member.name for member in combination.members] == [
        "logmel/fluctuation/mahalanobis",
        "logmel/quiet/mahalanobis",
        "spectrum/clip/mahalanobis",
        "wave/clip/mahalanobis",
    ]
    assert combination.members[0].pooling.options == (("groups", 16),)


@pytest.mark.parametrize("given", [[], ["mel_conv_ae.epochs=1", "logmel.n_mels=32"]])
def test_set_adds_to_a_system_and_comes_last(given):
    settings = settings_of(Settings, {"system": "mel-conv-ae", "set": given})

    ((combination,), _) = combinations_of(settings)

    (member,) = combination.members
    assert combination.settings.set == ["logmel.n_mels=64", "mel_conv_ae.n_frames=128", *given]
    assert member.detector.name == "mel_conv_ae"
    assert dict(member.encoder.options)["n_mels"] == (32 if given else 64)
