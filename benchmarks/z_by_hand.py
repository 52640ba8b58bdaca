"""Print every number behind one clip's score by `auto`, for a reader who wants to check it.

    python -m benchmarks.z_by_hand FOLDER KEY

FOLDER has one machine in `train` and `test`; KEY is a clip below it, as `test/anomaly_..._0.wav`.
The members' vectors come from the plain numpy computation of tests/auto_reference.py, all other
numbers from the functions that a run calls.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from detect.detector import anomaly_scores
from detect.fitting import DetectorChoice, FitUnit, fit
from detect.fusion import MemberScores, fuse, standard_of
from detect.out_of_fold import out_of_fold
from detect.scaler import ColumnScaler
from detect.thresholds import decide, threshold_of
from tests.auto_reference import views


def member(name: str, X: np.ndarray, x: np.ndarray, keys: tuple[str, ...]) -> MemberScores:
    """Rate one clip x (1, dim) by the training clips X, and print how its z comes about."""
    row_of = {key: i for i, key in enumerate(keys)}

    def read(asked):
        return X[[row_of[key] for key in asked]]

    unit = FitUnit("machine", "", keys, ("",) * len(keys), (), ())
    choice = DetectorChoice("mahalanobis")
    unseen = out_of_fold(unit, read, choice).scores
    distance = anomaly_scores(fit(unit, read, choice), x.astype(np.float64))
    standard = standard_of(unseen)
    z = standard.z(distance)[0]
    print(f"{name} ({X.shape[1]} numbers)")
    print(f"  ln of the out-of-fold distances: {listed(np.log(unseen))}")
    print(f"  m = {standard.mean:.4f}, s = {standard.deviation:.4f}")
    print(f"  this clip: d = {distance[0]:.4f}, ln d = {np.log(distance[0]):.4f}")
    print(
        f"  z = ({np.log(distance[0]):.4f} - {standard.mean:.4f}) / {standard.deviation:.4f}",
        end="",
    )
    print(f" = {z:.4f}")
    return MemberScores(name, keys, unseen, ("clip",), distance)


def distance_by_hand(X: np.ndarray, x: np.ndarray) -> None:
    """Print the squared distance of a member with few numbers, step by step."""
    from sklearn.covariance import LedoitWolf

    scaler = ColumnScaler().fit(X)
    inverse = LedoitWolf().fit(scaler.transform(X)).precision_
    u = scaler.transform(x)[0]
    print(f"  its numbers:            {listed(x[0])}")
    print(f"  mean of the normals:    {listed(scaler.mean_)}")
    print(f"  deviation:              {listed(scaler.scale_)}")
    print(f"  u = (number - mean) / deviation: {listed(u)}")
    for i, row in enumerate(inverse):
        print(f"  {'inverse covariance P:' if i == 0 else '':23} {listed(row)}")
    print(f"  d = sum over i, j of u_i P_ij u_j = {u @ inverse @ u:.4f}")


def listed(numbers: np.ndarray) -> str:
    return " ".join(f"{number:8.4f}" for number in numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("key")
    options = parser.parse_args()
    paths = sorted((options.folder / "train").glob("*.wav"))
    keys = tuple(path.relative_to(options.folder).as_posix() for path in paths)
    views_of = views([*paths, options.folder / options.key])
    members = []
    for name, vectors in views_of.items():
        X, x = np.split(vectors.astype(np.float32), [len(paths)])
        members.append(member(name, X, x, keys))
        if X.shape[1] <= 4:
            distance_by_hand(X.astype(np.float64), x.astype(np.float64))
    fused = fuse(members)
    print(f"score = mean of {listed(fused.z[:, 0])} = {fused.scores[0]:.4f}")
    threshold = threshold_of(fused.out_of_fold, "auto")
    print(f"fused out-of-fold z of the normals: {listed(np.sort(fused.out_of_fold))}")
    decisions = decide(fused.scores, fused.out_of_fold, threshold)
    print(
        f"threshold = number {threshold.k} of these {threshold.n} = {threshold.value:.4f}; ", end=""
    )
    print(f"p = {decisions.p_values[0]:.4f}; verdict: {decisions.verdicts[0]}")
    print(threshold.note)


if __name__ == "__main__":
    main()
