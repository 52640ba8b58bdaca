"""Compare ratios with recorded ones: a peer must stay as far behind as it was, within 80 %.

    python benchmarks/guard.py                      # measure what was recorded on a CPU like this
    python benchmarks/guard.py --measured FOLDER    # compare records that were made before

Only ratios of processor time are compared, and only with the newest record of a CPU of the same
model with the same flags; where there is none, nothing can be said and nothing fails.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from records import RECORDS, Record, is_like, machine, read_all

HERE = Path(__file__).resolve().parent
SHARE = 0.8
COMMANDS = {
    "encoders": ["bench_encoders.py", "--rounds", "5", "--threads", "2"],
    "detectors": ["bench_detectors.py", "--only", "vectors", "--threads", "1"],
    "cache": ["bench_cache.py"],
}


def newest_like(records: Sequence[Record], here: dict) -> dict[str, Record]:
    """Return the newest record of each benchmark on a CPU like this; the newest come first."""
    found: dict[str, Record] = {}
    for record in records:
        if record["benchmark"] in COMMANDS and is_like(record["machine"], here):
            found.setdefault(record["benchmark"], record)
    return found


def ratios(record: Record) -> dict[str, float]:
    """Return the ratios of processor time by the names of their rows."""
    return {row["name"]: row["ratios"]["cpu"] for row in record["rows"] if has_ratio(row)}


def has_ratio(row: dict) -> bool:
    return "cpu" in row.get("ratios", {})


def compare(recorded: Record, measured: Record | None) -> tuple[list[str], list[str]]:
    """Return what fell below its share of the recorded ratio, and what was not measured."""
    if measured is None:
        return [], [recorded["benchmark"]]
    now = ratios(measured)
    slower, absent = [], []
    for name, before in ratios(recorded).items():
        label = f"{recorded['benchmark']}: {name}"
        if name not in now:
            absent.append(label)
        elif now[name] < SHARE * before:
            slower.append(
                f"{label}: {now[name]:.2f} times the peer, {before:.2f} on {recorded['date']}, "
                f"at least {SHARE * before:.2f} expected"
            )
    return slower, absent


def command(record: Record) -> list[str]:
    """Return the script and the options that measure again what a record has."""
    words = COMMANDS[record["benchmark"]]
    if record["benchmark"] != "encoders":
        return words
    ways = [name.split(", ") for name in ratios(record)]  # encoder, precision, backend
    for option, number in (("--encoder", 0), ("--backend", 2)):
        words = [*words, option, ",".join(dict.fromkeys(way[number] for way in ways))]
    return [*words, "--bf16"] if any(precision == "bf16" for _, precision, _ in ways) else words


def measure(record: Record, folder: Path) -> None:
    """Run the benchmark of a record, which writes another to the folder."""
    script, *options = command(record)
    words = [sys.executable, str(HERE / script), *options, "--json", str(folder)]
    subprocess.run(words, check=True, cwd=HERE.parent)


def guard(recorded: dict[str, Record], folder: Path) -> int:
    """Compare records in a folder with recorded ones; return the exit status."""
    measured = newest_like(read_all(folder), machine())
    n_slower = n_compared = 0
    for benchmark, record in recorded.items():
        slower, absent = compare(record, measured.get(benchmark))
        n_slower += len(slower)
        n_compared += len(ratios(record)) - len(absent) if benchmark in measured else 0
        for line in slower:
            print(f"SLOWER {line}")
        for label in absent:
            print(f"not measured here: {label}")
    print(f"{n_slower} of {n_compared} ratios are below {SHARE:.0%} of what was recorded")
    return 1 if n_slower else 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measured", type=Path, help="a folder of records that were made here")
    parser.add_argument("--records", type=Path, default=RECORDS, help="what to compare with")
    options = parser.parse_args(arguments)
    here = machine()
    recorded = newest_like(read_all(options.records), here)
    if not recorded:
        print(
            f"nothing was recorded on a CPU like this ({here['cpu']}, {' '.join(here['flags'])}); "
            f"`make bench` records it"
        )
        return 0
    if options.measured:
        return guard(recorded, options.measured)
    with tempfile.TemporaryDirectory() as folder:
        for record in recorded.values():
            measure(record, Path(folder))
        return guard(recorded, Path(folder))


if __name__ == "__main__":
    sys.exit(main())
