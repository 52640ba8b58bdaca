"""Checkpoints and settings are read without running them, or refused in one line."""

import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fetch.reading import LARGEST_JSON, check_tensors, read_json, read_tensors


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": ', "cannot be read as JSON"),
        ("[1]", "holds a list, expected an object"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "cannot be read as JSON"),
        ('{"a": ' + "9" * 10_000 + "}", "cannot be read as JSON"),
        ('{"a": "' + "\xff" + '"}', "cannot be read as JSON"),
        (" " * (LARGEST_JSON + 1), "bytes, expected at most"),
    ],
    ids=["cut off", "a list", "nested", "a long number", "no UTF-8", "huge"],
)
def test_settings_that_are_no_object_are_refused_in_one_line(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(content, encoding="latin-1")

    with pytest.raises(ValueError, match=message) as caught:
        read_json(path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrap", [dict, lambda d: {"model": d}, lambda d: {"state_dict": d}])
def test_state_dicts_are_read_bare_or_wrapped(tmp_path: Path, wrap) -> None:
    torch.save(wrap({"module.a": torch.ones(2), "count": torch.tensor(3)}), tmp_path / "c.pth")

    tensors = read_tensors(tmp_path / "c.pth")

    assert list(tensors) == ["a"]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_checkpoints_are_refused_in_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"c{suffix}"
    tensors = {"a": torch.ones(1000)}
    torch.save(tensors, path) if suffix == ".pth" else save_file(tensors, path)
    path.write_bytes(path.read_bytes()[:-600])

    with pytest.raises(ValueError, match=r"fetch or save it again") as caught:
        read_tensors(path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"model": Payload()}, tmp_path / "c.pth")

    with pytest.raises(ValueError, match="more than tensors"):
        read_tensors(tmp_path / "c.pth")
    assert not (tmp_path / "ran").exists()


def test_values_that_are_not_finite_are_named(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2), "b": torch.tensor([1.0, torch.nan])}, tmp_path / "c.pth")

    with pytest.raises(ValueError, match=r"not finite, first in 'b'"):
        read_tensors(tmp_path / "c.pth")


def test_a_small_file_of_a_huge_tensor_is_refused_before_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "c.pth"
    torch.save({"a": torch.zeros(1).expand(6_900_000_000 // 4)}, path)

    with pytest.raises(ValueError, match=r"6,900,000,000 bytes, and the file holds only 4 of"):
        read_tensors(path)

    assert path.stat().st_size < 2000


def test_views_of_one_tensor_are_read(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    torch.save({"whole": whole, "turned": whole.T, "row": whole[1]}, tmp_path / "c.pth")

    tensors = read_tensors(tmp_path / "c.pth")

    assert torch.equal(tensors["turned"], whole.T)
    assert torch.equal(tensors["row"], whole[1])


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(10**6)}, tmp_path / "c.pth")
    path = tmp_path / "small.pth"
    with (
        zipfile.ZipFile(tmp_path / "c.pth") as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))

    with pytest.raises(ValueError, match=r"unpacks to 4,\d{3},\d{3} bytes and has \d,\d{3}"):
        read_tensors(path)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(2, 2).to_sparse(),
        torch.ones(3, device="meta"),
        torch.ones(3).to(torch.float8_e5m2),
    ],
    ids=["sparse", "without values", "eight bits"],
)
def test_tensors_that_no_encoder_can_use_are_refused_in_one_line(tmp_path: Path, tensor) -> None:
    torch.save({"a": tensor}, tmp_path / "c.pth")

    with pytest.raises(ValueError, match=r"c\.pth") as caught:
        check_tensors(read_tensors(tmp_path / "c.pth"), {"a": (2,)}, tmp_path / "c.pth", "a test")

    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_something_else_is_refused_with_the_first_difference(
    tmp_path: Path,
) -> None:
    path, tensors = tmp_path / "c.pth", {"a": torch.ones(2), "b": torch.ones(3)}

    check_tensors(tensors, {"a": (2,)}, path, "a test")
    with pytest.raises(ValueError, match=r"1 of 2 tensors are missing, first 'c', it has 'b' inst"):
        check_tensors(tensors, {"a": (2,), "c": (1,)}, path, "a test")
    with pytest.raises(ValueError, match=r"'b' has shape \(3,\), expected \(4,\)"):
        check_tensors(tensors, {"b": (4,)}, path, "a test")


STATE = {
    "conv.weight": torch.arange(24.0).view(2, 3, 4),
    "conv.bias": torch.ones(2, dtype=torch.float16),
    "count": torch.tensor(7),
}


EXPECTED = {"conv.weight": (2, 3, 4)}


def message_of(read: Callable[[], object]) -> str:
    """Read a file; return the message of the error that a user would see, or ""."""
    try:
        read()
    except ValueError as error:
        return str(error)
    return ""


def save(path: Path, kind: str) -> None:
    if kind == "safetensors":
        save_file(STATE, path)
    else:
        torch.save({"model": STATE}, path, _use_new_zipfile_serialization=kind == "zip")


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Damage a file: change bytes, cut it off, repeat or remove a piece of it."""
    data = bytearray(content)
    where, length = rng.randrange(len(data)), rng.randrange(1, 64)
    kind = rng.choice(("bytes", "bytes", "bytes", "cut", "repeat", "remove", "number"))
    if kind == "bytes":
        for _ in range(rng.choice((1, 1, 4, 16))):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == "cut":
        del data[where:]
    elif kind == "repeat":
        data[where:where] = data[where : where + length]
    elif kind == "remove":
        del data[where : where + length]
    else:
        data[where : where + 8] = rng.choice((b"\xff" * 8, bytes(8), b"99999999"))
    return bytes(data)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("n", [40, pytest.param(700, marks=pytest.mark.faults)])
@pytest.mark.parametrize("kind", ["safetensors", "zip", "before 1.6"])
def test_a_damaged_checkpoint_is_read_or_refused_in_one_line(
    kind: str, n: int, tmp_path: Path
) -> None:
    path = tmp_path / ("c.safetensors" if kind == "safetensors" else "c.pth")
    save(path, kind)
    whole, rng, counts = path.read_bytes(), random.Random(1), {"read": 0, "refused": 0}

    for _ in range(n):
        path.write_bytes(mutated(whole, rng))
        message = message_of(lambda: check_tensors(read_tensors(path), EXPECTED, path, "a test"))
        assert "\n" not in message
        counts["refused" if message else "read"] += 1

    print(f"checkpoints, {kind}: {n} mutants, {counts}")
    assert counts["refused"] > n / 10


@pytest.mark.parametrize("n", [200, pytest.param(5000, marks=pytest.mark.faults)])
def test_damaged_settings_are_read_or_refused_in_one_line(n: int, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    config = {"model_type": "hubert", "num_hidden_layers": 12, "conv_dim": [512] * 7, "a": None}
    whole, rng, counts = json.dumps(config).encode(), random.Random(2), {"read": 0, "refused": 0}

    for _ in range(n):
        path.write_bytes(mutated(whole, rng))
        message = message_of(lambda: read_json(path))
        assert "\n" not in message
        counts["refused" if message else "read"] += 1

    print(f"config.json: {n} mutants, {counts}")
    assert min(counts.values()) > 0
