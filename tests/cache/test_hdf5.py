"""The HDF5 file: any program reads it, and a failed write never crashes ours."""

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import store_worker
from small_stores import KEYS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "cache-format.md"


def test_page_on_the_format_reads_a_store_with_plain_h5py(store, rows, capsys):
    store.merge()
    (example,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    found: dict[str, object] = {"store": store.path}

    exec(example, found)

    assert np.array_equal(np.asarray(found["embeddings"]), rows)
    assert list(found["filenames"]) == KEYS  # type: ignore[call-overload]
    assert capsys.readouterr().out == "logmel mean (30, 6)\n"


def test_page_on_the_format_names_every_dataset_and_attribute(store):
    store.merge(notes={"report": "none"})
    page = DOCS.read_text()

    with h5py.File(store.path) as file:
        for name in file:
            assert f"`/{name}`" in page
        for name in file.attrs:
            assert f"`{name}`" in page or name.startswith("note_")
        assert json.loads(file.attrs["configuration"]) == {"n_mels": 128}


def test_file_size_limit_stops_merging_and_the_process_ends_in_peace(tmp_path):
    """The HDF5 library would crash at exit after a failed write; it never hears of one."""
    script = f"""
        import resource, sys
        from pathlib import Path
        from store_worker import open_store
        from store_worker import fill
        store = open_store(Path({str(tmp_path)!r}))
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        kept, error = fill(store)
        assert len(kept) == 240 and error is None, error
        try:
            store.merge()
        except OSError as error:
            print(error)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        check=False,
        cwd=ROOT,
        env=store_worker.environment(),
        capture_output=True,
        text=True,
    )

    assert ran.returncode == 0, ran.stderr
    assert "larger than allowed" in ran.stdout
    store = store_worker.open_store(tmp_path)
    assert not store.path.exists()
    store.merge()
    assert store.read(store_worker.KEYS).shape == (240, 64 * store_worker.DIM)
