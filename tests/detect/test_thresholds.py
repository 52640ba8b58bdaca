"""Thresholds keep what they promise, and p-values, thresholds and verdicts say the same."""

import numpy as np
import pytest
from scipy.stats import beta, binomtest, gamma

from detect.detector import last_step
from detect.fitting import ClipTable, DetectorChoice, FitUnit, Scores, fit_and_score, units
from detect.out_of_fold import OutOfFold
from detect.thresholds import (
    check_promise,
    clips_needed,
    conformal_k,
    decide,
    decide_machines,
    few_clips_warning,
    p_values,
    proportion_interval,
    rates,
    rates_at_boundary,
    threshold_of,
)


def test_p_values_by_hand():
    # of 4 scores, 2 are at least 2.0 and none is above 3
    p = p_values([2.0, 3.5, 0.0, np.nan], [1.0, 1.5, 2.0, 3.0])

    assert p[:3].tolist() == [3 / 5, 1 / 5, 1.0]
    assert np.isnan(p[3])


def test_p_values_are_uniform_on_exchangeable_scores(rng):
    scores = rng.normal(size=(20_000, 20))

    p = [p_values(row[:1], row[1:])[0] for row in scores]

    counts = np.bincount(np.rint(np.array(p) * 20).astype(int), minlength=21)[1:]
    assert counts.sum() == 20_000
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000)


@pytest.mark.parametrize("n", [1, 2, 3, 9, 10, 19, 20, 99, 100, 299])
def test_above_the_threshold_is_a_p_value_of_at_most_the_rate(n, rng):
    calibration = np.round(rng.normal(size=n), 1)  # with ties
    scores = np.round(rng.normal(size=500) * 2, 1)
    for rate in (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7):
        if conformal_k(n, rate) is None:
            assert clips_needed(rate) > n
            continue
        threshold = threshold_of(calibration, rate)

        flagged = scores > threshold.value

        np.testing.assert_array_equal(flagged, p_values(scores, calibration) <= rate + 1e-12)


@pytest.mark.parametrize(
    ("rate", "n", "marginal", "worst", "confident"),
    [
        (0.05, 100, 96, 0.089, 99),
        (0.05, 990, 942, 0.061, 953),
        (0.01, 100, 100, 0.0295, None),
        (0.01, 990, 982, 0.0145, 986),
    ],
)
def test_the_rank_of_the_threshold_is_the_published_one(rate, n, marginal, worst, confident):
    assert conformal_k(n, rate) == marginal
    assert beta.ppf(0.95, n + 1 - marginal, marginal) == pytest.approx(worst, abs=6e-4)
    assert conformal_k(n, rate, 0.95) == confident


def test_the_number_of_clips_needed_is_the_first_that_suffices():
    assert clips_needed(0.01, 0.95) == 299
    assert clips_needed(0.05) == 19
    for rate in (0.01, 0.05, 0.1, 1 / 3):
        for confidence in (None, 0.9, 0.95, 1 - (1 - rate) ** 2):
            needed = clips_needed(rate, confidence)
            assert conformal_k(needed, rate, confidence) == needed
            assert needed == 1 or conformal_k(needed - 1, rate, confidence) is None


@pytest.mark.parametrize("confidence", [None, 0.95])
def test_a_promise_that_clips_cannot_keep_names_the_number_needed(confidence):
    needed = clips_needed(0.05, confidence)

    with pytest.raises(ValueError, match=f"10 training clips cannot promise .* needs {needed} "):
        threshold_of(np.arange(10.0), 0.05, confidence)


def test_ten_clips_promise_what_they_can_and_say_so():
    threshold = threshold_of(np.arange(10.0), "auto")

    assert threshold.value == 9.0
    assert threshold.false_alarm_rate == pytest.approx(1 / 11)
    assert threshold.note == (
        "the threshold promises 9.09 % false alarms, since 5 % needs 19 training clips and there "
        "are 10"
    )
    assert threshold_of(np.arange(20.0), "auto").note == ""
    assert threshold_of(np.arange(20.0), "auto").false_alarm_rate == 0.05


def test_the_rate_that_an_error_proposes_is_accepted():
    for n in (1, 2, 3, 9, 10, 13):
        for confidence in (None, 0.95):
            with pytest.raises(ValueError, match="cannot promise") as refused:
                threshold_of(np.arange(float(n)), 0.01, confidence)
            proposed = str(refused.value).partition("ask for ")[2].split()[0]

            threshold = threshold_of(np.arange(float(n)), proposed, confidence)

            assert threshold.k == n


