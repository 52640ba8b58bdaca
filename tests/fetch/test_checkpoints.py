"""A checkpoint is identified by the content of the files that decide its vectors."""

import json
import subprocess
from pathlib import Path

import pytest

from fetch.checkpoints import checkpoint_files, checkpoint_hash, shards


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text(name)


def test_a_folder_is_identified_as_sha256sum_does(tmp_path: Path) -> None:
    write(tmp_path, "config.json", "model.safetensors", "preprocessor_config.json", "README.md")

    command = "sha256sum config.json model.safetensors preprocessor_config.json | sha256sum"
    shell = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert checkpoint_hash(tmp_path) == shell.stdout.split()[0]


def test_settings_alone_are_identified_without_the_tensors(tmp_path: Path) -> None:
    write(tmp_path, "config.json", "preprocessor_config.json")
    alone = checkpoint_hash(tmp_path, tensors=False)
    write(tmp_path, "model.safetensors")

    assert checkpoint_hash(tmp_path, tensors=False) == alone != checkpoint_hash(tmp_path)


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "model.safetensors")

    with pytest.raises(ValueError, match=r"expected config.json and model.safetensors, found mod"):
        checkpoint_hash(tmp_path)


def test_all_shards_of_an_index_decide(tmp_path: Path) -> None:
    write(tmp_path, "config.json", "model-1.safetensors", "model-2.safetensors")
    weight_map = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    before = checkpoint_hash(tmp_path)
    (tmp_path / "model-2.safetensors").write_text("changed")

    assert [path.name for path in checkpoint_files(tmp_path)] == [
        "config.json", "model-1.safetensors", "model-2.safetensors", index.name,
    ]  # fmt: skip
    assert checkpoint_hash(tmp_path) != before


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", '{"a":' * 100_000, '{"weight_map": []}', '{"weight_map": {"a": 1}}'),
        *(f'{{"weight_map": {{"a": {name}}}}}' for name in ('".."', '"../b"', '["b"]', "null")),
    ],
)
def test_an_index_that_is_none_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(content)

    with pytest.raises(ValueError, match=r"index\.json") as caught:
        shards(index)

    assert "\n" not in str(caught.value)
