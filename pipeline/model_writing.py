"""Write a model: whole or not at all, with its earlier versions kept.

The files of a version have a folder of their own. `model.json` names them and is replaced last, in
one step, so that a model is there whole or as it was before.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground.file_names import file_name
from ground.files import remove_stale, sha256_of, sync, synced_at_once, whole_file, write_whole
from ground.versions import installed_version
from pipeline.explaining import MachineProfile
from pipeline.fusing import Fused
from pipeline.judging import MemberFits
from pipeline.model import FORMAT, Model, ModelMachine, ModelMember, read_model
from pipeline.plan import Combination
from pipeline.settings import as_config
from pipeline.spool import IN_ONE_FOLDER

if TYPE_CHECKING:
    from detect.out_of_fold import OutOfFold

LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "skops")


@dataclass(frozen=True)
class MachineNotes:
    """What learning found out about a machine besides its detectors."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    """Plain facts for model.json and the card."""
    recordings: Sequence[str] = ()
    """SHA-256 of the training recordings."""
    profile: MachineProfile | None = None


Unit = tuple[str, str]
"""Machine type and machine ID; the ID is "" where one model is fitted per type."""


def save_model(
    path: Path,
    combination: Combination,
    fits: Sequence[MemberFits],
    machines: Sequence[Fused],
    *,
    notes: Mapping[Unit, MachineNotes] | None = None,
    data: Sequence[str] = (),
) -> Model:
    """Write a model; an earlier one at `path` becomes a part of its history.

    `data` are the recordings as they were given. Raises OSError, and leaves an earlier model as it
    was.
    """
    members = [_member(fit) for fit in fits]
    numbers = {member.name: number for number, member in enumerate(members)}
    with _new_version(path) as version:
        entries, files = _save_machines(path, version, machines, numbers, notes or {})
        facts = {
            "format": FORMAT,
            "version": version,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "package": installed_version(),
            "libraries": _libraries(),
            "rule": combination.rule,
            "fit_per": combination.fit_per,
            "settings": as_config(combination.settings),
            "data": list(data),
            "members": [asdict(member) for member in members],
            "machines": [asdict(entry) for entry in entries],
            "files": files,
        }
        _publish(path, facts)
    return read_model(path)


@contextmanager
def _new_version(path: Path) -> Iterator[str]:
    """Name a version; after an exception its files are removed, after success unused ones."""
    version = f"{time.strftime('%Y-%m-%dT%H-%M-%S')}-{secrets.token_hex(3)}"
    folder = path / "files" / version
    folder.mkdir(parents=True)
    try:
        yield version
    except BaseException:
        current = _version_in(path / "model.json")
        if current != version:
            shutil.rmtree(folder, ignore_errors=True)
            (path / "history" / f"{current}.json").unlink(missing_ok=True)
        raise
    _remove_unused(path)


def _publish(path: Path, facts: Mapping[str, Any]) -> None:
    """Copy the model.json that is there to the history, and put the new one in its place.

    The card is on disk before, and gets its name after.
    """
    from report.model_card import model_card

    earlier = path / "model.json"
    if earlier.exists():
        (path / "history").mkdir(exist_ok=True)
        write_whole(path / "history" / f"{_version_in(earlier)}.json", earlier.read_bytes())
    with whole_file(path / "card.md") as card:
        card.write_text(model_card(facts), encoding="utf-8")
        sync(card)
        write_whole(earlier, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def _version_in(file: Path) -> str:
    """Return the version of a model.json; "unknown" where there is none that can be read."""
    try:
        return file_name(str(json.loads(file.read_text(encoding="utf-8"))["version"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "unknown"


def _remove_unused(path: Path) -> None:
    """Remove files that neither model.json nor the history names, such as of a killed run."""
    used: set[str] = set()
    for file in (path / "model.json", *sorted((path / "history").glob("*.json"))):
        try:
            files = json.loads(file.read_text(encoding="utf-8"))["files"]
            used |= {name.split("/")[1] for name in files}
        except (OSError, ValueError, KeyError, TypeError, RecursionError, IndexError):
            return  # what an unreadable file of the history names is not known
    for folder in (path / "files").iterdir():
        if folder.name not in used:
            shutil.rmtree(folder, ignore_errors=True)
    remove_stale(path)


def _member(fit: MemberFits) -> ModelMember:
    """Describe a member so that its encoder can be built again."""
    from detect import facts_of
    from detect.detector import last_step
    from embed.fingerprint import fingerprint

    configuration = dict(fit.source.configuration)
    detectors: list[Any] = [
        last_step(fitted.scores.detector) for fitted in fit.fitted if fitted.scores is not None
    ]
    network = facts_of(fit.member.detector.name).published_network if detectors else ""
    return ModelMember(
        name=fit.member.name,
        detector=fit.member.detector.name,
        configuration=configuration,
        fingerprint=fingerprint(configuration) if configuration else "",
        network_folder=str(detectors[0].weights) if network else "",
    )


def _save_machines(
    path: Path,
    version: str,
    machines: Sequence[Fused],
    numbers: Mapping[str, int],
    notes: Mapping[Unit, MachineNotes],
) -> tuple[list[ModelMachine], dict[str, str]]:
    """Write all machines that have scores; return their entries and the hash of every file.

    Many machines go into numbered folders, so that no folder has thousands of entries.
    """
    saved = [machine for machine in machines if machine.scores is not None]
    entries: list[ModelMachine] = []
    files: dict[str, str] = {}
    with synced_at_once(len(saved)):
        for number, machine in enumerate(saved):
            unit = machine.unit
            own = notes.get((unit.machine_type, unit.machine_id), MachineNotes())
            shard = f"{number // IN_ONE_FOLDER:03d}/" if len(saved) > IN_ONE_FOLDER else ""
            folder = f"files/{version}/{shard}{file_name(unit.machine_type, unit.machine_id)}"
            for file in _save_machine(path / folder, machine, numbers, own):
                files[file.relative_to(path).as_posix()] = sha256_of(file)
            ids = sorted(set(unit.train_ids))
            n_train = len(unit.train_keys)
            entries.append(
                ModelMachine(unit.machine_type, unit.machine_id, ids, folder, n_train, own.facts)
            )
    return entries, files


def _save_machine(
    folder: Path, machine: Fused, numbers: Mapping[str, int], notes: MachineNotes
) -> list[Path]:
    """Write one machine's detectors and what calibrates them; return the files."""
    from detect.saving import save_detector

    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    members = []
    for name, fitted in machine.members:
        if fitted.scores is None or fitted.scores.detector is None:
            continue
        written += save_detector(fitted.scores.detector, folder / str(numbers[name]))
        members.append({"member": numbers[name], "calibration": _written(fitted.calibration)})
    facts = {
        "members": members,
        "is_fused": machine.scores is not None and machine.scores.detector is None,
        "train_keys": machine.unit.train_keys,
        "train_ids": machine.unit.train_ids,
        "train_groups": machine.unit.train_groups,
        "recordings": list(notes.recordings),
    }
    write_whole(folder / "machine.json", json.dumps(facts))
    written.append(folder / "machine.json")
    if notes.profile is not None:
        written += notes.profile.save(folder)
    return written


