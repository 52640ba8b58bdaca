"""The picture of a reconstruction: three maps over time, or curves over the bands."""

import io

import numpy as np
import pytest
from PIL import Image

from detect.reconstruction import Reconstruction, worst_rebuilt
from report.reconstruction_picture import draw_reconstruction

LOW = np.arange(40) * 200.0


@pytest.mark.parametrize(("n_frames", "step", "height"), [(1000, 0.032, 560), (1, None, 380)])
def test_a_picture_is_drawn_of_frames_and_of_a_vector(n_frames, step, height, rng):
    given = rng.normal(size=(n_frames, 40))
    rebuilt = given + 0.1
    error = np.full((n_frames, 40), 0.5)
    error[: max(1, n_frames // 4), 5:9] = 4.0
    if n_frames > 1:
        rebuilt[:10] = np.nan
    shown = Reconstruction(given, rebuilt, error, np.full(40, 0.4))
    picture = io.BytesIO()

    worst = worst_rebuilt(shown, LOW, LOW + 200, step)
    draw_reconstruction(picture, shown, LOW, LOW + 200, step, worst)

    assert Image.open(picture).size == (900, height)
