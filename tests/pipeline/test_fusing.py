"""Members become one score per clip, machine by machine."""

import numpy as np
import pytest

from detect.fitting import ClipTable, DetectorChoice, fit_and_score, units
from detect.out_of_fold import out_of_fold
from pipeline.fusing import fuse_members
from pipeline.judging import Fitted, MemberFits
from pipeline.names import Choice
from pipeline.plan import Member

KEYS = tuple(f"{split}{i:02d}" for split, n in (("train", 20), ("test", 6)) for i in range(n))
TABLE = ClipTable(
    KEYS,
    ("fan",) * 26,
    ("id_00",) * 26,
    ("train",) * 20 + ("test",) * 6,
    ("normal",) * 23 + ("anomalous",) * 3,
)


def member(name: str, seed: int, *, lacks: frozenset[str] = frozenset()) -> MemberFits:
    rng = np.random.default_rng(seed)
    row_of = dict(zip(KEYS, rng.normal(size=(26, 3)), strict=True))
    kept = [i for i, key in enumerate(KEYS) if key not in lacks]
    table = ClipTable(*(tuple(column[i] for i in kept) for column in vars(TABLE).values()))
    (unit,) = units(table)
    choice = DetectorChoice("knn")

    def read(keys):
        return np.stack([row_of[key] for key in keys])

    fitted = Fitted(unit, fit_and_score(unit, read, choice), out_of_fold(unit, read, choice))
    return MemberFits(Member(*map(Choice, name.split("/"))), None, table, [fitted])


ONE, TWO = "logmel/mean/knn", "wave/clip/knn"


def test_a_single_member_keeps_its_scores():
    fits = member(ONE, 0)

    (fused,) = fuse_members([fits], "mean")

    assert fused.scores is fits.fitted[0].scores
    assert fused.calibration is fits.fitted[0].calibration
    assert fused.clip_notes == {}


def test_a_clip_that_a_member_lacks_is_rated_by_the_others_and_marked():
    both = [member(ONE, 0), member(TWO, 1, lacks=frozenset({"test03", "train00"}))]

    (fused,) = fuse_members(both, "mean")

    assert fused.unit.test_keys == KEYS[20:]
    assert set(fused.unit.train_keys) == set(KEYS[:20])
    assert np.isfinite(fused.scores.scores).all()
    assert fused.clip_notes == {"test03": f"not rated by {TWO}"}
    assert fused.calibration.keys == fused.unit.train_keys


def test_the_fused_score_of_a_clip_is_the_mean_of_its_members_z():
    both = [member(ONE, 0), member(TWO, 1)]

    (fused,) = fuse_members(both, "mean")

    z = []
    for fits in both:
        log = np.log(fits.fitted[0].calibration.scores)
        z.append((np.log(fits.fitted[0].scores.scores) - log.mean()) / log.std())
    np.testing.assert_allclose(fused.scores.scores, np.mean(z, axis=0), rtol=1e-9)


def test_a_member_without_scores_or_thresholds_is_left_out_and_noted():
    fits = member(ONE, 0)
    unit = fits.fitted[0].unit
    failed = MemberFits(member(TWO, 1).member, None, TABLE, [Fitted(unit, reason="no memory")])

    (fused,) = fuse_members([failed, fits], "mean")
    assert f"{TWO} is left out: no memory" in fused.notes
    assert [name for name, _ in fused.members] == [ONE]

    (fused,) = fuse_members([failed, failed], "mean")
    assert (fused.scores, fused.reason) == (None, "no memory")


@pytest.mark.parametrize("rule", ["mean", "softmax", "min", "rank"])
def test_the_order_of_the_members_moves_no_score(rule):
    one, two = member(ONE, 0), member(TWO, 1)

    (first,), (second,) = fuse_members([one, two], rule), fuse_members([two, one], rule)

    np.testing.assert_allclose(first.scores.scores, second.scores.scores)
