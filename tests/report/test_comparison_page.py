"""The page of a comparison says in words what its bars show, and escapes every name."""

from __future__ import annotations

from report.comparison import Entrant, compare
from report.comparison_page import write_comparison
from report.ranking import RankedClip


def test_bars_have_their_numbers_in_words_and_names_are_escaped(rng, tmp_path):
    name = "<script>alert(1)</script>"
    runs = [
        [
            RankedClip("fan", "id_00", f"{i}.wav", label, float(score))
            for i, (label, score) in enumerate(
                zip(["normal"] * 12 + ["anomalous"] * 12, rng.normal(size=24), strict=True)
            )
        ]
        for _ in range(2)
    ]
    compared = compare([Entrant("a", [runs[0]]), Entrant(name, [runs[1]])])

    text = write_comparison(tmp_path / "deep" / "page.html", compared).read_text(encoding="utf-8")

    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; against a" in text
    auc = compared.rows[0].auc
    assert f'aria-label="{auc.difference:+.3f}, 95 % {auc.low:+.3f} to {auc.high:+.3f}"' in text
    assert compared.rows[0].note in text
