"""Embeddings become points on a plane that keep what is near together."""

import numpy as np
import pytest

from report.embedding_map import SIDE, embedding_map


@pytest.mark.parametrize("shape", [(40, 8), (40, 5, 8), (40, 2, 4)])
def test_two_groups_of_clips_lie_apart_inside_the_square(shape, rng):
    vectors = rng.normal(size=shape)
    vectors[20:] += 6.0

    placed = embedding_map([str(i) for i in range(40)], vectors, of="panns clip")

    across = placed.points[:, 0]
    assert max(across[:20]) < min(across[20:]) or max(across[20:]) < min(across[:20])
    assert (placed.points >= 0).all()
    assert (placed.points <= SIDE).all()
    assert placed.across.startswith("component 1, ")
    assert placed.about.startswith("panns clip placed by their two principal components")


def test_frames_past_a_clips_end_count_nothing(rng):
    vectors = rng.normal(size=(5, 6, 3))
    vectors[2, 4:] = np.nan

    assert np.isfinite(embedding_map("abcde", vectors).points).all()


def test_two_clips_have_no_map():
    with pytest.raises(ValueError, match="3 clips or more"):
        embedding_map("ab", np.ones((2, 3)))


@pytest.mark.slow
def test_umap_places_clips_too(rng):
    pytest.importorskip("umap", reason="the extra umap is not installed")
    vectors = rng.normal(size=(30, 8))
    vectors[15:] += 9.0

    placed = embedding_map([str(i) for i in range(30)], vectors, "umap")

    assert placed.across == "UMAP 1"
    assert "McInnes" in placed.about
