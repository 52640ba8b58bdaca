"""Runs are compared on the clips they share; what is left out, and what cannot be told, is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detect import metrics
from report.comparison import Entrant, compare
from report.ranking import RankedClip


def run(rng, machines, shift=1.0, n_normal=15, n_anomalous=15, noise=1.0):
    """Rate clips of `machines`; a clip has the same name in every run, anomalous ones are last."""
    clips = []
    for machine in machines:
        base = np.random.default_rng(7).normal(size=n_normal + n_anomalous)
        scores = base + noise * rng.normal(size=len(base))
        for i, score in enumerate(scores):
            is_anomalous = i >= n_normal
            label = "anomalous" if is_anomalous else "normal"
            clips.append(RankedClip(*machine, f"{i}.wav", label, score + shift * is_anomalous))
    return clips


FAN, PUMP = ("fan", "id_00"), ("pump", "id_02")


def test_the_difference_is_that_of_the_figures_on_the_same_clips(rng):
    first, second = run(rng, [FAN], shift=0.5), run(rng, [FAN], shift=2.0)

    (row,) = compare([Entrant("a", [first]), Entrant("b", [second])]).rows

    truth = [clip.label == "anomalous" for clip in first]
    aucs = [metrics.auc(truth, [clip.score for clip in clips]) for clips in (first, second)]
    assert (row.auc.first, row.auc.own) == pytest.approx(aucs)
    assert row.auc.difference == pytest.approx(aucs[1] - aucs[0])
    assert row.auc.low <= row.auc.difference <= row.auc.high
    assert row.pauc.first == pytest.approx(metrics.pauc(truth, [clip.score for clip in first]))


def test_a_sentence_says_what_is_better_and_what_cannot_be_told(rng):
    poor = run(rng, [FAN, PUMP], shift=0.0)
    better_on_fan = run(rng, [FAN], shift=5.0) + [clip for clip in poor if clip.machine == PUMP]

    compared = compare([Entrant("logmel", [poor]), Entrant("panns", [better_on_fan])])

    (sentence,) = compared.sentences
    assert sentence.startswith("panns is better than logmel by 0.")
    assert "on average over 2 machines" in sentence
    assert "it is better on fan id_00 by 0." in sentence
    assert sentence.endswith("on pump id_02 the data cannot tell.")
    (swapped,) = compare([Entrant("panns", [better_on_fan]), Entrant("logmel", [poor])]).sentences
    assert swapped.startswith("logmel is worse than panns by 0.")


def test_the_mean_over_machines_is_the_mean_of_their_differences(rng):
    entrants = [Entrant(n, [run(rng, [FAN, PUMP, ("pump", "id_04")])]) for n in ("a", "b")]

    rows = compare(entrants).rows

    machines = [row.auc.difference for row in rows if row.level == "machine"]
    (pump,) = [row for row in rows if row.level == "type"]
    (overall,) = [row for row in rows if row.level == "all"]
    assert overall.auc.difference == pytest.approx(np.mean(machines))
    assert pump.machine == "pump mean"
    assert pump.auc.difference == pytest.approx(np.mean(machines[1:]))
    half = overall.auc.high - overall.auc.difference
    assert half < max(row.auc.high - row.auc.difference for row in rows)


def test_p_values_of_many_comparisons_are_adjusted_together(rng):
    entrants = [Entrant(name, [run(rng, [FAN, PUMP])]) for name in "abc"]

    rows = compare(entrants).rows

    own = sorted((row.auc for row in rows if row.level == "machine"), key=lambda a: a.p_value)
    assert len(own) == 4
    assert own[0].adjusted == pytest.approx(min(1, 4 * own[0].p_value))


def test_seeds_of_a_method_are_one_row(rng):
    seeds = [run(rng, [FAN]), run(rng, [FAN])]

    compared = compare([Entrant("a", [run(rng, [FAN])]), Entrant("mlp", seeds)])

    truth = [clip.label == "anomalous" for clip in seeds[0]]
    (row,) = compared.rows
    own = np.mean([metrics.auc(truth, [clip.score for clip in seed]) for seed in seeds])
    assert row.auc.own == pytest.approx(own)
    assert any("mlp: mean over 2 seeds" in remark for remark in compared.remarks)


def test_other_machines_and_clips_are_left_out_and_said(rng):
    one = run(rng, [FAN, PUMP])
    other = [clip for clip in run(rng, [FAN]) if clip.key not in ("0.wav", "29.wav")]
    other[0] = replace(other[0], score=np.nan)

    compared = compare([Entrant("a", [one]), Entrant("b", [other])])

    (row,) = compared.rows
    assert (row.n_normal, row.n_anomalous) == (13, 14)
    assert "only some runs have pump id_02; left out" in compared.remarks
    assert "3 clips of a are not rated by every run; left out" in compared.remarks


def test_runs_that_learned_from_other_numbers_of_clips_are_said(rng):
    clips = run(rng, [FAN])

    compared = compare(
        [Entrant("a", [clips], {FAN: 60}), Entrant("b", [run(rng, [FAN])], {FAN: 12})]
    )

    assert any("trained on 60 clips of fan id_00, b on 12" in r for r in compared.remarks)


def test_labels_that_contradict_each_other_are_refused(rng):
    one, other = run(rng, [FAN]), run(rng, [FAN])
    other[3] = replace(other[3], label="anomalous")

    with pytest.raises(ValueError, match=r"disagree about '3.wav' of fan id_00: normal in a, anom"):
        compare([Entrant("a", [one]), Entrant("b", [other])])


def test_a_label_that_one_run_lacks_is_taken_from_the_other(rng):
    one, other = run(rng, [FAN]), run(rng, [FAN])
    unlabelled = [replace(clip, label="unknown") for clip in other]

    (row,) = compare([Entrant("a", [one]), Entrant("b", [unlabelled])]).rows

    assert (row.n_normal, row.n_anomalous) == (15, 15)


def test_runs_without_any_label_are_refused_with_the_remedy(rng):
    clips = [replace(clip, label="unknown") for clip in run(rng, [FAN])]

    with pytest.raises(ValueError, match=r"none of the 30 test clips .* --labels manifest.csv"):
        compare([Entrant("a", [clips]), Entrant("b", [clips])])


def test_runs_of_other_machines_are_refused(rng):
    with pytest.raises(ValueError, match=r"share no test clip: a has fan id_00, b has pump id_02"):
        compare([Entrant("a", [run(rng, [FAN])]), Entrant("b", [run(rng, [PUMP])])])


def test_one_normal_clip_is_too_few_and_the_others_count(rng):
    entrants = [
        Entrant(name, [[*run(rng, [FAN], n_normal=1), *run(rng, [PUMP], n_normal=5)]])
        for name in "ab"
    ]

    compared = compare(entrants)

    fan, pump, overall = compared.rows
    assert fan.auc is None
    assert "1 normal and 15 anomalous clips" in fan.note
    assert pump.pauc is None
    assert "pAUC is not compared" in pump.note
    assert overall.auc.difference == pytest.approx(pump.auc.difference)
    assert "1 of 2 machines have too few clips" in overall.note


def test_nothing_but_one_normal_clip_is_said_in_words(rng):
    entrants = [Entrant(name, [run(rng, [FAN], n_normal=1)]) for name in "ab"]

    (sentence,) = compare(entrants).sentences

    assert sentence.startswith("b and a cannot be compared on fan id_00: 1 normal")
