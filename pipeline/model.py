"""A fitted model on disk: everything that scores a new clip the way the run did.

    press_hall/
        model.json     members (encoder, pooling, detector, with all options and fingerprints),
                       machines, what thresholds promise, versions, the SHA-256 of every file
        card.md        the same in plain words
        files/<version>/<machine>/machine.json, <member>.skops, <member>.safetensors, ...
        history/       the model.json of earlier versions, whose files stay

Opening one runs no code: JSON, safetensors, and skops with the types of this project. Models are
written by `pipeline.model_writing`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ground.files import sha256_of
from ground.registry import is_own_class
from ground.text import nearest_hint, one_line
from pipeline.explaining import MachineProfile

if TYPE_CHECKING:
    from detect.detector import Detector
    from detect.out_of_fold import OutOfFold

FORMAT = 1
"""Version of the layout above."""
DAMAGED = (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError)
"""What reading JSON of another structure raises."""


@dataclass(frozen=True)
class ModelMember:
    """One encoder, pooling and detector of a model."""

    name: str
    """encoder/pooling/detector."""
    detector: str
    configuration: Mapping[str, Any]
    """What rebuilds encoder, preprocessing and pooling; empty for vectors of another tool."""
    fingerprint: str = ""
    network_folder: str = ""
    """Where the published network was that the detector holds, or "" where it holds none."""


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

    @property
    def name(self) -> str:
        return f"{self.machine_type} {self.machine_id}".strip()


@dataclass(frozen=True)
class LoadedMember:
    """A member's detector for one machine, and what calibrates its scores."""

    number: int
    """Its place among the members of the model."""
    member: ModelMember
    detector: Detector
    calibration: OutOfFold | None


@dataclass(frozen=True)
class LoadedMachine:
    """A machine's detectors, ready to rate vectors."""

    machine: ModelMachine
    members: Sequence[LoadedMember]
    is_fused: bool
    """Whether scores are those of the fusion; otherwise there is one member, with its own."""
    learned: frozenset[str]
    """SHA-256 of the recordings that it was learned from, where learning noted them."""
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
        for machine_type, machine_id in self.names:
            for separator in (" ", "/", "_"):
                written = f"{machine_type}{separator}{machine_id}" if machine_id else machine_type
                ways[written] = machine_type, machine_id
        if name in ways:
            return ways[name]
        of_type = [machine for machine in self.names if machine[0] == name]
        if len(of_type) == 1:
            return of_type[0]
        if of_type:
            ids = ", ".join(machine_id for _, machine_id in of_type)
            raise ValueError(f"{name!r} is several machines of the model: {ids}; name one")
        shown = [" ".join(machine).strip() for machine in self.names]
        raise ValueError(
            f"the model {self.path} does not know the machine {name!r}: {nearest_hint(name, shown)}"
        )

    def load(
        self, machine: ModelMachine, *, trust_classes: bool = False, offline: bool = False
    ) -> LoadedMachine:
        """Read a machine's detectors.

        ValueError for a file that is not the one that was saved; OSError for one that cannot be
        read, or for a published network that cannot be had.
        """
        folder = self.path / machine.folder
        for name in ("machine.json", "profile.json", "nearest.safetensors"):
            self._check(folder / name)
        try:
            facts = json.loads((folder / "machine.json").read_text(encoding="utf-8"))
            members = [
                self._load_member(folder, entry, trust_classes, offline)
                for entry in facts["members"]
            ]
            return LoadedMachine(
                machine,
                members,
                bool(facts["is_fused"]),
                frozenset(facts["recordings"]),
                MachineProfile.load(folder),
            )
        except DAMAGED as error:
            raise ValueError(f"{machine.name} cannot be loaded: {one_line(error)}") from None

    def _load_member(
        self, folder: Path, entry: Mapping[str, Any], trust_classes: bool, offline: bool
    ) -> LoadedMember:
        """Read a member's detector and its out-of-fold scores, an entry of machine.json."""
        from detect.saving import load_detector

        number = int(entry["member"])
        member = self.members[number]
        own_class = self._own_classes([member.detector], trust_classes)
        for ending in ("skops", "safetensors"):
            self._check(folder / f"{number}.{ending}")
        detector = load_detector(
            folder / str(number),
            weights_of=_network_finder(member, offline=offline),
            trusted_classes=own_class,
        )
        return LoadedMember(number, member, detector, _out_of_fold(entry["calibration"]))

    def _own_classes(self, names: Sequence[str], trust_classes: bool) -> list[str]:
        """List the classes from outside among detectors; ValueError unless they are trusted."""
        from detect import DETECTORS

        own = [name for name in names if is_own_class(name, DETECTORS)]
        if own and not trust_classes:
            raise ValueError(
                f"the model {self.path} names the class {own[0]}, whose code would be run; "
                "add --trust-classes if you know it"
            )
        return own

    def _check(self, file: Path) -> None:
        """Compare a file with the hash that was kept; one that was never there is fine."""
        kept = self.facts["files"].get(file.relative_to(self.path).as_posix())
        if not file.exists():
            if kept is not None:
                raise ValueError(f"{file} is missing; the model was copied in part, copy it again")
        elif kept != sha256_of(file):
            raise ValueError(f"{file} is not the file that was saved; copy the model again")


def _network_finder(member: ModelMember, *, offline: bool) -> Callable[[str], str]:
    """Find the published network that a detector holds: where it was, or else fetched."""
    from detect import facts_of

    def folder_of(sha256: str) -> str:
        from fetch.weights import WEIGHTS, published

        if not sha256 or Path(member.network_folder).is_dir():
            return member.network_folder
        network = facts_of(member.detector).published_network
        return str(published(WEIGHTS[network], offline=offline))

    return folder_of


def _out_of_fold(entry: Mapping[str, Any] | None) -> OutOfFold | None:
    """Read out-of-fold scores as machine.json has them."""
    if entry is None:
        return None
    import numpy as np

    from detect.out_of_fold import OutOfFold

    return OutOfFold(
        keys=tuple(entry["keys"]),
        machine_ids=tuple(entry["machine_ids"]),
        scores=np.array(entry["scores"], dtype=np.float64),
        n_recordings=entry["n_recordings"],
        n_folds=entry["n_folds"],
        notes=tuple(entry["notes"]),
        domains=tuple(entry.get("domains", ())),  # models of before have none
    )


def read_model(path: str | Path) -> Model:
    """Read the description of a model from its folder, or from the run folder that holds it.

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
        members = [ModelMember(**member) for member in facts["members"]]
        machines = [ModelMachine(**machine) for machine in facts["machines"]]
        model = Model(folder, facts, members, machines)
        _check_structure(model)
        return model
    except DAMAGED as error:
        raise ValueError(f"{file} cannot be used: {one_line(error)}") from None


def _check_structure(model: Model) -> None:
    """Raise one of `DAMAGED` for a model.json that was not written by this project."""
    from embed.fingerprint import fingerprint

    if not model.names or not model.members:
        raise ValueError("it names no machine or no member")
    if not isinstance(model.settings, dict) or not isinstance(model.facts["files"], dict):
        raise TypeError("its settings and files are no tables")
    for machine in model.machines:
        if not (model.path / machine.folder).resolve().is_relative_to(model.path.resolve()):
            raise ValueError(f"the folder {machine.folder!r} lies outside of the model")
    for member in model.members:
        if member.configuration and fingerprint(member.configuration) != member.fingerprint:
            raise ValueError(
                f"the configuration of {member.name} does not have its fingerprint; "
                "the file was changed"
            )
