"""What is read back from a run folder is what was written, or one line that says what is wrong."""

import json
import random

import pytest

from detect.results import Decided, Result
from pipeline.run_files import load_run, read_results
from report.result_files import write_results

MORE = {"decisions": {"f1_at_0": 0.5}, "failed": "", "warning": ""}


@pytest.fixture
def rows() -> list[Result]:
    decided = Decided(promised_false_alarms=0.05, n_decided_anomalous=3, n_decided_suspicious=1)
    return [
        Result(
            "fan", "id_00", 20, 5, 5, auc=0.9, auc_low=0.6, auc_high=0.99, pauc=0.8, decided=decided
        ),
        Result("fan", "mean", 20, 5, 5, auc=0.9, pauc=0.8, note="one machine"),
    ]


@pytest.fixture
def file(tmp_path, rows):
    write_results(tmp_path, rows, more=MORE)
    return tmp_path / "results.json"


def test_results_are_read_as_they_were_written(file, rows):
    read, remarks = read_results(file)

    assert read == load_run(file.parent) == rows
    assert vars(remarks) == MORE


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.pop("results"),
        lambda content: content.update(results=3),
        lambda content: content.update(results=[3]),
        lambda content: content.update(failed=None),
        lambda content: content.update(decisions=["f1"]),
        lambda content: content["results"][0].update(auc="0.9"),
        lambda content: content["results"][0].update(n_train=1.5),
        lambda content: content["results"][0].update(bogus=1),
        lambda content: content["results"][0].update(decided=[1]),
        lambda content: content["results"][0]["decided"].update(recall="high"),
        lambda content: content["results"][0].pop("machine_type"),
    ],
)
def test_a_value_that_no_run_writes_is_refused(file, spoil):
    content = json.loads(file.read_text())
    spoil(content)
    file.write_text(json.dumps(content))

    with pytest.raises(ValueError, match="holds no results of a run") as raised:
        read_results(file)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"3", b"[" * 100_000])
def test_another_file_is_refused(file, content):
    file.write_bytes(content)

    with pytest.raises(ValueError, match="holds no results of a run"):
        read_results(file)


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        load_run(tmp_path / "nowhere")


@pytest.mark.parametrize("n_trials", [60, pytest.param(3000, marks=pytest.mark.faults, id="all")])
def test_results_of_any_bytes_are_rows_or_one_line(file, n_trials):
    content, rng = file.read_bytes(), random.Random(0)
    counts, messages = {"read": 0, "refused": 0}, []

    for _ in range(n_trials):
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 1, 2, 6))):
            at = rng.randrange(len(changed) + 1)
            part = rng.choice((b"", b"null", b'"', b"[", b"}", b"1e999", b"-", b"\xff", b"{}"))
            changed[at : at + rng.choice((0, 1, 1, 6, 60))] = part
        file.write_bytes(changed)
        try:
            rows, _ = read_results(file)
            assert all(isinstance(row, Result) for row in rows)
            counts["read"] += 1
        except ValueError as error:
            counts["refused"] += 1
            messages.append(str(error))

    assert not [message for message in messages if "\n" in message]
    print(f"\nresults.json: {n_trials} mutants, {counts}")
    assert counts["refused"] > n_trials / 2
