"""The page of a grid shows every combination, and why one is missing."""

import re

from small_runs import Page, make_run

from report.leaderboard import leaderboard_entry
from report.leaderboard_page import write_leaderboard

HOSTILE = '<script>alert("1")</script>&amp;\' "x'


def test_leaderboard_shows_every_combination_and_why_one_is_missing(tmp_path):
    run, *_ = make_run()
    entries = [
        leaderboard_entry(
            run.results, encoder="logmel", pooling=pooling, detector=detector, folder=f"{i} #a"
        )
        for i, (pooling, detector) in enumerate([("mean", "knn"), ("mean", "gmm"), ("max", "knn")])
    ]
    entries.append({"encoder": "mfcc", "pooling": "max", "detector": "gmm", "error": HOSTILE})
    entries.append({"run": "mfcc-fluctuation-gmm", "error": "needs log-mel"})

    text = write_leaderboard(tmp_path, entries, title=HOSTILE).read_text(encoding="utf-8")

    page = Page(text)
    assert "script" not in page.tags
    assert HOSTILE in "".join(page.text)
    assert "mfcc-fluctuation-gmm" in "".join(page.text)
    assert page.links.count("0%20%23a/report.html") == 2
    assert "".join(page.text).count(f"{entries[0]['auc_mean']:.3f}") >= 2 * 3
    assert not re.search(r"https?:|url\(", text)
