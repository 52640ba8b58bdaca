"""A stranger's file is read or refused in time; it reaches nothing outside and runs nothing."""

import json
import os
import pickle
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import mutation_worker
import numpy as np
import pytest
from store_worker import environment

from cache.foreign import read_import
from cache.foreign_layouts import Choices

ROOT = Path(__file__).resolve().parents[2]

Write = Callable[[h5py.File], None]


def names(n: int = 4) -> list[str]:
    return [f"fan/train/normal_id_00_{i:08d}.wav" for i in range(n)]


def vectors(n: int = 4) -> np.ndarray:
    return np.arange(1, n * 8 + 1, dtype=np.float32).reshape(n, 8)


def external_link(file: h5py.File) -> None:
    file["embeddings"] = h5py.ExternalLink("outside.h5", "/secret")
    file["filenames"] = names()


def cyclic_soft_links(file: h5py.File) -> None:
    file["embeddings"] = h5py.SoftLink("/features")
    file["features"] = h5py.SoftLink("/embeddings")
    file["filenames"] = names()


def hard_link_cycle(file: h5py.File) -> None:
    file["a/b"] = np.zeros(3, dtype=np.int8)
    file["a/up"] = file["/"]


def virtual_dataset(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4, 8), "f4")
    layout[:] = h5py.VirtualSource("outside.h5", "secret", (4, 8))
    file.create_virtual_dataset("embeddings", layout)
    file["filenames"] = names()


def external_storage(file: h5py.File) -> None:
    file.create_dataset("embeddings", (4, 8), "f4", external=[("outside.h5", 0, 128)])
    file["filenames"] = names()


def object_references(file: h5py.File) -> None:
    file["embeddings"] = vectors()
    file.create_dataset("filenames", data=[file["embeddings"].ref] * 4, dtype=h5py.ref_dtype)


def region_references_as_rows(file: h5py.File) -> None:
    file["x"] = vectors()
    reference = file["x"].regionref[0:1]
    file.create_dataset("embeddings", data=[[reference]] * 4, dtype=h5py.regionref_dtype)
    file["filenames"] = names()


def claimed_rows(file: h5py.File) -> None:
    file.create_dataset("embeddings", (10**12, 8), "f4", chunks=(64, 8))
    file.create_dataset("filenames", (10**12,), "S32", chunks=(64,))


def compressed_bomb(file: h5py.File) -> None:
    settings = {"chunks": (1 << 18, 8), "compression": "gzip", "compression_opts": 9}
    dataset = file.create_dataset("embeddings", (1 << 22, 8), "f4", **settings)
    for start in range(0, 1 << 22, 1 << 18):
        dataset[start : start + (1 << 18)] = 1.0
    file.create_dataset("filenames", (1 << 22,), "S1", chunks=(1 << 18,), compression="gzip")


def one_enormous_chunk(file: h5py.File) -> None:
    file.create_dataset("embeddings", (4, 1 << 24), "f4", chunks=(4, 1 << 24), compression=1)
    file["embeddings"][0, :8] = 1
    file["filenames"] = names()


def foreign_filter(file: h5py.File) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((4, 8))
    plist.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple((4, 8))
    h5py.h5d.create(file.id, b"embeddings", h5py.h5t.IEEE_F32LE, space, plist)
    file["filenames"] = names()


def named(*bad: str) -> Write:
    def write(file: h5py.File) -> None:
        file["embeddings"] = vectors(len(bad))
        longest = max(len(name.encode()) for name in bad)
        file["filenames"] = np.array([name.encode() for name in bad], dtype=f"S{longest}")

    return write


HOSTILE: dict[str, tuple[Write, str]] = {
    "external link": (external_link, "/embeddings is a link"),
    "cyclic soft links": (cyclic_soft_links, "is a link"),
    "hard link to the root": (hard_link_cycle, "no known layout"),
    "virtual dataset": (virtual_dataset, "/embeddings lies in other files"),
    "external storage": (external_storage, "/embeddings lies in other files"),
    "object references": (object_references, "/filenames holds references"),
    "region references": (region_references_as_rows, "not embeddings"),
    "10^12 rows": (claimed_rows, "claims shape .* of which the file holds 0.0 MB"),
    "compressed bomb": (compressed_bomb, "claims shape"),
    "one enormous chunk": (one_enormous_chunk, "claims shape|chunks of 268 MB"),
    "foreign filter": (foreign_filter, "needs HDF5 filter 32015"),
    "name with ..": (named("../../etc/x.wav", "a.wav"), "'../../etc/x.wav' leaves the data folder"),
    "absolute name": (named("/etc/x.wav", "a.wav"), "'/etc/x.wav' leaves the data folder"),
    "drive letter": (named("C:\\x.wav", "a.wav"), "leaves the data folder"),
    "NUL in a name": (named("a\0b.wav", "c.wav"), "has a NUL"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_hdf5_is_refused_in_time_and_touches_nothing(tmp_path, what):
    write, reason = HOSTILE[what]
    with h5py.File(tmp_path / "outside.h5", "w") as outside:
        outside["secret"] = vectors()
    with h5py.File(tmp_path / "hostile.h5", "w") as file:
        write(file)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    began = time.monotonic()

    with pytest.raises(ValueError, match=reason) as refusal:
        read_import(tmp_path / "hostile.h5")

    assert time.monotonic() - began < 10
    assert str(refusal.value).startswith(f"{tmp_path / 'hostile.h5'} is not imported: ")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_names_outside_the_data_root_are_harmless_where_only_the_file_name_counts(tmp_path):
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        named("/home/them/x.wav", "../y.wav")(file)

    assert read_import(tmp_path / "theirs.h5", Choices(match="name")).names == ("x.wav", "y.wav")


class Canary:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch /tmp/canary-of-the-import-tests",)


def test_pickles_are_never_loaded(tmp_path):
    objects = np.array([Canary(), Canary()], dtype=object)
    np.savez(tmp_path / "theirs.npz", embeddings=vectors(2), filenames=objects, allow_pickle=True)
    (tmp_path / "plain.npz").write_bytes(pickle.dumps(Canary()))
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "x.npy", objects, allow_pickle=True)
    canary = Path("/tmp/canary-of-the-import-tests")

    for name in ("theirs.npz", "plain.npz", "folder"):
        with pytest.raises(ValueError, match=r"pickled objects, which are never|neither HDF5"):
            read_import(tmp_path / name)

    assert not canary.exists()


def test_zip_bomb_is_refused(tmp_path):
    with zipfile.ZipFile(
        tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as archive:
        with archive.open("embeddings.npy", "w", force_zip64=True) as member:
            header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 21, 64)}
            np.lib.format.write_array_header_1_0(member, header)
            for _ in range(1 << 7):
                member.write(bytes(1 << 22))
        archive.writestr("filenames.npy", b"")

    with pytest.raises(ValueError, match=r"embeddings.npy unpacks from \d+ to \d+ bytes"):
        read_import(tmp_path / "bomb.npz")


