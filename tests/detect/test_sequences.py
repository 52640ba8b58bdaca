"""Detectors of sequences and images do what the reports drew: one score per clip."""

import numpy as np
import pytest
import torch
from torch import nn

from detect import DETECTORS, detector_options, facts_of, make_detector
from detect.detector import anomaly_scores
from detect.detectors.image_autoencoders import (
    ConvVAE,
    FlattenedAE,
    FlattenedVAE,
    ImageDetector,
    PooledConvAE,
    StridedConvAE,
)
from detect.detectors.networks import divergence
from detect.detectors.recurrent import GRUWindows, LSTMClips, LSTMPredictor
from detect.detectors.resnet_autoencoder import frozen_resnet50
from detect.detectors.stacked_frames import FramesVAE, OfficialAE
from detect.detectors.svdd import CollapsedError, SVDDAutoencoder, check_collapse
from detect.detectors.training import DivergedError, Windows, train

NAMES = [name for name in DETECTORS if facts_of(name).takes == "sequences"]
IMAGES = [n for n in NAMES if issubclass(DETECTORS[n].resolve(), ImageDetector)]
OF_ANY_LENGTH = [n for n in NAMES if n not in IMAGES]
N_CLIPS, N_FRAMES, DIM = 24, 40, 16
SMALL = {
    "mel_mlp_ae": {"hidden": (32, 8)},
    "fc_ae": {"hidden": (32, 8)},
    "fc_vae": {"hidden": (32, 16)},
    "resnet50_cnn": {"weights": "random", "widths": (8, 8, 8, 8, 8)},
    "lstm_predictor": {"hidden": 16},
    "gru_ae": {"hidden": 16},
    "lstm_ae": {"hidden": 16, "mlp": 16},
    "cnn_svdd": {"widths": (4, 8, 8, 8)},
    "cnn_svdd_l2": {"widths": (4, 8, 8, 8)},
    "conv_ae": {"widths": (4, 8, 8)},
    "mel_conv_ae": {"widths": (4, 8, 8)},
    "conv_vae": {"widths": (4, 8, 8)},
}


def small(name, seed=0, **options):
    return make_detector(name, seed=seed, **{"epochs": 2, **SMALL.get(name, {}), **options})


@pytest.fixture(scope="module")
def normals():
    return like_normals(np.random.default_rng(0), N_CLIPS)


