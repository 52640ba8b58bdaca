"""A spreadsheet runs nothing, and every cell is read back as it was."""

import csv
import itertools

import pytest
from scored_machines import HOSTILE

from report.csv_files import MARKED, cell_of, csv_lines, csv_text, marked, read_csv, unmarked


@pytest.mark.parametrize("start", [*MARKED, "", "x"])
def test_a_text_is_read_back_whatever_it_begins_with(start):
    for rest in ("", "x", "'", "=1", "''", "1 2"):
        assert unmarked(marked(start + rest)) == start + rest


def test_different_texts_are_written_differently():
    starts = ["".join(each) for n in range(4) for each in itertools.product("'=x", repeat=n)]

    assert len({marked(text) for text in starts}) == len(starts)


@pytest.mark.parametrize(
    "text", ["=1+2", "+cmd", "-x", "@sum", "\tx", "\rx", "-1+2", "\uff1d1", "-1e"]
)
def test_a_text_that_a_spreadsheet_would_run_is_marked(text):
    assert cell_of(text) == f"'{text}"


@pytest.mark.parametrize("number", ["-1.5", "+3", "-1e-05", "-2."])
def test_numbers_stay_numbers(number):
    assert cell_of(number) == number


def test_values_are_written_as_spreadsheets_read_them():
    values = [None, 0.25, -1.5, 3, True, "fan", float("nan")]

    assert [cell_of(value) for value in values] == [
        "", "0.250000", "-1.500000", "3", "True", "fan", "",
    ]  # fmt: skip


def test_a_table_of_hostile_cells_is_read_back(tmp_path):
    path = tmp_path / "table.csv"
    rows = [{"name": name, "other\n=1": other} for name in HOSTILE for other in HOSTILE]
    lines = [map(cell_of, row) for row in ([*rows[0]], *(row.values() for row in rows))]
    path.write_text(csv_text(lines), encoding="utf-8", newline="")

    assert read_csv(path) == rows


def test_no_cell_of_a_hostile_table_is_a_formula():
    text = csv_text([[cell_of(name)] for name in HOSTILE])

    cells = [line[0] for line in csv.reader(text.splitlines(keepends=True))]
    assert not [cell for cell in cells if cell[:1] in "=+-@\t"]


def test_a_row_of_another_length_is_named_with_its_line(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('a,b\n"1\n1",2\n\n3\n')

    with pytest.raises(ValueError, match=r"table.csv, line 5: expected 2 cells, got 1"):
        read_csv(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n\xff,1\n", "table.csv is not UTF-8 text"),
        (b"a,b\n" + b"x" * 140_000 + b",1\n", "table.csv, line 2: field larger than field limit"),
    ],
)
def test_what_is_no_csv_is_refused_in_one_line(content, message, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(content)

    with pytest.raises(ValueError, match=message) as refusal:
        csv_lines(path)
    assert "\n" not in str(refusal.value)
