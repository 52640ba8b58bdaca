"""The archives of DCASE Task 2 on Zenodo, of each year from 2020 on: records, names, hashes.

The data are CC BY-NC-SA 4.0 (those of 2020: Koizumi et al. 2020, from ToyADMOS, Koizumi et al.
2019, and MIMII, Purohit et al. 2019). Hashes are the records' MD5. Where it is not known here, an
archive is not downloaded: it is taken from where the message about it asks to put it.
"""

from __future__ import annotations

from collections.abc import Mapping

from fetch.download import RemoteFile

Parts = dict[str, dict[str, RemoteFile]]
"""`development`, `additional` (training clips) or `evaluation`; machine type -> archive."""


def _part(
    record: int,
    name: str,
    machines: Mapping[str, str] | str,
    *,
    about: str = "",
    sizes: Mapping[str, int] | None = None,
    names: Mapping[str, str] | None = None,
) -> dict[str, RemoteFile]:
    """Describe a Zenodo record of one archive per machine type.

    `machines` maps machine types to MD5, "" where it is not known, or is their names alone.
    `name` is the pattern of file names, and `names` has those that differ from it.
    """
    if isinstance(machines, str):
        machines = dict.fromkeys(machines.split(), "")
    page = f"https://zenodo.org/records/{record}/files"
    files = {}
    for machine_type, md5 in machines.items():
        file_name = (names or {}).get(machine_type, name.format(machine_type))
        files[machine_type] = RemoteFile(
            name=file_name,
            urls=(f"doi:10.5281/zenodo.{record}/{file_name}", f"{page}/{file_name}?download=1"),
            hash=md5 and f"md5:{md5}",
            size=(sizes or {}).get(machine_type, 0),
            about_size=about,
        )
    return files


_TYPES_2021 = "fan gearbox pump slider ToyCar ToyTrain valve"
_TYPES_2022 = "bearing fan gearbox slider ToyCar ToyTrain valve"
_TYPES_2024 = (
    "3DPrinter AirCompressor BrushlessMotor HairDryer HoveringDrone RoboticArm Scanner ToothBrush "
    "ToyCircuit"
)
_TYPES_2025 = "AutoTrash BandSealer CoffeeGrinder HomeCamera Polisher ScrewFeeder ToyPet ToyRCCar"

