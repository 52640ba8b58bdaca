"""The pictures of a verdict and of a page in the README: `python docs/make_picture.py`.

It needs `demo_data`, `demo_model` and a run of the demo in `runs`, which `make demo` leaves. The
page needs playwright and a chromium, without which that picture stays as it is.
"""

import shutil
import sys
from dataclasses import replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from pipeline.checking import Evidence, load_model
from report.reason_picture import draw_reason

CLIP = Path("demo_data/slider/test/anomaly_id_00_00000002.wav")


WIDTH, HEIGHT = 1200, 1500


def main() -> None:
    draw_verdict()
    draw_page()


def draw_page() -> None:
    """Photograph the clips to hear on the page of the newest run of the demo."""
    chromium = shutil.which("chromium")
    pages = sorted(Path("runs").glob("*-auto/report.html"))
    if chromium is None or not pages or find_spec("playwright") is None:
        print("docs/page.png stays: no chromium, no playwright, or no run of the demo")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(pages[-1].resolve().as_uri())
        page.locator("article.heard").nth(1).scroll_into_view_if_needed()
        page.evaluate("document.getElementById('listen').scrollIntoView()")
        photograph = page.screenshot()
        browser.close()
    reduced = Image.open(BytesIO(photograph)).convert(
        "P", palette=Image.Palette.ADAPTIVE, colors=160
    )
    reduced.crop((0, 0, WIDTH, 900)).save(ROOT / "docs" / "page.png", optimize=True)


def draw_verdict() -> None:
    found: list[Evidence] = []
    checker = replace(load_model("demo_model", explain=True), on_evidence=found.append)
    checker.check(CLIP, machine="slider id_00")
    (evidence,) = found
    picture = BytesIO()
    draw_reason(picture, evidence.frames, evidence.profile.sounds, evidence.reason)
    palette = Image.open(picture).convert("P", palette=Image.Palette.ADAPTIVE, colors=128)
    palette.save(ROOT / "docs" / "verdict.png", optimize=True)  # a quarter of the bytes
    print(evidence.row.verdict, evidence.row.reason)


if __name__ == "__main__":
    main()
