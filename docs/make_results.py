"""The table of results in the README, from the demo: `python docs/make_results.py`.

It records `demo_data` where that is not there yet. Everything is computed anew, but for vectors.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import anomalous_sound as sound

README = ROOT / "README.md"
BEGIN, END = "<!-- results: made by docs/make_results.py -->\n", "<!-- end of results -->\n"
METHODS: dict[str, dict[str, Any]] = {
    "--system auto": {"system": "auto"},
    "--encoder logmel": {"encoder": "logmel"},
    "--encoder logmel --detector knn": {"encoder": "logmel", "detector": "knn"},
    "--encoder mfcc": {"encoder": "mfcc"},
    "--system twfr-gmm": {"system": "twfr-gmm"},
}
HEADINGS = ("on the demo", "AUC, 95 %", "pAUC, 95 %", "false alarms of 5 %", "faults found")


def row(command: str, flags: dict[str, Any], out: str) -> Iterator[str]:
    """Return the cells of a method: means over machines, decisions over all clips."""
    job = sound.run(data="demo", **flags, out=out, quiet=True, page_clips=0, figures="none")
    rows = {result.machine_id: result for result in job.outcomes[0].results}
    mean, decided = rows["mean"], rows["pooled"].decided
    yield f"`{command}`"
    yield f"{mean.auc:.3f}, {mean.auc_low:.2f} to {mean.auc_high:.2f}"
    yield f"{mean.pauc:.3f}, {mean.pauc_low:.2f} to {mean.pauc_high:.2f}"
    yield f"{decided.false_alarms:.0%}".replace("%", " %")
    yield f"{decided.recall:.0%}".replace("%", " %")


def results_table() -> str:
    lines = [HEADINGS, ["---"] * len(HEADINGS)]
    with TemporaryDirectory() as out:
        lines += [list(row(command, flags, out)) for command, flags in METHODS.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    page = before + BEGIN + results_table() + END + rest.partition(END)[2]
    README.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
