"""Poolings keep their definitions and reach the limits that their papers state."""

import numpy as np
import pytest
import torch

from embed import POOLINGS, make_pooling
from embed.pooling import GWRP, RDP, Bands, Fluctuation, GeM, Quiet


@pytest.fixture(params=["numpy", "torch"])
def frames(request):
    """Three clips of 40 frames of 128 bands, in dB, as an array and as a tensor."""
    values = np.random.default_rng(0).normal(-40, 10, (3, 40, 128)).astype(np.float32)
    return values if request.param == "numpy" else torch.from_numpy(values)


def exact(frames) -> np.ndarray:
    return np.asarray(frames).astype(np.float64)


def close(a, b, rtol=1e-5, atol=1e-4):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=atol)


def test_gwrp_is_a_weighted_mean_of_sorted_frames(frames):
    x = exact(frames)
    weights = 0.7 ** np.arange(40)
    ranked = -np.sort(-x, axis=1)

    close(GWRP(r=0.7)(frames), (ranked * weights[:, None]).sum(1) / weights.sum())


def test_gwrp_is_the_mean_for_r_1_and_the_maximum_for_r_0(frames):
    close(GWRP(r=1.0)(frames), exact(frames).mean(1))
    close(GWRP(r=0.0)(frames), exact(frames).max(1))


def test_gem_of_positive_frames_is_the_power_mean(frames):
    x = abs(frames)

    close(GeM(p=6)(x), (exact(x) ** 6).mean(1) ** (1 / 6))


def test_gem_runs_from_the_mean_to_the_maximum_for_values_of_any_sign(frames):
    close(GeM(p=1)(frames), exact(frames).mean(1))
    close(GeM(p=1e5)(frames), exact(frames).max(1), atol=1e-2)


def test_gem_of_zeros_is_zero():
    assert GeM()(torch.zeros(1, 5, 3)).abs().max() == 0


def test_rdp_weights_frames_by_their_deviation(frames):
    x = exact(frames)
    deviation = np.linalg.norm(x - x.mean(1, keepdims=True), axis=2)
    weights = (1 + deviation / deviation.max(1, keepdims=True)) ** 10
    weights /= weights.sum(1, keepdims=True)

    close(RDP(gamma=10)(frames), (x * weights[..., None]).sum(1))


def test_rdp_by_hand():
    x = np.array([[[0.0], [0.0], [0.0], [4.0]]])  # mean 1, distances 1, 1, 1, 3

    # weights (4/3)^2 three times and 2^2: 16, 16, 16 and 36 of 84
    close(RDP(gamma=2)(x), [[4 * 36 / 84]], atol=1e-12)


def test_bands_are_pooled_each_by_itself():
    still, moving = [[1.0], [1.0], [1.0], [1.0]], [[0.0], [0.0], [0.0], [4.0]]
    x = np.array([[still, moving]])  # (1, 2 bands, 4 frames, 1)

    close(Bands(over_time="rdp", gamma=2)(x), [[[1.0], [4 * 36 / 84]]], atol=1e-12)
    close(Bands(over_time="rdp", gamma=0)(x), [[[1.0], [1.0]]], atol=1e-12)
    close(Bands(over_time="max")(x), [[[1.0], [4.0]]])
    assert Bands()(x) is x
    assert (Bands().source, Bands(over_time="max").source) == ("bands", "map")


def test_rdp_runs_from_the_mean_to_the_frame_that_deviates_most(frames):
    close(RDP(gamma=0)(frames), exact(frames).mean(1))
    x = exact(frames)
    furthest = np.linalg.norm(x - x.mean(1, keepdims=True), axis=2).argmax(1)
    close(RDP(gamma=1e5)(frames), x[np.arange(3), furthest])


def test_rdp_of_a_constant_is_the_constant():
    close(RDP()(torch.full((1, 7, 4), -100.0)), np.full((1, 4), -100.0))
    close(RDP(gamma=1e4)(torch.full((1, 7, 4), -100.0)), np.full((1, 4), -100.0))


