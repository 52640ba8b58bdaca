"""CSV files that spreadsheets open: text never becomes a formula, and every cell can be read back.

A spreadsheet runs a cell that begins with `=`, `+`, `-` or `@` as a formula, quoted or not. A text
that begins so, or with a tab, a line end or an apostrophe, is written with one more apostrophe in
front, the mark that spreadsheets themselves use for text. `read_csv` removes it. Numbers such as
-1.5 stay numbers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from math import isnan
from pathlib import Path
from typing import Any

MARK = "'"
MARKED = f"{MARK}=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
"""First characters of the texts that are marked; spreadsheets read the wide forms as well."""
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)


def cell_of(value: Any) -> str:
    """Write a value as a cell: None and NaN are empty, fractions have six decimals."""
    if isinstance(value, float):
        return "" if isnan(value) else f"{value:.6f}"
    return "" if value is None else marked(str(value))


def marked(text: str) -> str:
    """Put an apostrophe in front of a text that a spreadsheet would run."""
    is_text = text[:1] != "" and text[0] in MARKED and not NUMBER.fullmatch(text)
    return MARK + text if is_text else text


def unmarked(cell: str) -> str:
    """Undo `marked`."""
    return cell[1:] if cell[:1] == MARK and cell[1:2] != "" and cell[1] in MARKED else cell


def csv_text(lines: Iterable[Iterable[str]]) -> str:
    """Format cells as CSV with a line feed after each line; cells are quoted where needed."""
    text = io.StringIO()
    usual = csv.writer(text, lineterminator="\n")
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for line in lines:
        cells = list(line)
        # csv alone does not quote a lone carriage return, which its reader takes for a line's end
        (quoting if any("\r" in cell for cell in cells) else usual).writerow(cells)
    return text.getvalue()


def csv_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Read the lines of a CSV file that are not empty, each with its number in the file.

    Raises ValueError, with the file and the line, for what is not UTF-8 or not CSV.
    """
    lines = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        try:
            for cells in reader:
                if cells:
                    lines.append((reader.line_num, cells))
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 text: {error.reason}") from error
    return lines


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read a table that this project wrote: its rows by their column names, without marks.

    Raises ValueError, with the file and the line, for a row of another length than the heading.
    """
    (_, heading), *rows = csv_lines(path) or [(1, [])]
    columns = [unmarked(cell) for cell in heading]
    for number, cells in rows:
        if len(cells) != len(columns):
            raise ValueError(
                f"{path}, line {number}: expected {len(columns)} cells, got {len(cells)}"
            )
    return [dict(zip(columns, map(unmarked, cells), strict=True)) for _, cells in rows]
