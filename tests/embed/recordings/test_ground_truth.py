"""Evaluation sets get their labels and domains from the files that DCASE published later."""

import pytest
from data_folders import by_key, fill

from embed.recordings.clips import find_clips
from embed.recordings.ground_truth import read_ground_truth, with_labels

TRAIN = "ToyDrone/train/section_00_source_train_normal_0000_.wav"
CLIPS = [f"ToyDrone/test/section_00_{i:04}.wav" for i in range(4)]
LABELS = {0: "anomalous", 1: "normal", 2: "normal", 3: "anomalous"}
DOMAINS = {0: "source", 1: "target", 2: "source", 3: "target"}
FULL = {
    i: f"section_00_{DOMAINS[i]}_test_{'anomaly' if LABELS[i] == 'anomalous' else 'normal'}_{i:04}"
    for i in LABELS
}
NAME = "ground_truth_ToyDrone_section_00_test.csv"


def write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def evaluator(root):
    """Write the folders of the published evaluators."""
    numbers = [(f"section_00_{i:04}.wav", i) for i in LABELS]
    write(
        root / "ground_truth_data" / NAME,
        [f"{name},{int(LABELS[i] == 'anomalous')}" for name, i in numbers],
    )
    write(
        root / "ground_truth_domain" / NAME,
        [f"{name},{int(DOMAINS[i] == 'target')}" for name, i in numbers],
    )
    write(root / "ground_truth_attributes" / NAME, [f"{name},{FULL[i]}_a_1" for name, i in numbers])
    return root


def name_list(root):
    """Write the baseline's list of all machines, some of which are not here."""
    lines = ["Vacuum", "section_00_0000.wav,section_00_source_test_normal_0007_x.wav", "ToyDrone"]
    lines += [f"section_00_{i:04}.wav,{FULL[i]}_a_1.wav" for i in LABELS]
    return write(root / "eval_data_list_2023.csv", lines)


def manifest(root):
    rows = [f"ToyDrone/test/section_00_{i:04}.wav,{LABELS[i]},{DOMAINS[i]}" for i in LABELS]
    lines = [
        f"{path},ToyDrone,section_00,{rest}" for path, _, rest in (r.partition(",") for r in rows)
    ]
    return write(root / "labels.csv", ["path,machine_type,machine_id,label,domain", *lines])


@pytest.fixture
def data(tmp_path):
    return fill(tmp_path / "data", [TRAIN, *CLIPS])


def labelled(data, path):
    return with_labels(find_clips(data), read_ground_truth(path))


@pytest.mark.parametrize("form", [evaluator, name_list, manifest])
@pytest.mark.parametrize("infix", ["", "test_"])
def test_labels_and_domains_are_joined_whatever_form_they_have(form, infix, tmp_path):
    clips = [clip.replace("section_00_", f"section_00_{infix}") for clip in CLIPS]
    data = fill(tmp_path / "data", [TRAIN, *clips])

    found = labelled(data, form(tmp_path / "truth"))

    clips_by_key = by_key(found)
    assert [clips_by_key[clip].label for clip in clips] == list(LABELS.values())
    assert [clips_by_key[clip].domain for clip in clips] == list(DOMAINS.values())
    assert by_key(find_clips(data))[TRAIN] == clips_by_key[TRAIN]
    assert found.remarks[0].startswith("4 test clip(s) have their labels from")


def test_a_folder_of_2021_has_a_file_per_domain(tmp_path):
    keys = [f"fan/{d}_test/section_03_{d}_test_0000.wav" for d in ("source", "target")]
    data = fill(tmp_path / "data", keys)
    for domain, label in (("source", 1), ("target", 0)):
        write(
            tmp_path / "truth" / f"ground_truth_fan_section_03_{domain}_test.csv",
            [f"section_03_{domain}_test_0000.wav,{label}"],
        )

    found = by_key(labelled(data, tmp_path / "truth"))

    assert [(found[key].label, found[key].domain) for key in keys] == [
        ("anomalous", "source"),
        ("normal", "target"),
    ]


