"""The README and the pages of docs/ say what is true: links lead somewhere, commands can be run."""

import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from detect import DETECTORS
from embed import ENCODERS, POOLINGS, make_encoder
from fetch.weights import WEIGHTS

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [page for page in (README, *sorted((ROOT / "docs").glob("*.md"))) if page.is_file()]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```.*?\n(.*?)^```|((?:^ {4}\S.*\n?)+)", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(
    r"^\s*(?:\$ )?(?:\S*/)?python (?=run_pipeline\.py|-m (?:embed|cache|detect)\b)"
)
CHOICES = {"--encoder": ENCODERS, "--pooling": POOLINGS, "--detector": DETECTORS}

ENCODER_TABLE = (
    (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8").partition("<!-- end -->")[0]
)

needs_readme = pytest.mark.skipif(not README.is_file(), reason="there is no README.md yet")


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


@needs_readme
@pytest.mark.parametrize("name", [*ENCODERS, *POOLINGS, *DETECTORS])
def test_readme_names_every_choice(name):
    assert f"`{name}`" in README.read_text(encoding="utf-8")


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
            names = {name.partition(":")[0] for name in value.split(",")}  # hf:MODEL
            assert names <= set(CHOICES[flag]), f"{flag} {value} ({page})"


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
