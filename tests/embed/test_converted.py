"""Whatever runs a network gives torch's vectors; a converted copy is made once and never wrong."""

import hashlib
import json
import logging
import subprocess
import sys
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import save_small, tensors_of

from embed import ENCODERS, encoder_row, make_encoder, make_pooling
from embed.converted import PACKAGES, Converted, Copy, to_onnx
from embed.encoders.efficientat import BLOCKS

INSTALLED = [b for b, needs in PACKAGES.items() if all(find_spec(name) for name in needs)]

NETWORKS = [
    name
    for name in ENCODERS
    if name != "hf" and "backend" in {f.name for f in fields(encoder_row(name).resolve())}
]

ONE_OF_EACH_KIND = {"panns", "efficientat", "vggish", "beats"}
"""Other networks are built of the same parts; `make check-slow` converts them too."""
SOME_SLOW = [
    name if name in ONE_OF_EACH_KIND else pytest.param(name, marks=pytest.mark.slow)
    for name in NETWORKS
]

NARROW = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "conv_dim": (8, 8, 8, 8),
    "conv_kernel": (10, 3, 3, 2),
    "conv_stride": (5, 4, 4, 4),
}

LENGTHS = (1.0, 1.77, 1.31)  # s, in this order: shapes change between calls

needs_openvino = pytest.mark.skipif("openvino" not in INSTALLED, reason="needs openvino")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Keep converted copies of all tests of this file in one folder of their own."""
    folder = tmp_path_factory.getbasetemp() / "user-cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "anomalous-sound-pipeline" / "weights"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Return what makes an encoder of the real architecture with narrow layers."""

    def make(name: str, **options):
        monkeypatch.setattr("embed.encoders.panns.CHANNELS", (1, 4, 4, 8, 8, 16, 16))
        monkeypatch.setattr("embed.encoders.panns.DIM", 16)
        torch.manual_seed(0)
        weights = SMALL[name](tmp_path, monkeypatch) if name in SMALL else "random"
        return make_encoder(name, **{"weights": str(weights), **options})

    return make


def _panns(folder: Path, monkeypatch) -> str:
    return "random"


def _vggish(folder: Path, monkeypatch) -> str:
    convolutions = {
        **{"conv1": (1, 4), "conv2": (4, 8), "conv3_1": (8, 8), "conv3_2": (8, 8)},
        **{"conv4_1": (8, 8), "conv4_2": (8, 8)},
    }
    linears = {"fc1_1": (6 * 4 * 8, 16), "fc1_2": (16, 16), "fc2": (16, 8)}
    for module in ("embed.encoders.vggish", "fetch.vggish_weights"):
        monkeypatch.setattr(f"{module}.CONVOLUTIONS", convolutions)
        monkeypatch.setattr(f"{module}.LINEARS", linears)
    return "random"


def _ast(folder: Path, monkeypatch) -> Path:
    from safetensors.torch import save_file

    from embed.encoders.spectrogram_transformer import MODEL_TYPE, AstConfig, random_tensors

    small = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 32}
    settings = {**small, "num_hidden_layers": 2, "max_length": 256}
    save_file(random_tensors(AstConfig(**settings)), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": MODEL_TYPE, **settings}))
    return folder


def _efficientat(folder: Path, monkeypatch) -> str:
    from embed.encoders import efficientat

    monkeypatch.setattr(efficientat, "BLOCKS", (BLOCKS[3], BLOCKS[-1]))
    monkeypatch.setattr(efficientat, "LAST_LAYER", 3)
    monkeypatch.setitem(efficientat.WIDTHS, "mn10", 0.1)
    return "random"


def _wav2vec2(folder: Path, monkeypatch) -> Path:
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    Wav2Vec2Model(Wav2Vec2Config(**NARROW)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def _resnet50(folder: Path, monkeypatch) -> Path:
    from transformers import ResNetConfig, ResNetModel

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1])
    ResNetModel(config).save_pretrained(folder)
    return folder


