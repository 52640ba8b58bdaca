"""The command line as a test runs it: in this process, in a folder of its own."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str
    folder: Path
    """The newest run folder."""

    @property
    def text(self) -> str:
        return " ".join((self.out + self.err).split())

    def results(self, name: str = "results.csv") -> dict[tuple[str, str], dict[str, str]]:
        with (self.folder / name).open(encoding="utf-8", newline="") as file:
            return {(r["machine_type"], r["machine_id"]): r for r in csv.DictReader(file)}

    def scores(self, name: str) -> dict[str, float]:
        with (self.folder / name).open(encoding="utf-8", newline="") as file:
            return {clip: float(score) for clip, score in csv.reader(file)}

    def errors(self) -> dict[str, str]:
        lines = (self.folder / "errors.jsonl").read_text(encoding="utf-8").splitlines()
        return {line["key"]: line["reason"] for line in map(json.loads, lines)}


Pipeline = Callable[..., Ran]
