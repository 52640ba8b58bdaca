"""VGGish equals a TensorFlow SavedModel of it, and its weights arrive from TensorFlow Hub."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from file_server import Server, serving
from safetensors import safe_open

from embed import make_encoder, make_pooling
from embed.encoders.vggish import random_tensors
from fetch.download import DownloadError
from fetch.first_seen import verify_first_seen
from fetch.places import weights_folder
from fetch.vggish_weights import CONVOLUTIONS, LINEARS, converted
from fetch.weights import WEIGHTS, Weights, find_checkpoint, published

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

pytestmark = pytest.mark.tensorflow

RATE = 16_000
ROOT = Path(__file__).resolve().parents[2]


def hub_module(seed: int = 0):
    """Build a module with the hub model's signature and `_variables`, front end included."""
    tf = pytest.importorskip("tensorflow", reason="the vggish extra is not installed")
    tensors = random_tensors(seed)

    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self._variables = []
            for name, tensor in tensors.items():
                order = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[tensor.ndim]
                self._variables.append(tf.Variable(tensor.numpy().transpose(order), name=name))

        @tf.function(input_signature=(tf.TensorSpec(shape=[None], dtype=tf.float32),))
        def __call__(self, waveform):
            spectrum = tf.abs(tf.signal.stft(waveform, 400, 160, 512))
            mel = tf.signal.linear_to_mel_weight_matrix(64, 257, RATE, 125.0, 7500.0)
            log_mel = tf.math.log(spectrum @ mel + 0.01)
            x = tf.signal.frame(log_mel, 96, 96, axis=0)[..., tf.newaxis]
            variables = iter(zip(self._variables[::2], self._variables[1::2], strict=True))
            for name in CONVOLUTIONS:
                weight, bias = next(variables)
                x = tf.nn.relu(tf.nn.conv2d(x, weight, 1, "SAME") + bias)
                if name in ("conv1", "conv2", "conv3_2", "conv4_2"):
                    x = tf.nn.max_pool2d(x, 2, 2, "SAME")
            x = tf.reshape(x, (-1, 12_288))
            for name in LINEARS:
                weight, bias = next(variables)
                x = x @ weight + bias
                x = x if name == "fc2" else tf.nn.relu(x)
            return x

    return tf, Module()


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tf, module = hub_module()
    folder = tmp_path_factory.mktemp("tensorflow") / "vggish"
    tf.saved_model.save(module, str(folder))
    return folder


@pytest.fixture(scope="module")
def archive(saved_model: Path) -> bytes:
    return packed(saved_model)


