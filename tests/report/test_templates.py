"""Whatever a template is given is shown, not obeyed."""

import pytest
from jinja2 import UndefinedError
from scored_machines import HOSTILE

from ground.text import visible
from report.templates import render


def titled(title):
    return render("comparison.html.j2", title=title, first="knn", parts=[], remarks=[], labels={})


@pytest.mark.parametrize("name", HOSTILE)
def test_no_character_of_a_name_is_html_or_a_control(name):
    page = titled(name)

    heading = page[page.index("<h1>") + 4 : page.index("</h1>")]
    assert "<" not in heading
    assert all(c.isprintable() or c in "\n\t" for c in page)
    assert len(heading) >= len(visible(name))


def test_a_value_that_is_missing_is_an_error():
    with pytest.raises(UndefinedError):
        render("leaderboard.html.j2", title="x")
