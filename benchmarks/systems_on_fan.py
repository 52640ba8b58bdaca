"""Run every system on 40 real recordings of one fan, and print the table of docs/systems.md.

    python benchmarks/systems_on_fan.py --data ../shared/data/mimii_fan --seeds 3

Pretrained encoders get random weights unless --weights says otherwise: then the rows show that a
system runs, not what it is worth. 28 test clips are a trial and not a benchmark.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from systems import SYSTEMS  # noqa: E402

RANDOM_WEIGHTS = {"panns", "ast"}


def run(name: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Run one system over all seeds; AUC and pAUC of the machine, per seed."""
    system = SYSTEMS[name]
    command = [sys.executable, str(ROOT / "run_pipeline.py"), "--system", name]
    command += ["--data", str(arguments.data), "--weights", arguments.weights, "--json", "--quiet"]
    command += ["--seeds", str(arguments.seeds), "--normalize", arguments.normalize]
    command += ["--cache-dir", str(arguments.work / "cache"), "--out", str(arguments.work / "runs")]
    if system.detector == "resnet50_cnn":
        command += ["--set", "resnet50_cnn.weights=random"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}: exit {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    runs = json.loads(done.stdout)
    runs = runs.get("runs", [runs])
    rows = [row for one in runs for row in one["results"] if row["machine_id"] == "pooled"]
    return {
        "name": name,
        "random": system.encoder in RANDOM_WEIGHTS or system.detector == "resnet50_cnn",
        "auc": [row["auc"] for row in rows],
        "pauc": [row["pauc"] for row in rows],
    }


def table(rows: list[dict[str, object]]) -> str:
    lines = ["| system | seeds | AUC, mean (lowest to highest) | pAUC |", "|---|---|---|---|"]
    for row in rows:
        auc, pauc = row["auc"], row["pauc"]
        spread = f" ({min(auc):.3f} to {max(auc):.3f})" if max(auc) > min(auc) else ""
        star = " *" if row["random"] else ""
        lines.append(
            f"| `{row['name']}`{star} | {len(auc)} | {mean(auc):.3f}{spread} | {mean(pauc):.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/mimii_fan")
    parser.add_argument("--work", type=Path, default=Path("systems_on_fan"))
    parser.add_argument("--weights", default="random")
    parser.add_argument("--normalize", default="none")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("systems", nargs="*", default=list(SYSTEMS))
    arguments = parser.parse_args()
    start, rows = time.perf_counter(), []
    for name in arguments.systems:
        rows.append(run(name, arguments))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(f"\n{table(rows)}\n\nall in {(time.perf_counter() - start) / 60:.1f} min")


if __name__ == "__main__":
    main()