def test_quiet_is_the_mean_of_the_lowest_quarter_per_band(frames):
    close(Quiet()(frames), np.sort(exact(frames), axis=1)[:, :10].mean(1))


def test_fluctuation_is_level_then_fluctuation_then_flux(frames):
    x = exact(frames)
    level = 10 * np.log10((10 ** (x / 10)).reshape(3, 40, 64, 2).mean(3)).mean(1)
    bands = x.reshape(3, 40, 32, 4).mean(3)
    fluctuation = np.log(bands.std(1) + 0.1)
    flux = np.log(np.diff(bands, axis=1).std(1) + 0.1)

    close(Fluctuation()(frames), np.concatenate([level, fluctuation, flux], axis=1))


@pytest.mark.parametrize("n_frames", [1, 2])
def test_fluctuation_of_very_short_clips_repeats_itself_as_flux(frames, n_frames):
    pooled = Fluctuation()(frames[:, :n_frames])

    assert np.isfinite(exact(pooled)).all()
    close(pooled[:, 96:], pooled[:, 64:96])


@pytest.mark.parametrize("name", [n for n in POOLINGS if make_pooling(n).source == "frames"])
def test_a_clip_pools_the_same_alone_and_in_any_company(name, frames):
    pooling = make_pooling(name)

    close(pooling(frames)[1:2], pooling(frames[1:2]))
    backwards = [2, 1, 0]
    close(pooling(frames[backwards])[backwards], pooling(frames))


@pytest.mark.parametrize("name", POOLINGS)
def test_arrays_and_tensors_give_the_same_numbers_of_their_own_kind(name):
    values = np.random.default_rng(0).normal(-40, 10, (3, 40, 128)).astype(np.float32)

    of_array = make_pooling(name)(values)
    of_tensor = make_pooling(name)(torch.from_numpy(values))

    assert isinstance(of_array, np.ndarray)
    assert of_array.dtype == np.float32
    assert of_tensor.dtype == torch.float32
    np.testing.assert_allclose(of_array, of_tensor.numpy(), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("name", POOLINGS)
def test_a_pooling_knows_the_name_it_is_registered_under(name):
    assert make_pooling(name).name == name


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("gwrp", "r", 1.5),
        ("gem", "p", 0.5),
        ("rdp", "gamma", -5.0),
        ("fluctuation", "groups", 0),
        ("fluctuation", "groups", 24),
        ("fluctuation", "groups", "many"),
    ],
)
def test_an_option_out_of_range_is_refused(name, option, value):
    with pytest.raises(ValueError, match=rf"{name}.{option}.*{value}"):
        make_pooling(name, **{option: value})


def test_fluctuation_has_as_many_groups_as_asked_for(frames):
    x = exact(frames)
    bands = x.reshape(3, 40, 16, 8).mean(3)
    expected = [np.log(bands.std(1) + 0.1), np.log(np.diff(bands, axis=1).std(1) + 0.1)]

    pooled = Fluctuation(groups=16)(frames)

    assert pooled.shape == (3, 96)
    close(pooled[:, :64], Fluctuation()(frames)[:, :64], atol=0)
    close(pooled[:, 64:], np.concatenate(expected, axis=1))


def test_fluctuation_of_other_widths_keeps_the_size_of_its_groups(frames):
    assert Fluctuation()(frames[:, :, :64]).shape == (3, 32 + 2 * 16)
    assert Fluctuation(groups=16)(frames[:, :, :64]).shape == (3, 32 + 2 * 8)


@pytest.mark.parametrize(("groups", "dim"), [(32, 32), (32, 80), (1, 64)])
def test_a_width_that_fluctuation_cannot_take_is_refused_with_the_reason(groups, dim):
    pooling = Fluctuation(groups=groups)

    assert f"got {dim}" in pooling.why_not(dim)
    with pytest.raises(ValueError, match=f"multiple of .*got {dim}"):
        pooling(np.zeros((1, 5, dim), np.float32))


def test_a_long_recording_is_averaged_without_loss():
    frames = np.full((1, 100_000, 2), -40.1, np.float32)

    close(make_pooling("mean")(frames), [[-40.1, -40.1]], rtol=1e-7, atol=0)