@pytest.mark.parametrize("asked", [0, 1, "0", "1", -0.1, 1.5, "abc", "nan", ""])
def test_rates_that_are_no_rates_are_refused(asked):
    with pytest.raises(
        ValueError, match=r"must be a number above 0 and below 1, as 0\.05, or auto"
    ):
        threshold_of(np.arange(100.0), asked)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_that_is_none_is_refused(confidence):
    with pytest.raises(ValueError, match="must be above 0 and below 1"):
        threshold_of(np.arange(100.0), 0.05, confidence)


def test_an_unknown_rule_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="it is conformal or gamma"):
        check_promise(0.05, None, "percentile")


@pytest.mark.parametrize("broken", [[], [[1.0]], [1.0, np.nan]])
def test_out_of_fold_scores_that_are_none_are_refused(broken):
    with pytest.raises(ValueError, match="ut-of-fold scores"):
        threshold_of(broken)


@pytest.mark.parametrize(("n", "confidence"), [(40, None), (100, 0.95), (300, 0.95)])
def test_promises_are_kept_on_simulated_scores(n, confidence, rng):
    actual = []
    for _ in range(2000):
        threshold = threshold_of(rng.exponential(size=n), 0.05, confidence)
        actual.append(np.exp(-threshold.value))  # the exact rate of an exponential score

    if confidence is None:
        assert np.mean(actual) == pytest.approx((n + 1 - threshold.k) / (n + 1), abs=0.003)
        assert np.mean(actual) <= 0.05 + 0.002
    else:
        assert np.mean(np.array(actual) <= 0.05) >= 0.94


@pytest.mark.parametrize(("count", "n"), [(0, 8), (1, 8), (4, 8), (8, 8), (0, 1)])
def test_the_interval_of_a_proportion_is_clopper_pearsons(count, n):
    expected = binomtest(count, n).proportion_ci(0.95, method="exact")

    assert proportion_interval(count, n) == pytest.approx((expected.low, expected.high))


def test_no_cases_have_no_proportion():
    with pytest.raises(ValueError, match="0 of 0"):
        proportion_interval(0, 0)


def test_verdicts_follow_the_p_values():
    calibration = np.arange(1.0, 101.0)
    threshold = threshold_of(calibration, 0.05)

    decisions = decide([50.0, 90.0, 96.0, 96.5, np.nan], calibration, threshold)

    assert decisions.verdicts == ("normal", "suspicious", "suspicious", "anomalous", "unknown")
    assert decisions.p_values[1] == 12 / 101
    assert decisions.expected_false_alarms == pytest.approx(4 * 0.05)


def test_suspicious_begins_at_three_times_the_rate():
    calibration = np.arange(99.0)  # p-values are whole hundredths
    threshold = threshold_of(calibration, 0.05)

    decisions = decide([85.0, 84.0], calibration, threshold)

    assert decisions.p_values.tolist() == [0.15, 0.16]
    assert decisions.verdicts == ("suspicious", "normal")


def test_with_confidence_fewer_clips_are_anomalous_and_none_is_lost(rng):
    calibration, scores = rng.normal(size=200), rng.normal(size=2000)

    average, confident = (
        decide(scores, calibration, threshold_of(calibration, 0.05, confidence))
        for confidence in (None, 0.95)
    )

    assert confident.verdicts.count("anomalous") < average.verdicts.count("anomalous")
    assert confident.verdicts.count("normal") == average.verdicts.count("normal")


def test_the_gamma_rule_is_scipys_fit_at_that_quantile(rng):
    scores = rng.gamma(3.0, 2.0, size=200)

    threshold = threshold_of(scores, 0.1, rule="gamma")

    assert threshold.value == gamma.ppf(0.9, *gamma.fit(scores))
    assert threshold.note == "gamma fit of shape, location and scale"
    assert threshold.k == 0


def test_a_gamma_fit_that_fails_says_which_fallback_was_taken(rng, monkeypatch):
    scores = rng.gamma(3.0, 2.0, size=2000)

    def fails(_scores):
        raise RuntimeError("no convergence")

    monkeypatch.setattr(gamma, "fit", fails)
    threshold = threshold_of(scores, 0.1, rule="gamma")

    assert threshold.note.startswith("fallback to the moments of a gamma distribution")
    assert "no convergence" in threshold.note
    assert np.mean(scores > threshold.value) == pytest.approx(0.1, abs=0.02)


