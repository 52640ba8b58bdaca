"""Scores come from normal training clips alone; labels are looked at afterwards, once."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from fitted_units import COLUMNS, SHAPES, Embeddings, by_key, quick, score, table

from detect import DETECTORS, facts_of
from detect.detector import last_step
from detect.fitting import (
    ClipTable,
    DetectorChoice,
    fit_and_score,
    units,
)
from detect.out_of_fold import out_of_fold


@pytest.fixture(params=DETECTORS)
def detector(request):
    choice, facts = quick(request.param)
    return choice, SHAPES[facts.takes], "type" if facts.needs_ids else "id"


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


def test_networks_take_the_device_and_report_every_epoch(detector):
    choice, shape, fit_per = detector
    (unit, *_) = units(table(), fit_per)
    lines = []

    scored = fit_and_score(
        unit, Embeddings(shape), replace(choice, device="cpu"), tell=lines.append
    )

    last = last_step(scored.detector)
    assert hasattr(last, "device") == facts_of(choice.name).trains_network
    assert getattr(last, "device", "cpu") == "cpu"
    assert len(lines) == len(scored.history)
    for line, epoch in zip(lines, scored.history, strict=True):
        loss = f"loss {epoch.held_out_loss:.3g}"
        assert line == f"{unit.name}: epoch {epoch.number} of {last.epochs}, {loss}"
    assert getattr(last, "on_epoch", None) is None


def test_warnings_of_fitting_and_rating_are_kept_once_each():
    (unit, *_) = units(table())

    def read(keys):
        warnings.warn(f"{keys[0].split('/')[1]} is odd", stacklevel=1)
        return Embeddings()(keys)

    scored = fit_and_score(unit, read, DetectorChoice("mlp", {"epochs": 2}))

    assert scored.warnings == ("test is odd", "train is odd")


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
    assert sorted(read.keys_read) == sorted(set(clips.key) - {clips.key[3]})


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


def test_domains_of_training_clips_reach_the_detectors_that_take_them():
    clips = table(ids=("id_00",), n_train=12)
    domains = tuple("target" if key.endswith(("1.wav", "2.wav")) else "source" for key in clips.key)
    choice = DetectorChoice("knn", {"per_domain": True})
    (unit,) = units(replace(clips, domain=domains))

    fitted = fit_and_score(unit, Embeddings(), choice).detector
    held_out = out_of_fold(unit, Embeddings(), choice)

    assert [len(bank.clips_) for bank in last_step(fitted).banks_] == [
        unit.train_domains.count(name) for name in ("source", "target")
    ]
    assert np.isfinite(held_out.scores).all()
    with pytest.raises(ValueError, match="per_domain needs training clips of two domains"):
        fit_and_score(units(clips)[0], Embeddings(), choice)


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