def like_normals(rng, n_clips, n_frames=N_FRAMES):
    tone = 3 * np.sin(np.arange(n_frames)[:, None] / 3 + np.arange(DIM))
    return (tone - 40 + rng.normal(size=(n_clips, n_frames, DIM))).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(normals):
    return {name: small(name).fit(normals) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_far_clip_is_more_anomalous_than_a_near_one(name, fitted, rng):
    near = like_normals(rng, 1)
    far = near + 15 * rng.normal(size=near.shape).astype(np.float32)

    scores = anomaly_scores(fitted[name], np.concatenate([near, far]))

    assert scores.shape == (2,)
    assert scores[1] > scores[0] > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_score_does_not_depend_on_the_clips_beside_it(name, fitted, rng):
    clips = like_normals(rng, 5)

    together = fitted[name].score_samples(clips)
    alone = [fitted[name].score_samples(clip[None])[0] for clip in clips[::-1]][::-1]

    np.testing.assert_allclose(alone, together, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_decides_everything_random(name, fitted, normals):
    fitted_again = small(name).fit(normals)
    otherwise = small(name, seed=1).fit(normals)

    scores = fitted[name].score_samples(normals[:3])

    np.testing.assert_array_equal(fitted_again.score_samples(normals[:3]), scores)
    assert (otherwise.score_samples(normals[:3]) != scores).all()


@pytest.mark.parametrize("name", NAMES)
def test_losses_of_every_epoch_are_kept_and_fall(name, normals):
    history = small(name, epochs=8).fit(normals).detector.history_

    assert [epoch.number for epoch in history] == list(range(1, len(history) + 1))
    assert min(epoch.held_out_loss for epoch in history[1:]) < history[0].held_out_loss


@pytest.mark.parametrize("name", OF_ANY_LENGTH)
def test_frames_past_a_clips_end_count_nowhere(name, normals, rng):
    uneven = normals.copy()
    uneven[::2, 30:] = np.nan
    clip = like_normals(rng, 1, 33)
    longer = np.concatenate([clip, np.full((1, 7, DIM), np.nan, np.float32)], axis=1)

    detector = small(name).fit(uneven)

    assert np.isfinite(detector.score_samples(uneven)).all()
    np.testing.assert_array_equal(detector.score_samples(longer), detector.score_samples(clip))


@pytest.mark.parametrize("name", IMAGES)
def test_images_of_different_sizes_are_refused_with_a_way_out(name, normals, fitted):
    uneven = normals.copy()
    uneven[3, 30:] = np.nan

    with pytest.raises(ValueError, match="images of 40 frames, but a clip has 30; set n_frames"):
        small(name).fit(uneven)
    with pytest.raises(ValueError, match="images of 40 frames, but a clip has 30; set n_frames"):
        fitted[name].score_samples(uneven)
    same = small(name, n_frames=30).fit(uneven).score_samples(uneven)
    assert np.isfinite(same).all()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_sequence_is_refused(name, fitted, normals):
    broken = normals.copy()
    broken[5, 3, 2] = np.nan

    with pytest.raises(ValueError, match=r"\(n_clips, n_frames, dim\), got .* \(24, 16\)"):
        small(name, scaler="none").fit(normals[:, 0])
    with pytest.raises(ValueError, match="Clip 5 of 24 is empty, or has NaN"):
        small(name, scaler="none").fit(broken)
    with pytest.raises(ValueError, match="features per frame, but 16 were fitted"):
        fitted[name].score_samples(normals[:, :, :4])
    with pytest.raises(ValueError, match="2 training clips, one of them held out; got 1"):
        small(name).fit(normals[:1])


@pytest.mark.parametrize("name", NAMES)
def test_options_are_fields_and_nothing_else_happens_before_fit(name):
    options = detector_options(name)

    detector = DETECTORS[name].resolve()(**DETECTORS[name].options)

    assert {"epochs", "batch_size", "learning_rate", "patience"} <= set(options)
    assert set(vars(detector)) == {*options, "random_state", "device", "on_epoch"}


@pytest.mark.parametrize("name", [n for n in NAMES if not facts_of(n).wants_scaling])
def test_those_that_scale_themselves_do_it_by_the_training_normals_alone(name, fitted, normals):
    detector = fitted[name].detector

    inside = (normals - detector.low_) / detector.range_

    assert fitted[name].scaler is None
    assert inside.min() == 0
    assert inside.max() == pytest.approx(1)


@pytest.mark.parametrize("name", [n for n in NAMES if facts_of(n).wants_scaling])
def test_decibels_may_shift_and_stretch_where_a_scaler_stands_before(name, fitted, normals, rng):
    clips = like_normals(rng, 4)

    scaled = small(name).fit(2 * normals + 100).score_samples(2 * clips + 100)

    np.testing.assert_allclose(scaled, fitted[name].score_samples(clips), rtol=0.05)


# ---- the networks of the reports ------------------------------------------------------------


def linears(network):
    layers = [m for m in network.modules() if isinstance(m, nn.Linear)]
    return [layers[0].in_features, *(layer.out_features for layer in layers)]


def channels(network, kind=nn.Conv2d):
    return [m.out_channels for m in network.modules() if isinstance(m, kind)]


def built(detector, n_frames, dim):
    return detector._network(torch.zeros(2, n_frames, dim))


def test_official_ae_is_the_baseline_of_dcase():
    network = built(OfficialAE(), 313, 128)

    assert linears(network) == [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640]
    assert sum(isinstance(m, nn.BatchNorm1d) for m in network) == 9
    assert (OfficialAE().epochs, OfficialAE().batch_size) == (100, 512)


def test_frames_vae_is_640_400_400_20():
    plain, normed = (built(FramesVAE(batchnorm=b), 313, 128) for b in (False, True))

    assert linears(plain) == [640, 400, 400, 20, 20, 400, 400, 640]
    assert not [m for m in plain.modules() if isinstance(m, nn.BatchNorm1d)]
    assert linears(normed) == linears(plain)
    assert isinstance(normed.up[-1], nn.BatchNorm1d)
    assert sum(isinstance(m, nn.BatchNorm1d) for m in normed.modules()) == 5


def test_dense_networks_of_images_have_the_widths_of_the_reports():
    with torch.device("meta"):
        mel_mlp = built(FlattenedAE(**DETECTORS["mel_mlp_ae"].options), 128, 64)

    assert linears(mel_mlp) == [8192, 4096, 2048, 1024, 512, 256, 512, 1024, 2048, 4096, 8192]
    assert linears(built(FlattenedAE(), 313, 128)) == [40064, 512, 256, 64, 256, 512, 40064]
    assert linears(built(FlattenedVAE(), 313, 128)) == [40064, 512, 256, 8, 8, 256, 512, 40064]


@pytest.mark.parametrize("detector", [ConvVAE(), StridedConvAE(), PooledConvAE()])
def test_three_convolutions_and_back(detector):
    network = built(detector, 64, 128)
    convolutions = channels(network, (nn.Conv2d, nn.ConvTranspose2d))

    assert convolutions[:3] == [32, 64, 128]
    assert convolutions[-1] == 1
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert norms == (6 if isinstance(detector, PooledConvAE) else 0)


def test_those_scaled_to_0_1_end_in_a_sigmoid():
    for detector in (StridedConvAE(), PooledConvAE()):
        assert isinstance(built(detector, 64, 128).network[-1], nn.Sigmoid)


def test_cnn_svdd_goes_down_to_40_channels_without_a_bias_in_its_encoder():
    network = built(SVDDAutoencoder(), 313, 128)
    rebuilt, latent = network.eval().both(torch.zeros(1, 313, 128))

    assert channels(network) == [32, 64, 128, 256, 40, 256]
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.0, 0.2, 0.3, 0.3]
    assert latent.shape == (1, 40, 20, 8)
    assert rebuilt.shape == (1, 313, 128)
    encoder = [*network.down.modules(), network.to_latent]
    assert not [m for m in encoder if getattr(m, "bias", None) is not None]


def test_recurrent_networks_have_the_widths_of_the_reports():
    predictor = built(LSTMPredictor(), 313, 128)
    gru = built(GRUWindows(), 313, 128)
    lstm = built(LSTMClips(), 499, 768)

    assert (predictor.lstm.hidden_size, predictor.lstm.num_layers) == (256, 2)
    assert (gru.encoder.hidden_size, gru.encoder.num_layers, gru.out.out_features) == (256, 2, 128)
    assert (lstm.encoder.input_size, lstm.encoder.hidden_size) == (768, 256)
    assert linears(lstm) == [256, 512, 768]
    assert (LSTMPredictor().epochs, LSTMPredictor().batch_size) == (10, 32)
    assert (GRUWindows().epochs, GRUWindows().batch_size) == (10, 64)


def test_the_predictor_is_asked_303_times_per_clip():
    examples = LSTMPredictor()._examples(torch.zeros(2, 313, 128))

    assert len(examples) == 2 * 303


# ---- what each does that the others do not --------------------------------------------------


def test_windows_of_all_training_clips_of_the_slide_rail_are_never_copied():
    clips = torch.zeros(2370, 313, 1)

    windows = Windows(clips, 11)

    assert len(windows) == 718_110
    held = [value for value in vars(windows).values() if isinstance(value, torch.Tensor)]
    own = sum(t.nbytes for t in held if t.data_ptr() != clips.data_ptr())
    assert own < 10 * len(windows)  # bytes: where each window starts, and no frames


def test_windows_end_where_a_clip_ends():
    clips = torch.arange(20.0).reshape(2, 10, 1)
    clips[0, 4:] = torch.nan

    windows = Windows(clips, 3)

    assert len(windows) == 2 + 8
    assert windows[torch.tensor([0, 1, 2, 9])][:, :, 0].tolist() == [
        [0, 1, 2], [1, 2, 3], [10, 11, 12], [17, 18, 19],
    ]  # fmt: skip


def test_a_single_example_at_the_end_of_an_epoch_does_not_stop_batchnorm():
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))

    history = train(
        network,
        torch.randn(10, 3),
        lambda n, x: n(x).square().mean(),
        seed=0,
        epochs=1,
        batch_size=4,
    )  # nine examples: 4, 4 and 1

    assert len(history) == 1