def packed(folder: Path) -> bytes:
    """Pack a folder as TensorFlow Hub does: from `./` on."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        tar.add(folder, arcname=".")
    return buffer.getvalue()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point this user's caches at empty folders; return the one of VGGish's weights."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return weights_folder("vggish")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def hub(server: Server, own_cache: Path) -> Weights:
    """Two handles on the local server, of which nothing is there yet."""
    handles = (f"{server.url}/google/vggish/1", f"{server.url}/models/google/vggish/1")
    row = WEIGHTS["vggish"]
    return replace(row, source=replace(row.source, handles=handles))


QUERY = "?tf-hub-format=compressed"
FIRST, SECOND = f"/google/vggish/1{QUERY}", f"/models/google/vggish/1{QUERY}"


def noise(n_samples: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, n_samples).astype(np.float32)


CLIPS = {
    "10 s": noise(10 * RATE),
    "an odd length": noise(50_001),
    "the shortest": noise(15_600),
    "one sample short of two windows": noise(15_600 + 96 * 160 - 1),
    "silence": np.zeros(2 * RATE, np.float32),
    "a full-scale tone": np.sin(2 * np.pi * 1000 / RATE * np.arange(3 * RATE)).astype(np.float32),
}


def test_torch_gives_what_tensorflow_gives(
    saved_model: Path, own_cache: Path, record_property
) -> None:
    tf, _ = hub_module()
    model = tf.saved_model.load(str(saved_model))
    encoder = make_encoder("vggish", weights=str(saved_model))

    for name, waveform in CLIPS.items():
        theirs = model(tf.constant(waveform)).numpy()
        (ours,) = encoder.encode(waveform[None], [make_pooling("frames")])

        assert ours[0].shape == theirs.shape
        apart = float(np.abs(ours[0] - theirs).max() / np.abs(theirs).max())
        record_property(name, apart)
        assert apart < 1e-4, name


def test_a_saved_model_is_converted_once_under_the_hash_of_its_variables(
    saved_model: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = find_checkpoint(str(saved_model), WEIGHTS["vggish"])
    moved = tmp_path / "elsewhere"
    shutil.copytree(saved_model, moved)
    monkeypatch.setitem(sys.modules, "tensorflow", None)

    second = find_checkpoint(str(moved), WEIGHTS["vggish"])

    assert first == second
    assert first.path.parent == own_cache
    with safe_open(first.path, "pt") as file:
        assert file.metadata()["source"].startswith("the SavedModel with variables ")
        assert len(file.keys()) == 18


def test_a_damaged_conversion_is_refused(saved_model: Path, own_cache: Path) -> None:
    path = converted(saved_model)
    with path.open("r+b") as file:
        file.seek(-4, io.SEEK_END)
        file.write(b"\x00\x00\x00\x00")

    with pytest.raises(ValueError, match=rf"delete {path} to fetch it again"):
        converted(saved_model)


def test_tensorflow_hub_is_asked_once_and_its_second_name_helps(
    server: Server, hub: Weights, own_cache: Path, archive: bytes, tmp_path: Path
) -> None:
    server.files[SECOND] = [archive]

    path = published(hub)
    again = published(hub, offline=True)

    assert path == again == own_cache / "vggish.safetensors"
    assert [asked for _, asked, _ in server.asked] == [FIRST, SECOND]
    record = json.loads((own_cache.parent / "first_seen.json").read_text())
    with path.open("rb") as file:
        assert record == {hub.source.name: hashlib.file_digest(file, "sha256").hexdigest()}
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"source": hub.source.handles[0]}
    encoder = make_encoder("vggish", weights=str(path))
    random = make_encoder("vggish", weights="random")
    ours, drawn = (
        e.encode(noise(15_600)[None], [make_pooling("clip")])[0] for e in (encoder, random)
    )
    np.testing.assert_allclose(ours, drawn, rtol=1e-4, atol=1e-5)
    assert sorted(p.name for p in own_cache.iterdir() if not p.name.endswith(".lock")) == [
        path.name
    ]


def test_other_weights_under_the_same_handle_are_refused(
    server: Server, hub: Weights, archive: bytes, own_cache: Path
) -> None:
    server.files[FIRST] = [archive]
    verify_first_seen(hub.source.name, "0" * 64, own_cache)

    with pytest.raises(ValueError, match=rf"but {re.escape(hub.source.name)} was 0000"):
        published(hub)
    with pytest.raises(ValueError, match=rf"but {re.escape(hub.source.name)} was 0000"):
        find_checkpoint("", hub)


def test_a_saved_model_in_tensorflow_hubs_cache_is_used_without_a_network(
    server: Server, hub: Weights, saved_model: Path, tmp_path: Path, own_cache: Path
) -> None:
    name = hashlib.sha1(hub.source.handles[1].encode()).hexdigest()
    shutil.copytree(saved_model, tmp_path / "hub" / name)

    path = published(hub, offline=True)

    assert path == own_cache / "vggish.safetensors"
    assert server.asked == []


def test_an_archive_put_there_by_hand_is_used_without_a_network(
    server: Server, hub: Weights, archive: bytes, own_cache: Path
) -> None:
    own_cache.mkdir(parents=True)
    (own_cache / "vggish_1.tar.gz").write_bytes(archive[:1000])
    with pytest.raises(ValueError, match=r"vggish_1.tar.gz cannot be unpacked; fetch it again"):
        published(hub, offline=True)
    (own_cache / "vggish_1.tar.gz").write_bytes(archive)

    path = published(hub, offline=True)

    assert path == own_cache / "vggish.safetensors"
    assert server.asked == []


@pytest.mark.parametrize("trouble", ["refused", "cut off", "no archive"])
def test_a_download_that_fails_is_one_line_and_leaves_nothing(
    server: Server, hub: Weights, archive: bytes, tmp_path: Path, own_cache: Path, trouble: str
) -> None:
    if trouble == "cut off":
        server.files[FIRST] = [archive]
        server.cut[FIRST] = [100_000]
    elif trouble == "no archive":
        server.files[FIRST] = [b"<html>Please accept our terms</html>"]

    with pytest.raises(DownloadError, match="about 290 MB") as caught:
        published(hub)

    message = str(caught.value)
    assert "\n" not in message
    assert str(own_cache / "vggish_1.tar.gz") in message
    assert not list((tmp_path / "hub").glob("*/*"))
    assert not list(own_cache.glob("*.safetensors"))


def test_the_hub_out_of_reach_is_told_without_importing_tensorflow(
    hub: Weights, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_hub", None)
    unreachable = replace(
        hub, source=replace(hub.source, handles=("http://127.0.0.1:9/google/vggish/1",))
    )

    with pytest.raises(DownloadError, match="no network") as caught:
        published(unreachable)

    assert "pip install" not in str(caught.value)


def test_a_saved_model_of_something_else_is_refused(tmp_path: Path, own_cache: Path) -> None:
    tf, _ = hub_module()
    other = tf.Module()
    other._variables = [tf.Variable(tf.zeros((3, 3, 1, 32)))]
    tf.saved_model.save(other, str(tmp_path / "other"))

    with pytest.raises(ValueError, match=r"conv1.weight of shape \(3, 3, 1, 64\) as _variables/0"):
        converted(tmp_path / "other")


def test_a_damaged_saved_model_is_refused_in_one_line(
    saved_model: Path, tmp_path: Path, own_cache: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(saved_model, folder)
    data = folder / "variables" / "variables.data-00000-of-00001"
    os.truncate(data, data.stat().st_size // 2)

    with pytest.raises(ValueError, match=r"cannot read the variables of .*damaged") as caught:
        converted(folder)

    assert "\n" not in str(caught.value)


def test_the_whole_command_takes_a_saved_model_and_then_needs_no_tensorflow(
    saved_model: Path, own_cache: Path, tmp_path: Path, shared_data: Path
) -> None:
    for split, kind, n in (("train", "normal", 4), ("test", "normal", 2), ("test", "anomaly", 2)):
        folder = tmp_path / "fans" / "fan" / split
        folder.mkdir(parents=True, exist_ok=True)
        for clip in sorted((shared_data / "mimii_fan" / "fan" / split).glob(f"{kind}_*"))[:n]:
            shutil.copy(clip, folder)
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "tensorflow.py").write_text("raise ImportError('not here')")

    def run(number: int, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, ROOT / "run_pipeline.py", "--data", tmp_path / "fans"),
                *("--encoder", "vggish", "--weights", saved_model, "--pooling", "flatten"),
                *("--detector", "ocsvm", "--cache-dir", tmp_path / f"embeddings{number}"),
                *("--out", tmp_path / f"runs{number}"),
            ],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    first, second = run(1), run(2, PYTHONPATH=str(tmp_path / "blocked"))

    assert first.returncode == 0, first.stderr
    assert second.returncode == 0, second.stderr
    scores = [
        next((tmp_path / f"runs{i}").glob("*/anomaly_score_*.csv")).read_text() for i in (1, 2)
    ]
    assert scores[0] == scores[1]
    assert len(scores[0].splitlines()) == 4
