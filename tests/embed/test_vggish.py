"""VGGish's front end is the published one, its network the published architecture."""

import json
import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from embed import make_encoder, make_pooling
from embed.encoders.vggish import WINDOW, VGGish, random_tensors
from fetch.places import weights_folder
from fetch.vggish_weights import (
    CONVERTED,
    CONVOLUTIONS,
    LINEARS,
    TORCHVGGISH,
    TORCHVGGISH_WARNING,
    expected_shapes,
    load_tensors,
)
from fetch.weights import RANDOM_WARNING, WEIGHTS, find_checkpoint

RATE = 16_000
MINIMUM = 15_600


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vggish") / "vggish.safetensors"
    save_file(random_tensors(), path)
    return path


@pytest.fixture(scope="module")
def encoder(checkpoint: Path) -> VGGish:
    return make_encoder("vggish", weights=str(checkpoint))


@pytest.fixture(scope="module")
def exact_weights() -> dict[str, torch.Tensor]:
    return {name: tensor.double() for name, tensor in random_tensors().items()}


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point this user's caches at an empty folder; return the one of VGGish's weights."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "hub"))
    folder = weights_folder("vggish")
    folder.mkdir(parents=True)
    return folder


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).normal(0, 0.1, n_samples)
    return samples.astype(np.float32)


def tone(n_samples: int, frequency: float = 1000.0) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(n_samples) / RATE).astype(np.float32)


CLIPS = {
    "10 s": noise(10 * RATE),
    "an odd length": noise(50_001),
    "the shortest": noise(MINIMUM),
    "one sample short of two windows": noise(MINIMUM + 96 * 160 - 1),
    "silence": np.zeros(2 * RATE, np.float32),
    "a full-scale tone": tone(2 * RATE),
}


def published_log_mel(waveform: np.ndarray) -> np.ndarray:
    """Write the front end out in numpy, float64: `(t, 96, 64)`."""
    starts = range(0, len(waveform) - 400 + 1, 160)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.array([waveform[s : s + 400] * window for s in starts])
    magnitude = np.abs(np.fft.rfft(frames, 512))
    hz_of_bin = np.arange(257) * RATE / 512
    mel_of_bin = 1127 * np.log(1 + hz_of_bin / 700)
    low, high = 1127 * np.log(1 + np.array([125.0, 7500.0]) / 700)
    edges = np.linspace(low, high, 66)
    mel = np.zeros((257, 64))
    for band in range(64):
        left, centre, right = edges[band : band + 3]
        for k in range(1, 257):
            rising = (mel_of_bin[k] - left) / (centre - left)
            falling = (right - mel_of_bin[k]) / (right - centre)
            mel[k, band] = max(0.0, min(rising, falling))
    log_mel = np.log(magnitude @ mel + 0.01)
    n_windows = len(log_mel) // 96
    return log_mel[: n_windows * 96].reshape(n_windows, 96, 64)


@torch.inference_mode()
def published_embedding(log_mel: np.ndarray, w: dict[str, torch.Tensor]) -> np.ndarray:
    """Write the network out plainly, in float64, flattened as TensorFlow does: `(t, 128)`."""
    x = torch.from_numpy(log_mel).double().unsqueeze(1)
    for name in CONVOLUTIONS:
        x = functional.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1).relu()
        if name in ("conv1", "conv2", "conv3_2", "conv4_2"):
            x = functional.max_pool2d(x, 2)
    nhwc = x.numpy().transpose(0, 2, 3, 1).reshape(len(x), -1)
    x = torch.from_numpy(nhwc.copy())
    for name in LINEARS:
        x = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
        if name != "fc2":
            x = x.relu()
    return x.numpy()


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", CLIPS)
def test_the_front_end_is_the_published_one(encoder: VGGish, name: str) -> None:
    ours = encoder.log_mel(torch.from_numpy(CLIPS[name])[None])[0].numpy()

    theirs = published_log_mel(CLIPS[name])
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 2e-6


