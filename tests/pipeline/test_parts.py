"""Encoders, poolings, devices and weights, built from what the settings name."""

import pytest

from pipeline.exits import UsageError
from pipeline.names import Choice
from pipeline.parts import (
    check_embedding,
    devices_of,
    encoder_of,
    pooling_of,
    shares_of,
    text_options,
    weights_for_detectors,
    weights_of,
)
from pipeline.settings import Settings


@pytest.mark.parametrize(
    ("text", "encoder", "share"),
    [
        ("", "panns", ""),
        ("random", "panns", "random"),
        ("panns=a.pth,ast=b", "panns", "a.pth"),
        ("panns=a.pth,ast=b", "vggish", ""),
        ("Cnn14_mAP=0.431.pth", "panns", "Cnn14_mAP=0.431.pth"),
        ("hf=folder", "hf:model", "folder"),
    ],
)
def test_weights_are_shared_or_named_per_encoder(text, encoder, share):
    assert weights_of(text, encoder) == share


def test_a_file_name_with_an_equals_sign_is_no_share():
    assert shares_of("Cnn14_mAP=0.431.pth") == {}


@pytest.mark.parametrize(
    "settings",
    [
        Settings(weights="nowhere"),
        Settings(weights="panns=nowhere"),
        Settings(device="gpu"),
        Settings(device="cpu,mps"),
    ],
)
def test_weights_and_devices_that_are_not_here_are_refused(settings):
    with pytest.raises(UsageError):
        check_embedding(settings)


def test_devices_are_as_many_as_are_named():
    assert devices_of(Settings(device="cpu,cpu")) == ["cpu", "cpu"]


def test_an_encoder_has_the_flags_that_it_knows_and_its_own_options():
    encoder = encoder_of(Settings(precision="bf16"), Choice("logmel", (("n_mels", 64),)), "cpu")

    assert encoder.n_mels == 64
    with pytest.raises(UsageError, match="no option 'bands'"):
        encoder_of(Settings(), Choice("logmel", (("bands", 64),)), "cpu")
    with pytest.raises(UsageError, match=r"gwrp\.r"):
        pooling_of(Choice("gwrp", (("r", "x"),)))


def test_texts_stay_texts():
    assert "weights" in text_options("panns")
    assert text_options("package.module:Class") == frozenset()


def test_a_detectors_weights_that_are_nowhere_are_said_before_the_work(
    monkeypatch, tmp_path, capsys
):
    for name in ("HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path))
    network, other = Choice("resnet50_cnn"), Choice("knn")

    found, reasons = weights_for_detectors(Settings(offline=True), [network, other])
    assert found == {}
    assert "model.safetensors is not on this machine" in reasons["resnet50_cnn"]
    assert "failed: resnet50_cnn" in capsys.readouterr().err

    with pytest.raises(OSError, match="is not on this machine"):
        weights_for_detectors(Settings(offline=True), [network])
    random, _ = weights_for_detectors(Settings(weights="random"), [network])
    assert random == {"resnet50_cnn": "random"}
