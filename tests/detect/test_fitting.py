"""Scores come from normal training clips alone; labels are looked at afterwards, once."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from fitted_units import COLUMNS, SHAPES, Embeddings, quick, table

from detect import DETECTORS
from detect.detector import last_step
from detect.fitting import (
    ClipTable,
    DetectorChoice,
    fit_and_score,
    fit_and_score_together,
    units,
)


def score(clips, choice, read=None, fit_per="id"):
    read = read or Embeddings()
    return [fit_and_score(unit, read, choice, 0) for unit in units(clips, fit_per)]


def by_key(scored):
    return {
        key: value
        for one in scored
        for key, value in zip(one.unit.test_keys, one.scores, strict=True)
    }


@pytest.fixture(params=DETECTORS)
def detector(request):
    choice, row = quick(request.param)
    return choice, SHAPES[row.takes], "type" if row.needs_ids else "id"


def test_swapping_the_labels_of_all_test_clips_moves_no_score(detector):
    choice, shape, fit_per = detector
    clips = table()
    swap = {"normal": "anomalous", "anomalous": "normal"}
    swapped = tuple(
        swap[label] if split == "test" else label
        for label, split in zip(clips.label, clips.split, strict=True)
    )

    honest = by_key(score(clips, choice, Embeddings(shape), fit_per))
    blind = by_key(score(replace(clips, label=swapped), choice, Embeddings(shape), fit_per))

    assert blind.keys() == honest.keys()
    np.testing.assert_allclose(list(blind.values()), list(honest.values()), rtol=1e-5)


def test_dropping_half_of_the_test_clips_moves_no_other_score(detector):
    choice, shape, fit_per = detector
    clips = table()
    kept = [i for i, key in enumerate(clips.key) if clips.split[i] == "train" or i % 4 < 2]
    fewer = ClipTable(*(tuple(getattr(clips, c)[i] for i in kept) for c in COLUMNS))

    every = by_key(score(clips, choice, Embeddings(shape), fit_per))
    half = by_key(score(fewer, choice, Embeddings(shape), fit_per))

    assert len(half) == len(every) / 2
    np.testing.assert_allclose(list(half.values()), [every[k] for k in half], rtol=1e-5)


def test_the_order_of_the_table_moves_no_score(detector, rng):
    choice, shape, fit_per = detector
    clips = table()
    order = rng.permutation(len(clips.key))
    shuffled = ClipTable(*(tuple(getattr(clips, c)[i] for i in order) for c in COLUMNS))

    one = by_key(score(clips, choice, Embeddings(shape), fit_per))
    other = by_key(score(shuffled, choice, Embeddings(shape), fit_per))

    np.testing.assert_allclose([other[k] for k in one], list(one.values()), rtol=1e-5)


def test_networks_hear_of_their_device_and_tell_of_their_epochs(detector):
    choice, shape, fit_per = detector
    (unit, *_) = units(table(), fit_per)
    told = []

    scored = fit_and_score(unit, Embeddings(shape), replace(choice, device="cpu"), tell=told.append)

    last = last_step(scored.detector)
    assert hasattr(last, "device") == hasattr(last, "on_epoch")
    assert getattr(last, "device", "cpu") == "cpu"
    assert len(told) == len(scored.history)
    for line, epoch in zip(told, scored.history, strict=True):
        loss = f"loss {epoch.held_out_loss:.3g}"
        assert line == f"{unit.name}: epoch {epoch.number} of {last.epochs}, {loss}"
    assert getattr(last, "on_epoch", None) is None


def test_machines_fitted_together_tell_of_their_epochs_and_keep_their_warnings(monkeypatch):
    from detect.detectors import ensemble

    def fit_together(networks, clips):
        warnings.warn("the fan is odd", stacklevel=1)
        really(networks, clips)

    def read(keys):
        if "/test/" in keys[0]:
            warnings.warn(f"{keys[0]} is odd", stacklevel=1)
        return Embeddings()(keys)

    really = ensemble.fit_together
    monkeypatch.setattr(ensemble, "fit_together", fit_together)
    many, told = units(table()), []

    both = fit_and_score_together(many, read, DetectorChoice("mlp", {"epochs": 2}), 0, told.append)

    for scored, unit in zip(both, many, strict=True):
        assert scored.warnings == (f"{unit.test_keys[0]} is odd", "the fan is odd")
        assert last_step(scored.detector).on_epoch is None
    assert len(told) == 4
    assert told[0].startswith("slider id_00 and 1 more: epoch 1 of 2, loss ")


def test_a_fit_sees_normal_training_clips_only():
    clips = table(ids=("id_00",))
    label = list(clips.label)
    label[3] = "anomalous"
    read = Embeddings()

    (unit,) = units(replace(clips, label=tuple(label)))

    assert clips.key[3] not in unit.train_keys
    assert len(unit.train_keys) == 15
    assert all("/train/" in key for key in unit.train_keys)
    assert all("/test/" in key for key in unit.test_keys)
    fit_and_score(unit, read, DetectorChoice("knn"))
    assert sorted(read.asked) == sorted(set(clips.key) - {clips.key[3]})


def test_one_model_per_id_or_per_type():
    clips = table()

    assert [unit.name for unit in units(clips, "id")] == ["slider id_00", "slider id_02"]
    (whole,) = units(clips, "type")
    assert whole.name == "slider"
    assert len(whole.train_keys) == 32


def test_test_clips_without_training_clips_are_refused_by_name():
    clips = table()
    kept = [
        i
        for i, key in enumerate(clips.key)
        if clips.machine_id[i] == "id_00" or clips.split[i] == "test"
    ]
    fewer = ClipTable(*(tuple(getattr(clips, c)[i] for i in kept) for c in COLUMNS))

    for fit_per in ("id", "type"):
        with pytest.raises(ValueError, match="slider id_02 has 12 test clips but no normal train"):
            units(fewer, fit_per)


def test_an_error_of_a_fit_names_detector_machine_and_number_of_clips():
    (unit,) = units(table(ids=("id_00",), n_train=1))

    with pytest.raises(ValueError, match=r"knn on slider id_00 \(1 clips\): .*minimum of 2"):
        fit_and_score(unit, Embeddings(), DetectorChoice("knn", {"normalize": "ldn"}))


def test_frames_given_to_a_vector_detector_are_refused_with_advice():
    (unit,) = units(table(ids=("id_00",)))

    with pytest.raises(ValueError, match=r"knn takes vectors .*--pooling mean"):
        fit_and_score(unit, Embeddings((5, 6)), DetectorChoice("knn"))


def test_an_embedding_that_is_not_finite_is_named():
    (unit,) = units(table(ids=("id_00",)))

    def read(keys):
        X = Embeddings()(keys)
        X[[i for i, key in enumerate(keys) if key.endswith("00000003.wav")]] = np.nan
        return X

    with pytest.raises(ValueError, match=r"embedding of '.*00000003.wav' is not finite"):
        fit_and_score(unit, read, DetectorChoice("knn"))
