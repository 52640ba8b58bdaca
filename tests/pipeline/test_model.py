"""A model opens anywhere, runs nothing when it does, and says in one line what is wrong."""

import json
import shutil

import pytest
from machine_halls import hum, whistle, write

from ground.files import sha256_of
from pipeline.checking import load_model
from pipeline.model import read_model


def change(model, edit):
    """Edit model.json as somebody with a text editor would."""
    file = model / "model.json"
    facts = json.loads(file.read_text())
    edit(facts)
    file.write_text(json.dumps(facts))


def refusal(model, tmp_path, name="press7"):
    """Return why a clip cannot be judged by a model."""
    clip = write(tmp_path / "new.wav", hum(77))
    with pytest.raises((ValueError, OSError)) as caught:
        load_model(model).check(clip, machine=name)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_moved_model_judges(press_hall, tmp_path):
    checker = load_model(press_hall)
    good = write(tmp_path / "good.wav", hum(77))
    bad = write(tmp_path / "bad.wav", whistle(78))

    assert checker.check(good, machine="press7").rows[0].verdict == "normal"
    assert checker.check(bad, machine="press7").rows[0].verdict == "anomalous"


def test_another_format_is_refused(press_hall, tmp_path):
    change(press_hall, lambda facts: facts.update(format=99))

    assert "it has format 99, and this version reads 1" in refusal(press_hall, tmp_path)


def test_a_changed_file_is_refused(press_hall, tmp_path):
    file = next(press_hall.glob("files/*/press7*/0.skops"))
    file.write_bytes(file.read_bytes() + b"x")

    assert "is not the file that was saved" in refusal(press_hall, tmp_path)


@pytest.mark.parametrize("name", ["0.skops", "machine.json", "profile.json", "nearest.safetensors"])
def test_a_model_that_was_copied_in_part_is_refused(press_hall, tmp_path, name):
    next(press_hall.glob(f"files/*/press7*/{name}")).unlink()

    assert f"{name} is missing; the model was copied in part" in refusal(press_hall, tmp_path)


def test_a_detector_of_a_foreign_type_is_refused_and_not_run(press_hall, tmp_path):
    from skops import io as skops

    file = next(press_hall.glob("files/*/press7*/0.skops"))
    file.write_bytes(skops.dumps({"format": 1, "weights": "", "detector": tmp_path}))
    name = file.relative_to(press_hall).as_posix()
    change(press_hall, lambda facts: facts["files"].update({name: sha256_of(file)}))

    assert "it is no detector of ours: it holds pathlib" in refusal(press_hall, tmp_path)


def test_deeply_nested_json_is_refused(press_hall, tmp_path):
    (press_hall / "model.json").write_text("[" * 100_000)

    assert "model.json cannot be used" in refusal(press_hall, tmp_path)


def test_a_machine_file_of_another_structure_is_refused(press_hall, tmp_path):
    file = next(press_hall.glob("files/*/press7*/machine.json"))
    file.write_text('{"members": [{"member": 7}]}')
    name = file.relative_to(press_hall).as_posix()
    change(press_hall, lambda facts: facts["files"].update({name: sha256_of(file)}))

    assert "press7 cannot be loaded" in refusal(press_hall, tmp_path)


def test_an_encoder_of_another_version_is_refused(press_hall, tmp_path, monkeypatch):
    from embed.encoders.logmel import LogMel

    monkeypatch.setattr(LogMel, "version", 99)

    text = refusal(press_hall, tmp_path)
    assert "the encoder is not the one of the stored vectors: version was 1 and is 99" in text


def test_a_changed_configuration_is_refused(press_hall, tmp_path):
    change(press_hall, lambda facts: facts["members"][0]["configuration"].update(version=99))

    assert "does not have its fingerprint" in refusal(press_hall, tmp_path)


def test_a_class_from_outside_is_not_imported(press_hall, tmp_path):
    change(press_hall, lambda facts: facts["members"][0].update(detector="evil_module:Class"))

    assert "names the class evil_module:Class, whose code would be run" in refusal(
        press_hall, tmp_path
    )


def test_a_folder_outside_of_the_model_is_refused(press_hall, tmp_path):
    change(press_hall, lambda facts: facts["machines"][0].update(folder="../elsewhere"))

    assert "lies outside of the model" in refusal(press_hall, tmp_path)


def test_an_unknown_machine_is_answered_with_the_nearest(press_hall, tmp_path):
    text = refusal(press_hall, tmp_path, "pres7")

    assert "does not know the machine 'pres7': did you mean 'press7'?" in text


def test_a_machine_must_be_named_where_there_are_several(press_hall, tmp_path):
    assert "the model knows 2 machines; say which one with --machine: press7, press8" in refusal(
        press_hall, tmp_path, ""
    )


def test_no_model_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no model at"):
        read_model(tmp_path)


def test_the_card_says_what_the_model_is(press_hall):
    card = (press_hall / "card.md").read_text()

    assert "press7: 25 recordings, 0.4 minutes; at most 5 % false alarms from 25 clips" in card
    assert "Opening it runs no code" in card
    assert "logmel/mean/mahalanobis" in card


def test_vectors_of_another_tool_cannot_be_computed(press_hall, tmp_path):
    def forget(facts):
        facts["members"][0].update(configuration={}, fingerprint="")

    change(press_hall, forget)

    assert "was learned from vectors of another tool" in refusal(press_hall, tmp_path)


def test_a_run_folder_is_a_model_too(press_hall, tmp_path):
    run = tmp_path / "run"
    shutil.move(press_hall, run / "model")

    assert [m.name for m in read_model(run).machines] == ["press7", "press8"]