def test_equal_scores_have_no_gamma_fit():
    threshold = threshold_of(np.full(20, 3.0), 0.1, rule="gamma")

    assert (threshold.value, threshold.note) == (3.0, "no gamma fit: all 20 scores are equal")


@pytest.mark.parametrize(
    ("n", "said"),
    [
        (1, "1 training clips: scores without verdicts"),
        (2, "2 training clips: scores without verdicts"),
        (3, "no false-alarm rate below 25.0 % can be promised"),
        (9, "no false-alarm rate below 10.0 % can be promised"),
        (10, ""),
    ],
)
def test_few_training_clips_are_warned_about_with_the_consequence(n, said):
    warning = few_clips_warning(n)

    assert said in warning
    assert bool(said) == bool(warning)


def scored_unit(n_test=4, ids=("id_00",)):
    keys = tuple(f"{machine_id}/{i}" for machine_id in ids for i in range(n_test))
    test_ids = tuple(machine_id for machine_id in ids for _ in range(n_test))
    unit = FitUnit("fan", ids[0] if len(ids) == 1 else "", (), (), keys, test_ids)
    return Scores(unit, np.arange(float(len(keys))), None, 0.0)


def calibration_of(**n_clips):
    ids = tuple(machine_id for machine_id, n in n_clips.items() for _ in range(n))
    keys = tuple(f"train/{i}" for i in range(len(ids)))
    return OutOfFold(keys, ids, np.linspace(0, 2, len(ids)), len(ids), 10)


def test_every_machine_of_a_type_is_judged_by_its_own_normals():
    calibration = calibration_of(id_00=30, id_02=2, id_04=30)

    found = decide_machines(scored_unit(ids=("id_00", "id_02", "id_04")), calibration, 0.05)

    assert [each.machine_id for each in found] == ["id_00", "id_02", "id_04"]
    assert found[0].decisions.threshold.n == 30
    assert found[0].decisions.threshold.value < found[2].decisions.threshold.value
    assert found[1].decisions is None
    assert "2 training clips: scores without verdicts" in found[1].why_not
    assert found[2].keys == ("id_04/0", "id_04/1", "id_04/2", "id_04/3")


@pytest.mark.parametrize(("n", "has_verdicts"), [(1, 0), (2, 0), (3, 1), (9, 1), (10, 1)])
def test_few_training_clips_get_what_can_be_promised(n, has_verdicts):
    (automatic,) = decide_machines(scored_unit(), calibration_of(id_00=n), "auto")
    (refused,) = decide_machines(scored_unit(), calibration_of(id_00=n), 0.05)

    assert (automatic.decisions is not None) == has_verdicts
    assert refused.decisions is None
    assert f"{n} training clips" in refused.why_not


def test_the_reason_for_missing_scores_reaches_every_machine():
    (found,) = decide_machines(scored_unit(), "all clips are from one recording")

    assert (found.decisions, found.why_not) == (None, "all clips are from one recording")


def test_a_rate_that_is_none_is_an_error_for_all_machines():
    with pytest.raises(ValueError, match="must be a number above 0"):
        decide_machines(scored_unit(), calibration_of(id_00=30), "abc")


def test_rates_by_hand():
    # 3 anomalous, 2 of them flagged; 2 normal, 1 of them flagged
    got = rates([True, True, True, False, False], [True, True, False, True, False])

    assert got == {"accuracy": 3 / 5, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3}


def test_rates_without_a_flag_are_zero_not_undefined():
    assert rates([True, False], [False, False]) == {
        "accuracy": 0.5,
        "precision": 0.0,
        "recall": 0.0,
        "f1": 0.0,
    }


@pytest.fixture
def fitted(rng):
    n = 60
    labels = ("normal",) * 50 + ("normal",) * 5 + ("anomalous",) * 5
    table = ClipTable(
        key=tuple(f"{i:03d}.wav" for i in range(n)),
        machine_type=("fan",) * n,
        machine_id=("id_00",) * n,
        split=("train",) * 50 + ("test",) * 10,
        label=labels,
    )
    X = rng.normal(size=(n, 4))
    X[55:] += 8
    (unit,) = units(table)

    def fit(name, **options):
        choice = DetectorChoice(name, options)
        return fit_and_score(unit, lambda keys: X[[int(k[:3]) for k in keys]], choice)

    return table, fit


