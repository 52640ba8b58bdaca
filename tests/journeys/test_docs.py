"""The README and the pages of docs/ say what is true: links lead somewhere, commands can be run."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import anomalous_sound
from detect import DETECTORS, facts_of
from embed import ENCODERS, POOLINGS, make_encoder
from fetch.weights import WEIGHTS
from ground.registry import is_own_class
from pipeline.systems import SYSTEMS

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, *(ROOT / f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY"))]
PAGES += [
    page for folder in ("docs", "benchmarks") for page in sorted((ROOT / folder).glob("*.md"))
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```.*?\n(.*?)^```|((?:^ {4}\S.*\n?)+)", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(
    r"^\s*(?:\$ )?(?:.*\| )?(?:\S*/)?python (?=run_pipeline\.py|-m (?:cache|fetch|embed|detect)\b)"
)
CHOICES = {
    "--encoder": ENCODERS,
    "--pooling": POOLINGS,
    "--detector": DETECTORS,
    "--system": SYSTEMS,
}
SCRIPT = re.compile(
    r"^\s*(?:\$ )?(?:\S*/)?python (?:-m )?((?:benchmarks|docs)[\w./]+)", re.MULTILINE
)
WALK = re.compile(r"^### Walk: (.*?)\n(.*?)(?=^##)", re.MULTILINE | re.DOTALL)
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

ENCODER_TABLE = (
    (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8").partition("<!-- end -->")[0]
)


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def commands():
    """Every `python ...` line of every code block, with the page it is on."""
    for page in PAGES:
        for fenced, indented in BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in (fenced or indented).replace("\\\n", " ").splitlines():
                if not COMMAND.match(line):
                    continue
                words = shlex.split(COMMAND.sub("", line), comments=True)
                yield pytest.param(page.name, words, id=f"{page.name}: {' '.join(words)}")


@cache
def help_text(*words):
    done = subprocess.run(
        [sys.executable, *words, "--help"],
        cwd=ROOT, check=True, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


def made(name, script="make_pages"):
    """What a script of docs/ has."""
    spec = importlib.util.spec_from_file_location(script, ROOT / "docs" / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def test_the_page_of_options_is_what_the_registries_say():
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")

    assert page == made("options_page")(), "run `make docs`"


@pytest.mark.parametrize("name", [*ENCODERS, *POOLINGS, *DETECTORS, *SYSTEMS])
def test_the_page_of_options_names_every_choice(name):
    assert f"`{name}`" in (ROOT / "docs" / "options.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_page_of_systems_has_a_row_for_each_that_names_its_detector(name):
    page = (ROOT / "docs" / "systems.md").read_text(encoding="utf-8")
    study = (ROOT / "benchmarks" / "systems.md").read_text(encoding="utf-8")
    system = SYSTEMS[name]
    detectors = [system.detector] if system.detector else [m.split("/")[2] for m in system.fuse]
    rows = [line for line in page.splitlines() if line.startswith(f"| `{name}`")]

    assert any(f"`{detector}`" in row for row in rows for detector in detectors)
    assert name == "auto" or f"| `{name}`" in study  # what the fan recordings gave


@pytest.mark.parametrize("name", [n for n in DETECTORS if facts_of(n).takes == "sequences"])
def test_the_page_of_systems_names_every_detector_of_sequences(name):
    assert f"`{name}`" in (ROOT / "docs" / "systems.md").read_text(encoding="utf-8")


def test_the_architecture_names_every_module_of_the_rooms():
    assert made("architecture_page")(ARCHITECTURE) == ARCHITECTURE, "run `make docs`"


@pytest.mark.parametrize(("title", "text"), WALK.findall(ARCHITECTURE))
def test_a_walk_enters_at_most_five_files_and_names_what_they_hold(title, text):
    steps = re.findall(r"^\d\. (.*?)(?=^\d\. |\Z)", text, re.MULTILINE | re.DOTALL)
    assert 2 <= len(steps) <= 5, title

    for step in steps:
        (place, *_) = re.findall(r"\]\(([^)]*\.(?:py|md))\)", step)
        if not place.endswith(".py"):
            continue
        code = (ROOT / "docs" / place).read_text(encoding="utf-8")
        names = [name for name in re.findall(r"`([A-Za-z_]\w*)`", step) if name != "TorchEncoder"]
        assert any(
            re.search(rf"(def|class) {name}\b|^{name}\b|^    {name}:", code, re.MULTILINE)
            for name in names
        ), step


def test_there_are_four_walks():
    assert [title for title, _ in WALK.findall(ARCHITECTURE)] == [
        "one waveform becomes an AUC",
        "one flag",
        "one new encoder",
        "one new detector",
    ]


def test_the_messages_of_the_troubleshooting_page_are_in_the_code():
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = [
        m
        for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
        for m in re.findall("`(.*?)`", row)
    ]
    rooms = ("ground", "cache", "detect", "fetch", "embed", "report", "pipeline")
    code = "".join(
        p.read_text(encoding="utf-8") for room in rooms for p in (ROOT / room).rglob("*.py")
    )

    assert len(messages) > 10
    assert [message for message in messages if message not in code] == []


def test_the_readme_uses_public_names_of_the_import():
    used = re.findall(r"\bsound\.(\w+)", README.read_text(encoding="utf-8"))

    assert used
    assert set(used) <= set(anomalous_sound.__all__)


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) < 200


def test_the_results_are_those_of_the_methods_that_make_them():
    page = README.read_text(encoding="utf-8")
    table = page.partition(made("BEGIN", "make_results"))[2].partition("<!-- end")[0]
    heading, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]]
                         for line in table.splitlines())  # fmt: skip

    assert tuple(heading) == made("HEADINGS", "make_results"), "run `make results`"
    assert [row[0].strip("`") for row in rows] == list(made("METHODS", "make_results"))


def test_the_index_names_every_page():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = [page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md"]

    assert [name for name in pages if f"]({name})" not in index] == []


def test_every_script_that_is_named_is_there():
    for page in PAGES:
        for script in SCRIPT.findall(page.read_text(encoding="utf-8")):
            path = script if script.endswith(".py") else script.replace(".", "/") + ".py"
            assert (ROOT / path).is_file(), f"{page.name} runs {script}"


@pytest.mark.parametrize(("page", "words"), list(commands()))
def test_commands_use_flags_and_names_that_exist(page, words):
    program = words[:2] if words[0] == "-m" else words[:1]
    arguments = words[len(program) :]
    subcommands = [arguments[0]] if arguments and re.fullmatch("[a-z][a-z-]*", arguments[0]) else []

    known = help_text(*program, *subcommands)

    for flag, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if flag.startswith("-"):
            assert re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", known), f"no {flag} ({page})"
        if flag in CHOICES:
            for name in value.split(","):  # hf:MODEL and package.module:Class are names too
                known_name = name.partition(":")[0] in CHOICES[flag]
                assert known_name or is_own_class(name, CHOICES[flag]), f"{flag} {value} ({page})"
        if flag == "--fuse":
            for member in value.split(","):
                encoder, pooling, detector = member.split("/")
                assert encoder in ENCODERS, f"{flag} {value} ({page})"
                assert pooling in POOLINGS, f"{flag} {value} ({page})"
                assert detector in DETECTORS, f"{flag} {value} ({page})"


def test_the_table_of_encoders_says_what_the_registry_says():
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", ENCODER_TABLE, re.MULTILINE)
    assert [name for name, _ in rows] == [name for name in ENCODERS if name != "hf"]

    for name, cells in rows:
        _, khz, least, *_, licence, trained_on = (cell.strip() for cell in cells.split("|"))
        published = WEIGHTS.get(name)
        encoder = make_encoder(name, **({"weights": "random"} if published else {}))
        assert float(khz) == encoder.sample_rate / 1000
        seconds = encoder.min_samples / encoder.sample_rate
        assert float(least.removesuffix(" s")) == pytest.approx(seconds, rel=5e-3)
        assert licence == (published.licence if published else "")
        assert trained_on == (published.trained_on if published else "")