def test_a_zip_with_a_password_is_refused_in_one_line(tmp_path):
    np.savez(tmp_path / "theirs.npz", embeddings=vectors(2), filenames=names(2))
    data = bytearray((tmp_path / "theirs.npz").read_bytes())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = -1
        while (start := data.find(signature, start + 1)) >= 0:
            data[start + at] |= 1  # the flag that says so
    (tmp_path / "theirs.npz").write_bytes(data)

    with pytest.raises(ValueError, match=r"needs a password; save it without one$") as refusal:
        read_import(tmp_path / "theirs.npz")
    assert "\n" not in str(refusal.value)


def test_a_file_of_very_deep_paths_is_refused_in_one_line(tmp_path):
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        group = file
        for _ in range(2100):
            group = group.create_group("g")
        group["embeddings"] = vectors(2)

    with pytest.raises(ValueError, match=r"deep.h5 is not imported: ") as refusal:
        read_import(tmp_path / "deep.h5")
    assert "\n" not in str(refusal.value)


def test_npy_that_claims_more_than_it_holds_is_refused(tmp_path):
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 64)}
    with (
        zipfile.ZipFile(tmp_path / "theirs.npz", "w") as archive,
        archive.open("embeddings.npy", "w") as member,
    ):
        np.lib.format.write_array_header_1_0(member, header)

    with pytest.raises(ValueError, match=r"claims shape \(1000000000000, 64\)"):
        read_import(tmp_path / "theirs.npz")


def test_links_in_a_folder_are_not_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "outside.npy", vectors()[0])
    np.save(tmp_path / "folder" / "inside.npy", vectors()[1])
    (tmp_path / "folder" / "link.npy").symlink_to(tmp_path / "outside.npy")

    assert read_import(tmp_path / "folder").names == ("inside",)


def small_file(folder: Path) -> Path:
    """Write a file with a bit of everything, small enough that mutations hit its structure."""
    path = folder / "small.h5"
    with h5py.File(path, "w") as file:
        file["embeddings"] = vectors(16)
        file["filenames"] = names(16)
        file.create_dataset("packed", data=vectors(16), chunks=(4, 8), compression="gzip")
        for i in range(4):
            file[f"fan/clip_{i}/timestamps"] = np.arange(3.0)
        file.attrs["about"] = "x" * 50
    return path


def mutate(path: Path, n: int, seed: int, folder: Path) -> dict[str, float]:
    ran = subprocess.run(
        [
            sys.executable,
            str(ROOT / "tests" / "mutation_worker.py"),
            path,
            str(n),
            str(seed),
            folder,
        ],
        env=environment(),
        capture_output=True,
        check=True,
        text=True,
    )
    counts: dict[str, float] = json.loads(ran.stdout)
    return counts


def check_mutations(sources: list[Path], n: int, folder: Path, capsys) -> None:
    total: dict[str, float] = {}
    for seed, source in enumerate(sources):
        counts = mutate(source, n // len(sources), seed, folder)
        for what, count in counts.items():
            most = what in ("slowest_s", "most_mb")
            total[what] = max(total.get(what, 0), count) if most else total.get(what, 0) + count

    with capsys.disabled():
        print("\nmutations:", ", ".join(f"{k} {v:.4g}" for k, v in total.items()))
    assert total["slowest_s"] < 10
    assert total["most_mb"] < 500
    assert total["refused"] > 0


def test_mutated_files_are_read_or_refused_in_time(tmp_path, capsys):
    check_mutations([small_file(tmp_path)], 200, tmp_path, capsys)


@pytest.mark.faults
def test_five_thousand_mutated_files_are_read_or_refused_in_time(tmp_path, shared_data, capsys):
    imports = sorted((shared_data / "imports").iterdir())
    check_mutations([small_file(tmp_path)] * 5 + imports, 5000, tmp_path, capsys)


def test_mutated_files_are_read_or_refused_through_the_door_that_users_take(tmp_path):
    data = small_file(tmp_path).read_bytes()
    path = tmp_path / "mutant.h5"
    refusals = []
    for seed in range(8):
        path.write_bytes(mutation_worker.mutate(data, random.Random(seed)))
        began = time.monotonic()
        try:
            read_import(path)
        except ValueError as error:
            refusals.append(str(error))
        assert time.monotonic() - began < 10

    assert refusals
    assert all(refusal.startswith(f"{path} is not imported: ") for refusal in refusals)