def test_below_the_boundary_is_what_scikit_learn_flags(fitted):
    table, fit = fitted
    scores = fit("ocsvm")

    found = rates_at_boundary(table, [scores])

    assert set(found) == {
        f"{rate}_at_{threshold:g}"
        for threshold in (0, 0.2)
        for rate in ("accuracy", "precision", "recall", "f1")
    }
    assert found["recall_at_0"] == 1.0
    flagged = -scores.scores - last_step(scores.detector).offset_ < 0
    truth = [table.label[table.key.index(key)] == "anomalous" for key in scores.unit.test_keys]
    assert found["accuracy_at_0"] == np.mean(flagged == np.array(truth))


def test_a_detector_without_a_boundary_has_no_rates_at_it(fitted):
    table, fit = fitted

    assert rates_at_boundary(table, [fit("mahalanobis")]) == {}


def of_domains(n_source: int, n_target: int, shift: float) -> tuple[np.ndarray, tuple[str, ...]]:
    """Give scores of normal clips; those of the target domain are higher by `shift`."""
    scores = np.concatenate([np.arange(n_source), np.arange(n_target) + shift]).astype(float)
    return scores, ("source",) * n_source + ("target",) * n_target


def test_the_threshold_of_two_domains_is_the_higher_one():
    scores, domains = of_domains(99, 39, 70.5)

    both = threshold_of(scores, 0.05, rule="domains", domains=domains)
    of_target = threshold_of(scores[99:], 0.05)

    assert both.value == of_target.value == 70.5 + 37  # the 38th of 39
    assert threshold_of(scores, 0.05).value < both.value
    assert (both.false_alarm_rate, both.n, both.k, both.rule) == (0.05, 138, 0, "domains")


def test_a_domain_of_few_clips_promises_what_it_can():
    scores, domains = of_domains(99, 10, 0.0)

    threshold = threshold_of(scores, "auto", rule="domains", domains=domains)

    assert threshold.false_alarm_rate == pytest.approx(1 / 11)
    assert threshold.note.startswith("target: the threshold promises 9.09 % false alarms")


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        (("source",) * 28 + ("target",) * 2, "domain target has 2 training clips.* needs 3"),
        (("source",) * 20 + ("target",) * 10, "10 training clips cannot promise .* 0.05"),
    ],
)
def test_a_promise_that_one_domain_cannot_keep_is_refused(domains, message):
    with pytest.raises(ValueError, match=message):
        threshold_of(np.arange(30.0), 0.05, rule="domains", domains=domains)


@pytest.mark.parametrize("domains", [(), ("",) * 40, ("source",) * 40])
def test_clips_of_one_domain_or_none_have_the_conformal_threshold(domains):
    scores = np.arange(40.0)

    by_domain = threshold_of(scores, 0.05, rule="domains", domains=domains)

    assert by_domain.value == threshold_of(scores, 0.05).value
    new = [-1.0, 20.5, 39.5, np.nan]
    decided = decide(new, scores, by_domain, domains)
    np.testing.assert_array_equal(decided.p_values, p_values(new, scores))


def test_normals_of_either_domain_keep_the_promise_and_a_clip_above_both_is_anomalous(rng):
    scores = np.concatenate([rng.normal(size=199), rng.normal(2.0, 1.0, size=99)])
    domains = ("source",) * 199 + ("target",) * 99
    threshold = threshold_of(scores, 0.05, rule="domains", domains=domains)

    for mean in (0.0, 2.0):
        decided = decide(rng.normal(mean, 1.0, size=4000), scores, threshold, domains)
        assert np.mean([v == "anomalous" for v in decided.verdicts]) < 0.08
    pooled = threshold_of(scores, 0.05)
    in_target = decide(rng.normal(2.0, 1.0, size=4000), scores, pooled)
    assert np.mean([v == "anomalous" for v in in_target.verdicts]) > 0.08  # the reason for it
    assert decide([9.0], scores, threshold, domains).verdicts == ("anomalous",)
    assert decide([9.0], scores, threshold, domains).p_values == pytest.approx(1 / 100)
