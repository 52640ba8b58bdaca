"""Combinations side by side: best first, seeds merged, and a reason for each that is missing."""

import json

import pytest
from scored_machines import HOSTILE

from detect.results import Result
from report.csv_files import read_csv
from report.leaderboard import (
    following,
    leaderboard_csv,
    leaderboard_entry,
    names_apart,
    over_seeds,
    ranked,
)
from report.tables import leaderboard_table

ROWS = [
    Result("fan", "id_00", 9, 5, 5, 0.9, pauc=0.6),
    Result("fan", "mean", 9, 5, 5, 0.9, pauc=0.6),
    Result("fan", "hmean", 9, 5, 5, 0.8, pauc=0.6),
    Result("fan", "pooled", 9, 5, 5, 0.7, pauc=0.6),
    Result("pump", "mean", 9, 5, 5, 0.5, pauc=0.5),
    Result("valve", "mean", 9, 0, 5, note="no machine ID has an AUC"),
    Result("total", "mean", 27, 5, 5, 0.1, pauc=0.1),
]


def test_an_entry_is_averaged_over_machine_types():
    entry = leaderboard_entry(ROWS, encoder="logmel", note="random weights")

    assert entry["auc_mean"] == pytest.approx(0.7)
    assert entry["auc_hmean"] == pytest.approx(0.8)
    assert entry["pauc_mean"] == pytest.approx(0.55)
    assert entry["note"] == "random weights; no machine ID has an AUC"
    assert "error" not in entry


def test_a_refused_combination_is_an_entry_with_its_reason_in_json_too():
    entry = leaderboard_entry([], error="needs log-mel", encoder="mfcc", detector="gmm")

    assert json.loads(json.dumps(entry)) == {
        "encoder": "mfcc", "detector": "gmm", "error": "needs log-mel", "note": "",
        **{f"{f}_{s}": None for f in ("auc", "pauc") for s in ("mean", "hmean", "pooled")},
    }  # fmt: skip


def test_combinations_without_an_auc_come_last():
    entries = [{"auc_mean": None}, {"auc_mean": 0.6}, {"error": "x"}, {"auc_mean": 0.7}]

    assert [entry.get("auc_mean") for entry in ranked(entries)] == [0.7, 0.6, None, None]


def test_a_leaderboard_is_read_back_whatever_its_names(tmp_path):
    entries = [
        leaderboard_entry(ROWS, encoder=name, detector="knn", error=name) for name in HOSTILE
    ]
    path = tmp_path / "leaderboard.csv"
    path.write_text(leaderboard_csv(entries), encoding="utf-8", newline="")

    rows = read_csv(path)

    assert [row["encoder"] for row in rows] == [row["error"] for row in rows] == HOSTILE
    assert rows[0]["auc_mean"] == "0.700000"


def test_seeds_are_merged_to_mean_and_spread():
    entries = [
        {"encoder": "logmel", "detector": "mlp", "seed": str(seed), "auc_mean": auc}
        for seed, auc in enumerate([0.8, 0.9, 1.0])
    ]

    (merged,) = over_seeds(entries)

    assert merged["seeds"] == "3"
    assert merged["auc_mean"] == pytest.approx(0.9)
    assert merged["auc_spread"] == pytest.approx(0.1)
    assert "seed" not in merged
    headings = [column.heading for column in leaderboard_table([merged]).columns]
    assert headings[:4] == ["encoder", "detector", "seeds", "AUC mean"]


def test_a_failed_seed_keeps_its_reason():
    entries = [
        {"encoder": "logmel", "seed": "0", "auc_mean": 0.8},
        {"encoder": "logmel", "seed": "1", "auc_mean": None, "error": "diverged"},
    ]

    (merged,) = over_seeds(entries)

    assert merged["error"] == "diverged"
    assert (merged["auc_mean"], merged["seeds"]) == (0.8, "1")


def test_reasons_of_all_seeds_are_kept():
    entries = [{"encoder": "logmel", "seed": s, "error": f"seed {s} diverged"} for s in "01"]

    (merged,) = over_seeds(entries)

    assert merged["error"] == "seed 0 diverged; seed 1 diverged"


def test_the_interval_of_the_mean_is_there_where_every_type_has_one():
    whole = Result("fan", "mean", 9, 5, 5, 0.8, 0.7, 0.9)
    other = Result("pump", "mean", 9, 5, 5, 0.6, 0.5, 0.7)

    entry = leaderboard_entry([whole, other])

    half = 0.5 * (0.1**2 + 0.1**2) ** 0.5
    assert (entry["auc_low"], entry["auc_high"]) == pytest.approx((0.7 - half, 0.7 + half))
    assert "auc_low" not in leaderboard_entry([whole, Result("pump", "mean", 9, 5, 5, 0.6)])


def test_a_name_that_follows_from_earlier_ones_is_redundant():
    entries = [
        {"encoder": "logmel", "pooling": "fluctuation", "detector": "knn"},
        {"encoder": "logmel", "pooling": "fluctuation", "detector": "gmm"},
        {"encoder": "mfcc", "pooling": "mean", "detector": "knn"},
    ]

    assert following(entries, ["encoder", "pooling", "detector"]) == {"pooling"}
    shared, names = names_apart([*entries[:2]])
    assert shared == {"encoder": "logmel", "pooling": "fluctuation"}
    assert names == ["detector"]
