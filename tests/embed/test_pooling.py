"""Poolings keep their definitions and reach the limits that their papers state."""

import numpy as np
import pytest
import torch

from embed import POOLINGS, make_pooling
from embed.pooling import GWRP, RDP, Fluctuation, GeM, Quiet


@pytest.fixture
def frames() -> torch.Tensor:
    """Three clips of 40 frames of 128 bands, in dB."""
    return torch.from_numpy(np.random.default_rng(0).normal(-40, 10, (3, 40, 128))).float()


def close(a, b, rtol=1e-5, atol=1e-4):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=atol)


def test_gwrp_is_a_weighted_mean_of_sorted_frames(frames):
    x = frames.double().numpy()
    weights = 0.7 ** np.arange(40)
    ranked = -np.sort(-x, axis=1)

    close(GWRP(r=0.7)(frames), (ranked * weights[:, None]).sum(1) / weights.sum())


def test_gwrp_is_the_mean_for_r_1_and_the_maximum_for_r_0(frames):
    close(GWRP(r=1.0)(frames), frames.mean(1))
    close(GWRP(r=0.0)(frames), frames.amax(1))


def test_gem_of_positive_frames_is_the_power_mean(frames):
    x = frames.abs()

    close(GeM(p=6)(x), (x.double() ** 6).mean(1) ** (1 / 6))


def test_gem_runs_from_the_mean_to_the_maximum_for_values_of_any_sign(frames):
    close(GeM(p=1)(frames), frames.mean(1))
    close(GeM(p=1e5)(frames), frames.amax(1), atol=1e-2)


def test_gem_of_zeros_is_zero():
    assert GeM()(torch.zeros(1, 5, 3)).abs().max() == 0


def test_rdp_weights_frames_by_their_deviation(frames):
    x = frames.double().numpy()
    deviation = np.linalg.norm(x - x.mean(1, keepdims=True), axis=2)
    weights = (deviation / deviation.mean(1, keepdims=True)) ** 10
    weights /= weights.sum(1, keepdims=True)

    close(RDP(gamma=10)(frames), (x * weights[..., None]).sum(1))


def test_rdp_runs_from_the_mean_to_the_frame_that_deviates_most(frames):
    close(RDP(gamma=0)(frames), frames.mean(1))
    furthest = (frames - frames.mean(1, keepdim=True)).norm(dim=2).argmax(1)
    close(RDP(gamma=1e5)(frames), frames[torch.arange(3), furthest])


def test_rdp_of_a_constant_is_the_constant():
    close(RDP()(torch.full((1, 7, 4), -100.0)), np.full((1, 4), -100.0))


def test_quiet_is_the_mean_of_the_lowest_quarter_per_band(frames):
    close(Quiet()(frames), np.sort(frames.numpy(), axis=1)[:, :10].mean(1))


def test_fluctuation_is_level_then_fluctuation_then_flux(frames):
    x = frames.double().numpy()
    level = 10 * np.log10((10 ** (x / 10)).reshape(3, 40, 64, 2).mean(3)).mean(1)
    bands = x.reshape(3, 40, 32, 4).mean(3)
    fluctuation = np.log(bands.std(1) + 0.1)
    flux = np.log(np.diff(bands, axis=1).std(1) + 0.1)

    close(Fluctuation()(frames), np.concatenate([level, fluctuation, flux], axis=1))


@pytest.mark.parametrize("n_frames", [1, 2])
def test_fluctuation_of_very_short_clips_repeats_itself_as_flux(frames, n_frames):
    pooled = Fluctuation()(frames[:, :n_frames])

    assert torch.isfinite(pooled).all()
    close(pooled[:, 96:], pooled[:, 64:96])


@pytest.mark.parametrize("name", [n for n in POOLINGS if make_pooling(n).source == "frames"])
def test_a_clip_pools_the_same_alone_and_in_any_company(name, frames):
    pooling = make_pooling(name)

    close(pooling(frames)[1:2], pooling(frames[1:2]))
    close(pooling(frames.flip(0)).flip(0), pooling(frames))


@pytest.mark.parametrize("name", POOLINGS)
def test_a_pooling_knows_the_name_it_is_registered_under(name):
    assert make_pooling(name).name == name


@pytest.mark.parametrize(("name", "option", "value"), [("gwrp", "r", 1.5), ("gem", "p", 0.5)])
def test_an_option_out_of_range_is_refused(name, option, value):
    with pytest.raises(ValueError, match=rf"{name}.{option}.*{value}"):
        make_pooling(name, **{option: value})