def test_clips_of_2020_are_named_by_their_id(tmp_path):
    data = fill(tmp_path / "data", ["fan/test/id_01_00000000.wav"])
    lines = ["fan", "id_01_00000000.wav,anomaly_id_01_00000007.wav"]

    found = labelled(data, write(tmp_path / "eval_data_list_2020.csv", lines))

    assert [clip.label for clip in found] == ["anomalous"]


def test_a_clip_is_found_by_machine_and_name(tmp_path):
    truth = read_ground_truth(evaluator(tmp_path))

    machine = "ToyDrone", "section_00"
    assert truth.of(machine, "some/where/section_00_test_0001.wav") == ("normal", "target")
    assert truth.of(machine, "section_00_0001") == ("normal", "target")
    assert truth.of(("Vacuum", "section_00"), "section_00_0001.wav") is None


def test_clips_without_a_label_and_labels_without_a_clip_are_remarked(data, tmp_path):
    fill(data, ["ToyDrone/test/section_00_0009.wav"])
    (data / CLIPS[3]).unlink()

    remarks = labelled(data, evaluator(tmp_path / "truth")).remarks

    assert "has no label of 1, first 'ToyDrone/test/section_00_0009.wav'" in remarks[1]
    assert "names 1 clip(s) that are not there, first 'section_00_0003'" in remarks[2]


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        (NAME, ["section_00_0900.wav,1"], "labels none of the 4 test clips without a label"),
        (
            "ground_truth_Vacuum_section_00_test.csv",
            ["section_00_0000.wav,1"],
            "labels none of the 4 .*it names 'section_00_0000' of Vacuum; are they of the same",
        ),
        (NAME, ["section_00_0000.wav,1", "section_00_0000.wav,1"], "lines 1 and 2 name the same"),
        (NAME, ["section_00_0000.wav,1", "section_00_test_0000.wav,0"], "lines 1 and 2 name"),
        (NAME, ["section_00_0000.wav,2"], "line 1: expected 0, 1 or a name .*, found '2'"),
        (NAME, ["section_00_0000.wav,section_00_0001.wav"], "expected 0, 1 or a name that tells"),
        (NAME, ["monday.wav,1"], "line 1: cannot tell the machine ID of 'monday.wav'"),
        ("labels.csv", ["section_00_0000.wav,1"], "line 1: cannot tell the machine type"),
        ("labels.csv", ["path,label", "a.wav,0"], "lacks the columns machine_type, machine_id"),
        ("notes.txt", ["path,machine_type,machine_id,label", "a,b,c,maybe"], "'maybe' is no label"),
    ],
)
def test_what_cannot_be_right_is_an_error_of_one_line(name, lines, message, data, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        labelled(data, write(tmp_path / name, lines))

    assert "\n" not in str(caught.value)


def test_files_that_contradict_each_other_are_refused(data, tmp_path):
    root = evaluator(tmp_path / "truth")
    write(root / "ground_truth_domain" / NAME, ["section_00_0000.wav,1"])

    with pytest.raises(ValueError, match=r"line 1 says target of a clip .* calls source"):
        labelled(data, root)


def test_a_name_that_says_another_label_is_refused(tmp_path):
    key = "fan/test/section_00_source_test_normal_0001_x.wav"
    truth = write(
        tmp_path / "labels.csv",
        ["path,machine_type,machine_id,label", f"{key},fan,section_00,anomalous"],
    )

    with pytest.raises(ValueError, match=r"labels.csv calls '.*' anomalous, its name normal"):
        labelled(fill(tmp_path / "data", [key]), truth)


def test_labels_that_are_not_there_are_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="there are no labels at"):
        read_ground_truth(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no ground truth; expected ground_truth_"):
        read_ground_truth(tmp_path)
    (tmp_path / NAME).write_bytes(b"\xff\xfe\n")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read_ground_truth(tmp_path)
