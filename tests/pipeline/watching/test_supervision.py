"""A source that dies is started again, and the others go on."""

import threading
import time

from pipeline.watching.source import Back, Ended, Failed, Running, Source
from pipeline.watching.supervision import BackOff, Supervision

FAST = BackOff(first_s=0.01, longest_s=0.02)


class Scripted(Source):
    """Works, dies or ends, run by run."""

    def __init__(self, name, *runs, restarts=True):
        self.name, self.runs, self._restarts = name, list(runs), restarts

    @property
    def restarts(self):
        return self._restarts

    def run(self, emit, stop):
        what = self.runs.pop(0)
        if what == "dies":
            raise OSError("it has no power")
        emit(Running(self.name))
        if what == "works, dies":
            raise RuntimeError("it fell\nover")


def items_of(*sources):
    supervision = Supervision(sources, FAST, clock=lambda: 7.0)
    supervision.start()
    items, left = [], len(sources)
    while left:
        item = supervision.next(5.0)
        assert item is not None
        left -= isinstance(item, Ended)
        items.append(item)
    supervision.close()
    return items


def test_a_source_that_dies_is_started_again_and_said_once():
    items = items_of(Scripted("hall", "works, dies", "dies", "dies", "works"))

    assert items == [
        Running("hall"),
        Failed("hall", "it fell over", 7.0),
        Back("hall", 7.0),
        Running("hall"),
        Ended("hall"),
    ]


def test_the_others_go_on():
    items = items_of(Scripted("dead", *["dies"] * 3, "works"), Scripted("well", "works"))

    assert items.index(Ended("well")) < items.index(Ended("dead"))


def test_what_cannot_be_started_again_has_ended():
    items = items_of(Scripted("-", "dies", restarts=False))

    assert items == [Failed("-", "it has no power", 7.0), Ended("-")]


def test_waits_double_up_to_a_longest():
    assert [BackOff(1, 300).after(n) for n in (1, 2, 3, 20, 10**6)] == [1, 2, 4, 300, 300]


def test_closing_ends_a_source_that_waits():
    class Waiting(Source):
        name = "hall"

        def run(self, emit, stop):
            stop.wait(60)

    supervision = Supervision([Waiting()])
    supervision.start()
    began = time.monotonic()

    supervision.close()

    assert time.monotonic() - began < 5
    assert not [t for t in threading.enumerate() if t.name == "source-hall"]
