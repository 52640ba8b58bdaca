"""Members are compared by their own out-of-fold scores, and the published figures come out."""

import auto_reference
import numpy as np
import pytest

from detect import metrics
from detect.fitting import DetectorChoice, FitUnit, fit_and_score
from detect.fusion import MemberScores, fuse, standard_of
from detect.out_of_fold import out_of_fold

TRAIN = tuple(f"t{i}" for i in range(8))
CLIPS = ("a", "b", "c")


def member(name, rng, scores=(1.0, 2.0, 3.0), keys=CLIPS, train=TRAIN):
    return MemberScores(name, train, rng.chisquare(4, len(train)), keys, np.array(scores))


def by_hand(one):
    logarithms = np.log(one.out_of_fold)
    return (np.log(one.scores) - logarithms.mean()) / logarithms.std()


def test_the_mean_of_z_by_hand(rng):
    members = [member("first", rng), member("second", rng, (3.0, 1.0, 9.0))]

    fused = fuse(members)

    np.testing.assert_allclose(fused.scores, np.mean([by_hand(m) for m in members], axis=0))
    assert fused.keys == CLIPS
    assert fused.out_of_fold.mean() == pytest.approx(0, abs=1e-12)
    assert (fused.lacking, fused.notes) == ({}, ())


def test_softmax_min_and_rank_by_hand(rng):
    members = [member("first", rng), member("second", rng, (3.0, 1.0, 9.0))]
    z = np.stack([by_hand(m) for m in members])

    softmax, smallest = fuse(members, "softmax").scores, fuse(members, "min").scores
    rank = fuse(
        [MemberScores("m", TRAIN, np.arange(8.0), ("x", "y"), np.array([2.5, 3.0]))], "rank"
    )

    np.testing.assert_allclose(softmax, np.log(np.mean(np.exp(z / 2), axis=0)))
    np.testing.assert_allclose(smallest, z.min(axis=0))
    np.testing.assert_allclose(rank.scores, [3 / 8, 3.5 / 8])


def test_ranks_go_on_beyond_the_training_clips():
    one = MemberScores(
        "m", TRAIN, np.arange(-4.0, 4.0), ("a", "b", "c"), np.array([9.0, 99.0, -9.0])
    )

    scores = fuse([one], "rank").scores

    assert scores[1] > scores[0] > 1
    assert scores[2] < 0


@pytest.mark.parametrize("rule", ["mean", "softmax", "min", "rank"])
def test_keys_are_aligned_whatever_the_order_of_each_member(rule, rng):
    first, second = member("first", rng), member("second", rng, (3.0, 1.0, 9.0))
    order, turn = [2, 0, 1], rng.permutation(8)
    shuffled = MemberScores(
        "second",
        tuple(TRAIN[i] for i in turn),
        second.out_of_fold[turn],
        tuple(CLIPS[i] for i in order),
        second.scores[order],
    )

    straight, mixed = fuse([first, second], rule), fuse([first, shuffled], rule)

    np.testing.assert_allclose(mixed.scores, straight.scores)
    np.testing.assert_allclose(mixed.out_of_fold, straight.out_of_fold)
    assert mixed.train_keys == TRAIN


@pytest.mark.parametrize("rule", ["mean", "softmax", "min", "rank"])
@pytest.mark.parametrize("how", ["absent", "nan", "inf"])
def test_a_clip_that_one_member_lacks_is_rated_by_the_others_and_marked(rule, how, rng):
    first = member("first", rng)
    values = np.array([3.0, 1.0, {"nan": np.nan}.get(how, np.inf)])
    keys = CLIPS
    if how == "absent":
        keys, values = CLIPS[:2], values[:2]
    second = MemberScores("second", TRAIN, rng.chisquare(4, 8), keys, values)

    fused = fuse([first, second], rule)

    alone = fuse([first], rule)
    assert fused.scores[2] == pytest.approx(alone.scores[2])
    assert fused.lacking == {"c": ("second",)}
    assert "1 clips are not rated by every member" in fused.notes
    assert np.isnan(fused.z[1, 2])


def test_a_clip_that_no_member_rates_has_no_score_and_hurts_no_other(rng):
    scores = (1.0, np.nan, 3.0)

    fused = fuse([member("first", rng, scores), member("second", rng, scores)])

    assert np.isnan(fused.scores).tolist() == [False, True, False]
    assert fused.lacking == {"b": ("first", "second")}


def test_training_clips_that_members_lack_are_noted(rng):
    first, second = member("first", rng), member("second", rng, train=TRAIN[:6])

    fused = fuse([first, second])

    assert len(fused.out_of_fold) == 8
    assert np.isfinite(fused.out_of_fold).all()
    assert "2 training clips are not rated by every member" in fused.notes


def test_a_member_that_rates_all_training_clips_alike_is_left_out(rng):
    constant = MemberScores("flat", TRAIN, np.full(8, 0.1 + 0.2), CLIPS, np.array([1.0, 2.0, 3.0]))
    first = member("first", rng)

    fused = fuse([first, constant])

    np.testing.assert_array_equal(fused.scores, fuse([first]).scores)
    assert fused.members == ("first",)
    assert fused.notes == ("flat is left out: its out-of-fold scores are all equal",)
    with pytest.raises(ValueError, match="No member can be fused: flat is left out"):
        fuse([constant])


