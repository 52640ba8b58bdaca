"""What a benchmark measured, as a JSON file with its date, machine and versions.

A record has the keys `benchmark`, `date`, `command`, `machine`, `versions`, `note`, `columns` and
`rows`. A row has a `name`, values under the columns' keys, and `ratios`: `cpu` is how many times
the processor time its peer took, which is what a guard can compare.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).resolve().parent / "records"
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""Of a CPU; they decide which arithmetic is fast."""
PACKAGES = (
    "torch", "numpy", "scipy", "scikit-learn", "h5py", "transformers", "librosa", "soxr",
    "onnxruntime", "openvino",
)  # fmt: skip

Record = dict[str, Any]


def machine() -> dict[str, Any]:
    """Describe this machine: CPU, its flags, cores, load, and GPUs where there are any."""
    cpu, flags = _cpu()
    facts: dict[str, Any] = {
        "cpu": cpu,
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "system": platform.system(),
        "load": round(os.getloadavg()[0], 1),
    }
    import torch

    if torch.cuda.is_available():
        facts["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return facts


def _cpu() -> tuple[str, list[str]]:
    about = Path("/proc/cpuinfo")
    if not about.is_file():
        return platform.processor() or platform.machine(), []
    text = about.read_text(encoding="utf-8")
    model = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)
    return (model[1].strip() if model else platform.machine()), (flags[1] if flags else "").split()


def versions() -> dict[str, str]:
    """List the versions of Python and of the packages that do the work."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def make_record(
    benchmark: str,
    columns: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
    note: str = "",
) -> Record:
    """Join rows with what they were measured on. `columns` are headings by key."""
    return {
        "benchmark": benchmark,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": _command(sys.argv),
        "machine": machine(),
        "versions": versions(),
        "note": note,
        "columns": dict(columns),
        "rows": [dict(row) for row in rows],
    }


def _command(words: Sequence[str]) -> str:
    """Write the command that runs, without the place of its record."""
    script, *options = words
    if "--json" in options:
        at = options.index("--json")
        options = options[:at] + options[at + 2 :]
    return " ".join(["python", f"benchmarks/{Path(script).name}", *options])


def save(record: Record, folder: Path) -> Path:
    """Write a record; its name tells benchmark, date and CPU."""
    about = record["machine"]
    words = re.findall(r"[a-z0-9_]+", f"{about['cpu']} {' '.join(about['flags'][-1:])}".lower())
    path = folder / f"{'-'.join([record['benchmark'], record['date'], *words])}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_all(folder: Path = RECORDS) -> list[Record]:
    """Read all records of a folder, the newest first."""
    found = [json.loads(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda record: record["date"], reverse=True)


def is_like(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether two machines have the same CPU model with the same flags."""
    return all(one[key] == other[key] for key in ("cpu", "flags"))


def table(record: Record) -> str:
    """Lay out the rows of a record in Markdown."""
    columns = record["columns"]
    lines = [["", *columns.values()], ["---"] * (1 + len(columns))]
    lines += [[row["name"], *(_cell(row, key) for key in columns)] for row in record["rows"]]
    return "".join(
        f"|{''.join(f' {cell} |' if cell else ' |' for cell in line)}\n" for line in lines
    )


def _cell(row: Mapping[str, Any], key: str) -> str:
    value = row.get("ratios", {}).get(key, row.get(key))
    if value is None:
        return ""
    if isinstance(value, float):
        return _rounded(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _rounded(value: float) -> str:
    """Write a number with three significant digits, and none more than it needs."""
    if not value:
        return "0"
    if abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:,.0f}" if abs(value) >= 100 else f"{float(f'{value:.3g}'):g}"
