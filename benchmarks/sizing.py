"""How long 10^5 to 10^8 clips take on so many workers, from rates that are measured here.

    python benchmarks/sizing.py demo_data --encoder logmel,wave --workers 8,64 --mb-per-s 120

Measured: processor seconds per clip (decode, encode, write and merge, the least of several passes
over the recordings), bytes per recording and bytes per row. Networks have random weights, which
take as long. Given: how many workers there are, and how many MB per second the disk or network that
holds the recordings delivers to all of them together. A set takes as long as the slower of the two.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline.embedding_only import embed_only
from pipeline.settings import EmbedSettings

SIZES = (10**5, 10**6, 10**7, 10**8)
PASSES = 3


@dataclass(frozen=True)
class Rates:
    """What one clip costs."""

    processor_s: float
    recording_bytes: float
    row_bytes: float


def measure(data: Path, encoder: str) -> Rates:
    """Embed all recordings of a folder several times, each time into an empty cache."""
    passes = []
    for _ in range(PASSES):
        with tempfile.TemporaryDirectory() as folder:
            settings = EmbedSettings(
                data=str(data),
                encoder=encoder,
                weights="random",
                device="cpu",
                cache_dir=Path(folder, "cache"),
                out=Path(folder, "runs"),
                quiet=True,
            )
            started = time.process_time()
            sources = embed_only(settings).sources
            n_clips = len(sources[0].keys)
            passes.append((time.process_time() - started) / n_clips)
            row_bytes = sum(source.path.stat().st_size for source in sources) / n_clips
    recordings = [path.stat().st_size for path in data.rglob("*.wav")]
    return Rates(min(passes), sum(recordings) / len(recordings), row_bytes)


def duration(seconds: float) -> str:
    """Write a duration in the largest unit that leaves at least two."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def table(rates: Rates, workers: list[int], mb_per_s: float) -> list[str]:
    """Lay out a row per size: what it reads and keeps, and how long it takes."""
    heading = ["clips", "recordings", "vectors", "to read", *(f"{n} workers" for n in workers)]
    lines = [f"| {' | '.join(heading)} |", "|" + " --- |" * len(heading)]
    for n_clips in SIZES:
        reading_s = n_clips * rates.recording_bytes / (mb_per_s * 1e6)
        cells = [
            f"{n_clips:,}",
            f"{n_clips * rates.recording_bytes / 1e9:,.0f} GB",
            f"{n_clips * rates.row_bytes / 1e9:,.2f} GB",
            duration(reading_s),
            *(duration(max(reading_s, n_clips * rates.processor_s / n)) for n in workers),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="a folder of recordings like yours")
    parser.add_argument("--encoder", default="logmel", help="as run_pipeline.py takes it")
    parser.add_argument("--workers", default="8,64", help="cores that work at the same time")
    parser.add_argument("--mb-per-s", type=float, default=120.0, help="of the disk or network")
    given = parser.parse_args()
    rates = measure(given.data, given.encoder)
    print(
        f"{given.encoder}: {1000 * rates.processor_s:.1f} ms of one core per clip of "
        f"{rates.recording_bytes / 1000:.0f} kB, {rates.row_bytes:.0f} bytes kept of it\n"
    )
    print("\n".join(table(rates, [int(n) for n in given.workers.split(",")], given.mb_per_s)))


if __name__ == "__main__":
    main()
