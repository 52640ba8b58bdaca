"""What every encoder promises: built by name, options checked, vectors of paths and arrays."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from embed import ENCODERS, make_encoder, make_pooling
from embed.encoder import Encoder
from embed.recordings.preprocessing import Preprocessing

WITHOUT_NETWORK = ("logmel", "mfcc", "spectrum", "wave")


@dataclass(frozen=True, kw_only=True)
class Own(Encoder):
    """Somebody else's encoder: the first samples of a clip, as frames."""

    n_frames: int = 3
    sample_rate: int = 8000

    default_pooling = "mean"

    def forward(self, waveforms, wanted):
        return {"frames": waveforms[:, : self.n_frames, None]}


@pytest.fixture
def clips(tmp_path, rng) -> list[Path]:
    """Five clips, of two lengths, at 16 kHz."""
    paths = [tmp_path / f"{i}.wav" for i in range(5)]
    for i, path in enumerate(paths):
        soundfile.write(path, rng.normal(0, 0.1, 8000 + 1000 * (i % 2)), 16_000, subtype="FLOAT")
    return paths


@pytest.mark.parametrize("name", WITHOUT_NETWORK)
def test_paths_strings_and_arrays_give_the_same_vectors(name, clips):
    encoder = make_encoder(name)
    waveforms = [soundfile.read(clip, dtype="float32")[0] for clip in clips]

    of_paths = encoder.embed(clips)

    assert of_paths.dtype == np.float32
    assert len(of_paths) == 5
    np.testing.assert_array_equal(encoder.embed([str(clip) for clip in clips]), of_paths)
    np.testing.assert_array_equal(encoder.embed(waveforms), of_paths)
    np.testing.assert_array_equal(encoder.embed(np.stack(waveforms[::2])), of_paths[::2])


def test_the_pooling_is_a_name_or_an_object_or_the_own_one(clips):
    encoder = make_encoder("logmel")

    assert encoder.embed(clips, pooling="mean").shape == (5, 128)
    assert encoder.embed(clips, make_pooling("fluctuation", groups=16)).shape == (5, 96)
    assert encoder.embed(clips).shape == (5, 128)


def test_recordings_are_prepared_as_asked_for(clips):
    encoder = make_encoder("wave")

    vectors = encoder.embed(clips, preprocessing=Preprocessing(normalize="rms"))

    np.testing.assert_allclose(vectors[:, 0], 20 * np.log10(0.05), atol=1e-2)


def test_a_bad_recording_is_named(clips):
    clips[3].write_text("not a recording")

    with pytest.raises(ValueError, match=r"3\.wav: not a readable recording"):
        make_encoder("logmel").embed(clips)


def test_a_missing_recording_is_named(clips):
    with pytest.raises(ValueError, match=r"none\.wav: cannot be read"):
        make_encoder("logmel").embed([*clips, clips[0].with_name("none.wav")])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no clips"),
        ("a.wav", "a list of clips, got one: a.wav"),
        (Path("a.wav"), "a list of clips, got one: a.wav"),
        (np.zeros(16_000), r"clip 0 has the shape \(\), expected \(n_samples,\)"),
        (np.zeros((2, 1, 16_000)), r"clip 0 has the shape \(1, 16000\)"),
        ([np.zeros(16_000), np.zeros(100)], "clip 1 .* at least 1024 samples at 16000 Hz"),
        ([np.zeros(16_000), np.full(16_000, np.nan)], "clip 1 has samples that are NaN"),
        (np.zeros((1, 16_000), np.int16), "clip 0 is of type int16, expected floats"),
        (["a.wav", np.zeros(16_000)], "some of each"),
    ],
)
def test_what_is_no_list_of_clips_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        make_encoder("logmel").embed(given)


def test_frames_of_clips_of_different_lengths_are_refused(clips):
    encoder = make_encoder("logmel")

    assert encoder.embed(clips[::2], "frames").shape == (3, 16, 128)
    with pytest.raises(ValueError, match="clips of different lengths give frames"):
        encoder.embed(clips, "frames")


def test_preprocessing_of_waveforms_is_refused():
    with pytest.raises(ValueError, match="these are waveforms"):
        make_encoder("wave").embed(np.zeros((1, 99)), preprocessing=Preprocessing())


def test_a_pooling_that_does_not_go_with_an_encoder_is_refused():
    with pytest.raises(ValueError, match="Wave has no 'frames' output"):
        make_encoder("wave").embed(np.zeros((1, 99)), "mean")


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"unknown encoder 'logmal': did you mean 'logmel'\?"):
        make_encoder("logmal")
    with pytest.raises(ValueError, match=r"unknown pooling 'meen': did you mean 'mean'\?"):
        make_pooling("meen")


def test_a_model_of_an_encoder_that_takes_none_is_refused():
    with pytest.raises(ValueError, match="panns takes no model"):
        make_encoder("panns:other")
    with pytest.raises(ValueError, match="hf needs a model"):
        make_encoder("hf")


def test_a_model_of_the_hub_is_named_behind_a_colon():
    encoder = make_encoder("hf:facebook/hubert-base-ls960")

    assert encoder.model == "facebook/hubert-base-ls960"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_mel": 64}, r"encoder 'logmel' has no option 'n_mel'; it has device, sample_rate"),
        ({"n_mels": "64"}, r"logmel.n_mels should be a valid integer; got '64'"),
        ({"hop_length": 0}, r"logmel.hop_length .*greater than or equal to 1; got 0"),
        ({"fmin": -1.0}, r"logmel.fmin .*greater than or equal to 0; got -1.0"),
    ],
)
def test_a_wrong_option_is_refused_by_its_name(options, message):
    with pytest.raises(ValueError, match=message):
        make_encoder("logmel", **options)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_takes_options_by_its_annotations(name):
    model = {"model": "facebook/hubert-base-ls960"} if name == "hf" else {}

    with pytest.raises(ValueError, match=rf"{name}.device should be a valid string; got 3"):
        make_encoder(name, device=3, **model)


def test_an_own_class_is_an_encoder_by_its_module_and_name(clips, monkeypatch):
    monkeypatch.setitem(sys.modules, "their_encoders", sys.modules[Own.__module__])

    encoder = make_encoder("their_encoders:Own", n_frames=2)

    assert isinstance(encoder, Own)
    assert encoder.embed(clips).shape == (5, 1)
    waveform = np.array([1.0, 3.0, 8.0])
    np.testing.assert_array_equal(encoder.embed([waveform]), [[2.0]])
    with pytest.raises(ValueError, match=r"their_encoders:Own.n_frames .*integer; got 'x'"):
        make_encoder("their_encoders:Own", n_frames="x")


def test_an_own_class_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no_such_module:Class cannot be used"):
        make_encoder("no_such_module:Class")


def test_the_menu_loads_the_names_of_the_room_when_they_are_used():
    import embed

    assert embed.find_clips.__name__ == "find_clips"
    assert embed.load_recording.__name__ == "load_recording"
    assert embed.Encoder is Encoder
    with pytest.raises(AttributeError, match="no attribute 'find_clip'"):
        embed.find_clip  # noqa: B018
