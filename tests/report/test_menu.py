"""The menu of the room lists what is there."""

import report


def test_every_entry_of_the_menu_is_there():
    for name in report.__all__:
        assert callable(getattr(report, name))
        assert name in report.__doc__
