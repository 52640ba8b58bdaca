"""The clips and vectors of a finished run are found again, or it is said why they are not."""

from __future__ import annotations

import json

import pytest
from small_recordings import write_recordings

from pipeline.exits import UsageError
from pipeline.finished_run import read_finished_run
from pipeline.model import read_model
from pipeline.run_sources import find_sources, own_model


def found(finished, folder, **given):
    """Find the sources of a run with the vectors of the finished jobs."""
    vectors = finished.data.parent / "embeddings"
    return find_sources(folder, "dev_data", {"cache_dir": vectors, **given})


def test_every_combination_of_a_grid_has_its_vectors(finished):
    sources = found(finished, finished.grid)

    for part in finished.grid.glob("*/config.toml"):
        run = read_finished_run(part.parent)
        combination = sources.combination_of(run)
        (fit,) = sources.fits_of(combination, read_model(run.folder))
        assert combination.name == part.parent.name
        assert fit.source.read([run.clips[0].key]).ndim == 2
        assert sources.lacking(run) == ""


def test_recordings_of_another_run_are_not_taken_for_those_of_this_one(finished, tmp_path):
    run = read_finished_run(finished.single)
    one_machine = write_recordings(tmp_path / "one", ids=("id_02",))
    other = write_recordings(tmp_path / "other", ids=("id_04",))

    def lacking(data):
        return found(finished, run.folder, data=str(data), cache_dir=tmp_path / "new").lacking(run)

    assert "lacks 6 of the 12 test clips" in lacking(one_machine)
    with pytest.raises(ValueError, match=r"lacks 12 of the 12 test clips, first .*with --data"):
        lacking(other)


def test_vectors_that_are_others_than_those_of_the_model_are_refused(finished, tmp_path):
    run = read_finished_run(finished.single)
    config = run.folder / "config.toml"
    config.write_text(config.read_text().replace('normalize = "none"', 'normalize = "rms"'))
    sources = found(finished, run.folder, cache_dir=tmp_path / "new")

    with pytest.raises(ValueError, match="are not those of its model"):
        sources.fits_of(sources.combination_of(run), read_model(run.folder))


def test_a_class_that_a_model_names_is_not_imported_unasked(finished):
    run = read_finished_run(finished.single)
    settings = found(finished, run.folder).settings
    file = run.folder / "model" / "model.json"
    facts = json.loads(file.read_text())
    facts["members"][0]["detector"] = "stranger.module:Class"
    file.write_text(json.dumps(facts))

    with pytest.raises(UsageError, match=r"names the class stranger\.module:Class"):
        own_model(run, settings)
