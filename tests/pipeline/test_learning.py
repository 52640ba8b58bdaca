"""Normal recordings become a model; what cannot be learned is named, and costs nothing else."""

import numpy as np
import pytest
import soundfile
from machine_halls import FAST, RATE, hall, hum, learned, write

from pipeline.exits import UsageError
from pipeline.learning import learn
from pipeline.model import read_model


def learn_here(tmp_path, recordings, **flags):
    options = {**FAST, "quiet": True, "cache_dir": tmp_path / "cache", **flags}
    return learn(recordings, model=tmp_path / "model", **options)


def facts_of(learned_, name="press7"):
    return next(m.facts for m in learned_.model.machines if m.name == name)


def test_learning_notes_recordings_minutes_and_promise(tmp_path):
    found = learn_here(tmp_path, hall(tmp_path / "hall", ("press7",), n=25))

    facts = facts_of(found)
    assert facts["recordings"] == 25
    assert facts["minutes"] == pytest.approx(25 / 60)
    assert facts["promise"] == "at most 5 % false alarms from 25 clips; 1 % needs 99 clips"


def test_few_recordings_promise_what_they_can(tmp_path):
    found = learn_here(tmp_path, hall(tmp_path / "hall", ("press7",), n=9))

    assert facts_of(found)["promise"] == (
        "at most 10 % false alarms from 9 clips; 5 % needs 19 clips"
    )


def test_a_clip_unlike_the_rest_is_worth_a_listen(tmp_path):
    recordings = hall(tmp_path / "hall", ("press7",), n=25)
    noise = np.random.default_rng(5).normal(size=RATE).astype(np.float32)
    write(recordings / "press7" / "odd.wav", 0.3 * noise)

    assert facts_of(learn_here(tmp_path, recordings))["worth_a_listen"][0] == "press7/odd.wav"


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "hall").mkdir()

    with pytest.raises(ValueError, match="there are no recordings"):
        learn_here(tmp_path, tmp_path / "hall")


def test_one_clip_cannot_be_learned(tmp_path):
    recordings = hall(tmp_path / "hall", ("press7",), n=1)

    with pytest.raises(ValueError, match="press7"):
        learn_here(tmp_path, recordings)
    assert not (tmp_path / "model" / "model.json").exists()


def test_two_clips_give_scores_without_verdicts(tmp_path):
    found = learn_here(tmp_path, hall(tmp_path / "hall", ("press7",), n=2))

    assert "no verdicts: press7 has 2 training clips" in facts_of(found)["promise"]


def test_silent_clips_give_no_verdicts_and_say_why(tmp_path):
    for i in range(5):
        write(tmp_path / "hall" / "press7" / f"{i}.wav", np.zeros(RATE, np.float32))

    found = learn_here(tmp_path, tmp_path / "hall")

    assert "too few different embeddings" in facts_of(found)["promise"]


def test_other_files_unreadable_ones_and_empty_folders_cost_nothing_else(tmp_path, capsys):
    recordings = hall(tmp_path / "hall", ("press7",), n=12)
    (recordings / "press7" / "notes.txt").write_text("not a recording")
    (recordings / "press7" / "broken.wav").write_bytes(b"RIFF, but no sound")
    (recordings / "no_audio").mkdir()

    found = learn_here(tmp_path, recordings)

    assert facts_of(found)["recordings"] == 12
    assert [key for key, _ in found.left_out] == ["press7/broken.wav"]
    remarks = capsys.readouterr().err
    assert "1 folder(s) without any recording: 'no_audio'" in remarks
    assert "1 other file(s) are not recordings: 1 .txt" in remarks


def test_nan_samples_cost_their_clip(tmp_path):
    recordings = hall(tmp_path / "hall", ("press7",), n=12)
    bad = hum(99)
    bad[100] = np.nan
    soundfile.write(recordings / "press7" / "nan.wav", bad, RATE, subtype="FLOAT")

    found = learn_here(tmp_path, recordings)

    assert found.left_out == [("press7/nan.wav", "samples are NaN or infinite, first at 0.006 s")]


def test_two_machines_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two machines of one name"):
        learn_here(tmp_path, hall(tmp_path / "hall", ("press7", "Press7"), n=3))


def test_a_machine_that_cannot_be_learned_does_not_cost_the_others(tmp_path):
    recordings = hall(tmp_path / "hall", ("press7", "press8"), n=12)
    for path in sorted((recordings / "press8").iterdir())[1:]:
        path.unlink()

    found = learn_here(tmp_path, recordings)

    assert [machine.name for machine in found.model.machines] == ["press7"]
    assert "press8" in found.failed[0]


def test_several_detectors_are_a_usage_error(tmp_path):
    recordings = hall(tmp_path / "hall", ("press7",), n=3)

    with pytest.raises(UsageError, match="learn makes one model, and these flags name 2"):
        learn_here(tmp_path, recordings, detector="knn,gmm")


def test_windows_longer_than_every_clip_are_refused(tmp_path):
    recordings = hall(tmp_path / "hall", ("press7",), n=3)

    with pytest.raises(ValueError, match="no recording that can be cut into windows"):
        learn_here(tmp_path, recordings, window=5.0)


def test_windows_of_one_recording_are_held_out_in_parts(tmp_path):
    write(tmp_path / "hall" / "press7" / "long.wav", hum(1, seconds=30))

    facts = facts_of(learn_here(tmp_path, tmp_path / "hall", window=1.0))

    assert facts["recordings"] == 1
    assert facts["minutes"] == pytest.approx(0.5)
    assert facts["promise"].startswith("at most 5 % false alarms from 59 clips")
    assert any("there is one recording only" in note for note in facts["notes"])


def test_adding_recordings_learns_all_of_them_and_says_what_changed(tmp_path):
    learned(tmp_path, hall(tmp_path / "hall", ("press7",), n=10))
    more = hall(tmp_path / "more", ("press7",), n=10, first=50)

    found = learn(more, model=tmp_path / "model", add=True, quiet=True)

    assert facts_of(found)["recordings"] == 20
    assert facts_of(found)["changed"][0].startswith("20 recordings, before 10")
    assert found.model.members[0].name == "logmel/mean/mahalanobis"
    assert len(read_model(tmp_path / "model").facts["data"]) == 2


def test_adding_the_same_folder_again_learns_nothing_twice(tmp_path):
    recordings = hall(tmp_path / "hall", ("press7",), n=10)
    learned(tmp_path, recordings)

    found = learn(recordings, model=tmp_path / "model", add=True, quiet=True)

    assert facts_of(found)["recordings"] == 10


def test_adding_to_a_model_that_names_a_class_imports_nothing(tmp_path):
    recordings = hall(tmp_path / "hall", ("press7",), n=5)
    file = learned(tmp_path, recordings) / "model.json"
    file.write_text(
        file.read_text().replace('"detector": "mahalanobis"', '"detector": "evil_module:Class"')
    )

    with pytest.raises(UsageError, match="names the class evil_module:Class"):
        learn(recordings, model=tmp_path / "model", add=True, quiet=True)
