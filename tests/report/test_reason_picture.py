"""The picture of a reason: a PNG of 900 pixels that outlines the named band and moment."""

import io
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest

from detect.profile import NormalProfile
from detect.reasons import explain
from report.reason_picture import draw_reason

N_BANDS, STEP = 64, 0.032
LOW = np.arange(N_BANDS) * 125.0


@pytest.fixture
def profile(rng):
    clips = (rng.normal(-40, 3, (200, N_BANDS)) for _ in range(5))
    return NormalProfile.of(clips, LOW, LOW + 125.0, STEP)


def drawn(frames, profile, reason):
    target = io.BytesIO()
    draw_reason(target, frames, profile, reason)
    target.seek(0)
    return matplotlib.image.imread(target)[:, :, :3]


def red(picture):
    """Find the pixels of the outline: rows and columns."""
    r, g, b = np.moveaxis(picture, 2, 0)
    return np.argwhere((r > 0.75) & (g < 0.25) & (b < 0.25))


def test_the_outline_follows_the_reason(profile, rng):
    frames = rng.normal(-40, 3, (200, N_BANDS))
    frames[40:60, 20:24] += 25.0
    early = explain(frames, profile)
    late = replace(early, start_s=early.start_s + 3.0, end_s=early.end_s + 3.0)

    first, second = red(drawn(frames, profile, early)), red(drawn(frames, profile, late))

    left = first[first[:, 1] < 600], second[second[:, 1] < 600]
    assert left[0][:, 0].mean() == pytest.approx(left[1][:, 0].mean(), abs=2)
    moved = left[1][:, 1].mean() - left[0][:, 1].mean()
    assert moved == pytest.approx(3.0 * 540 / 6.4, rel=0.1)  # 540 pixels for 6.4 s


def test_the_picture_is_a_png_of_900_pixels_in_place_when_whole(tmp_path, profile, rng):
    frames = rng.normal(-30, 3, (200, N_BANDS))

    draw_reason(tmp_path / "reason.png", frames, profile, explain(frames, profile))

    assert [path.name for path in tmp_path.iterdir()] == ["reason.png"]
    assert matplotlib.image.imread(tmp_path / "reason.png").shape[1] == 900


@pytest.mark.parametrize("n_frames", [1, 30_000])
def test_very_short_and_very_long_clips_are_drawn(profile, rng, n_frames):
    frames = rng.normal(-40, 3, (n_frames, N_BANDS))

    assert drawn(frames, profile, explain(frames, profile)).shape[1] == 900
