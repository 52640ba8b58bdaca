"""BEATs, EAT, CED and Dasheng keep the promises that transformers over patches share."""

import logging
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_networks import DEPTH, WIDTH, save_small, shapes_of, tensors_of

from embed import make_encoder, make_pooling
from fetch.weights import RANDOM_WARNING, WEIGHTS

RATE = 16_000
NAMES = ("beats", "eat", "ced", "dasheng")
STEP = {"beats": 16, "eat": 16, "ced": 16, "dasheng": 4}  # frames per patch
N_BANDS = {"beats": 8, "eat": 8, "ced": 4, "dasheng": 1}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> dict[str, Path]:
    return {name: save_small(tmp_path_factory.mktemp(name), name) for name in NAMES}


@pytest.fixture(scope="module")
def encoders(checkpoints):
    return {name: make_encoder(name, weights=str(checkpoints[name])) for name in NAMES}


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).normal(0, 0.1, n_samples)
    return samples.astype(np.float32)


def encode(encoder, waveforms: np.ndarray, *names: str) -> list[np.ndarray]:
    return encoder.encode(waveforms, [make_pooling(name) for name in names])


def largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_gives_the_same_alone_and_in_a_batch_at_any_length(encoders, name):
    encoder = encoders[name]

    for n_samples in (encoder.min_samples, 12_345, 16_001):
        waveforms = np.stack([noise(n_samples, seed) * (1 + seed) for seed in range(5)])
        waveforms[3] = 0  # silence
        batch = encode(encoder, waveforms, "clip", "frames")
        for i, waveform in enumerate(waveforms):
            alone = encode(encoder, waveform[None], "clip", "frames")
            for ours, theirs in zip(batch, alone, strict=True):
                assert np.isfinite(ours).all()
                assert largest_difference(ours[i], theirs[0]) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_pooled_from_one_map_of_patches(encoders, name):
    encoder = encoders[name]
    n_samples = 2 * RATE
    n_columns = encoder.longest and ((n_samples - encoder.frame) // 160 + 1) // STEP[name]

    outputs = encoder.forward(torch.from_numpy(noise(n_samples)[None]), frozenset(encoder.outputs))

    grid = outputs["map"] if "map" in outputs else outputs["frames"][:, None]
    assert grid.shape == (1, N_BANDS[name], n_columns, WIDTH)
    torch.testing.assert_close(outputs["frames"], grid.mean(dim=1))
    if "bands" in outputs:
        torch.testing.assert_close(outputs["bands"], grid.mean(dim=2))
    if name == "eat":
        torch.testing.assert_close(outputs["clip"], outputs["cls"])
    else:
        torch.testing.assert_close(outputs["clip"], grid.mean(dim=(1, 2)))


def test_the_vector_of_eat_is_the_same_whether_patches_are_wanted_or_not(encoders):
    waveform = noise(RATE)[None]

    pruned, _ = encode(encoders["eat"], waveform, "clip", "cls")
    whole, _ = encode(encoders["eat"], waveform, "clip", "bands")

    assert largest_difference(pruned, whole) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_a_long_clip_is_the_mean_of_windows_and_its_frames_are_in_a_row(encoders, name):
    encoder, step = encoders[name], STEP[name]
    waveform = noise(11 * RATE)
    windows = encoder.windows(len(waveform))
    parts = [encode(encoder, waveform[None, a:b], "clip", "frames") for a, b in windows]

    clip, frames = encode(encoder, waveform[None], "clip", "frames")

    assert len(windows) == 2
    assert windows[1][1] > len(waveform) - 160
    assert largest_difference(clip[0], np.mean([part[0][0] for part in parts], axis=0)) < 1e-5
    first, second = (part[1][0] for part in parts)
    n_new = len(frames[0]) - len(first)
    assert largest_difference(frames[0], np.concatenate([first, second[-n_new:]])) < 1e-5
    moved = windows[1][0] // 160  # frames between the starts of the windows
    assert n_new == len(second) - ((len(first) - 1) * step - moved) // step - 1


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_that_is_not_finite_keeps_to_its_own_row(encoders, name):
    waveforms = np.stack([noise(RATE), np.full(RATE, np.nan, np.float32)])

    (clip,) = encode(encoders[name], waveforms, "clip")

    assert np.isfinite(clip[0]).all()
    assert np.isnan(clip[1]).any()


@pytest.mark.parametrize("name", NAMES)
def test_bf16_is_near(encoders, checkpoints, name):
    coarse = make_encoder(name, weights=str(checkpoints[name]), precision="bf16")

    (exact,) = encode(encoders[name], noise(RATE)[None], "clip")
    (near,) = encode(coarse, noise(RATE)[None], "clip")

    assert near.dtype == np.float32
    assert 1e-4 < largest_difference(near, exact) < 0.05
    assert coarse.features(torch.from_numpy(noise(RATE)[None])).dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_a_middle_layer_is_a_map_and_what_lies_above_it_is_not_computed(
    encoders, checkpoints, name, monkeypatch
):
    encoder = make_encoder(name, weights=str(checkpoints[name]), layer=2)
    front_end, network, _ = encoder._parts
    waveform = torch.from_numpy(noise(RATE)[None])
    with torch.inference_mode():
        tokens = network(front_end(waveform), 2, 0)[0]
    called = []
    for number, block in enumerate(network.blocks, start=1):
        block.register_forward_hook(lambda *_, number=number: called.append(number))

    clip, frames = encode(encoder, waveform.numpy(), "clip", "frames")

    assert called == [1, 2]
    n_columns = frames.shape[1]
    grid = encoder.grid(tokens)[:, :, :n_columns]
    assert clip.shape == (1, N_BANDS[name] * WIDTH)
    assert largest_difference(clip, grid.mean(dim=2).flatten(1).numpy()) < 1e-5
    assert largest_difference(frames, grid.mean(dim=1).numpy()) < 1e-5
    assert largest_difference(frames, encode(encoders[name], waveform.numpy(), "frames")[0]) > 0.01


def test_a_layer_that_is_not_there_is_refused(checkpoints):
    encoder = make_encoder("beats", weights=str(checkpoints["beats"]), layer=DEPTH + 1)

    with pytest.raises(ValueError, match=r"beats has no layer 4: layer is 1 to 3, or last"):
        encode(encoder, noise(RATE)[None], "clip")


def test_random_weights_carry_a_warning_and_tell_clips_apart():
    encoder = make_encoder("ced", weights="random", variant="tiny")
    waveforms = np.stack([noise(RATE), np.sign(noise(RATE))])

    (clip,) = encode(encoder, waveforms, "clip")

    assert encoder.warning == RANDOM_WARNING
    assert clip.shape == (2, 192)
    assert np.abs(clip[0] - clip[1]).max() > 0.01 * np.abs(clip).max()


def test_every_variant_has_published_weights_of_its_own():
    found = {
        make_encoder(name, weights="random", variant=variant).published_name
        for name, variants in (
            ("beats", ("iter3_plus", "iter3")),
            ("eat", ("eat", "sslam")),
            ("ced", ("base", "small", "mini", "tiny")),
        )
        for variant in variants
    }

    assert len(found) == 8
    assert found <= set(WEIGHTS)
    with pytest.raises(ValueError, match=r"ced.variant .*'base', 'small', 'mini' or 'tiny'"):
        make_encoder("ced", variant="huge")


@pytest.mark.parametrize("name", NAMES)
def test_tensors_in_a_state_dict_of_torch_or_in_safetensors_give_the_same(encoders, name, tmp_path):
    torch.save({"model": tensors_of(name)}, tmp_path / "whole.pth")
    tensors = {key: tensor.clone() for key, tensor in tensors_of(name).items()}
    save_file(tensors, tmp_path / "model.safetensors")

    expected = encode(encoders[name], noise(RATE)[None], "clip")[0]

    for file in ("whole.pth", "model.safetensors"):
        encoder = make_encoder(name, weights=str(tmp_path / file))
        assert largest_difference(encode(encoder, noise(RATE)[None], "clip")[0], expected) < 1e-5


def message_of(name: str, path: Path) -> str:
    """Encode a clip; return the message of the error that a user would see."""
    with pytest.raises(ValueError, match=r".") as caught:
        encode(make_encoder(name, weights=str(path)), noise(RATE)[None], "clip")
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


BLOCK = {
    "beats": "encoder.layers.1.fc1.weight",
    "eat": "model.blocks.1.mlp.fc1.weight",
    "ced": "encoder.blocks.1.mlp.fc1.weight",
    "dasheng": "encoder.blocks.1.mlp.fc1.weight",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_that_cannot_be_used_is_refused_in_one_line(name, tmp_path, checkpoints):
    tensors = tensors_of(name)
    first = next(iter(tensors))
    renamed = {f"net.{key}": tensor for key, tensor in tensors.items()}
    ill_shaped = {**tensors, BLOCK[name]: tensors[BLOCK[name]][:, :-1]}
    not_finite = {**tensors, BLOCK[name]: tensors[BLOCK[name]] * float("nan")}
    lacking = {key: tensor for key, tensor in tensors.items() if key != first}

    def message(content) -> str:
        return message_of(name, save_small(tmp_path, name, content))

    assert "are missing, first" in message(renamed)
    assert "it has 'net." in message(renamed) or "it has 'encoder.net." in message(renamed)
    assert f"{BLOCK[name]!r} has shape" in message(ill_shaped)
    assert f"not finite, first in {BLOCK[name]!r}" in message(not_finite)
    assert f"1 of {len(shapes_of(name))} tensors are missing, first {first!r}" in message(lacking)
    path = save_small(tmp_path, name)
    path.write_bytes(path.read_bytes()[:-1000])
    assert "truncated" in message_of(name, path) or "whole" in message_of(name, path)


@pytest.mark.parametrize("name", ["eat", "ced", "dasheng"])
def test_a_width_that_no_heads_make_up_is_refused(name, tmp_path):
    tensors = {
        key: torch.zeros([size * 80 // WIDTH if size % WIDTH == 0 else size for size in shape])
        for key, shape in shapes_of(name).items()
    }
    if name == "dasheng":  # whose patches are 64 bands high
        tensors["encoder.patch_embed.proj.weight"] = torch.zeros(80, 1, 64, 4)
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"encoder.init_bn.1.{part}"] = torch.zeros(64)
    if name == "ced":
        for part in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"encoder.init_bn.{part}"] = torch.zeros(64)

    path = save_small(tmp_path, name, tensors)

    assert "width 80 is no multiple of 64" in message_of(name, path)


class Malicious:
    """Unpickling it would run a command."""

    def __reduce__(self):
        return Path.touch, (Path("executed"),)


@pytest.mark.parametrize("name", NAMES)
def test_a_pickle_that_would_run_code_is_refused_and_not_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pt"
    torch.save({"cfg": Malicious(), "model": tensors_of(name)}, path)
    plain = tmp_path / "plain.pt"
    plain.write_bytes(pickle.dumps({"model": Malicious()}, protocol=2))

    for each in (path, plain):
        assert "more than tensors, which is never run" in message_of(name, each)
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("name", "extra", "said"),
    [
        ("beats", "predictor.weight", r"fine-tuned: its classifier \(predictor.weight\)"),
        ("eat", "model.head.weight", r"fine-tuned: its classifier \(model.head.weight\)"),
        ("dasheng", "encoder.other.weight", "1 more tensors, not used, first 'encoder.other"),
    ],
)
def test_tensors_that_are_not_used_are_said(name, extra, said, tmp_path, caplog, encoders):
    tensors = {**tensors_of(name), extra: torch.zeros(527, WIDTH)}
    encoder = make_encoder(name, weights=str(save_small(tmp_path, name, tensors)))

    with caplog.at_level(logging.WARNING, logger="embed"):
        (clip,) = encode(encoder, noise(RATE)[None], "clip")

    assert [record for record in caplog.records if record.levelno == logging.WARNING]
    assert re.search(said, caplog.text)
    assert largest_difference(clip, encode(encoders[name], noise(RATE)[None], "clip")[0]) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_as_published_is_used_without_a_word(name, checkpoints, caplog):
    with caplog.at_level(logging.WARNING, logger="embed"):
        encode(make_encoder(name, weights=str(checkpoints[name])), noise(RATE)[None], "clip")

    assert caplog.text == ""
