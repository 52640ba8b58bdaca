"""The page of a grid shows every combination, its seeds, and why one is missing."""

import re
from contextlib import contextmanager

from browser import chromium  # noqa: F401  (a fixture)
from small_runs import Page, make_run

from report.leaderboard import leaderboard_entry
from report.leaderboard_page import write_leaderboard

HOSTILE = '<script>alert("1")</script>&amp;\' "x'


def entries_of_a_grid():
    run, *_ = make_run()
    entries = [
        leaderboard_entry(
            run.results, encoder="logmel", pooling=pooling, detector=detector, folder=f"{i} #a"
        )
        for i, (pooling, detector) in enumerate([("mean", "knn"), ("mean", "gmm"), ("max", "knn")])
    ]
    entries.append({"encoder": "mfcc", "pooling": "max", "detector": "gmm", "error": HOSTILE})
    entries.append({"run": "mfcc-fluctuation-gmm", "error": "needs log-mel"})
    return entries


def entries_with_seeds():
    return [
        {"encoder": "logmel", "detector": "mlp", "seed": "0", "folder": "m0", "auc_mean": 0.8},
        {"encoder": "logmel", "detector": "mlp", "seed": "1", "folder": "m1", "auc_mean": 0.6},
        {"encoder": "logmel", "detector": "knn", "folder": "k", "auc_mean": 0.75},
        {"encoder": "logmel", "detector": "gmm", "folder": "g", "auc_mean": 0.95},
        {"encoder": "logmel", "detector": "svdd", "error": "too few clips"},
    ]


def test_leaderboard_shows_every_combination_and_why_one_is_missing(tmp_path):
    entries = entries_of_a_grid()

    text = write_leaderboard(tmp_path, entries, title=HOSTILE).read_text(encoding="utf-8")

    page = Page(text)
    assert page.tags.count("script") == 1  # its own, whose hash the page allows
    assert HOSTILE in "".join(page.text)
    assert "mfcc-fluctuation-gmm" in "".join(page.text)
    assert page.links.count("0%20%23a/report.html") == 1
    assert "".join(page.text).count(f"{entries[0]['auc_mean']:.3f}") >= 2 * 3
    low, high = entries[0]["auc_low"], entries[0]["auc_high"]
    assert f'aria-label="95 % interval {low:.3f} to {high:.3f}"' in text
    assert not re.search(r"https?:|url\(", text)


def test_seeds_are_folded_beneath_their_mean_and_shared_settings_are_said_once(tmp_path):
    text = write_leaderboard(tmp_path, entries_with_seeds()).read_text(encoding="utf-8")

    assert "All combinations: encoder logmel." in text
    assert "<summary>2 seeds</summary>" in text
    assert "± 0.141" in text
    assert text.index("0.950") < text.index("0.750") < text.index("0.700")
    assert Page(text).links == [
        "g/report.html",
        "k/report.html",
        "m0/report.html",
        "m1/report.html",
    ]


@contextmanager
def opened(browser, page, width=1400):
    """Open a page from its file; fail where it says an error or asks for anything else."""
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.set_default_timeout(60_000)
    wrong = []
    tab.on("console", lambda message: wrong.append(message.text))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("request", lambda asked: asked.url == page.as_uri() or wrong.append(asked.url))
    tab.goto(page.as_uri())
    yield tab
    tab.close()
    assert wrong == []


def test_a_person_sorts_filters_and_unfolds_by_keyboard(chromium, tmp_path):  # noqa: F811
    page = write_leaderboard(tmp_path, entries_with_seeds())

    with opened(chromium, page) as tab:
        shown = tab.locator("table.board tbody:not([hidden]) > tr:first-child > th")
        assert shown.all_inner_texts() == ["gmm", "knn", "mlp", "svdd"]

        tab.get_by_role("button", name="AUC mean", exact=True).press("Enter")
        assert shown.all_inner_texts() == ["mlp", "knn", "gmm", "svdd"]
        tab.get_by_role("button", name="AUC mean", exact=True).press("Enter")
        assert shown.all_inner_texts() == ["gmm", "knn", "mlp", "svdd"]
        tab.get_by_role("button", name="detector").press("Enter")
        assert shown.all_inner_texts() == ["gmm", "knn", "mlp", "svdd"]
        assert tab.locator("th[aria-sort=ascending]").inner_text() == "detector"

        tab.get_by_label("Show rows with").fill("too FEW")
        assert shown.all_inner_texts() == ["svdd"]
        assert tab.locator("#count").inner_text() == "1 of 4"
        tab.get_by_label("Show rows with").fill("")
        tab.locator("summary").press("Enter")
        assert tab.get_by_text("seed 1: AUC 0.600").is_visible()


def test_the_page_fits_a_phone_and_a_screen(chromium, tmp_path):  # noqa: F811
    page = write_leaderboard(tmp_path, entries_with_seeds())

    for width in (360, 800, 1400):
        with opened(chromium, page, width) as tab:
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            figure = tab.locator("td[data-column=auc_mean]").first.bounding_box()
            assert figure["x"] + figure["width"] <= width