def _patches(name: str):
    return lambda folder, monkeypatch: save_small(folder, name, tensors_of(name, depth=1))


SMALL = {
    **{name: _patches(name) for name in ("beats", "eat", "ced", "dasheng")},
    "panns": _panns,
    "vggish": _vggish,
    "ast": _ast,
    "efficientat": _efficientat,
    "wav2vec2": _wav2vec2,
    "resnet50": _resnet50,
}


def waveforms(encoder, n_clips: int, seconds: float) -> np.ndarray:
    rng = np.random.default_rng(n_clips)
    n_samples = int(seconds * encoder.sample_rate) + n_clips  # odd and even
    return rng.normal(0, 0.1, (n_clips, n_samples)).astype(np.float32)


def vectors(encoder, clips: np.ndarray) -> list[np.ndarray]:
    return encoder.encode(clips, [make_pooling("clip")])


def assert_like_torch(encoder, reference, largest: float) -> None:
    """Compare for several lengths and batches, pooled and as frames."""
    poolings = [make_pooling("clip")]
    for n_clips, seconds in zip((1, 3, 2), LENGTHS, strict=True):
        clips = waveforms(encoder, n_clips, seconds)
        for wanted in (poolings, [make_pooling("frames")]):
            (ours,), (theirs,) = encoder.encode(clips, wanted), reference.encode(clips, wanted)
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).max() <= largest * np.abs(theirs).max()


EXPORTED: dict[tuple, bytes] = {}


@pytest.fixture
def exported_once(monkeypatch):
    """Export a network once for all backends and tests, which is what takes long."""

    def export(network, ints, x, *, fixed):
        digest = hashlib.sha256(str(network).encode())
        for tensor in network.state_dict().values():
            digest.update(tensor.numpy().tobytes())
        key = (digest.hexdigest(), ints, x.shape if fixed else x.shape[2:])
        if key not in EXPORTED:
            EXPORTED[key] = to_onnx(network, ints, x, fixed=fixed)
        return EXPORTED[key]

    monkeypatch.setattr("embed.converted.to_onnx", export)


