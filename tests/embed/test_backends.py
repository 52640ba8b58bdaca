"""A backend is refused where it cannot run, "auto" picks one, and the fingerprint has it."""

from dataclasses import fields
from importlib.util import find_spec

import pytest

from embed import ENCODERS, encoder_row, make_encoder, make_pooling
from embed.backends import check_backend, fastest
from embed.converted import PACKAGES
from embed.fingerprint import configuration, fingerprint
from embed.recordings.preprocessing import Preprocessing

INSTALLED = [b for b, needs in PACKAGES.items() if all(find_spec(name) for name in needs)]
NETWORKS = [
    name
    for name in ENCODERS
    if name != "hf" and "backend" in {f.name for f in fields(encoder_row(name).resolve())}
]


@pytest.mark.parametrize("capabilities", [("FP32", "BF16"), ("FP32",)])
def test_bf16_of_openvino_needs_a_cpu_that_has_it(capabilities, monkeypatch):
    without(monkeypatch)
    monkeypatch.setattr("embed.backends._openvino_capabilities", lambda: capabilities)
    ranking = ("openvino", "onnxruntime")

    if "BF16" in capabilities:
        check_backend("openvino", "bf16", "cpu")
        assert fastest(ranking, "bf16", "cpu")[0] == "openvino"
    else:
        with pytest.raises(ValueError, match=r"no bf16 arithmetic.* take --precision fp32"):
            check_backend("openvino", "bf16", "cpu")
        assert fastest(ranking, "bf16", "cpu") == ("torch", "no other computes in bf16 on this CPU")
    check_backend("openvino", "fp32", "cpu")


def facts(encoder) -> str:
    return fingerprint(configuration(encoder, Preprocessing(), make_pooling("clip")))


def test_backend_and_precision_are_in_the_fingerprint():
    ways = [("torch", "fp32"), ("torch", "bf16"), ("compiled", "fp32")]
    ways += [(backend, "fp32") for backend in INSTALLED]

    found = {
        facts(make_encoder("panns", weights="random", backend=backend, precision=precision))
        for backend, precision in ways
    }

    assert len(found) == len(ways)


@pytest.mark.parametrize("name", NETWORKS)
def test_auto_is_a_concrete_backend_before_the_fingerprint(name):
    encoder = make_encoder(name, weights="random", backend="auto")
    chosen, why = encoder.fastest_backend()

    assert encoder.backend == chosen != "auto"
    assert why
    assert facts(encoder) == facts(make_encoder(name, weights="random", backend=chosen))


def without(monkeypatch, *absent: str) -> None:
    monkeypatch.setattr(
        "embed.backends.find_spec", lambda name: None if name in absent else object()
    )


def test_auto_takes_the_first_that_is_installed_and_says_what_is_missing(monkeypatch):
    ranking = ("openvino", "onnxruntime")

    without(monkeypatch)
    assert fastest(ranking, "fp32", "cpu") == ("openvino", "usually the fastest on a CPU in fp32")
    assert fastest(ranking, "fp32", "cuda:1")[0] == "torch"
    without(monkeypatch, "openvino")
    chosen, why = fastest(ranking, "fp32", "cpu")
    assert (chosen, "pip install 'anomalous-sound-pipeline[openvino]'" in why) == (
        "onnxruntime",
        True,
    )
    assert fastest(ranking, "bf16", "cpu")[0] == "torch"
    without(monkeypatch, "openvino", "onnxruntime")
    chosen, why = fastest(ranking, "fp32", "cpu")
    assert chosen == "torch"
    assert "[openvino]' or 'anomalous-sound-pipeline[onnxruntime]'" in why


@pytest.mark.parametrize(
    ("backend", "precision", "device", "absent", "message"),
    [
        ("tensorrt", "fp32", "cpu", (), "backend is one of torch, compiled, openvino, onnxruntime"),
        ("openvino", "fp32", "cuda", (), "runs networks on the CPU only, got device cuda: take --"),
        ("onnxruntime", "bf16", "cpu", (), "computes in fp32 only, got precision bf16"),
        ("openvino", "fp32", "cpu", ("openvino",), r"'anomalous-sound-pipeline\[openvino\]'"),
        ("onnxruntime", "fp32", "cpu", ("onnx",), r"needs onnx, .*\[onnxruntime\]'"),
    ],
)
def test_a_backend_that_cannot_run_is_refused_in_one_line(
    backend, precision, device, absent, message, monkeypatch
):
    without(monkeypatch, *absent)

    with pytest.raises(ValueError, match=message):
        check_backend(backend, precision, device)
