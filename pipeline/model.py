"""A fitted model on disk: everything that scores a new clip the way the run did.

    press_hall/
        model.json     members (encoder, pooling, detector, with all options and fingerprints),
                       machines, what thresholds promise, versions, the SHA-256 of every file
        card.md        the same in plain words
        files/<version>/<machine>/machine.json, <member>.skops, <member>.safetensors, ...
        history/       the model.json of earlier versions, whose files stay

`model.json` is replaced last and in one step, so a model is there whole or as it was before.
Opening one runs no code: JSON, safetensors, and skops with the types of this project.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground.file_names import file_name
from ground.files import sha256_of, write_whole
from ground.registry import is_own_class
from ground.text import nearest_hint, one_line
from pipeline.exits import version_here
from pipeline.explaining import MachineProfile
from pipeline.fusing import Fused
from pipeline.judging import MemberFits
from pipeline.plan import Combination
from pipeline.settings import as_config

if TYPE_CHECKING:
    import numpy as np

    from detect.detector import Detector
    from detect.out_of_fold import OutOfFold

FORMAT = 1
"""Version of the layout above."""


@dataclass(frozen=True)
class ModelMember:
    """One encoder, pooling and detector of a model."""

    name: str
    """encoder/pooling/detector."""
    detector: str
    configuration: Mapping[str, Any]
    """What rebuilds encoder, preprocessing and pooling; empty for vectors of another tool."""
    fingerprint: str = ""


@dataclass(frozen=True)
class ModelMachine:
    """One machine of a model, or a machine type whose IDs share a fit."""

    machine_type: str
    machine_id: str
    ids: Sequence[str]
    """The machine IDs that it was fitted to."""
    folder: str
    n_train: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What learning found: minutes of sound, clips worth a listen, what can be promised."""


@dataclass(frozen=True)
class LoadedMember:
    """A member's detector for one machine, and what calibrates its scores."""

    member: ModelMember
    detector: Detector
    calibration: OutOfFold | None


@dataclass(frozen=True)
class LoadedMachine:
    """A machine's detectors, ready to rate vectors."""

    machine: ModelMachine
    members: Sequence[LoadedMember]
    train_keys: Sequence[str]
    train_ids: Sequence[str]
    profile: MachineProfile | None = None
    """What its normal recordings sound like, where learning noted it."""


@dataclass(frozen=True)
class Model:
    """A model as `model.json` describes it; detectors are read when they are used."""

    path: Path
    facts: Mapping[str, Any]
    members: Sequence[ModelMember]
    machines: Sequence[ModelMachine]

    @property
    def rule(self) -> str:
        """How the members' scores become one."""
        return str(self.facts["rule"])

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that it was learned with."""
        return self.facts["settings"]  # type: ignore[no-any-return]

    @cached_property
    def names(self) -> dict[tuple[str, str], ModelMachine]:
        """The machines by type and ID."""
        return {
            (machine.machine_type, machine_id): machine
            for machine in self.machines
            for machine_id in machine.ids
        }

    def find(self, name: str) -> tuple[str, str]:
        """Return the machine type and ID that a person calls `name`; ValueError if there is none.

        `press7`, `fan id_00`, `fan/id_00` and `fan_id_00` are ways to write it; the type alone
        does where it has one ID.
        """
        ways: dict[str, tuple[str, str]] = {}
        types = [machine_type for machine_type, _ in self.names]
        for machine_type, machine_id in self.names:
            for separator in (" ", "/", "_"):
                ways[f"{machine_type}{separator}{machine_id}".rstrip(separator)] = (
                    machine_type,
                    machine_id,
                )
            if types.count(machine_type) == 1:
                ways[machine_type] = machine_type, machine_id
        if name not in ways:
            shown = dict.fromkeys(" ".join(machine).strip() for machine in self.names)
            raise ValueError(
                f"the model {self.path} does not know the machine {name!r}: "
                f"{nearest_hint(name, shown)}"
            )
        return ways[name]

    def load(self, machine: ModelMachine, *, trust_classes: bool = False) -> LoadedMachine:
        """Read a machine's detectors; ValueError for a file that is not the one that was saved."""
        from detect.out_of_fold import OutOfFold
        from detect.saving import load_detector

        folder = self.path / machine.folder
        self._check(folder / "machine.json")
        facts = json.loads((folder / "machine.json").read_text(encoding="utf-8"))
        members = []
        for entry in facts["members"]:
            member = self.members[entry["member"]]
            self._refuse_class(member.detector, trust_classes)
            for ending in ("skops", "safetensors"):
                self._check(folder / f"{entry['member']}.{ending}")
            calibration = entry["calibration"]
            members.append(
                LoadedMember(
                    member,
                    load_detector(folder / str(entry["member"])),
                    OutOfFold(
                        keys=tuple(calibration["keys"]),
                        machine_ids=tuple(calibration["machine_ids"]),
                        scores=_array(calibration["scores"]),
                        n_recordings=calibration["n_recordings"],
                        n_folds=calibration["n_folds"],
                        notes=tuple(calibration["notes"]),
                    )
                    if calibration
                    else None,
                )
            )
        for name in ("profile.json", "nearest.safetensors"):
            self._check(folder / name)
        profile = MachineProfile.load(folder)
        return LoadedMachine(machine, members, facts["train_keys"], facts["train_ids"], profile)

    def _refuse_class(self, detector: str, trust_classes: bool) -> None:
        from detect import DETECTORS

        if is_own_class(detector, DETECTORS) and not trust_classes:
            raise ValueError(
                f"the model {self.path} names the class {detector}, whose code would be run; "
                "add --trust-classes if you know it"
            )

    def _check(self, file: Path) -> None:
        """Compare a file with the hash that was kept; one that was never there is fine."""
        name = file.relative_to(self.path).as_posix()
        kept = self.facts["files"].get(name)
        if kept is None and not file.exists():
            return
        if not file.exists():
            raise ValueError(f"{file} is missing; the model was copied in part, copy it again")
        if kept != sha256_of(file):
            raise ValueError(f"{file} is not the file that was saved; copy the model again")


