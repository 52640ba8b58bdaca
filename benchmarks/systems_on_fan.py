"""Run every system on 40 real recordings of one fan, and print the table of benchmarks/systems.md.

    python benchmarks/systems_on_fan.py --data ../shared/data/mimii_fan --seeds 3
    python benchmarks/systems_on_fan.py --normalize none rms --seeds 3 twfr-gmm conv-ae

The table goes to standard output, what happens meanwhile to standard error. A `*` marks systems
with random weights (as --weights is by default): their rows show that a system runs, not what it
is worth. 28 test clips are a trial and not a benchmark.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.systems import SYSTEMS  # noqa: E402


@dataclass(frozen=True)
class Figures:
    """One system under one --normalize: a figure per seed, or why there is none."""

    auc: Sequence[float] = ()
    pauc: Sequence[float] = ()
    has_random_weights: bool = False
    error: str = ""

    @property
    def cells(self) -> str:
        if self.error:
            return f"- | {self.error}"
        low, high = min(self.auc), max(self.auc)
        spread = f" ({low:.3f} to {high:.3f})" if f"{low:.3f}" != f"{high:.3f}" else ""
        return f"{mean(self.auc):.3f}{spread} | {mean(self.pauc):.3f}"


def run(name: str, normalize: str, arguments: argparse.Namespace) -> Figures:
    """Run one system over all seeds; its pooled AUC and pAUC."""
    command = [sys.executable, str(ROOT / "run_pipeline.py"), "--system", name]
    command += ["--data", str(arguments.data), "--weights", arguments.weights, "--json", "--quiet"]
    command += ["--seeds", str(arguments.seeds), "--normalize", normalize]
    command += ["--cache-dir", str(arguments.work / "cache"), "--out", str(arguments.work / "runs")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    runs = json.loads(done.stdout)["runs"] if done.stdout else []
    rows = [row for one in runs for row in one["results"] if row["machine_id"] == "pooled"]
    if done.returncode not in (0, 3) or not rows:  # 3: some clips were left out
        said = done.stderr.strip().splitlines() or ["nothing was said"]
        return Figures(error=f"exit {done.returncode}: {said[-1]}".replace("|", "\\|"))
    return Figures(
        [row["auc"] for row in rows],
        [row["pauc"] for row in rows],
        any("random weights" in one["warning"] for one in runs),
    )


def table(found: dict[str, dict[str, Figures]], normalizations: Sequence[str]) -> str:
    """Lay out the figures as Markdown, a pair of columns per normalisation."""
    headings = [
        f"AUC{which}, mean (lowest to highest) | pAUC{which}"
        for which in (
            [f" `{each}`" for each in normalizations] if len(normalizations) > 1 else [""]
        )
    ]
    lines = [f"| system | seeds | {' | '.join(headings)} |"]
    lines.append("|---|---|" + "---|---|" * len(normalizations))
    for name, figures in found.items():
        star = " *" if any(one.has_random_weights for one in figures.values()) else ""
        seeds = max(len(one.auc) for one in figures.values())
        cells = " | ".join(one.cells for one in figures.values())
        lines.append(f"| `{name}`{star} | {seeds} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/mimii_fan")
    parser.add_argument("--work", type=Path, default=Path("systems_on_fan"))
    parser.add_argument("--weights", default="random")
    parser.add_argument("--normalize", nargs="+", default=["none"], choices=["none", "rms", "peak"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM")
    arguments = parser.parse_args()
    if unknown := set(arguments.systems) - set(SYSTEMS):
        parser.error(f"unknown system {min(unknown)}: one of {', '.join(SYSTEMS)}")
    start = time.perf_counter()
    found: dict[str, dict[str, Figures]] = {}
    for name in arguments.systems or SYSTEMS:
        found[name] = {each: run(name, each, arguments) for each in arguments.normalize}
        row = table({name: found[name]}, arguments.normalize).splitlines()[-1]
        print(row, file=sys.stderr, flush=True)
    print(table(found, arguments.normalize))
    print(f"all in {(time.perf_counter() - start) / 60:.1f} min", file=sys.stderr)
    if any(one.error for figures in found.values() for one in figures.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
