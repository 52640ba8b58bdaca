"""The profile of normal clips: exact statistics, in constant memory, in any order."""

import json

import numpy as np
import pytest
from safetensors.numpy import load, save

from detect.profile import STATISTICS, NormalProfile, ProfileLearner, clip_statistics

N_BANDS = 16
LOW = np.arange(N_BANDS) * 500.0
HIGH = LOW + 500.0


def clips(rng, n=40, n_frames=200):
    return [
        (-30 + rng.normal(0, 2) + rng.normal(0, 5, (n_frames, N_BANDS))).astype(np.float32)
        for _ in range(n)
    ]


def profile_of(frames):
    return NormalProfile.of(frames, LOW, HIGH, 0.032)


def test_statistics_of_a_clip_are_those_of_its_names():
    frames = np.zeros((64, 2), np.float32)
    frames[:2, 0] = 32.0  # the loudest 1/32
    frames[:, 1] = np.repeat([-10.0, 10.0], 32)

    level, loud, quiet, unsteadiness = clip_statistics(frames)

    np.testing.assert_allclose(level, [1.0, 0.0])
    np.testing.assert_allclose(loud, [32.0, 10.0])
    np.testing.assert_allclose(quiet, [0.0, -10.0])
    np.testing.assert_allclose(unsteadiness, [np.std(frames[:, 0]), 10.0], rtol=1e-6)


def test_means_and_spreads_are_those_over_clips(rng):
    frames = clips(rng, n=400)
    every = np.stack([clip_statistics(clip) for clip in frames])

    profile = profile_of(frames)

    np.testing.assert_allclose(profile.mean, every.mean(axis=0), rtol=1e-9)
    own = every.std(axis=0)
    assert (np.abs(profile.spread - own) <= 0.05 * own + 0.25).all()
    np.testing.assert_array_equal(profile.frame_mean, profile.mean[0])


def test_one_percent_of_the_frames_is_above_and_below(rng):
    frames = clips(rng, n=100)
    together = np.concatenate(frames)

    profile = profile_of(frames)

    np.testing.assert_allclose(profile.frame_high, np.quantile(together, 0.99, axis=0), atol=0.3)
    np.testing.assert_allclose(profile.frame_low, np.quantile(together, 0.01, axis=0), atol=0.3)


def test_the_order_of_the_clips_does_not_matter(rng):
    frames = clips(rng)

    forward, backward = profile_of(frames), profile_of(frames[::-1])

    for name, value in forward.to_dict().items():
        np.testing.assert_allclose(value, backward.to_dict()[name], rtol=1e-9, err_msg=name)


def test_memory_does_not_grow_with_the_clips(rng):
    learner = ProfileLearner(LOW, HIGH, 0.032)
    sizes = set()
    for frames in clips(rng, n=5):
        learner.update(frames)
        sizes.add(sum(np.asarray(value).nbytes for value in vars(learner).values()))

    assert len(sizes) == 1


def test_a_new_normal_clip_deviates_by_about_one_spread(rng):
    profile = profile_of(clips(rng, n=100))

    deviations = np.stack([profile.deviations(frames) for frames in clips(rng, n=100)])

    assert deviations.shape == (100, len(STATISTICS), N_BANDS)
    assert 0.7 < deviations.std() < 1.3


def test_few_and_equal_clips_give_finite_deviations(rng):
    (frames,) = clips(rng, n=1)

    for profile in (profile_of([frames]), profile_of([frames] * 5)):
        assert np.isfinite(profile.deviations(frames + 3)).all()
        np.testing.assert_allclose(profile.deviations(frames), 0, atol=1e-4)


def test_a_profile_survives_json_and_safetensors(rng):
    profile = profile_of(clips(rng))
    content = profile.to_dict()
    arrays = {name: value for name, value in content.items() if isinstance(value, np.ndarray)}
    numbers = {name: value for name, value in content.items() if name not in arrays}

    again = NormalProfile.from_dict({**load(save(arrays)), **json.loads(json.dumps(numbers))})

    (frames,) = clips(rng, n=1)
    np.testing.assert_array_equal(again.deviations(frames), profile.deviations(frames))
    assert again.to_dict().keys() == content.keys()


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((5, N_BANDS + 1)), r"Frames are \(n_frames, 16\) in dB"),
        (np.zeros((0, N_BANDS)), r"got \(0, 16\)"),
        (np.full((5, N_BANDS), np.nan), "NaN or infinite"),
    ],
)
def test_unusable_frames_are_refused(frames, message, rng):
    with pytest.raises(ValueError, match=message):
        profile_of([frames])
    with pytest.raises(ValueError, match=message):
        profile_of(clips(rng, n=2)).deviations(frames)


def test_a_profile_of_nothing_or_of_half_a_file_is_refused(rng):
    with pytest.raises(ValueError, match="at least one clip"):
        profile_of([])

    content = profile_of(clips(rng, n=2)).to_dict()
    with pytest.raises(ValueError, match=r"spread .* is \(4, 15\), expected \(4, 16\)"):
        NormalProfile.from_dict({**content, "spread": content["spread"][:, 1:]})
    del content["mean"]
    with pytest.raises(ValueError, match="lacks mean"):
        NormalProfile.from_dict(content)
