"""Sounds and spectrograms travel inside a page."""

import base64
import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from report.media import COLUMNS_AT_MOST, map_uri, sound_of

RATE = 16_000


def content(uri, kind):
    head, _, body = uri.partition(",")
    assert head == f"data:{kind};base64"
    return io.BytesIO(base64.b64decode(body))


def test_a_sound_is_compressed_and_comes_back(rng):
    tone = (0.3 * np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)).astype(np.float32)

    sound = sound_of(tone, RATE, 10.0)

    samples, rate = soundfile.read(content(sound.uri, "audio/mpeg"))
    assert rate == RATE
    spectrum = np.abs(np.fft.rfft(samples[:RATE]))
    assert np.argmax(spectrum) == pytest.approx(500, abs=2)
    assert len(sound.uri) < tone.nbytes / 2
    assert not sound.is_cut


@pytest.mark.parametrize(("moment", "first"), [(None, 0.0), (1.0, 0.0), (7.0, 4.0), (19.0, 15.0)])
def test_a_long_sound_is_cut_around_its_moment(moment, first):
    sound = sound_of(np.zeros(20 * RATE, np.float32), RATE, 5.0, moment)

    assert (sound.first_s, sound.end_s, sound.is_cut) == (first, first + 5.0, True)


def test_a_map_has_a_pixel_per_frame_and_band_with_low_bands_below():
    values = np.zeros((30, 12))
    values[:, 0] = 1.0

    picture = Image.open(content(map_uri(values, (0.0, 1.0)), "image/webp")).convert("L")

    pixels = np.asarray(picture)
    assert pixels.shape == (12, 30)
    assert pixels[-1].mean() > pixels[0].mean() + 100


def test_a_long_map_keeps_its_loudest_frames_and_shows_nothing_for_nan():
    values = np.full((4 * COLUMNS_AT_MOST, 8), np.nan)
    values[::4] = 1.0
    values[-40:] = np.nan

    picture = Image.open(content(map_uri(values, (0.0, 1.0)), "image/webp"))

    alpha = np.asarray(picture.convert("RGBA"))[..., 3]
    assert alpha.shape == (8, COLUMNS_AT_MOST)
    assert (alpha[:, 100].min(), alpha[:, -1].max()) == (255, 0)