ARCHIVES: dict[int, Parts] = {
    2020: {
        "development": _part(
            3678171,
            "dev_data_{}.zip",
            {
                "fan": "649bdfc06263ae7a838963f43b6641e6",
                "pump": "90e7091ef722b7238a7f1009365779cd",
                "slider": "da24a757719f0d94d5aa2d646bbfdc86",
                "ToyCar": "4dec75ca8d9f666aa9e4c1894a740501",
                "ToyConveyor": "03b6aa1bfd09a39d53af0ba39f71fa91",
                "valve": "34d2672f55bb041589ef79c10dc89934",
            },
            about="1 to 2 GB",
            sizes={
                "fan": 1_354_774_772,
                "pump": 1_031_279_015,
                "slider": 1_002_998_966,
                "ToyCar": 1_816_443_231,
            },
        ),
        "additional": _part(
            3727685,
            "eval_data_train_{}.zip",
            {
                "fan": "567798854130c8019df8b664c095ed1e",
                "pump": "4e33ae9c0db5cc88437675f5e317caee",
                "slider": "f84f186f4295fc23754abcdd1b0580a7",
                "ToyCar": "a5d4ccd498af70b04dd74b644b820006",
                "ToyConveyor": "0e808ac0b761e9fb13d5e0c65caff00d",
                "valve": "057cdd560caffb8305449541afd28c6d",
            },
            about="about 1 GB",
            sizes={"ToyCar": 861_354_584},
        ),
        "evaluation": _part(
            3841772,
            "eval_data_test_{}.zip",
            {
                "fan": "1eb9356a768cadfd0f2e59a5c57e578b",
                "pump": "23a8f8f924be218c69df67fe07360348",
                "slider": "0193c769073840332ce3aad84b1ccaa2",
                "ToyCar": "bea2bdd612f616be8f2b8eb087b32c7c",
                "ToyConveyor": "ccfcc9847c7d3404d7ee9d6d9e0b2ba2",
                "valve": "f69c551d2088691050d20cccca9d631c",
            },
            about="less than 1 GB",
        ),
    },
    2021: {
        "development": _part(4562016, "dev_data_{}.zip", _TYPES_2021),
        "additional": _part(4660992, "eval_data_{}_train.zip", _TYPES_2021),
        "evaluation": _part(4884786, "eval_data_{}_test.zip", _TYPES_2021),
    },
    2022: {
        "development": _part(6355122, "dev_{}.zip", _TYPES_2022),
        "additional": _part(6462969, "eval_data_{}_train.zip", _TYPES_2022),
        "evaluation": _part(6586456, "eval_data_{}_test.zip", _TYPES_2022),
    },
    2023: {
        "development": _part(
            7882613,
            "dev_{}.zip",
            {
                "bearing": "8a813bc8d8f156b5395bfccdfac7673c",
                "fan": "9348591e96fb0ad499a1e33b082562fc",
                "gearbox": "b6e55f6a31faa0fc8569ec0afdd53ccf",
                "slider": "b3f8dee36b4718c36d659a4fd1c4afe0",
                "ToyCar": "4e3bf15f4101ed4ed4f1fecde2e2b2a3",
                "ToyTrain": "6b02a6c65eebb3b8b1ae59a6b25bb897",
                "valve": "b2051a2022eadb53cd97581120811cae",
            },
        ),
        "additional": _part(
            7830345,
            "eval_data_{}_train.zip",
            {
                "bandsaw": "9274dfe63de028743823f1123f8b4b47",
                "grinder": "17569c1f9df23621a0dbabc430684a35",
                "shaker": "35f821b5645b731fb5a1750e33b95fc3",
                "ToyDrone": "7fea367d1384a1521ae24f72203238de",
                "ToyNscale": "9332822f3e47afd984c01f2ecb5ca3af",
                "ToyTank": "b1fd3ab7de7561290df2d477de1c9d33",
                "Vacuum": "1c8de33d9a8c7850a1f7aaddb97d87be",
            },
        ),
        "evaluation": _part(
            7860847,
            "eval_data_{}_test.zip",
            {
                "bandsaw": "2a8e8f39f6584ab366a8f4da52d4d7a6",
                "grinder": "631b3e1608b6077772829a6e68c82c77",
                "shaker": "ba98c98caa96051ec80e24e44b8fca56",
                "ToyDrone": "fdae7b8d1f4cadb2bea88bc93e2367db",
                "ToyNscale": "62f5f5043d8fb3a305b1c2e1025872de",
                "ToyTank": "f5639bf58c47169c622751f19c6fc321",
                "Vacuum": "a32524fd8c45b574a560685b38acc4e1",
            },
        ),
    },
    2024: {
        "development": _part(10902294, "dev_{}.zip", _TYPES_2022),
        "additional": _part(
            11259435,
            "eval_data_{}_train.zip",
            _TYPES_2024,
            names={
                "3DPrinter": "eval_data_3DPrinter_train_r2.zip",
                "RoboticArm": "eval_data_RoboticArm_train_r2.zip",
            },
        ),
        "evaluation": _part(11363076, "eval_data_{}_test.zip", _TYPES_2024),
    },
    2025: {
        "development": _part(15097779, "dev_{}.zip", _TYPES_2022),
        "additional": _part(15392814, "eval_data_{}_train.zip", _TYPES_2025),
        "evaluation": _part(15519362, "eval_data_{}_test.zip", _TYPES_2025),
    },
    2026: {
        "development": _part(
            19336329,
            "dev_{}.zip",
            {
                "bearingEmu": "82c2d04c5f48d09842152c34ef273667",
                "fan": "",
                "gearboxEmu": "",
                "sliderEmu": "",
                "ToyCar": "",
                "ToyCarEmu": "",
                "valveEmu": "",
            },
            names={"ToyCar": "dev_ToyCar_r2.zip"},
        ),
        "additional": _part(
            20151556,
            "eval_data_{}_train.zip",
            {
                "BlowerDustCollector": "e79342948772cf51e50ff601cd9621f3",
                "Sander": "6cbcfbc65a09c4f3d00b9a55c50502ec",
                "SewingMachine": "74d08cacba3da88753badd69d19e577b",
                "ToothBrush": "6fa5f81796b5d37b3ed24bb8eff2ea25",
                "ToyDrone": "af3e4040ef7c67d7ee920608d0c38d82",
            },
        ),
        "evaluation": _part(
            20437238,
            "eval_data_{}_test.zip",
            {
                "BlowerDustCollector": "ec90d56f189e84e6430fb2878c59cb84",
                "Sander": "05f81c9a80e91c7b3cea15f8e8559b44",
                "SewingMachine": "f0a1a96b48006c301e8cec25e9214046",
                "ToothBrush": "987395506fbb48c570d5d26babcab05e",
                "ToyDrone": "b36102371c188b630d201d443a00bab2",
            },
        ),
    },
}
"""Year, part, machine type -> archive. Sizes of 0 are not known in advance."""
