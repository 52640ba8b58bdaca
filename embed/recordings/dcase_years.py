"""Which machine types each year of DCASE Task 2 has, where the names of its clips do not tell it.

From 2023 on every year names its clips alike and is scored alike. The years differ in their
machines and in what the recordings hold.
"""

from __future__ import annotations

from collections.abc import Iterable

_TYPES_2023_TO_2025 = ("bearing", "fan", "gearbox", "slider", "ToyCar", "ToyTrain", "valve")

DEVELOPMENT = {
    2021: ("fan", "gearbox", "pump", "slider", "ToyCar", "ToyTrain", "valve"),
    2022: _TYPES_2023_TO_2025,
    2023: _TYPES_2023_TO_2025,
    2024: _TYPES_2023_TO_2025,
    2025: _TYPES_2023_TO_2025,
    2026: ("bearingEmu", "fan", "gearboxEmu", "sliderEmu", "ToyCar", "ToyCarEmu", "valveEmu"),
}
"""Machine types of the development set, by year."""

EVALUATION: dict[int, tuple[str, ...]] = {
    2023: ("bandsaw", "grinder", "shaker", "ToyDrone", "ToyNscale", "ToyTank", "Vacuum"),
    2024: (
        *("3DPrinter", "AirCompressor", "BrushlessMotor", "HairDryer", "HoveringDrone"),
        *("RoboticArm", "Scanner", "ToothBrush", "ToyCircuit"),
    ),
    2025: (
        *("AutoTrash", "BandSealer", "CoffeeGrinder", "HomeCamera", "Polisher", "ScrewFeeder"),
        *("ToyPet", "ToyRCCar"),
    ),
    2026: ("BlowerDustCollector", "Sander", "SewingMachine", "ToothBrush", "ToyDrone"),
}
"""Machine types of the evaluation set, where they are others than those of development."""

FIRST_SUPPLEMENTAL = 2025
"""The first year whose archives have supplemental clips."""


def year_of(machine_types: Iterable[str], *, has_supplemental: bool) -> tuple[int, str]:
    """Tell the year from 2023 on that has these machine types, the earliest of several.

    Types that no year has are of no account. Returns also a remark where no single year has all of
    them, and then 2023: all these years have the same rules.
    """
    years = [year for year in EVALUATION if year >= FIRST_SUPPLEMENTAL or not has_supplemental]
    years_of_type = {
        name: [y for y in EVALUATION if name in DEVELOPMENT[y] + EVALUATION[y]]
        for name in sorted(machine_types)
    }
    known = {name: found for name, found in years_of_type.items() if found}
    fitting = [year for year in years if all(year in found for found in known.values())]
    if fitting:
        return fitting[0], ""
    shown = ", ".join(f"{name} ({' '.join(map(str, found))})" for name, found in known.items())
    return 2023, f"machines of several years of DCASE lie side by side, by the same rules: {shown}"