def test_the_front_end_gives_the_golden_values(encoder: VGGish, shared_data: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pkg_resources, which it imports
        resampy = pytest.importorskip(
            "resampy",
            reason="the golden values' input was resampled by resampy 0.2.2",
            exc_type=ImportError,
        )
    if not resampy.__version__.startswith("0.2."):
        pytest.skip(f"resampy {resampy.__version__} has other filters than 0.2.2, 0.8 apart")
    golden = json.loads((shared_data / "golden" / "golden_values.json").read_text())
    values = golden["vggish_smoke_2019"]["logmel_rows_0_1_2_m3_m2_m1_cols_0_1_2_m3_m2_m1"]
    t = np.linspace(0, 3, 3 * 44_100)
    samples = resampy.resample(np.sin(2 * np.pi * 1000 * t), 44_100, RATE)
    ends = np.ix_([0, 1, 2, -3, -2, -1], [0, 1, 2, -3, -2, -1])

    exact = published_log_mel(samples)
    ours = encoder.log_mel(torch.from_numpy(samples.astype(np.float32))[None])[0].numpy()

    assert np.abs(exact[0][ends] - values).max() < 1e-8
    # the samples' own rounding to float32 moves the quiet bands beside the tone
    assert np.abs(ours[0][ends] - values).max() < 1e-4


@pytest.mark.parametrize("name", ["an odd length", "the shortest", "silence", "a full-scale tone"])
def test_the_embedding_is_the_published_networks(
    encoder: VGGish, exact_weights: dict[str, torch.Tensor], name: str
) -> None:
    waveform = CLIPS[name]

    clip, frames = encoder.encode(waveform[None], [make_pooling("clip"), make_pooling("frames")])

    theirs = published_embedding(published_log_mel(waveform), exact_weights)
    assert frames.shape == (1, *theirs.shape)
    assert frames.dtype == np.float32
    assert largest_difference(frames[0], theirs) < 1e-5
    np.testing.assert_allclose(clip[0], theirs.mean(axis=0), rtol=1e-4, atol=1e-4)


def test_ten_seconds_give_ten_frames_and_every_pooling_of_them(encoder: VGGish) -> None:
    names = ("frames", "clip", "flatten", "mean", "max", "gwrp", "quiet")

    frames, clip, flat, *others = encoder.encode(
        np.stack([CLIPS["10 s"], tone(10 * RATE)]), [make_pooling(name) for name in names]
    )

    assert frames.shape == (2, 10, 128)
    assert clip.shape == (2, 128)
    np.testing.assert_array_equal(flat, frames.reshape(2, 1280))
    np.testing.assert_allclose(clip, others[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(others[1], frames.max(axis=1))
    assert encoder.why_not(make_pooling("bands"))


def test_a_batch_gives_what_its_clips_give_alone_in_any_order(encoder: VGGish) -> None:
    waveforms = np.stack([noise(33_333, seed) * (1 + seed) for seed in range(5)])
    order = np.random.default_rng(0).permutation(5)
    pooling = make_pooling("flatten")

    alone = np.concatenate([encoder.encode(w[None], [pooling])[0] for w in waveforms])
    (batch,) = encoder.encode(waveforms[order], [pooling])

    assert largest_difference(batch, alone[order]) < 1e-5
    assert np.abs(alone[0] - alone[1]).max() > 0.01 * np.abs(alone).max()


def test_a_long_clip_runs_in_parts_of_bounded_size(
    encoder: VGGish, monkeypatch: pytest.MonkeyPatch
) -> None:
    waveform, pooling = noise(5 * RATE)[None], make_pooling("frames")
    (whole,) = encoder.encode(waveform, [pooling])
    front_end, run = encoder._parts
    sizes = []

    def counting(log_mel: torch.Tensor, *layers: int) -> tuple[torch.Tensor, ...]:
        sizes.append(len(log_mel))
        return run(log_mel, *layers)

    monkeypatch.setitem(encoder.__dict__, "_parts", (front_end, counting))
    monkeypatch.setattr("embed.encoders.vggish.WINDOWS_AT_ONCE", {"cpu": 2})
    (parts,) = encoder.encode(waveform, [pooling])

    assert sizes == [2, 2, 1]
    assert largest_difference(parts, whole) < 1e-5


def test_a_clip_that_is_not_finite_keeps_to_its_own_row(encoder: VGGish) -> None:
    waveforms = np.stack([noise(MINIMUM), np.full(MINIMUM, np.nan, np.float32)])

    (vectors,) = encoder.encode(waveforms, [make_pooling("clip")])

    assert np.isfinite(vectors[0]).all()
    assert np.isnan(vectors[1]).all()


def test_bf16_is_near_and_has_another_fingerprint(checkpoint: Path, encoder: VGGish) -> None:
    from embed.fingerprint import configuration, fingerprint
    from embed.recordings.preprocessing import Preprocessing

    coarse = make_encoder("vggish", weights=str(checkpoint), precision="bf16")
    waveforms, pooling = noise(MINIMUM)[None], make_pooling("clip")

    (exact,) = encoder.encode(waveforms, [pooling])
    (near,) = coarse.encode(waveforms, [pooling])

    assert near.dtype == np.float32
    assert 1e-4 < largest_difference(near, exact) < 0.05
    prints = {fingerprint(configuration(e, Preprocessing(), pooling)) for e in (encoder, coarse)}
    assert len(prints) == 2


def test_random_weights_are_seeded_keep_the_scale_and_carry_a_warning(encoder: VGGish) -> None:
    waveforms = np.stack([noise(MINIMUM), tone(MINIMUM)])
    random = make_encoder("vggish", weights="random")

    (vectors,) = random.encode(waveforms, [make_pooling("clip")])
    (same,) = encoder.encode(waveforms, [make_pooling("clip")])

    assert largest_difference(vectors, same) < 1e-6
    assert 0.1 < np.abs(vectors).mean() < 10
    assert np.abs(vectors[0] - vectors[1]).max() > 0.1 * np.abs(vectors).max()
    assert random.warning == RANDOM_WARNING
    assert encoder.warning == ""


def test_an_encoder_travels_without_its_network(encoder: VGGish) -> None:
    encoder.encode(noise(MINIMUM)[None], [make_pooling("clip")])

    copy = pickle.dumps(encoder)

    assert len(copy) < 1000
    assert pickle.loads(copy) == encoder


def test_the_shortest_clip_is_one_window(encoder: VGGish) -> None:
    assert encoder.min_samples == MINIMUM == WINDOW


def test_another_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="trained at 16000 Hz"):
        make_encoder("vggish", weights="random", sample_rate=32_000)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_torchvggish_checkpoint_gives_the_last_layer_as_it_is_and_says_so(
    encoder: VGGish, tmp_path: Path, suffix: str
) -> None:
    theirs = {}
    for name, tensor in random_tensors().items():
        layer, part = name.split(".")
        theirs[f"{TORCHVGGISH[layer]}.{part}"] = tensor
    path = tmp_path / f"vggish-10086976{suffix}"
    if suffix == ".pth":
        torch.save(theirs, path, _use_new_zipfile_serialization=False)  # as in 2019
    else:
        save_file(theirs, path)
    ported = make_encoder("vggish", weights=str(path))
    waveform = noise(MINIMUM)[None]

    (vectors,) = ported.encode(waveform, [make_pooling("clip")])

    (same,) = encoder.encode(waveform, [make_pooling("clip")])
    assert largest_difference(vectors, same) < 1e-5
    assert vectors.min() < 0
    assert ported.warning == TORCHVGGISH_WARNING
    assert "ReLU, PCA and quantisation" in TORCHVGGISH_WARNING


def test_layers_have_torchvggishs_places() -> None:
    layers: list[torch.nn.Module] = []
    n_in = 1
    for n_out in (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool"):
        if n_out == "pool":
            layers.append(torch.nn.MaxPool2d(2))
        else:
            layers += [torch.nn.Conv2d(n_in, n_out, 3, device="meta"), torch.nn.ReLU()]
            n_in = n_out
    sequence = torch.nn.Sequential(*layers)
    shapes = {f"features.{k}": tuple(v.shape) for k, v in sequence.state_dict().items()}

    ours = {f"{TORCHVGGISH[n]}.weight": (o, i, 3, 3) for n, (i, o) in CONVOLUTIONS.items()}

    assert ours == {name: shape for name, shape in shapes.items() if name.endswith("weight")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("fc1_2.bias"), "1 of 18 tensors are missing, first 'fc1_2.bias'"),
        (lambda t: t.update({"fc2.weight": torch.zeros(1, 1)}), r"'fc2.weight' has shape \(1, 1\)"),
        (lambda t: t.update({"conv1.bias": torch.full((64,), torch.nan)}), "not finite, first in"),
    ],
)
def test_other_checkpoints_are_refused_in_one_line(change, message: str, tmp_path: Path) -> None:
    small = {n: torch.zeros(()).expand(s) for n, s in expected_shapes().items()}
    change(small)
    path = tmp_path / "broken.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in small.items()}, path)

    with pytest.raises(ValueError, match=message) as caught:
        load_tensors(path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused_in_one_line(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "short.safetensors"
    path.write_bytes(checkpoint.read_bytes()[:1000])

    with pytest.raises(ValueError, match=r"short.safetensors is not a whole safetensors file"):
        _ = make_encoder("vggish", weights=str(path)).warning


def test_converted_weights_need_no_tensorflow_and_are_verified(
    checkpoint: Path, own_cache: Path
) -> None:
    ours = own_cache / CONVERTED
    ours.hardlink_to(checkpoint)

    found = find_checkpoint("", WEIGHTS["vggish"], offline=True)
    ours.unlink()
    ours.write_bytes(checkpoint.read_bytes()[:-4] + b"\x00\x00\x00\x00")

    assert found.path == ours
    assert found.sha256 == make_encoder("vggish", weights=str(checkpoint)).weights_sha256
    with pytest.raises(ValueError, match=r"vggish.safetensors has sha256 .* when first fetched"):
        find_checkpoint("", WEIGHTS["vggish"], offline=True)


def test_offline_names_file_address_size_and_place_before_any_extra(own_cache: Path) -> None:
    with pytest.raises(OSError, match="offline was asked for") as caught:
        _ = make_encoder("vggish", offline=True).weights_sha256

    message = str(caught.value)
    for part in ("www.kaggle.com/models/google/vggish", "about 290 MB", str(own_cache)):
        assert part in message
    assert "pip install" not in message
    assert "\n" not in message


def test_an_archive_that_is_none_is_one_line(own_cache: Path) -> None:
    archive = own_cache / WEIGHTS["vggish"].source.archive
    archive.write_bytes(b"<html>not found</html>\n" * 100)

    with pytest.raises(ValueError, match=r"vggish_1.tar.gz cannot be unpacked") as caught:
        find_checkpoint("", WEIGHTS["vggish"], offline=True)

    assert "\n" not in str(caught.value)
    assert "fetch it again, or delete it" in str(caught.value)


def test_a_folder_that_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not a SavedModel: expected a file variables/var"):
        _ = make_encoder("vggish", weights=str(tmp_path)).weights_sha256


def test_a_saved_model_without_tensorflow_names_the_extra(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "variables.index").write_bytes(b"")

    with pytest.raises(ValueError, match=r"anomalous-sound-pipeline\[vggish\]") as caught:
        _ = make_encoder("vggish", weights=str(tmp_path)).weights_sha256

    assert "\n" not in str(caught.value)
    assert [file.name for file in own_cache.iterdir() if file.suffix != ".lock"] == []
