"""Networks are those of the reports, and train on normals with the best weights put back."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from detect.detectors import networks
from detect.detectors.autoencoder import Autoencoder
from detect.detectors.training import (
    DivergedError,
    Windows,
    held_out,
    mean_loss,
    place,
    seeded,
    train,
)


def reconstruction(network, batch):
    return nn.functional.mse_loss(network(batch), batch)


def widths(network):
    return [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)]


def dropouts(network):
    return {m.p for m in network.modules() if isinstance(m, nn.Dropout)}


def test_the_mlps_have_the_widths_of_the_reports():
    assert widths(networks.mlp(768)) == [(768, 256), (256, 768)]
    assert dropouts(networks.mlp(768)) == {0.0}
    assert widths(networks.mlp(2048)) == [
        (2048, 1024), (1024, 512), (512, 256), (256, 512), (512, 1024), (1024, 2048),
    ]  # fmt: skip
    assert dropouts(networks.mlp(2048)) == {0.2}
    assert widths(networks.mlp(128)) == [(128, 64), (64, 32), (32, 64), (64, 128)]


def test_the_unets_have_the_widths_of_the_reports():
    assert widths(networks.unet(768)) == [
        (768, 1024), (1024, 512), (512, 128), (128, 512), (2048, 768),
    ]  # fmt: skip
    assert widths(networks.unet(2048)) == [
        (2048, 1024), (1024, 512), (512, 256), (256, 128),
        (128, 256), (512, 512), (2048, 2048),
    ]  # fmt: skip
    assert widths(networks.unet(128)) == [
        (128, 256), (256, 128), (128, 32), (32, 128), (512, 128),
    ]  # fmt: skip
    assert dropouts(networks.unet(768)) == {0.2}


def test_a_networks_last_layer_is_linear():
    for network in (networks.mlp(768), networks.unet(768)):
        assert (network(torch.randn(64, 768)) < 0).any()


@pytest.mark.parametrize(("n_clips", "n_watched"), [(2, 1), (12, 1), (60, 6), (968, 97)])
def test_a_tenth_and_at_least_one_clip_is_held_out(n_clips, n_watched):
    fit_on, watched = held_out(n_clips, seed=0)

    assert len(watched) == n_watched
    assert sorted([*fit_on.tolist(), *watched.tolist()]) == list(range(n_clips))


def test_the_best_weights_are_put_back():
    X = torch.randn(40, 6)
    with seeded(0):
        network = nn.Linear(6, 6)
        # a rate far too high: the loss rises after its best epoch
        history = train(network, X, reconstruction, seed=0, learning_rate=0.5, patience=15)
    _, watched = held_out(40, 0)
    losses = [epoch.held_out_loss for epoch in history]

    left = mean_loss(network, X[watched], reconstruction, batch_size=8)

    assert losses[-1] > min(losses)
    assert left == pytest.approx(min(losses), abs=1e-5)


def test_training_stops_twenty_epochs_after_the_last_improvement():
    X = torch.randn(40, 6)
    with seeded(0):
        history = train(nn.Linear(6, 6), X, reconstruction, seed=0, learning_rate=0.05)
    best, last_improvement = float("inf"), 0
    for epoch in history:
        if epoch.held_out_loss < best - 1e-5:
            best, last_improvement = epoch.held_out_loss, epoch.number

    assert len(history) == last_improvement + 20 < 500


def test_the_learning_rate_halves_on_a_plateau():
    X = torch.zeros(10, 3)
    with seeded(0):
        network = nn.Linear(3, 3, bias=False)  # the loss is zero from the start
        history = train(network, X, reconstruction, seed=0, patience=30)

    rates = [epoch.learning_rate for epoch in history]
    assert rates[:12] == [1e-3] * 12
    assert rates[12:23] == [5e-4] * 11


def test_a_nan_loss_is_an_error_that_names_the_epoch():
    X = torch.ones(10, 3)
    X[4] = torch.inf
    with pytest.raises(DivergedError, match=r"loss is (nan|inf) in epoch 1 .*lower learning_rate"):
        train(nn.Linear(3, 3), X, reconstruction, seed=0)


def test_training_leaves_the_callers_random_state_and_threads_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()

    Autoencoder("mlp", epochs=1).fit(np.random.default_rng(0).normal(size=(10, 8)))

    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_on_epoch_hears_of_every_epoch():
    heard = []
    fitted = Autoencoder("mlp", epochs=4, on_epoch=heard.append).fit(np.eye(8))

    assert heard == fitted.history_
    assert [epoch.number for epoch in heard] == [1, 2, 3, 4]


def test_networks_train_on_the_device_that_is_asked_for_and_come_back():
    class Moved(nn.Linear):
        places = ()

        def to(self, place):
            self.places += (str(place),)
            return self

    network = Moved(3, 3)

    train(network, torch.randn(10, 3), reconstruction, seed=0, epochs=1, device="cuda:1")

    assert network.places == ("cuda:1", "cpu")


def test_the_best_device_is_the_default_and_the_cpu_where_there_is_no_other(monkeypatch):
    assert str(place("cuda:1")) == "cuda:1"
    assert str(place("cpu")) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert str(place()) == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(place()) == "cpu"


def test_naming_the_device_that_is_the_default_changes_not_one_bit():
    X = np.random.default_rng(0).normal(size=(20, 8))
    default, named = (Autoencoder(epochs=5, device=device).fit(X) for device in ("", "cpu"))

    np.testing.assert_array_equal(default.score_samples(X), named.score_samples(X))


def test_windows_are_every_run_of_frames_of_every_clip_and_none_across_clips():
    clips = torch.arange(2 * 5 * 1, dtype=torch.float32).reshape(2, 5, 1)

    windows = Windows(clips, 3)

    assert len(windows) == 6
    assert windows[torch.arange(6)].squeeze(-1).tolist() == [
        [0, 1, 2], [1, 2, 3], [2, 3, 4], [5, 6, 7], [6, 7, 8], [7, 8, 9],
    ]  # fmt: skip


def test_windows_share_the_memory_of_the_clips():
    clips = torch.zeros(4, 9, 2)
    windows = Windows(clips, 3)
    clips[0, 0, 0] = 7

    assert windows[torch.tensor([0])][0, 0, 0] == 7


def test_windows_longer_than_the_clips_are_refused():
    with pytest.raises(ValueError, match="Windows of 6 frames do not fit into 5 frames"):
        Windows(torch.zeros(2, 5, 1), 6)


def test_sequences_train_on_windows_with_whole_clips_held_out():
    seen = []

    def loss(network, batch):
        if network.training:
            seen.append(batch[:, 0, 0])
        return (network(batch) - 1).square().mean()

    clips = torch.arange(20.0)[:, None, None].expand(20, 6, 1).contiguous()  # clip number as value
    train(nn.Linear(1, 1), clips, loss, seed=0, epochs=1, examples=partial(Windows, length=2))

    _, watched = held_out(20, 0)
    trained_on = set(torch.cat(seen).int().tolist())
    assert trained_on == set(range(20)) - set(watched.tolist())
    assert len(torch.cat(seen)) == 18 * 5
