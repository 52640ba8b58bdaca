"""Promised against actual false-alarm rates on simulated machines, as a table in Markdown.

    python benchmarks/bench_thresholds.py                  # the table of docs/metrics.md
    python benchmarks/bench_thresholds.py --machines 50    # a look, in a minute
    python benchmarks/bench_thresholds.py --keep rates.jsonl   # can be interrupted and resumed

A machine is a random distribution of normal clips in 4 dimensions: an ellipsoid with light, heavy
or skewed tails, or two of them. n clips train a detector; out-of-fold scores give its threshold;
3,000 new normal clips of the machine give its actual false-alarm rate. Nothing here is
anomalous. `fused` is the mean fusion of mahalanobis and knn.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from detect.detector import anomaly_scores
from detect.fitting import DetectorChoice, FitUnit, fit
from detect.fusion import MemberScores, fuse
from detect.out_of_fold import out_of_fold
from detect.thresholds import threshold_of

DETECTORS = {
    "mahalanobis": {},
    "knn": {},
    "gmm": {},
    "ocsvm": {},
    "lof": {},
    "pca": {},
}
FUSED = ("mahalanobis", "knn")
SIZES = (20, 50, 100, 300)
DIMENSIONS = 4
NEW_CLIPS = 3_000
RATE = 0.05
CONFIDENCE = 0.95
GAMMA_EVERY = 10
"""One machine of so many has gamma fits, which take longer than all other thresholds."""


class Machine:
    """Normal clips of one simulated machine."""

    def __init__(self, number: int) -> None:
        self.rng = np.random.default_rng(number)
        self.kind = ("light", "heavy", "skewed", "two modes")[number % 4]
        self.mixing = self.rng.normal(size=(DIMENSIONS, DIMENSIONS))
        self.apart = 3 * self.rng.normal(size=DIMENSIONS)

    def clips(self, n: int) -> np.ndarray:
        """Draw n clips, (n, 4)."""
        shape = (n, DIMENSIONS)
        if self.kind == "heavy":
            drawn = self.rng.standard_t(4, size=shape)
        elif self.kind == "skewed":
            drawn = np.exp(0.6 * self.rng.normal(size=shape))
        else:
            drawn = self.rng.normal(size=shape)
        clips = drawn @ self.mixing
        if self.kind == "two modes":
            clips += self.apart * (self.rng.random(n) < 0.4)[:, None]
        return clips


def rates_of_machine(number: int, n: int, names: list[str]) -> list[tuple[str, str, float, float]]:
    """Judge one machine: detector, kind of threshold, promised and actual false-alarm rate."""
    machine = Machine(1000 * n + number)
    clips, new = machine.clips(n), machine.clips(NEW_CLIPS)
    keys = tuple(f"{i:05d}.wav" for i in range(n))
    unit = FitUnit("simulated", str(number), keys, ("id",) * n, (), ())
    row_of = {key: i for i, key in enumerate(keys)}

    def read(asked):
        return clips[[row_of[key] for key in asked]]

    found = {}
    for name in names:
        choice = DetectorChoice(name, DETECTORS[name])
        unseen = out_of_fold(unit, read, choice).scores
        detector = fit(unit, read, choice)
        found[name] = (unseen, anomaly_scores(detector, clips), anomaly_scores(detector, new))
    if set(FUSED) <= set(names):
        new_keys = tuple(str(i) for i in range(NEW_CLIPS))
        of_new = fuse([MemberScores(m, keys, found[m][0], new_keys, found[m][2]) for m in FUSED])
        of_own = fuse([MemberScores(m, keys, found[m][0], keys, found[m][1]) for m in FUSED])
        found["fused"] = (of_new.out_of_fold, of_own.scores, of_new.scores)
    lines = []
    for name, (unseen, fitted, scores) in found.items():
        on_average = threshold_of(unseen, RATE)
        confident = threshold_of(unseen, "auto", CONFIDENCE)
        values = {
            "conformal": (on_average.value, RATE),
            "confident": (confident.value, confident.false_alarm_rate),
            "percentile of fitted": (float(np.quantile(fitted, 1 - RATE)), RATE),
        }
        if number % GAMMA_EVERY == 0:
            values["gamma of unseen"] = (threshold_of(unseen, RATE, rule="gamma").value, RATE)
            values["gamma of fitted"] = (threshold_of(fitted, RATE, rule="gamma").value, RATE)
        for kind, (value, promised) in values.items():
            lines.append((name, kind, promised, float(np.mean(scores > value))))
    return lines


def table(lines: list[tuple[int, str, str, float, float]]) -> str:
    """Lay out the mean actual rate of each threshold, and how often the confident one is kept."""
    rates = defaultdict(list)
    for n, name, kind, promised, actual in lines:
        rates[n, name, kind].append((promised, actual))
    text = [
        "| n | detector | conformal, 5 % | gamma of unseen | gamma of fitted | percentile of fitted"
        " | promised with confidence .95 | mean rate | kept by |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for n, name in dict.fromkeys((n, name) for n, name, _ in rates):
        cells = [str(n), name]
        for kind in ("conformal", "gamma of unseen", "gamma of fitted", "percentile of fitted"):
            actual = [rate for _, rate in rates[n, name, kind]]
            cells.append(f"{100 * np.mean(actual):.1f} %")
        confident = np.array(rates[n, name, "confident"])
        cells.append(f"{100 * confident[0, 0]:.1f} %")
        cells.append(f"{100 * confident[:, 1].mean():.1f} %")
        cells.append(f"{100 * np.mean(confident[:, 1] <= confident[:, 0]):.1f} %")
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machines", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first machine")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--detectors", nargs="+", default=list(DETECTORS))
    parser.add_argument("--keep", type=Path, help="append rates to this file, and resume from it")
    options = parser.parse_args()
    lines: list[tuple[int, int, str, str, float, float]] = []
    if options.keep and options.keep.exists():
        lines = [tuple(json.loads(line)) for line in options.keep.read_text().splitlines()]
    done = {number for number, *_ in lines}
    for number in range(options.first, options.first + options.machines):
        if number in done:
            continue
        own = [
            (number, n, *line)
            for n in options.sizes
            for line in rates_of_machine(number, n, options.detectors)
        ]
        lines += own
        if options.keep:
            with options.keep.open("a") as file:
                file.write("".join(f"{json.dumps(line)}\n" for line in own))
    print(table([line[1:] for line in lines]))
    print(f"\n{len({number for number, *_ in lines})} machines per row")


if __name__ == "__main__":
    main()
