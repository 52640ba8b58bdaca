"""The child that reads strangers' files: what goes wrong with it is a refusal in one line."""

import os
import subprocess
import sys
import time

import h5py
import pytest

from cache import sandbox

CHILDREN = {
    "hangs": ("import time; time.sleep(60)", "takes over 2 s to read"),
    "crashes": ("import os; os.abort()", "makes its reader crash"),
    "babbles": ("print('no message')", "makes its reader crash"),
    "takes memory": (
        "import sys; sys.path[:0] = [sys.argv[1]]; from cache.sandbox import _limit; _limit(); "
        "rows = bytearray(450 << 20); print('{\"done\": true}')",
        "makes its reader crash",
    ),
    "writes": (
        "import sys; sys.path[:0] = [sys.argv[1]]; from cache.sandbox import _limit; _limit(); "
        "open('/tmp/by-a-child', 'wb', 0).write(b'x'); print('{\"done\": true}')",
        "makes its reader crash",
    ),
}


@pytest.mark.parametrize("what", CHILDREN)
def test_reader_that_goes_wrong_is_a_refusal(what, monkeypatch):
    script, reason = CHILDREN[what]
    monkeypatch.setattr(sandbox, "SECONDS", 2.0)
    monkeypatch.setattr(sandbox, "_START", script)
    began = time.monotonic()

    with pytest.raises(ValueError, match=f"it {reason}; it is damaged"):
        list(sandbox.ask("cache.foreign:_answer", 0))

    assert time.monotonic() - began < 5


READ = "import h5py; print(h5py.File({path!r})['x'][:])"


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """A folder of HDF5 plugins with a pipe in it: whoever looks for a plugin there, waits."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    os.mkfifo(folder / "libplugin.so")
    monkeypatch.setenv("HDF5_PLUGIN_PATH", str(folder))
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4,))
    plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
    with h5py.File(tmp_path / "filtered.h5", "w") as file:
        space = h5py.h5s.create_simple((4,))
        dataset = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, plist)
        dataset.write_direct_chunk((0,), bytes(16), 0)
    return tmp_path / "filtered.h5"


def test_a_plain_process_would_open_the_plugins(plugins):
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(
            [sys.executable, "-c", READ.format(path=str(plugins))],
            check=False,
            timeout=5,
            capture_output=True,
        )


def test_the_child_opens_no_plugin(plugins, monkeypatch):
    script = READ.format(path=str(plugins)).replace("print(", "str(")
    monkeypatch.setattr(
        sandbox,
        "_START",
        f'try:\n    {script}\nexcept OSError:\n    print(\'{{"refused": "no filter"}}\')',
    )

    with pytest.raises(ValueError, match="no filter"):
        list(sandbox.ask("", 0))


def test_a_child_without_memory_says_so_in_one_line(monkeypatch):
    monkeypatch.setattr(
        sandbox,
        "_START",
        sandbox._START.replace(
            "serve()",
            "import json as j; j.take = lambda send: bytearray(900 << 20); serve()",
        ),
    )

    with pytest.raises(ValueError, match=r"^reading it takes more than 400 MB of memory$"):
        list(sandbox.ask("json:take", 0))
