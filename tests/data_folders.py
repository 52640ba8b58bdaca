"""Names of recordings as the data sets have them, and folders filled with them."""

import os
from collections.abc import Iterable
from pathlib import Path

from embed.recordings.dataset import Clip, DataSet

DCASE_2020 = [
    "slider/train/normal_id_00_00000000.wav",
    "slider/train/normal_id_00_00000001.wav",
    "slider/test/normal_id_00_00000000.wav",
    "slider/test/anomaly_id_00_00000355.wav",
    "ToyCar/train/normal_id_01_00000000.wav",
    "ToyCar/test/anomaly_id_01_00000000.wav",
]
MIMII = [
    *(f"fan/id_00/normal/{i:08}.wav" for i in range(5)),
    *(f"fan/id_00/abnormal/{i:08}.wav" for i in range(2)),
]
YEARS = {
    "dcase2021": {
        "fan/train/section_00_source_train_normal_0000_strength_1_ambient.wav": (
            *("section_00", "train", "normal", "source", "strength_1_ambient"),
        ),
        "fan/train/section_00_source_train_normal_00000000_strength_1_ambient.wav": (
            *("section_00", "train", "normal", "source", "strength_1_ambient"),
        ),
        "fan/source_test/section_01_source_test_anomaly_0099_strength_2_ambient.wav": (
            *("section_01", "test", "anomalous", "source", "strength_2_ambient"),
        ),
        "ToyCar/target_test/section_02_target_test_normal_0005_A2Spd34VMic1.wav": (
            *("section_02", "test", "normal", "target", "A2Spd34VMic1"),
        ),
        "fan/source_test/section_03_source_test_0000.wav": (
            *("section_03", "test", "unknown", "source", ""),
        ),
        "fan/target_test/section_05_target_test_0199.wav": (
            *("section_05", "test", "unknown", "target", ""),
        ),
    },
    "dcase2022": {
        "fan/train/section_00_source_train_normal_0000_m-n_W.wav": (
            *("section_00", "train", "normal", "source", "m-n_W"),
        ),
        "valve/train/section_01_target_train_normal_0009_pat_00.wav": (
            *("section_01", "train", "normal", "target", "pat_00"),
        ),
        "fan/test/section_02_target_test_anomaly_0049_n-lv_L2.wav": (
            *("section_02", "test", "anomalous", "target", "n-lv_L2"),
        ),
        "bearing/test/section_03_test_0000.wav": ("section_03", "test", "unknown", "", ""),
    },
    "dcase2023": {
        "bearing/train/section_00_source_train_normal_0000_vel_6_loc_A_f-n_A.wav": (
            *("section_00", "train", "normal", "source", "vel_6_loc_A_f-n_A"),
        ),
        "ToyCar/test/section_00_source_test_normal_0000_car_A2_spd_28V_mic_1_noise_1.wav": (
            *("section_00", "test", "normal", "source", "car_A2_spd_28V_mic_1_noise_1"),
        ),
        "Vacuum/test/section_00_test_0199.wav": ("section_00", "test", "unknown", "", ""),
        "ToyDrone/test/section_00_0000.wav": ("section_00", "test", "unknown", "", ""),
    },
    "dcase2024": {
        "slider/test/section_00_target_test_anomaly_0049_noAttribute.wav": (
            *("section_00", "test", "anomalous", "target", ""),
        ),
        "3DPrinter/train/section_00_target_train_normal_0009_.wav": (
            *("section_00", "train", "normal", "target", ""),
        ),
        "ToothBrush/test/section_00_0001.wav": ("section_00", "test", "unknown", "", ""),
    },
    "dcase2025": {
        "fan/train/section_00_source_train_normal_0326_n_B.wav": (
            *("section_00", "train", "normal", "source", "n_B"),
        ),
        "ToyPet/train/section_00_target_train_normal_0009_.wav": (
            *("section_00", "train", "normal", "target", ""),
        ),
        "AutoTrash/train/section_00_source_train_normal_0001_noAttribute.wav": (
            *("section_00", "train", "normal", "source", ""),
        ),
        "AutoTrash/test/section_00_test_0000.wav": ("section_00", "test", "unknown", "", ""),
        "ToyRCCar/test/section_00_0000.wav": ("section_00", "test", "unknown", "", ""),
    },
    "dcase2026": {
        "ToyCarEmu/train/section_00_source_train_normal_0000_car_B1.wav": (
            *("section_00", "train", "normal", "source", "car_B1"),
        ),
        "sliderEmu/test/section_00_target_test_normal_0003_noAttribute.wav": (
            *("section_00", "test", "normal", "target", ""),
        ),
        "Sander/train/section_00_source_train_normal_0000_.wav": (
            *("section_00", "train", "normal", "source", ""),
        ),
        "BlowerDustCollector/test/section_00_0000.wav": (
            *("section_00", "test", "unknown", "", ""),
        ),
    },
}
SUPPLEMENTAL = [
    "section_00_machine_0001_.wav",
    "section_00_source_supplemental_machine_0000.wav",
    "section_00_noise_supplemental_normal_0000.wav",
]


def fill(root: Path, keys: Iterable[str]) -> Path:
    for key in keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound of " + os.fsencode(key))
    return root


def by_key(found: DataSet) -> dict[str, Clip]:
    return {clip.key: clip for clip in found.clips}
