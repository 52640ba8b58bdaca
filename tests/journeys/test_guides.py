"""The commands of the two guides run on small recordings, one after the other, as they stand there.

Left out are those that need a network, published weights, another tool's files or a process that
does not end; test_docs.py checks their flags.
"""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from small_recordings import write_recordings

DOCS = Path(__file__).resolve().parents[2] / "docs"
COMMAND = re.compile(r"^ {4}python run_pipeline\.py (.*)$", re.MULTILINE)
LEFT_OUT = re.compile(
    r"dcase20|path/to|eval_data|panns|\bast\b|theirs|their_scores|feedback|watch (?!.*--once)"
)
WHOLE_JOB = ["--page-clips", "0", "--figures", "none"]
SHORTER = {
    "mlp": ["--set", "mlp.epochs=2"],
    "official-mahalanobis": ["--set", "official_mahalanobis.epochs=2"],
}
"""What a command gets beside its own flags, by a word in it, so that the test is short."""


def commands(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    return [line for line in COMMAND.findall(text) if not LEFT_OUT.search(line)]


def faster(words):
    more = WHOLE_JOB if words[0].startswith("--") else []
    return [*words, *more, *(w for name, added in SHORTER.items() if name in " ".join(words)
                             for w in added if words[0] != "compare")]  # fmt: skip


@pytest.fixture
def recordings(tmp_path):
    """dev_data, and the same clips as the folders that the guide for machines speaks of."""
    data = write_recordings(tmp_path / "dev_data")
    names = {"id_00": "press7", "id_02": "press8"}
    for path in sorted((data / "valve").rglob("*.wav")):
        label, machine_id, number = re.fullmatch(r"(\w+)_(id_\d\d)_(\d+)", path.stem).groups()
        folders = ["recordings"] if path.parent.name == "train" else ["new", "incoming"]
        if label == "normal" and path.parent.name == "test":
            folders.append("this_week" if number.endswith("0") else "next_week")
        for folder in folders:
            target = (
                tmp_path / folder / names[machine_id] / f"{path.parent.name}_{label}{number}.wav"
            )
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    shutil.copy(tmp_path / "new/press7/test_anomaly00000000.wav", tmp_path / "new/press7/today.wav")
    shutil.copy(tmp_path / "new/press7/test_anomaly00000000.wav", tmp_path / "shift.wav")
    return data


@pytest.mark.slow  # a dozen jobs
@pytest.mark.usefixtures("recordings")
def test_the_guide_for_machines_can_be_followed(pipeline, tmp_path):
    given = commands("maintenance.md")
    assert {line.split()[0] for line in given} == {"learn", "check", "watch"}

    for line in given:
        words = shlex.split(line.replace("--window 10", "--window 0.25"))
        done = pipeline(*words)
        assert done.code in ((0, 4) if words[0] == "check" else (0, 3, 4)), f"{line}: {done.text}"

    assert (tmp_path / "verdicts.csv").is_file()
    assert (tmp_path / "verdicts.html").is_file()


@pytest.mark.slow  # a dozen jobs
@pytest.mark.usefixtures("recordings")
def test_the_guide_for_research_can_be_followed(pipeline, tmp_path):
    given = commands("research.md")
    assert {"compare", "embed"} <= {line.split()[0] for line in given}
    ran = []

    for line in given:
        if ran:
            line = re.sub("runs/(GRID|RUN|MINE)", str(ran[-1]), line)  # noqa: PLW2901
        words = shlex.split(line.replace("runs/THEIRS", str(ran[0]) if ran else ""))
        done = pipeline(*faster(words))
        assert done.code == 0, f"{line}: {done.text}"
        if done.folder.is_dir() and done.folder not in ran:
            ran.append(done.folder)

    assert (tmp_path / "comparison.html").is_file()
    assert len(ran) >= 7
