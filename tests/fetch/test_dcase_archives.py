"""The table of archives: records, names and hashes, as they are published."""

import re

import pytest

from fetch.dcase_archives import ARCHIVES

RECORDS = {
    2020: (3678171, 3727685, 3841772),
    2021: (4562016, 4660992, 4884786),
    2022: (6355122, 6462969, 6586456),
    2023: (7882613, 7830345, 7860847),
    2024: (10902294, 11259435, 11363076),
    2025: (15097779, 15392814, 15519362),
    2026: (19336329, 20151556, 20437238),
}


@pytest.mark.parametrize("year", RECORDS)
def test_the_table_has_three_records_of_each_year(year: int) -> None:
    parts = ARCHIVES[year]

    assert list(parts) == ["development", "additional", "evaluation"]
    assert set(parts["additional"]) == set(parts["evaluation"])
    for record, files in zip(RECORDS[year], parts.values(), strict=True):
        assert len({file.name for file in files.values()}) == len(files) >= 5
        for machine_type, file in files.items():
            assert re.fullmatch(r"(md5:[0-9a-f]{32})?", file.hash)
            assert machine_type in file.name
            assert file.urls == (
                f"doi:10.5281/zenodo.{record}/{file.name}",
                f"https://zenodo.org/records/{record}/files/{file.name}?download=1",
            )


def test_no_two_archives_have_the_same_hash() -> None:
    files = [f for year in ARCHIVES.values() for part in year.values() for f in part.values()]
    hashes = [file.hash for file in files if file.hash]

    assert len(set(hashes)) == len(hashes) == 18 + 21 + 11
