"""Small fitted runs for pages and figures, and a reader that checks a page as a browser would."""

from html.parser import HTMLParser

import numpy as np

from detect.fitting import ClipTable, DetectorChoice, fit_and_score, units
from detect.results import results
from report.page import Run

VOID = {"meta", "link", "br", "hr", "img", "input", "rect", "line", "path"}


class Page(HTMLParser):
    """Read a page as a browser would, and complain of tags that do not match."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.links, self.cells, self.text = [], [], [], {}, []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.links += [v for k, v in attrs.items() if k in ("href", "src", "xlink:href", "action")]
        if tag not in VOID:
            self.open.append(tag)
        if "data-machine" in attrs:
            self.machine = attrs["data-machine"]
        self.column = attrs.get("data-column")

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if getattr(self, "column", None) and getattr(self, "machine", None):
            self.cells.setdefault((self.machine, self.column), data)


def make_run(n_machines=2, *, labels=("normal", "anomalous"), machine_type="fan", **more):
    rng = np.random.default_rng(0)
    rows, vectors = [], {}
    for m in range(n_machines):
        for split, label, n in (("train", "normal", 20), *(("test", each, 10) for each in labels)):
            for i in range(n):
                key = f"{machine_type}/{split}/{label}_id_{m:02d}_{i:08d}.wav"
                rows.append((key, machine_type, f"id_{m:02d}", split, label))
                vectors[key] = rng.normal(size=4) + 1.5 * (label == "anomalous")
    table = ClipTable(*zip(*rows, strict=True))
    choice = DetectorChoice("mahalanobis")

    def read(keys):
        return np.stack([vectors[key] for key in keys])

    scores = [fit_and_score(unit, read, choice) for unit in units(table)]
    run = Run(
        **{
            "title": "logmel mahalanobis",
            "table": table,
            "scores": scores,
            "results": results(table, scores),
            **more,
        }
    )
    return run, read, choice
