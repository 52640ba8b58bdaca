"""The tables of README.md between its marks, made from the records.

python benchmarks/tables.py --write
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from records import Record, read_all, table

README = Path(__file__).resolve().parent / "README.md"
MARKED = re.compile(r"(<!-- records of (\w+) -->\n).*?(<!-- end of records -->\n)", re.DOTALL)


def rendered(text: str, records: Sequence[Record]) -> str:
    """Replace what is between the marks of a page by the tables of the records.

    ValueError for a mark without any record.
    """

    def tables(match: re.Match[str]) -> str:
        own = [record for record in records if record["benchmark"] == match[2]]
        if not own:
            raise ValueError(f"there is no record of {match[2]}")
        return match[1] + "\n" + "\n".join(map(section, own)) + "\n" + match[3]

    return MARKED.sub(tables, text)


def section(record: Record) -> str:
    """Say what a record was measured on, and lay out its table."""
    about = record["machine"]
    parts = [f"{about['cpu']} ({', '.join(about['flags'])})", f"{about['cores']} cores"]
    parts += about.get("gpus", [])
    numbers = [f"{name} {number}" for name, number in record["versions"].items()]
    note = f" {record['note']}." if record["note"] else ""
    facts = "; ".join([", ".join(parts), *([", ".join(numbers)] if numbers else [])])
    return f"**{record['date']}**, {facts}.{note}\n`{record['command']}`\n\n{table(record)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put them into README.md")
    options = parser.parse_args()
    text = rendered(README.read_text(encoding="utf-8"), read_all())
    if options.write:
        README.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