def _written(calibration: OutOfFold | str) -> dict[str, Any] | None:
    """Write out-of-fold scores as machine.json has them; None where there are none."""
    if isinstance(calibration, str):
        return None
    return {**asdict(calibration), "scores": calibration.scores.tolist()}


@dataclass(frozen=True)
class NewCalibration:
    """New out-of-fold scores of one machine ID, by member, and a sentence on what changed."""

    members: Mapping[str, OutOfFold]
    change: str
    promise: str


def replace_calibrations(model: Model, new: Mapping[Unit, NewCalibration]) -> Model:
    """Write a version of a model with other out-of-fold scores for some machine IDs.

    The detectors are copied as they are. Raises OSError, and leaves the model as it was.
    """
    with _new_version(model.path) as version:
        files = dict(model.facts["files"])
        entries = []
        for machine in model.machines:
            entry = machine
            own = {key[1]: each for key, each in new.items() if model.names[key] is machine}
            if own:
                folder = f"files/{version}/{machine.folder.split('/', 2)[2]}"
                shutil.copytree(model.path / machine.folder, model.path / folder)
                changed = f"{folder}/machine.json"
                _recalibrate(model.path / changed, model, own)
                for name in [name for name in files if name.startswith(f"{machine.folder}/")]:
                    files[f"{folder}/{Path(name).name}"] = files.pop(name)
                files[changed] = sha256_of(model.path / changed)
                entry = replace(machine, folder=folder, facts=_changed(machine, own))
            entries.append(asdict(entry))
        facts = {
            **model.facts,
            "version": version,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "machines": entries,
            "files": files,
        }
        _publish(model.path, facts)
    return read_model(model.path)


def _changed(machine: ModelMachine, own: Mapping[str, NewCalibration]) -> dict[str, Any]:
    changes = [each.change for each in own.values()]
    return {**machine.facts, "changed": changes, "promise": next(iter(own.values())).promise}


def _recalibrate(file: Path, model: Model, own: Mapping[str, NewCalibration]) -> None:
    """Put the new scores of some machine IDs in place of the old ones, member by member."""
    facts = json.loads(file.read_text(encoding="utf-8"))
    for entry in facts["members"]:
        name, old = model.members[entry["member"]].name, entry["calibration"]
        kept = [] if old is None else [i for i, m in enumerate(old["machine_ids"]) if m not in own]
        new = [_written(each.members[name]) or {} for each in own.values()]
        joined = dict(new[0])
        for column in ("keys", "machine_ids", "scores", "domains"):
            of_old = (old or {}).get(column) or [""] * (max(kept, default=-1) + 1)
            joined[column] = [of_old[i] for i in kept]
            for each in new:
                joined[column] += each[column] or [""] * len(each["keys"])
        joined["n_recordings"] = sum(each["n_recordings"] for each in new) + len(kept)
        entry["calibration"] = joined
    write_whole(file, json.dumps(facts))


def _libraries() -> dict[str, str]:
    return {name: installed_version(name) for name in LIBRARIES}
