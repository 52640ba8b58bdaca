"""Autoencoders of many machines, trained as one, learn what each would learn alone."""

import numpy as np
import pytest

from detect.detectors.autoencoder import Autoencoder
from detect.detectors.ensemble import fit_together, together_is_faster
from detect.detectors.training import DivergedError
from detect.fitting import DetectorChoice, FitUnit, fit_and_score, fit_and_score_together
from detect.metrics import auc


def clips(rng, n, dim=16):
    return rng.normal(size=(n, 4)) @ rng.normal(size=(4, dim)) + 0.3 * rng.normal(size=(n, dim))


@pytest.mark.parametrize("network", ["mlp", "unet"])
@pytest.mark.parametrize("sizes", [(40, 40, 40), (64, 50, 33, 90), (12, 300)])
def test_each_machine_learns_what_it_would_learn_alone(network, sizes, rng):
    data = [clips(rng, n) for n in sizes]
    normal, anomalous = clips(rng, 60), clips(rng, 60) + 0.5
    test, truth = np.concatenate([normal, anomalous]), np.arange(120) >= 60
    together = [Autoencoder(network, epochs=60) for _ in sizes]

    fit_together(together, data)

    for X, one in zip(data, together, strict=True):
        alone = Autoencoder(network, epochs=60).fit(X)
        first, other = one.history_[0], alone.history_[0]
        assert first.training_loss == pytest.approx(other.training_loss, abs=1e-5)
        assert first.held_out_loss == pytest.approx(other.held_out_loss, abs=1e-5)
        difference = auc(truth, -one.score_samples(test)) - auc(truth, -alone.score_samples(test))
        assert abs(difference) < 0.005


def test_each_machine_stops_and_slows_down_by_itself(rng):
    data = [clips(rng, n, 8) for n in (40, 200, 25)]
    together = [Autoencoder("mlp", patience=4, learning_rate=0.01) for _ in data]

    fit_together(together, data)

    lengths = [len(one.history_) for one in together]
    alone = [Autoencoder("mlp", patience=4, learning_rate=0.01).fit(X) for X in data]
    assert len(set(lengths)) == 3
    np.testing.assert_allclose(lengths, [len(one.history_) for one in alone], atol=10)
    for one in together:
        best = min(epoch.held_out_loss for epoch in one.history_)
        assert one.history_[-1].number - 4 <= len(one.history_)
        assert one.history_[-1].held_out_loss >= best


def test_the_learning_rate_of_each_machine_halves_by_itself(rng):
    options = {"epochs": 60, "patience": 60, "learning_rate": 0.01}
    noise, rich = rng.normal(size=(20, 8)), clips(rng, 100, 8)
    together = [Autoencoder("mlp", **options) for _ in range(2)]

    fit_together(together, [noise, rich])

    for X, one in zip([noise, rich], together, strict=True):
        alone = Autoencoder("mlp", **options).fit(X)
        rates = [epoch.learning_rate for epoch in one.history_]
        assert rates == [epoch.learning_rate for epoch in alone.history_]
    first, second = ([epoch.learning_rate for epoch in one.history_] for one in together)
    assert first != second
    assert first[-1] < 0.01


def test_a_diverging_machine_is_named(rng):
    spoilt = clips(rng, 20)
    spoilt[:, 0] = 1e30  # its square is beyond float32

    with pytest.raises(DivergedError, match=r"machine 1: The training loss is inf in epoch 1"):
        fit_together([Autoencoder() for _ in range(2)], [clips(rng, 20), spoilt])


def test_different_options_are_not_trained_together(rng):
    with pytest.raises(ValueError, match="only if their options are equal"):
        fit_together([Autoencoder(), Autoencoder(epochs=3)], [clips(rng, 20)] * 2)


def test_stacking_is_left_to_small_networks_of_several_machines():
    assert together_is_faster(Autoencoder("mlp"), 128, 3)
    assert not together_is_faster(Autoencoder("mlp"), 128, 1)
    assert not together_is_faster(Autoencoder("unet"), 2048, 4)


@pytest.mark.parametrize("name", ["mlp", "knn"])
def test_scores_of_units_rated_together_are_those_of_each_alone(name, rng):
    choice = DetectorChoice(name, {"epochs": 5} if name == "mlp" else {})
    units, vectors = [], {}
    for machine_id, n in (("id_00", 30), ("id_02", 45)):
        train = tuple(f"{machine_id}/train/{i}" for i in range(n))
        test = tuple(f"{machine_id}/test/{i}" for i in range(10))
        vectors |= dict(zip(train + test, clips(rng, n + 10), strict=True))
        ids = (machine_id,)
        units.append(FitUnit("fan", machine_id, train, ids * n, test, ids * 10))

    def read(keys):
        return np.stack([vectors[key] for key in keys])

    together = fit_and_score_together(units, read, choice)

    for unit, scored in zip(units, together, strict=True):
        alone = fit_and_score(unit, read, choice)
        np.testing.assert_allclose(scored.scores, alone.scores, rtol=1e-4)
        assert scored.unit is unit
        assert len(scored.history) == len(alone.history)