def test_scores_that_can_be_negative_are_taken_as_they_are():
    out_of_fold_scores = np.array([-3.0, -1.0, 0.0, 2.0])
    one = MemberScores("gmm", TRAIN[:4], out_of_fold_scores, ("a",), np.array([-5.0]))

    fused = fuse([one])

    expected = (-5.0 - out_of_fold_scores.mean()) / out_of_fold_scores.std()
    assert fused.scores[0] == pytest.approx(expected)


def test_a_distance_of_zero_is_finite():
    standard = standard_of(np.array([0.0, 1.0, 2.0]))

    assert standard.is_logarithm
    assert np.isfinite(standard.z(np.array([0.0, -1.0]))).all()


def test_members_that_do_not_fit_together_are_refused(rng):
    with pytest.raises(ValueError, match="two scores for the clip 'a'"):
        member("first", rng, keys=("a", "b", "a"))
    with pytest.raises(ValueError, match="2 keys do not go with scores"):
        member("first", rng, keys=("a", "b"))
    with pytest.raises(ValueError, match="Two members of the fusion have one name"):
        fuse([member("first", rng), member("first", rng)])
    with pytest.raises(ValueError, match="no fusion rule 'max'; it is mean, softmax, min, rank"):
        fuse([member("first", rng)], "max")


MEANS = {
    0.0: {
        "fluctuation": (0.8128, 0.6237),
        "quiet": (0.8469, 0.6842),
        "spectrum": (0.9919, 0.9750),
        "wave": (1, 1),
        "first two": (0.8350, 0.6684),
        "auto": (0.9997, 0.9987),
    },
    0.05: {
        "fluctuation": (0.8900, 0.7171),
        "quiet": (0.8719, 0.7105),
        "spectrum": (0.9966, 0.9895),
        "wave": (0.9703, 0.8855),
        "first two": (0.8900, 0.7329),
        "auto": (0.9922, 0.9737),
    },
}
"""AUC and pAUC over twenty splits, by the level of the clips."""


@pytest.fixture(scope="module", params=[0.0, 0.05], ids=["as recorded", "RMS 0.05"])
def fan(request, shared_data):
    """Compute every member's vectors of the fan's clips, as recorded or at equal level."""
    root = shared_data / "mimii_fan" / "fan"
    paths = sorted(root.rglob("*.wav"))
    keys = [path.relative_to(root).as_posix() for path in paths]
    members = {
        name: dict(zip(keys, X.astype(np.float32), strict=True))
        for name, X in auto_reference.views(paths, request.param).items()
    }
    return request.param, keys, members


def members_of(vectors, train, test):
    """Fit and rate every member by the product's own detector, scaler and folds."""
    ids = ("id_00",)
    unit = FitUnit("fan", "id_00", train, ids * len(train), test, ids * len(test))
    choice = DetectorChoice("mahalanobis")
    members = []
    for name, vector_of in vectors.items():

        def read(keys, vector_of=vector_of):
            return np.stack([vector_of[key] for key in keys])

        unseen = out_of_fold(unit, read, choice).scores
        scores = fit_and_score(unit, read, choice).scores
        members.append(MemberScores(name, train, unseen, test, scores))
    return members


def figures(vectors, train, test):
    """AUC and pAUC of each member, of the first two fused, and of all four."""
    members = members_of(vectors, train, test)
    truth = ["anomaly" in key for key in test]
    scores = {one.name: one.scores for one in members}
    scores["first two"] = fuse(members[:2]).scores
    scores["auto"] = fuse(members).scores
    return {
        name: (metrics.auc(truth, values), metrics.pauc(truth, values))
        for name, values in scores.items()
    }


def folder_split(keys):
    return tuple(tuple(key for key in keys if key.startswith(part)) for part in ("train", "test"))


def test_the_published_figures_of_the_fan_come_out_to_the_last_pair(fan):
    level, keys, vectors = fan

    found = figures(vectors, *folder_split(keys))

    for name, expected in auto_reference.PUBLISHED[level].items():
        assert found[name] == pytest.approx(expected, abs=6e-5), name


def test_the_product_equals_a_plain_computation_of_the_recipe(fan):
    _, keys, vectors = fan
    train, test = folder_split(keys)
    of_split = [
        [np.stack([vector_of[key] for key in part]) for vector_of in vectors.values()]
        for part in (train, test)
    ]

    fused = fuse(members_of(vectors, train, test))

    unseen, scores = auto_reference.fused_z(*of_split, np.arange(len(train)))
    np.testing.assert_allclose(fused.out_of_fold, unseen, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(fused.scores, scores, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_the_published_means_of_twenty_splits_come_out(fan):
    level, keys, vectors = fan
    splits = [folder_split(keys)]
    normal = sorted((key for key in keys if "normal" in key), key=lambda key: key.split("/")[1])
    anomalous = [key for key in keys if "anomaly" in key]
    for split in range(1, 20):
        chosen = [normal[i] for i in np.random.RandomState(split - 1).permutation(20)]
        splits.append((tuple(sorted(chosen[:12])), (*sorted(chosen[12:]), *anomalous)))

    found = [figures(vectors, *split) for split in splits]

    for name, expected in MEANS[level].items():
        mean = np.mean([each[name] for each in found], axis=0)
        assert mean == pytest.approx(expected, abs=6e-5), name