def test_divergence_is_zero_for_the_standard_normal_and_half_a_nat_for_a_mean_of_one():
    mean, log_variance = torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.zeros(2, 2)

    assert divergence(mean, log_variance).tolist() == [0.0, 0.5]


def test_a_vae_rates_by_its_latent_mean_and_draws_only_while_training(normals):
    detector = small("fc_vae", scaler="standard").fit(normals)
    network = detector.detector.network_

    same = [detector.score_samples(normals[:1]) for _ in range(2)]
    network.train()
    drawn = [network(torch.zeros(1, N_FRAMES, DIM))[0] for _ in range(2)]
    network.eval()

    assert same[0] == same[1]
    assert not torch.equal(*drawn)


@pytest.mark.parametrize("name", ["fc_vae", "conv_vae"])
def test_an_overwhelming_beta_makes_a_vae_rate_clips_by_their_distance_from_the_mean(name, normals):
    """Why fc-vae was inverted: see benchmarks/systems.md."""
    detector = small(name, epochs=60, beta=1e5, learning_rate=1e-2).fit(normals)
    z = torch.from_numpy(detector.scaler.transform(normals))

    with torch.no_grad():
        rebuilt, mean, log_variance = detector.detector.network_(z)

    assert divergence(mean, log_variance).max() < 1e-2
    assert rebuilt.std(dim=0).max() < 0.05  # every clip is rebuilt as the same picture


