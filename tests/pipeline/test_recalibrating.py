"""New thresholds come from recordings that were not learned; detectors stay as they are."""

import pytest
from machine_halls import hall, hum, learned, write

from pipeline.recalibrating import recalibrate


def facts_of(learned_):
    return learned_.model.machines[0].facts


def test_recalibrating_keeps_the_detectors_and_counts_new_recordings_only(tmp_path):
    recordings = hall(tmp_path / "hall", ("press7",), n=12)
    model = learned(tmp_path, recordings)
    detector = next(model.glob("files/*/press7*/0.skops")).read_bytes()
    new = hall(tmp_path / "new", ("press7",), n=30, first=100)
    write(new / "press7" / "copy.wav", hum(3))  # the content of a learned one

    found = recalibrate(new, model=model, quiet=True)

    newest = model / found.model.machines[0].folder
    assert (newest / "0.skops").read_bytes() == detector
    assert found.left_out == [
        ("press7/copy.wav", "it was learned; a threshold needs other recordings")
    ]
    assert facts_of(found)["changed"] == ["threshold from 30 new clips, before from 12"]
    assert "from 30 clips" in facts_of(found)["promise"]
    assert len(list((model / "history").iterdir())) == 1


def test_recalibrating_with_learned_recordings_is_refused(tmp_path):
    recordings = hall(tmp_path / "hall", ("press7",), n=12)
    model = learned(tmp_path, recordings)

    with pytest.raises(ValueError, match="thresholds need recordings that were not learned"):
        recalibrate(recordings, model=model, quiet=True)


def test_recalibrating_a_model_of_windows_cuts_windows(tmp_path):
    for i in range(3):
        write(tmp_path / "hall" / "press7" / f"{i}.wav", hum(i, seconds=10))
        write(tmp_path / "new" / "press7" / f"{i}.wav", hum(10 + i, seconds=10))
    model = learned(tmp_path, tmp_path / "hall", window=1.0, hop=1.0)

    found = recalibrate(tmp_path / "new", model=model, quiet=True)

    assert facts_of(found)["changed"] == ["threshold from 30 new clips, before from 30"]


def test_recalibrating_an_unknown_machine_is_refused(tmp_path):
    model = learned(tmp_path, hall(tmp_path / "hall", ("press7",), n=12))

    with pytest.raises(ValueError, match="no normal recording of a machine of the model"):
        recalibrate(hall(tmp_path / "other", ("lathe",), n=3), model=model, quiet=True)
