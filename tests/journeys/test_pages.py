"""The page of a run in a real browser: it plays, sorts, filters, and asks for nothing outside."""

import csv
import re
import shutil

import numpy as np
import pytest
import soundfile
from browser import chromium  # noqa: F401 - a fixture

from pipeline.job import run
from report.comparison import Entrant, compare
from report.comparison_page import write_comparison
from report.leaderboard_page import write_leaderboard
from report.ranking import RankedClip

RATE = 16_000
HOSTILE = ("<script>alert(1)<", "script>.wav"), ("a \"quoted\" 'name'.wav",), ("風 \x1b[31m.wav",)
COLUMNS = ("path", "machine_type", "machine_id", "split", "label")
WIDTHS = (360, 800, 1400)


def clip(rng, *, fault):
    sound = rng.normal(0, 0.05, RATE)
    if fault:
        sound[6000:9000] += 0.2 * np.sin(2 * np.pi * 3000 * np.arange(3000) / RATE)
    return sound


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A run over two machines with names that a page might obey, moved away from its folder."""
    root = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(0)
    rows = []
    for machine in ("fan", "pump"):
        for i in range(24):
            split, label = (
                ("train", "normal") if i < 12 else ("test", ("normal", "anomalous")[i % 2])
            )
            parts = HOSTILE[i - 12] if 12 <= i < 15 else (f"{i:02d}.wav",)
            path = root.joinpath("data", machine, *parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, clip(rng, fault=label == "anomalous"), RATE)
            rows.append(
                [path.relative_to(root / "data").as_posix(), machine, "id_00", split, label]
            )
    manifest = root / "data" / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    parts = {"encoder": "logmel", "pooling": "frames", "detector": "official_ae"}
    options = {"set": ["official_ae.epochs=5"], "figures": "none", "page_clips": 6}
    folder = {"cache_dir": root / "cache", "out": root / "runs"}
    job = run(data=str(manifest), quiet=True, **parts, **options, **folder)
    shutil.rmtree(root / "data")
    return shutil.move(job.folder / "report.html", root / "mailed.html")


@pytest.fixture(scope="module")
def opened(chromium, page_file):  # noqa: F811
    """The page in a browser without a network, and what went wrong there."""
    context = chromium.new_context(offline=True, viewport={"width": 1400, "height": 900})
    page = context.new_page()
    page.wrong = []
    page.on("console", lambda message: page.wrong.append(message.text))
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("dialog", lambda dialog: (page.wrong.append("a dialog"), dialog.dismiss()))
    page.on("request", lambda asked: page.wrong.append(asked.url) if is_outside(asked) else None)
    page.goto(page_file.as_uri())
    yield page
    context.close()


def is_outside(asked):
    return not asked.url.startswith("data:") and not asked.url.endswith("mailed.html")


def test_a_page_holds_what_it_shows_and_links_nothing_absolute(page_file):
    text = page_file.read_text(encoding="utf-8")

    assert len(text) < 2_000_000
    assert "file:" not in text
    assert "\x1b" not in text
    links = re.findall(r'(?:href|src)="([^"]*)"', text)
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "<script>alert" not in text
    assert "its reconstruction" in text
    assert "rebuilds it with" in text


def test_a_sound_plays_and_stops_the_one_before(opened):
    sounds = opened.locator("article.heard audio")

    for i in (0, 2):
        sounds.nth(i).scroll_into_view_if_needed()
        sounds.nth(i).evaluate(
            "a => new Promise((good, bad) => { a.muted = true; "
            "a.onplaying = good; a.onerror = bad; a.play(); })"
        )

    assert sounds.nth(0).evaluate("a => a.paused")
    assert opened.wrong == []


def test_a_table_is_sorted_by_its_headings(opened):
    heading = opened.locator("#results th", has_text=re.compile("^machine"))

    def first():
        return opened.locator("#results tbody th").first.inner_text()

    heading.get_by_role("button").focus()
    opened.keyboard.press("Enter")
    descending = first()
    opened.keyboard.press("Enter")

    assert (descending, first()) == ("pump id_00", "fan id_00")
    assert heading.get_attribute("aria-sort") == "ascending"


def test_all_clips_are_searched(opened):
    rows = opened.locator("#all-clips tbody tr")
    assert rows.count() == 24

    opened.fill("#clip-search", "pump <script>")

    assert rows.count() == 1
    assert "<script>alert(1)</script>.wav" in rows.first.inner_text()
    opened.fill("#clip-search", "")


def test_a_point_of_the_map_opens_and_plays_its_clip(opened):
    point = opened.locator("svg.points a.plays").first
    target = point.get_attribute("href")
    opened.evaluate("document.querySelectorAll('audio').forEach(a => a.muted = true)")

    point.focus()
    opened.keyboard.press("Enter")

    assert "score" in opened.locator("#map-about").inner_text()
    opened.wait_for_function("id => !document.querySelector(id + ' audio').paused", arg=target)
    assert opened.evaluate("document.activeElement.id") == target[1:]


def test_the_map_is_coloured_by_machine_too(opened):
    shape = opened.locator("svg.points path.anomalous").first
    before = shape.evaluate("p => getComputedStyle(p).fill")

    opened.select_option("#map-colours", "machine")
    opened.select_option("#map-machine", label="pump id_00")

    assert shape.evaluate("p => getComputedStyle(p).fill") != before
    assert opened.locator("svg.points .aside").count() > 0


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_cut_and_nothing_overlaps(opened, width, theme):
    opened.emulate_media(color_scheme=theme)
    opened.set_viewport_size({"width": width, "height": 900})

    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    cut = opened.evaluate(
        """() => [...document.querySelectorAll(".heard audio, .heard p, .map, svg, h3")]
        .filter(e => e.offsetParent !== null || e.tagName === "svg")
        .map(e => [e.className.baseVal ?? e.className, e.getBoundingClientRect()])
        .filter(([, r]) => r.width && (r.left < 0 || r.right > innerWidth + 1)).map(([n]) => n)"""
    )
    assert cut == []
    overlapping = opened.evaluate(
        """() => [...document.querySelectorAll(".told, .maps, .plots, .cards, .tiles, .hz, .time")]
        .flatMap(box => { const all = [...box.children].map(e => e.getBoundingClientRect())
            .filter(r => r.width && r.height);
            return all.flatMap((a, i) => all.slice(i + 1).filter(b => a.left < b.right - 1
                && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
                .map(() => box.className)); })"""
    )
    assert overlapping == []
    assert opened.wrong == []


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory):
    """Write the leaderboard of a grid, and the comparison of two methods."""
    folder = tmp_path_factory.mktemp("boards")
    rng = np.random.default_rng(0)
    clips = [(f"{i:02d}.wav", ("normal", "anomalous")[i % 2]) for i in range(40)]
    runs = [
        [
            RankedClip("grinder", machine_id, key, label, (label == "anomalous") * shift + noise)
            for machine_id in ("id_00", "id_02")
            for (key, label), noise in zip(clips, rng.normal(size=40), strict=True)
        ]
        for shift in (2.0, 0.5)
    ]
    compared = compare([Entrant("mahalanobis", [runs[0]]), Entrant("iforest", [runs[1]])])
    figures = {"auc_mean": 0.956, "auc_low": 0.8, "auc_high": 0.99, "auc_hmean": 0.95}
    entries = [
        {"encoder": encoder, "detector": "isolation", "seed": str(seed), **figures}
        for encoder in ("logmel", "spectrum")
        for seed in range(2)
    ]
    refused = {"encoder": "wave", "detector": "official_ae", "error": "takes sequences"}
    board = write_leaderboard(folder, [*entries, refused], "grinders: leaderboard")
    return [board, write_comparison(folder / "comparison.html", compared)]


@pytest.mark.parametrize("width", WIDTHS)
def test_leaderboard_and_comparison_fit_every_width(chromium, side_by_side, width):  # noqa: F811
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme="dark")
    wrong = []
    page.on("console", lambda message: wrong.append(message.text))
    for file in side_by_side:
        page.goto(file.as_uri())

        assert page.evaluate("document.documentElement.scrollWidth") <= width
        cut = page.evaluate(
            """() => [...document.querySelectorAll(".scroll")]
            .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.trim())"""
        )
        assert cut == []
        assert page.locator(".range i").first.is_visible() or width == 360
    page.close()
    assert wrong == []


def test_each_graphic_has_a_text_beside_it(opened):
    silent = opened.evaluate(
        """() => [...document.querySelectorAll("img, svg, audio")].filter(e =>
        !(e.alt || e.getAttribute("aria-label"))).map(e => e.outerHTML.slice(0, 80))"""
    )

    assert silent == []