def test_elbo_adds_the_latent_cost_to_the_reconstruction(normals):
    one = small("conv_vae").fit(normals)
    other = small("conv_vae", rate_by="elbo").fit(normals)

    assert (anomaly_scores(other, normals) > anomaly_scores(one, normals)).all()


def test_mahalanobis_of_residuals_is_the_textbook_distance(normals):
    detector = small("official_mahalanobis", scaler="none").fit(normals).detector
    clips = torch.from_numpy(normals)
    residuals = np.stack([detector._residuals(clip).detach().numpy() for clip in clips])
    pooled = residuals.reshape(-1, 5 * DIM).astype(float)
    covariance = np.cov(pooled.T, bias=True)
    covariance += 1e-3 * np.diag(covariance).mean() * np.eye(5 * DIM)
    inverse = np.linalg.inv(covariance)

    per_frame = [np.einsum("ti,ij,tj->t", r, inverse, r).mean() for r in residuals.astype(float)]
    detector.rate_by = "mahalanobis_of_mean"
    of_mean = [r.mean(axis=0) @ inverse @ r.mean(axis=0) for r in residuals.astype(float)]

    np.testing.assert_allclose(anomaly_scores(detector, normals), of_mean, rtol=1e-4)
    detector.rate_by = "mahalanobis"
    np.testing.assert_allclose(anomaly_scores(detector, normals), per_frame, rtol=1e-4)


def test_the_centre_of_svdd_comes_from_a_first_pass_and_keeps_away_from_zero(normals):
    network = small("cnn_svdd").fit(normals).detector.network_

    assert (network.centre.abs() >= 0.1 - 1e-6).all()


def test_svdd_that_maps_every_clip_to_one_point_is_an_error_with_advice(normals):
    with pytest.raises(CollapsedError, match=r"maps every clip to one point.*lower svdd or l2"):
        small("cnn_svdd", l2=1e3, learning_rate=0.05, epochs=80).fit(normals)
    with pytest.raises(CollapsedError, match="Every training clip gets the score 2"):
        check_collapse(1.0, 1.0, np.full(5, 2.0))


@pytest.mark.parametrize("options", [{"skips": True}, {"batchnorm": True}])
def test_skips_and_batchnorm_of_cnn_svdd_make_another_network(options, normals, fitted):
    other = small("cnn_svdd", **options).fit(normals)

    assert (other.score_samples(normals) != fitted["cnn_svdd"].score_samples(normals)).all()


def test_l2_is_002_in_cnn_svdd_l2():
    assert DETECTORS["cnn_svdd_l2"].options == {"l2": 0.002}


@pytest.mark.parametrize(("start", "first"), [("first", 0), ("centre", 5)])
def test_an_image_is_the_first_or_centre_frames(start, first, normals):
    cut = normals[:, first : first + 30]

    whole = small("fc_ae", n_frames=30, start=start).fit(normals).detector

    np.testing.assert_array_equal(whole._chosen(normals), cut)


def test_resnet50_is_frozen_and_maps_to_2048_channels(fitted):
    encoder = fitted["resnet50_cnn"].detector.encoder_

    assert encoder(torch.zeros(1, 64, 64)).shape == (1, 2048, 2, 2)
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not any(module.training for module in encoder.resnet.modules())


def test_resnet50_takes_a_save_pretrained_folder_and_says_what_is_missing(tmp_path, normals):
    from transformers import ResNetConfig, ResNetModel

    torch.manual_seed(7)
    resnet = ResNetModel(ResNetConfig()).eval()
    resnet.save_pretrained(tmp_path)

    loaded = frozen_resnet50(str(tmp_path)).resnet

    pixels = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(loaded(pixels).last_hidden_state, resnet(pixels).last_hidden_state)
    with pytest.raises(ValueError, match=r"model.safetensors.*resnet50_cnn.weights=FOLDER"):
        make_detector("resnet50_cnn").fit(normals)


@pytest.mark.parametrize("name", ["fc_ae", "lstm_predictor"])
def test_a_loss_that_is_no_number_names_the_epoch_and_what_to_do(name, normals):
    broken = normals.copy()
    broken[:, :, 0] *= 1e25

    with pytest.raises(DivergedError, match=r"loss is (nan|inf) in epoch 1 .*lower learning_rate"):
        small(name, scaler="none", learning_rate=1e30).fit(broken)
