"""Tables can be read at a glance, on narrow screens too, and nothing in a name is obeyed."""

from io import StringIO

import numpy as np
import pytest
from rich.console import Console
from scored_machines import HOSTILE, scored

from detect.fitting import Scores
from detect.results import Decided, Result, results
from ground.text import visible
from report.leaderboard import leaderboard_entry
from report.tables import alarms, leaderboard_table, percent, results_table

SUMMARIES = ["mean", "hmean", "pooled"]


def printed(table, width=80):
    console = Console(width=width, record=True, file=StringIO())
    console.print(table)
    return console.export_text()


def test_the_table_fits_eighty_columns_and_shows_intervals_and_reasons(rng):
    table, scores = scored(rng)
    rows = [*results(table, scores), Result("slider", "id_04", 9, 0, 0, note="no labels")]

    text = printed(results_table(rows))

    for machine_id in ("id_00", "id_02", *SUMMARIES):
        assert f"slider {machine_id}" in text
    row = rows[0]
    assert f"{row.auc:.3f}" in text
    assert f"{row.auc_low:.2f}-{row.auc_high:.2f}" in text
    assert "slider pooled: scores of separate models are pooled" in text
    assert "slider id_04: no labels" in text
    assert "…" not in text


def test_the_table_of_a_data_set_with_domains_gives_the_official_score(rng):
    table, scores = scored(rng, "fan", ("section_00",), domains=("source", "target"))

    text = printed(results_table(results(table, scores, year=2023), year=2023), 100)

    assert "official score of DCASE 2023 (harmonic mean): 0." in text
    assert "source" in text


def test_the_leaderboard_is_sorted_and_failures_come_last_with_their_reason(rng):
    entries = []
    for name, shift in (("weak", 0.0), ("strong", 3.0)):
        table, scores = scored(rng)
        moved = [
            Scores(one.unit, one.scores + shift * (np.arange(30) % 2), None, 0.0) for one in scores
        ]
        rows = results(table, moved)
        entries.append(leaderboard_entry(rows, encoder="logmel", detector=name))
    entries.insert(0, {"encoder": "logmel", "detector": "broken", "error": "loss is nan"})

    title, _, *lines, reason = printed(leaderboard_table(entries)).splitlines()

    assert title == "by AUC of its test clips (oracle order), encoder logmel"
    assert [line.split()[0] for line in lines] == ["strong", "weak", "broken"]
    assert reason.strip() == "broken: loss is nan"


LONG = "DustCollectorOfTheNorthernHall section_00"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_names_are_whole_on_narrow_screens_and_intervals_go_first(width):
    machine_type, machine_id = LONG.split()
    row = Result(machine_type, machine_id, 990, 50, 50, 0.9, 0.87, 0.93, 0.7, 0.61, 0.78)

    text = printed(results_table([row]), width)

    assert LONG in text
    assert {"0.900", "0.700"} <= set(text.split())
    assert ("990" in text.split()) == (width >= 80)
    assert ("0.87-0.93" in text) == (width >= 120)
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    assert "…" not in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_names_of_a_leaderboard_are_whole_on_narrow_screens(width):
    entries = [
        {
            "encoder": encoder, "pooling": "fluctuation", "detector": "resnet50_cnn",
            "auc_mean": 0.91, "auc_hmean": 0.9, "auc_pooled": 0.89, "pauc_mean": 0.7,
        }
        for encoder in ("hf:facebook/wav2vec2-large", "spectrogram_transformer")
    ]  # fmt: skip

    text = printed(leaderboard_table(entries, title="fan"), width)

    for name in ("hf:facebook/wav2vec2-large", "spectrogram_transformer"):
        assert name in text
    assert "pooling fluctuation, detector resnet50_cnn" in text.replace(" \n", " ")
    assert text.count("0.910") == 2
    assert "…" not in text


def test_a_name_longer_than_the_screen_is_folded_and_not_cut():
    name = "x" * 100

    text = printed(results_table([Result(name, "id_00", 1, 0, 0)]), 60)

    assert text.count("x") == 100


def test_a_note_of_many_machines_is_one_line():
    rows = [Result("fan", f"id_{i:02d}", 9, 0, 0, note="no labels") for i in range(9)]

    notes = printed(results_table(rows)).splitlines()[10:]

    assert notes == ["fan id_00, fan id_01, fan id_02, fan id_03 and 5 more: no labels"]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_commands_the_terminal_or_breaks_a_row(name):
    rows = [Result(name, name, 9, 5, 5, 0.8, 0.7, 0.9, 0.6, 0.5, 0.7, note=name)]
    entries = [{"encoder": name, "detector": d, "auc_mean": 0.5, "error": name} for d in "ab"]

    texts = [
        printed(results_table(rows, title=name), 200),
        printed(leaderboard_table(entries, title=name), 200),
        printed(leaderboard_table([{name: name, "auc_mean": 0.5}]), 200),
    ]

    for text in texts:
        assert all(character.isprintable() or character == "\n" for character in text)
        assert in_one_line(name) in text
    assert len([line for line in texts[0].splitlines() if "0.800" in line]) == 1


def in_one_line(name):
    return visible(name).replace("\n", "\\n").replace("\t", "\\t")


@pytest.mark.parametrize(
    ("decided", "text"),
    [
        (None, ""),
        (Decided(0.05, 12, 3, false_alarms=0.0625, recall=0.714), "5 % -> 6.2 %, recall 71 %"),
        (Decided(0.05, 12, 3, false_alarms=0.0), "5 % -> 0 %"),
        (Decided(0.091, 12, 3, recall=1.0), "9.1 %, recall 100 %"),
        (Decided(0.05, 12, 3), "5 %, 12 anomalous"),
        (Decided(None, 12, 3, false_alarms=0.5, recall=0.005), "50 %, recall 0.5 %"),
    ],
)
def test_alarms_are_said_shortly(decided, text):
    assert alarms(decided) == text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_alarms_stay_longer_than_counts_and_intervals(width):
    decided = Decided(0.05, 12, 3, false_alarms=0.07, recall=0.71)
    row = Result("fan", "id_00", 990, 50, 50, 0.9, 0.87, 0.93, 0.7, 0.61, 0.78, decided=decided)

    text = printed(results_table([row]), width)

    assert "5 % -> 7 %, recall 71 %" in text
    assert "alarms: promised -> measured false-alarm rate" in text
    assert ("990" in text.split()) == (width >= 80)
    assert ("0.87-0.93" in text) == (width >= 120)


def test_shares_are_written_with_two_digits():
    shares = (0.05, 0.0625, 0.714, 1, 0, 0.0095, 0.0999)

    assert [percent(share) for share in shares] == [
        "5 %", "6.2 %", "71 %", "100 %", "0 %", "0.95 %", "10 %",
    ]  # fmt: skip