def hubert(folder: Path) -> Path:
    from transformers import HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

    HubertModel(HubertConfig(**NARROW)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def sew_d(folder: Path) -> Path:
    from transformers import SEWDConfig, SEWDModel, Wav2Vec2FeatureExtractor

    SEWDModel(SEWDConfig(**NARROW)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def wav2vec2(folder: Path) -> Path:
    return _wav2vec2(folder, None)


FAMILIES = [wav2vec2, *(pytest.param(f, marks=pytest.mark.slow) for f in (hubert, sew_d))]


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="needs openvino or onnxruntime")
@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_clips_length_decides_nothing(family, tmp_path, exported_once):
    torch.manual_seed(0)  # the wav2vec2 of the next test, for a copy that a short clip made
    model = str(family(tmp_path))
    reference = make_encoder("hf", model=model)
    shortest = reference.min_samples
    shapes = [(1, shortest), (1, 777 + shortest), (2, 9_000), (3, shortest)]

    for backend in INSTALLED:
        encoder = make_encoder("hf", model=model, backend=backend)
        for shape in [*shapes, *reversed(shapes)]:
            clips = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
            (ours,), (theirs,) = (
                e.encode(clips, [make_pooling("frames")]) for e in (encoder, reference)
            )
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()


@pytest.fixture
def said_by_torch():
    """Collect the errors that torch's tracer logs; it hands them to nobody but its own handlers."""
    said = []
    listener = logging.Handler(logging.ERROR)
    listener.emit = said.append
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    logger.addHandler(listener)
    yield said
    logger.removeHandler(listener)


@pytest.mark.skipif(not INSTALLED, reason="needs openvino or onnxruntime")
@pytest.mark.parametrize("name", SOME_SLOW)
def test_a_converted_network_gives_torchs_vectors(name, small, exported_once, said_by_torch):
    reference = small(name)

    for backend in INSTALLED:
        assert_like_torch(small(name, backend=backend), reference, 1e-4)
    assert said_by_torch == []  # tracebacks of the exporter's trials


@pytest.mark.slow
@pytest.mark.parametrize("backend", [*INSTALLED, "compiled"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_whole_network_gives_torchs_vectors(name, backend):
    encoder = make_encoder(name, weights="random", backend=backend)

    assert_like_torch(encoder, make_encoder(name, weights="random"), 1e-4)


@pytest.mark.slow
def test_a_compiled_network_gives_torchs_vectors(small):
    assert_like_torch(small("panns", backend="compiled"), small("panns"), 1e-4)


def has_bf16() -> bool:
    """Say whether OpenVINO computes in bf16 on this CPU."""
    if "openvino" not in INSTALLED:
        return False
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@needs_openvino
@pytest.mark.parametrize("name", SOME_SLOW)
def test_openvino_rounds_to_bf16_itself_where_the_cpu_has_it(name, small, caplog, exported_once):
    if not has_bf16():
        with pytest.raises(ValueError, match=r"no bf16 arithmetic.* take --precision fp32"):
            small(name, backend="openvino", precision="bf16")
        return
    coarse, exact = small(name, backend="openvino", precision="bf16"), small(name)
    clips = waveforms(exact, 3, 1.3)

    (ours,), (theirs,) = vectors(coarse, clips), vectors(exact, clips)

    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    assert (1 - (ours * theirs).sum(axis=1) / lengths).max() < 0.02
    assert np.abs(ours - theirs).max() > 1e-5 * np.abs(theirs).max()
    assert coarse.dtype == torch.float32
    assert "no bf16 arithmetic" not in caplog.text


@pytest.mark.parametrize("backend", INSTALLED)
def test_a_network_is_converted_once(backend, small, monkeypatch, exported_once):
    clips = waveforms(small("panns"), 2, 1.0)
    first = vectors(small("panns", backend=backend), clips)
    monkeypatch.setattr(Converted, "_convert", lambda *_: pytest.fail("converted again"))

    second = vectors(small("panns", backend=backend), clips)

    assert np.array_equal(first, second)


class Scaled(torch.nn.Module):
    """A linear map that an attribute and an int change, too."""

    def __init__(self, weight: float, power: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(5, 3, bias=False)
        torch.nn.init.constant_(self.linear.weight, weight)
        self.power = power

    def forward(self, x: torch.Tensor, n: int) -> torch.Tensor:
        return n * self.linear(x) ** self.power


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="needs openvino or onnxruntime")
def test_other_weights_settings_and_ints_are_another_copy(small, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    encoder, x = small("panns", backend=INSTALLED[0]), torch.ones(2, 5)

    for n_copies, (weight, power, n) in enumerate([(1, 2, 1), (2, 2, 1), (2, 3, 1), (2, 3, 4)], 1):
        for _ in range(2):
            found = Converted(Scaled(weight, power), encoder)(x, n)
            assert torch.allclose(found, torch.full((2, 3), n * (5.0 * weight) ** power))
        assert len(list(tmp_path.rglob("*.converted"))) == n_copies


@pytest.mark.parametrize("package", ["onnx", "transformers"])
@pytest.mark.skipif(not INSTALLED, reason="needs openvino or onnxruntime")
def test_another_version_of_a_package_is_another_copy(
    package, small, tmp_path, monkeypatch, exported_once
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    network, encoder = torch.nn.Identity(), small("panns", backend=INSTALLED[0])

    for n_copies, number in enumerate(("1", "2"), 1):
        monkeypatch.setattr(
            "embed.converted.installed_version", lambda p, n=number: n if p == package else ""
        )
        Converted(network, encoder)(torch.ones(2, 5))
        assert len(list(tmp_path.rglob("*.converted"))) == n_copies


@needs_openvino
@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty"])
def test_a_damaged_copy_is_made_again(damage, small, tmp_path, caplog, monkeypatch, exported_once):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    network, encoder = torch.nn.Linear(5, 3), small("panns", backend="openvino")
    x = torch.randn(2, 5)
    expected = Converted(network, encoder)(x)
    (file,) = tmp_path.rglob("*.converted")
    whole = file.read_bytes()
    content = bytearray(whole)
    content[len(content) // 2] ^= 1
    size = {"truncated": len(content) // 2, "one bit": len(content), "empty": 0}[damage]
    file.write_bytes(content[:size])

    again = Converted(network, encoder)(x)

    assert torch.equal(again, expected)
    assert "is damaged; it is made again" in caplog.text
    assert len(file.read_bytes()) == len(whole)


@needs_openvino
def test_a_folder_that_cannot_be_written_costs_a_conversion_and_is_told(
    small, monkeypatch, tmp_path_factory, caplog, exported_once
):
    in_the_way = tmp_path_factory.mktemp("no") / "file"
    in_the_way.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_the_way))
    network, x = torch.nn.Linear(5, 3), torch.randn(2, 5)

    found = Converted(network, small("panns", backend="openvino"))(x)

    assert torch.allclose(found, network(x), rtol=1e-4)
    assert "cannot be written" in caplog.text
    assert "every run converts it again" in caplog.text


@needs_openvino
def test_converting_is_announced_with_where_the_copy_is_kept(
    small, tmp_path, caplog, monkeypatch, exported_once
):
    caplog.set_level(logging.INFO, "embed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    Converted(torch.nn.Linear(5, 3), small("panns", backend="openvino"))(torch.randn(2, 5))

    assert "converting the network of panns for openvino, once, kept in" in caplog.text
    assert str(tmp_path) in caplog.text


TWO = """
import sys, time, torch
from pathlib import Path
from embed import converted, make_encoder
def to_onnx(*_, **__):
    print("converting")
    time.sleep(1)
    return Path(sys.argv[1]).read_bytes()
converted.to_onnx = to_onnx
encoder = make_encoder("panns", weights="random", backend="onnxruntime")
network = torch.nn.Linear(5, 3)
torch.nn.init.constant_(network.weight, 2), torch.nn.init.zeros_(network.bias)
run = converted.Converted(network, encoder)
assert torch.equal(run(torch.ones(2, 5)), torch.full((2, 3), 10.0))
"""


@pytest.mark.slow
@pytest.mark.skipif("onnxruntime" not in INSTALLED, reason="needs onnxruntime")
def test_two_processes_convert_at_once_and_agree(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root, network = Path(__file__).resolve().parents[2], torch.nn.Linear(5, 3)
    torch.nn.init.constant_(network.weight, 2), torch.nn.init.zeros_(network.bias)
    (tmp_path / "onnx").write_bytes(to_onnx(network, (), torch.ones(2, 5), fixed=False))

    command = [sys.executable, "-c", TWO, str(tmp_path / "onnx")]
    running = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) for _ in range(2)]

    assert sorted(process.communicate(timeout=300)[0] for process in running) == [
        b"",
        b"converting\n",
    ]
    assert [process.returncode for process in running] == [0, 0]
    assert len(list(tmp_path.rglob("*.converted"))) == 1
    assert not list(tmp_path.rglob("*.part"))


class Halved(torch.nn.Module):
    """A network whose conversion must fix its sizes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * len(range(x.shape[1]))


@pytest.mark.slow
@pytest.mark.parametrize("backend", INSTALLED)
def test_sizes_that_a_conversion_fixes_get_a_copy_each(backend, small, exported_once):
    run = Converted(Halved(), small("panns", backend=backend))

    for shape in ((2, 5), (3, 5), (1, 4), (2, 5)):
        x = torch.randn(*shape)
        assert torch.allclose(run(x), Halved()(x), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backend", INSTALLED)
def test_copies_of_one_size_each_do_not_fill_the_disk(
    backend, small, monkeypatch, tmp_path, exported_once
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("embed.converted.MOST_FIXED", 2)
    encoder = small("panns", backend=backend)
    run = Converted(Halved(), encoder)
    for n in (5, 6, 7):
        run(torch.ones(2, n))
    files = set(tmp_path.rglob("*.converted"))

    for again in (run, Converted(Halved(), encoder)):
        assert torch.equal(again(torch.ones(3, 5)), torch.full((3, 5), 5.0))
        with pytest.raises(ValueError, match=r"a copy for each size .* take --backend torch"):
            again(torch.ones(2, 8))

    assert set(tmp_path.rglob("*.converted")) == files


class Wrong(torch.nn.Module):
    """A network that is not the same when it is exported."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if torch.compiler.is_exporting() else x * 3


@pytest.mark.parametrize("backend", INSTALLED)
def test_a_copy_that_computes_something_else_is_refused_in_every_run(backend, small, exported_once):
    for _ in range(2):
        run = Converted(Wrong(), small("panns", backend=backend))
        for _ in range(2):
            with pytest.raises(ValueError, match=r"3\.3e-01 of the largest value off torch's"):
                run(torch.ones(2, 5))


class Branching(torch.nn.Module):
    """A network whose path depends on the number of columns; an example settles it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.shape[1] > 1000 else x * 3


@pytest.mark.slow
@pytest.mark.parametrize("backend", INSTALLED)
def test_every_size_is_compared_with_torch_once(backend, small, exported_once):
    network = Branching()
    run = Converted(network, small("panns", backend=backend))
    passes = []

    def note(module, given):
        if not torch.compiler.is_exporting():
            passes.append(tuple(given[0].shape))

    network.register_forward_pre_hook(note)

    for shape in ((2, 5000), (3, 5000), (3, 50), (1, 50), (4, 50), (2, 5000)):
        x = torch.randn(*shape)
        assert torch.allclose(run(x), x * (2 if shape[1] > 1000 else 3))

    assert passes == [(2, 5000), (3, 50), (1, 50)]


@pytest.mark.parametrize("backend", INSTALLED)
@pytest.mark.parametrize("failure", [RuntimeError("Broadcast\nfailed"), IndexError("7"), "rows"])
def test_a_converted_call_that_fails_is_told_in_one_line(
    failure, backend, small, monkeypatch, exported_once
):
    def start(model, precision):
        def call(x: np.ndarray) -> list[np.ndarray]:
            if len(called) > 1 and isinstance(failure, Exception):
                raise failure
            called.append(1)
            return [x if len(called) < 2 else x[:1]]

        return Copy((None, None), call)

    called = []
    monkeypatch.setattr(f"embed.converted._{backend}", start)
    run = Converted(torch.nn.Identity(), small("panns", backend=backend))
    run(torch.ones(2, 5))

    if isinstance(failure, Exception):
        called.append(1)
    with pytest.raises(ValueError, match=rf"for {backend} .*take --backend torch") as caught:
        run(torch.ones(3, 5))

    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not INSTALLED, reason="needs openvino or onnxruntime")
def test_too_little_memory_stays_what_it_is(small):
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError

    network = torch.nn.Identity()
    network.register_forward_pre_hook(full)

    with pytest.raises(torch.OutOfMemoryError):
        Converted(network, small("panns", backend=INSTALLED[0]))(torch.ones(2, 5))


class Unexportable(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * float(np.random.default_rng(0).normal()) if x.sum() > 0 else x


@pytest.mark.parametrize("backend", INSTALLED)
def test_a_network_that_cannot_be_converted_is_told_in_one_line(backend, small):
    run = Converted(Unexportable(), small("panns", backend=backend))

    with pytest.raises(ValueError, match="cannot be made, take --backend torch") as caught:
        run(torch.ones(2, 5))

    assert "\n" not in str(caught.value)
