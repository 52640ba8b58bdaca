"""Which machine types each year of DCASE Task 2 has, where the names of its clips do not tell it.

From 2023 on every year names its clips alike and is scored alike. The years differ in their
machines and in what the recordings hold.
"""

from __future__ import annotations

from collections.abc import Iterable

from fetch.dcase_archives import ARCHIVES

TYPES = {
    year: frozenset(machine_type for part in parts.values() for machine_type in part)
    for year, parts in ARCHIVES.items()
    if year >= 2023
}
"""Machine types by year, of the development and the evaluation set."""

FIRST_SUPPLEMENTAL = 2025
"""The first year whose archives have supplemental clips."""


def year_of(machine_types: Iterable[str], *, has_supplemental: bool) -> tuple[int, str]:
    """Tell the year from 2023 on that has these machine types, the earliest of several.

    Types that no year has are of no account. Returns also a remark where no single year has all of
    them, and then 2023: all these years have the same rules.
    """
    years = [year for year in TYPES if year >= FIRST_SUPPLEMENTAL or not has_supplemental]
    years_of_type = {
        name: [year for year, types in TYPES.items() if name in types]
        for name in sorted(machine_types)
    }
    known = {name: found for name, found in years_of_type.items() if found}
    fitting = [year for year in years if all(year in found for found in known.values())]
    if fitting:
        return fitting[0], ""
    shown = ", ".join(f"{name} ({' '.join(map(str, found))})" for name, found in known.items())
    return 2023, f"machines of several years of DCASE lie side by side, by the same rules: {shown}"
