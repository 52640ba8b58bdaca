"""Vectors from the cache or computed now, and what a clip, a pooling or an encoder costs."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ground.text import one_line
from pipeline.exits import UsageError
from pipeline.job import run
from pipeline.journal import Journal
from pipeline.names import Choice
from pipeline.settings import Settings
from pipeline.sources import embed_all, encoder_in_file_names, find_dataset, preprocessing_of

LOGMEL = Choice("logmel")


def test_vectors_are_computed_once_and_have_the_hashes_of_their_recordings(data, capsys):
    settings = Settings(encoder="logmel")
    dataset = find_dataset(settings)
    pairs = [(LOGMEL, Choice("mean")), (LOGMEL, Choice("max"))]

    (mean, first_max), _ = (list(embed_all(settings, dataset, pairs, Journal())[0].values()), 0)
    again, unusable = embed_all(settings, dataset, pairs, Journal())

    assert "nothing to embed" in capsys.readouterr().err
    keys = sorted(mean.keys)
    assert unusable == {}
    assert first_max.keys == mean.keys == {clip.key for clip in dataset.clips}
    np.testing.assert_array_equal(again[pairs[0]].read(keys), mean.read(keys))
    assert mean.sha256_of_clips().keys() == mean.keys


def test_layers_of_a_network_are_a_store_each_from_one_pass(data, monkeypatch):
    from embed.encoders.panns import Cnn14

    monkeypatch.setattr("embed.encoders.panns.CHANNELS", (1, 4, 4, 8, 8, 16, 16))
    monkeypatch.setattr("embed.encoders.panns.DIM", 16)
    passes = []
    forward = Cnn14.forward_layers

    def counting(self, waveforms, wanted):
        passes.append((len(waveforms), list(wanted)))
        return forward(self, waveforms, wanted)

    monkeypatch.setattr(Cnn14, "forward_layers", counting)
    settings = Settings(weights="random", quiet=True)
    dataset = find_dataset(settings)
    pairs = [(Choice("panns", (("layer", n),)), Choice("clip")) for n in (4, "last", 2, 9)]

    sources, unusable = embed_all(settings, dataset, pairs, Journal())

    assert sum(n for n, _ in passes) == len(dataset.clips)
    assert {tuple(layers) for _, layers in passes} == {(2, 4, -1)}
    assert len({source.path for source in sources.values()}) == 3
    assert unusable == {pairs[3]: "panns has no layer 9: layer is 1 to 6, or last"}
    shapes = [sources[pair].read(sorted(sources[pair].keys)).shape[1] for pair in pairs[:3]]
    assert shapes == [4 * 8, 16, 16 * 4]


def test_a_pooling_that_needs_clips_of_one_length_costs_itself_alone(data):
    clip = next(data.rglob("*.wav"))
    soundfile.write(clip, np.zeros(9_000) + 0.01, 16_000)
    flags = {"encoder": "logmel", "pooling": "mean,flatten", "detector": "knn", "quiet": True}

    for job in (run(**flags), run(**flags)):
        mean, flatten = job.outcomes
        assert job.failed
        assert (len(mean.results), mean.reason) == (5, "")
        assert "rows of shapes" in flatten.reason
    with pytest.raises(ValueError, match="rows of shapes"):
        run(**{**flags, "pooling": "flatten"})


def test_an_encoder_that_cannot_be_had_costs_its_combinations(data, tmp_path, monkeypatch, capsys):
    for name in ("HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))

    job = run(encoder="panns,logmel", pooling="mean", detector="knn", offline=True)

    assert [bool(outcome.reason) for outcome in job.outcomes] == [True, False]
    assert "failed: panns mean: Cnn14" in capsys.readouterr().err


def test_a_missing_member_of_a_fusion_is_left_out_and_the_run_has_failed(
    data, tmp_path, monkeypatch
):
    for name in ("HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))

    job = run(fuse="panns/clip/knn,logmel/mean/knn,wave/clip/knn", offline=True, quiet=True)

    (outcome,) = job.outcomes
    assert job.failed
    assert outcome.reason.startswith("panns/clip/knn is left out: Cnn14")
    assert len(outcome.clips) == 12


def test_a_long_path_of_a_model_ends_in_a_short_name(tmp_path):
    folder = tmp_path / "deep" / "my-wavlm"
    folder.mkdir(parents=True)

    assert encoder_in_file_names(f"hf:{folder}") == "hf+my-wavlm"
    assert encoder_in_file_names("hf:facebook/hubert") == "hf+facebook+hubert"
    assert len(encoder_in_file_names("hf:" + "/very/deep" * 50)) <= 80


def test_a_demo_folder_of_somebody_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "demo_data" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("mine")

    with pytest.raises(FileExistsError, match="demo_data has content of its own"):
        find_dataset(Settings(data="demo", quiet=True))
    assert [path.name for path in mine.parent.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nowhere", "there is no data at 'nowhere'"),
        ("dcase2020:fann", "one of fan, pump"),
        ("", "--data demo"),
    ],
)
def test_data_that_is_not_there_is_a_usage_error(tmp_path, monkeypatch, data, message):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match=message):
        find_dataset(Settings(data=data))


def test_preprocessing_is_what_the_settings_say():
    found = preprocessing_of(Settings(channel="1", normalize="rms", trim=True))

    assert (found.channel, found.normalize, found.trim) == (1, "rms", True)
    with pytest.raises(UsageError, match="--channel"):
        preprocessing_of(Settings(channel="left"))


def test_a_copied_training_clip_is_said_and_logged(data, capsys):
    train, test = data / "valve/train", data / "valve/test"
    shutil.copy(train / "normal_id_00_00000000.wav", test / "normal_id_00_00000000.wav")
    shutil.copy(train / "normal_id_00_00000001.wav", train / "normal_id_02_00000001.wav")

    job = run(encoder="logmel", detector="knn")

    assert "2 clips are copies of training clips; first: the t" in capsys.readouterr().err
    log = (job.folder / "log.jsonl").read_text()
    assert log.count('"copied clip"') == 2
    assert "has the same bytes as the training clip" in log


def test_absent_rows_of_a_manifest_are_counted_not_listed(data, capsys):
    rows = [
        f"{path.relative_to(data)},valve,{path.name.split('_')[2]},{path.parent.name},"
        f"{'anomalous' if 'anomaly' in path.name else 'normal'}"
        for path in data.rglob("*.wav")
    ]
    absent = [f"valve/train/absent_{i}.wav,valve,00,train,normal" for i in range(100_000)]
    manifest = data / "clips.csv"
    manifest.write_text("\n".join(["path,machine_type,machine_id,split,label", *rows, *absent]))

    job = run(data=manifest, encoder="logmel", detector="knn")

    assert len(capsys.readouterr().err) < 10_000
    assert job.left_out
    assert (job.folder / "report.html").stat().st_size < 500_000
    assert Path(job.folder / "errors.jsonl").stat().st_size < 1_000_000


@pytest.mark.parametrize("n_trials", [60, pytest.param(2000, marks=pytest.mark.faults, id="all")])
def test_a_manifest_of_any_bytes_is_clips_or_one_line(data, n_trials):
    rows = [
        f"{path.relative_to(data)},valve,00,{path.parent.name},normal"
        for path in sorted(data.rglob("*.wav"))
    ]
    content = "\n".join(["path,machine_type,machine_id,split,label", *rows]).encode()
    manifest, rng = data / "clips.csv", random.Random(0)
    parts = (b"", b"\0", b'"', b",", b"\n", b"\xff", b"=", b"../", b";", b"A" * 200_000)
    counts, messages = {"read": 0, "refused": 0}, []

    for _ in range(n_trials):
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 1, 2, 6))):
            at = rng.randrange(len(changed) + 1)
            changed[at : at + rng.choice((0, 1, 4, 80))] = rng.choice(parts)
        manifest.write_bytes(changed)
        try:
            dataset = find_dataset(Settings(data=str(manifest), quiet=True))
            assert all(Path(dataset.path(clip.key)).is_file() for clip in dataset.clips)
            counts["read"] += 1
        except (ValueError, OSError) as error:
            counts["refused"] += 1
            messages.append(one_line(error))

    assert not [message for message in messages if "\n" in message or len(message) > 2_010]
    print(f"\nmanifest: {n_trials} mutants, {counts}")
    assert counts["refused"] > 0