def _array(values: Sequence[float]) -> np.ndarray:
    import numpy as np

    return np.array(values, dtype=np.float64)


def save_model(
    path: Path,
    combination: Combination,
    fits: Sequence[MemberFits],
    machines: Sequence[Fused],
    *,
    facts_of: Mapping[tuple[str, str], Mapping[str, Any]] | None = None,
    profiles: Mapping[tuple[str, str], MachineProfile] | None = None,
    data: Sequence[str] = (),
    keep_history: bool = False,
) -> Model:
    """Write a model; an earlier one at `path` stays until the new one is whole.

    `facts_of` has what learning found, and `profiles` what the machines sound like, by machine
    type and ID; `data` are the folders of the
    recordings. Raises OSError, and leaves an
    earlier model as it was.
    """
    version = _new_version()
    members = [_member(fit) for fit in fits]
    numbers = {member.name: number for number, member in enumerate(members)}
    entries, files = [], {}
    for machine in machines:
        if machine.scores is None:
            continue
        unit = machine.unit
        folder = f"files/{version}/{file_name(unit.machine_type, unit.machine_id)}"
        written = _save_machine(path / folder, machine, numbers)
        if profile := (profiles or {}).get((unit.machine_type, unit.machine_id)):
            written += profile.save(path / folder)
        for file in written:
            files[file.relative_to(path).as_posix()] = sha256_of(file)
        entries.append(
            ModelMachine(
                machine_type=unit.machine_type,
                machine_id=unit.machine_id,
                ids=sorted(set(unit.train_ids)),
                folder=folder,
                n_train=len(unit.train_keys),
                facts=(facts_of or {}).get((unit.machine_type, unit.machine_id), {}),
            )
        )
    facts = {
        "format": FORMAT,
        "version": version_here(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "libraries": _libraries(),
        "rule": combination.rule,
        "fit_per": combination.fit_per,
        "settings": as_config(combination.settings),
        "data": list(data),
        "members": [asdict(member) for member in members],
        "machines": [asdict(entry) for entry in entries],
        "files": files,
    }
    if keep_history:
        _keep_earlier(path)
    write_whole(path / "model.json", _json(facts))
    return load_model(path)


def _member(fit: MemberFits) -> ModelMember:
    from embed.fingerprint import fingerprint

    configuration = dict(fit.source.configuration)
    return ModelMember(
        name=fit.member.name,
        detector=fit.member.detector.name,
        configuration=configuration,
        fingerprint=fingerprint(configuration) if configuration else "",
    )


def _save_machine(folder: Path, machine: Fused, numbers: Mapping[str, int]) -> list[Path]:
    """Write one machine's detectors and what calibrates them; return the files."""
    from detect.saving import save_detector

    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    members = []
    for name, fitted in machine.members:
        if fitted.scores is None or fitted.scores.detector is None:
            continue
        number = numbers[name]
        written += save_detector(fitted.scores.detector, folder / str(number))
        calibration = None
        if not isinstance(fitted.calibration, str):
            calibration = asdict(fitted.calibration)
            calibration["scores"] = fitted.calibration.scores.tolist()
        members.append({"member": number, "calibration": calibration})
    facts = {
        "members": members,
        "train_keys": machine.unit.train_keys,
        "train_ids": machine.unit.train_ids,
        "train_groups": machine.unit.train_groups,
    }
    file = folder / "machine.json"
    write_whole(file, json.dumps(facts, ensure_ascii=True))
    return [*written, file]


Calibrations = dict[tuple[str, str], dict[str, dict[str, Any]]]
"""Out-of-fold scores as machine.json has them, by machine type and ID and by member."""


def replace_calibrations(
    model: Model, calibrations: Calibrations, changes: Mapping[tuple[str, str], str]
) -> Model:
    """Write a version of a model with other out-of-fold scores for some machines.

    The detectors are copied as they are. `changes` has a sentence on each machine.
    """
    version = _new_version()
    files = dict(model.facts["files"])
    entries = []
    for machine in model.machines:
        own = {key: value for key, value in calibrations.items() if model.names[key] is machine}
        if not own:
            entries.append(asdict(machine))
            continue
        folder = f"files/{version}/{Path(machine.folder).name}"
        shutil.copytree(model.path / machine.folder, model.path / folder)
        file = model.path / folder / "machine.json"
        facts = json.loads(file.read_text(encoding="utf-8"))
        _replace(facts, model, own)
        write_whole(file, json.dumps(facts, ensure_ascii=True))
        for written in (model.path / folder).iterdir():
            files[written.relative_to(model.path).as_posix()] = sha256_of(written)
        changed = [changes[key] for key in own]
        entries.append(
            asdict(replace(machine, folder=folder, facts={**machine.facts, "changed": changed}))
        )
    facts = {
        **model.facts,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machines": entries,
        "files": files,
    }
    _keep_earlier(model.path)
    write_whole(model.path / "model.json", _json(facts))
    return load_model(model.path)


def _replace(facts: dict[str, Any], model: Model, own: Calibrations) -> None:
    """Put the new scores of some machine IDs in place of the old ones, member by member."""
    ids = {machine_id for _, machine_id in own}
    for entry in facts["members"]:
        name = model.members[entry["member"]].name
        old = entry["calibration"]
        kept = [i for i, each in enumerate(old["machine_ids"]) if each not in ids]
        new = [members[name] for members in own.values()]
        for column in ("keys", "machine_ids", "scores"):
            old[column] = [old[column][i] for i in kept]
            for each in new:
                old[column] += each[column]
        old["n_recordings"] = sum(each["n_recordings"] for each in new) + len(kept)
        old["notes"] = new[0]["notes"]


def _new_version() -> str:
    return f"{time.strftime('%Y-%m-%dT%H-%M-%S')}-{secrets.token_hex(3)}"


def _json(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, indent=1, ensure_ascii=False) + "\n"


def _keep_earlier(path: Path) -> None:
    """Copy the model.json that is there to the history, named after its date."""
    earlier = path / "model.json"
    if earlier.exists():
        text = earlier.read_text(encoding="utf-8")
        history = path / "history"
        history.mkdir(exist_ok=True)
        created = str(json.loads(text).get("created", "earlier")).replace(":", "-")
        write_whole(history / f"{file_name(created)}.json", text)


def _libraries() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("numpy", "scipy", "scikit-learn", "skops")}


def load_model(path: str | Path) -> Model:
    """Open a model folder, or a run folder that holds one. Runs no code.

    Raises FileNotFoundError where there is no model, and ValueError for one of another format or
    whose model.json is damaged.
    """
    given = Path(path)
    folder = next((f for f in (given, given / "model") if (f / "model.json").exists()), None)
    if folder is None:
        grids = sorted(p.parent.name for p in given.glob("*/model")) if given.is_dir() else []
        hint = f"; choose one of its runs: {', '.join(grids[:3])}" if grids else ""
        raise FileNotFoundError(f"there is no model at {str(given)!r}{hint}")
    file = folder / "model.json"
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        if facts["format"] != FORMAT:
            raise ValueError(
                f"it has format {facts['format']!r}, and this version reads {FORMAT}; "
                "learn it again"
            )
        return Model(
            folder,
            facts,
            [ModelMember(**member) for member in facts["members"]],
            [ModelMachine(**machine) for machine in facts["machines"]],
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{file} cannot be used: {one_line(error)}") from None
