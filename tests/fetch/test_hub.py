"""A model id of the hub becomes a folder at one commit, which stays, verified and offline too."""

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from file_server import REVISION, Server, serving

from fetch.download import DownloadError
from fetch.hub import find_model

MODEL = "someone/hubert"
OTHER = "f" * 40
FILES = {
    "model.safetensors": bytes(range(256)) * 100,
    "config.json": b'{"model_type": "hubert"}',
    "preprocessor_config.json": b'{"sampling_rate": 16000}',
}


@dataclass(frozen=True)
class Hub:
    """A hub of one repository, of two commits, and a folder with the same files."""

    server: Server
    folder: Path

    def fetched(self) -> list[str]:
        asked = [path for method, path, _ in self.server.asked if method == "GET"]
        return sorted({path.rpartition("/")[2] for path in asked if "/resolve/" in path})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving() as server:
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "ours"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        folder = tmp_path / "repository"
        folder.mkdir()
        for name, content in FILES.items():
            (folder / name).write_bytes(content)
        for commit in (REVISION, OTHER):
            server.add_repository(MODEL, commit, {**FILES, "flax_model.msgpack": b"not needed"})
        server.add_reference(MODEL, "main", REVISION)
        yield Hub(server, folder)


def test_a_model_id_is_fetched_once_at_one_commit(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        first = find_model(MODEL)
    n_asked = len(hub.server.asked)
    again, offline, local = (
        find_model(MODEL),
        find_model(MODEL, offline=True),
        find_model(str(hub.folder)),
    )

    assert hub.fetched() == ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert len(hub.server.asked) == n_asked
    assert first == again == offline
    assert first.sha256 == local.sha256
    assert f"main is commit {REVISION} now and stays that here" in caplog.text
    assert first.path == tmp_path / "hub/models--someone--hubert/snapshots" / REVISION


def test_a_branch_stays_what_it_was_until_a_commit_is_named(hub: Hub) -> None:
    first = find_model(MODEL).path
    hub.server.add_reference(MODEL, "main", OTHER)

    assert find_model(MODEL).path == first
    assert find_model(MODEL, revision=OTHER).path.name == OTHER


def reference(hub: Hub, tmp_path: Path, commit: str) -> None:
    """Have another program say in Hugging Face's cache which commit main is."""
    refs = tmp_path / "hub" / f"models--{MODEL.replace('/', '--')}" / "refs"
    refs.mkdir(parents=True, exist_ok=True)
    (refs / "main").write_text(commit)


def test_a_branch_stays_what_it_was_whatever_other_programs_fetch(hub: Hub, tmp_path: Path) -> None:
    first = find_model(MODEL).path
    find_model(MODEL, revision=OTHER)
    reference(hub, tmp_path, OTHER)

    assert find_model(MODEL).path == first
    assert find_model(MODEL, revision=OTHER).path.name == OTHER
    record = json.loads(
        (tmp_path / "ours/anomalous-sound-pipeline/weights/first_seen.json").read_text()
    )
    assert record[f"hf:{MODEL}@main"] == REVISION


def test_a_model_that_another_program_fetched_is_used_without_the_hub_and_stays(
    hub: Hub, tmp_path: Path
) -> None:
    for commit in (REVISION, OTHER):
        snapshot = tmp_path / "hub/models--someone--hubert/snapshots" / commit
        shutil.copytree(hub.folder, snapshot)
    reference(hub, tmp_path, OTHER)
    folder = find_model(MODEL, offline=True).path
    reference(hub, tmp_path, REVISION)

    assert folder.name == OTHER
    assert find_model(MODEL, offline=True).path == folder


@pytest.mark.parametrize("revision", [OTHER, "v1/beta"])
def test_a_folder_put_there_by_hand_is_of_no_revision_but_the_one_it_is_named_after(
    hub: Hub, tmp_path: Path, revision: str
) -> None:
    place = tmp_path / "ours/anomalous-sound-pipeline/weights/hf"
    shutil.copytree(hub.folder, place / "someone--hubert")
    named = place / f"someone--hubert@{revision.replace('/', '--')}"

    with pytest.raises(DownloadError) as caught:
        find_model(MODEL, revision=revision, offline=True)
    assert str(named / "model.safetensors") in str(caught.value)
    shutil.copytree(hub.folder, named)

    assert find_model(MODEL, revision=revision, offline=True).path == named
    assert find_model(MODEL, offline=True).path == place / "someone--hubert"


def test_without_tensors_only_the_settings_are_fetched(hub: Hub) -> None:
    find_model(MODEL, tensors=False)

    assert hub.fetched() == ["config.json", "preprocessor_config.json"]


def test_a_file_that_changed_since_it_was_first_seen_is_refused(hub: Hub) -> None:
    folder = find_model(MODEL).path
    path = folder / "preprocessor_config.json"
    path.write_text(path.read_text() + " ")

    with pytest.raises(ValueError, match=r"preprocessor_config.json has sha256 .* when first"):
        find_model(MODEL)


def test_tensors_that_are_not_what_the_hub_states_are_refused(hub: Hub) -> None:
    path = f"/{MODEL}/resolve/{REVISION}/model.safetensors"
    hub.server.files[path] = [hub.server.files[path][0][::-1]]

    with pytest.raises(DownloadError, match=r"model.safetensors .* another hash than sha256:"):
        find_model(MODEL)


@pytest.mark.parametrize("how", ["option", "environment", "no network"])
def test_without_the_hub_one_line_says_what_is_missing_and_where_to_put_it(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if how == "no network":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError) as caught:
        find_model(MODEL, offline=how == "option")

    place = tmp_path / "ours/anomalous-sound-pipeline/weights/hf/someone--hubert"
    url = f"https://huggingface.co/{MODEL}/resolve/main/model.safetensors"
    for part in (url, str(place / "model.safetensors"), "config.json", "hf:FOLDER"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert hub.server.asked == []
    shutil.copytree(hub.folder, place)
    assert find_model(MODEL, offline=True).path == place


def test_without_tensors_and_hub_only_the_settings_are_missing(hub: Hub) -> None:
    with pytest.raises(DownloadError, match=r"^config.json is not .*; preprocessor_config.json be"):
        find_model(MODEL, tensors=False, offline=True)


def test_a_repository_without_tensors_or_extractor_is_refused(hub: Hub) -> None:
    hub.server.add_repository(MODEL, REVISION, {"config.json": b"{}", "tf_model.h5": b""})
    hub.server.add_reference(MODEL, "main", REVISION)

    with pytest.raises(ValueError, match=r"no preprocessor_config.json and no model.safetensors"):
        find_model(MODEL)
    assert hub.fetched() == []


def test_a_model_that_the_hub_does_not_have_is_one_line(hub: Hub) -> None:
    with pytest.raises(DownloadError, match="hf:someone/hubrt@main cannot be looked up at"):
        find_model("someone/hubrt")


def test_a_revision_that_is_a_path_is_refused(hub: Hub) -> None:
    with pytest.raises(ValueError, match="no revision of someone/hubert"):
        find_model(MODEL, revision="../../x")


def test_all_shards_of_a_model_are_fetched(hub: Hub) -> None:
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = {"weight_map": dict(zip("ab", names, strict=True))}
    files = {**FILES, **{name: name.encode() for name in names}}
    files["model-00009-of-00002.bin"] = b"others"
    del files["model.safetensors"]
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    hub.server.add_repository(MODEL, OTHER, files)

    found = find_model(MODEL, revision=OTHER)

    assert hub.fetched() == sorted({*files} - {"model-00009-of-00002.bin"})
    assert found.path.name == OTHER


@pytest.mark.parametrize("model", ["a/" * 3000, "a" * 5000 + "/b", "\0", "a\nb/c", "/" + "x" * 300])
def test_a_name_that_cannot_be_a_path_is_one_line(model: str) -> None:
    with pytest.raises((FileNotFoundError, ValueError)) as caught:
        find_model(model)

    assert "is no folder here and no model id" in str(caught.value)
