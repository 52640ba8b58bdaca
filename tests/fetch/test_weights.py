"""The table of published weights is complete, and an encoder's option becomes one checkpoint."""

import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from fetch.checkpoints import checkpoint_hash
from fetch.download import RemoteFile
from fetch.sources import DirectFile
from fetch.weights import WEIGHTS, Weights, find_checkpoint, published


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def panns() -> Weights:
    """PANNs' row, of which a copy of eight bytes is here."""
    digest = f"sha256:{sha256(b'weights!').hexdigest()}"
    file = RemoteFile(name="weights.pth", urls=("https://nowhere.invalid/w",), size=8, hash=digest)
    row = replace(WEIGHTS["panns"], source=DirectFile(file=file))
    row.folder.mkdir(parents=True)
    (row.folder / "weights.pth").write_bytes(b"weights!")
    return row


def resnet(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_row_of_the_table_is_complete(name: str) -> None:
    row = WEIGHTS[name]

    assert row.encoder == name
    assert row.licence
    assert row.citation
    for file in row.source.files:
        assert file.size > 0 or file.about_size
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", file.hash) or not file.hash
        assert all(url.startswith("https://") for url in file.urls)


def test_without_an_option_the_published_checkpoint_is_found(panns: Weights) -> None:
    found = find_checkpoint("", panns)

    assert found.path == published(panns) == panns.folder / "weights.pth"
    assert found.sha256 == checkpoint_hash(found.path)


def test_a_checkpoint_that_is_not_there_names_what_the_flag_takes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"save_pretrained folder or 'random'"):
        find_checkpoint(str(tmp_path / "none.pth"), WEIGHTS["panns"])


def test_a_folder_and_its_file_of_tensors_are_one_checkpoint(tmp_path: Path) -> None:
    folder = resnet(tmp_path / "resnet", b"{}")

    by_folder = find_checkpoint(str(folder), WEIGHTS["resnet50"])
    by_file = find_checkpoint(str(folder / "model.safetensors"), WEIGHTS["resnet50"])

    assert by_folder == by_file


def test_a_folder_is_refused_where_a_file_is_taken(tmp_path: Path) -> None:
    folder = resnet(tmp_path / "resnet", b"{}")

    with pytest.raises(ValueError, match="is a folder; panns takes a checkpoint file"):
        find_checkpoint(str(folder), WEIGHTS["panns"])
