"""Each kind of source finds an intact copy, fetches one, or says in one line why it cannot."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from file_server import REVISION, Server, serving

from fetch.checkpoints import checkpoint_hash
from fetch.download import DownloadError, RemoteFile
from fetch.first_seen import recorded
from fetch.sources import DirectFile, HubRepository

CONTENT = bytes(range(256)) * 4000  # a bit over a megabyte
NAMES = ("model.safetensors", "config.json", "preprocessor_config.json")
HINT = "or pass --weights PATH"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def direct(server: Server) -> DirectFile:
    server.files["/w"] = [CONTENT]
    digest = sha256(CONTENT).hexdigest()
    url = f"{server.url}/w"
    file = RemoteFile(name="weights.bin", urls=(url,), size=len(CONTENT), hash=f"sha256:{digest}")
    return DirectFile(file=file)


def test_another_programs_copy_is_used_if_its_hash_is_right(
    direct: DirectFile, tmp_path: Path
) -> None:
    theirs = tmp_path / "panns_data"
    theirs.mkdir()
    source = replace(direct, elsewhere=(str(theirs),))

    (theirs / "weights.bin").write_bytes(CONTENT)
    assert source.find(tmp_path / "ours") == theirs / "weights.bin"
    (theirs / "weights.bin").write_bytes(CONTENT[:-1] + b"!")
    assert source.find(tmp_path / "ours") is None


def test_a_direct_file_is_what_its_hash_says(direct: DirectFile, tmp_path: Path) -> None:
    path = direct.fetch(tmp_path, offline=False, hint=HINT)

    assert path == direct.find(tmp_path) == tmp_path / "weights.bin"
    assert direct.checkpoint_hash(path) == checkpoint_hash(path)


@pytest.fixture
def hub(server: Server) -> HubRepository:
    """A repository of three files on the local server, and an empty hub cache."""
    files = {name: CONTENT + name.encode() for name in NAMES}
    server.add_repository("someone/model", REVISION, {**files, "README.md": b"not needed"})
    return HubRepository(
        repository="someone/model",
        revision=REVISION,
        endpoint=server.url,
        contents={name: (len(c), sha256(c).hexdigest()) for name, c in files.items()},
    )


def resolve(name: str) -> str:
    return f"/someone/model/resolve/{REVISION}/{name}"


def fetch(source: HubRepository, tmp_path: Path) -> Path:
    return source.fetch(tmp_path / "ours", offline=False, hint=HINT)


def test_a_pinned_repository_fills_the_hubs_cache_once(
    server: Server, hub: HubRepository, tmp_path: Path
) -> None:
    folder = fetch(hub, tmp_path)
    n_asked = len(server.asked)

    assert hub.find(tmp_path / "ours") == folder
    assert hub.checkpoint_hash(folder) == checkpoint_hash(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    assert folder == tmp_path / "hub/models--someone--model/snapshots" / REVISION
    assert len(server.asked) == n_asked


def test_a_wrong_hash_from_the_hub_is_tried_once_more(
    server: Server, hub: HubRepository, tmp_path: Path
) -> None:
    (good,) = server.files[resolve("model.safetensors")]
    server.files[resolve("model.safetensors")] = [good[::-1], good]

    folder = fetch(hub, tmp_path)

    assert (folder / "model.safetensors").read_bytes() == good


def test_a_hash_from_the_hub_that_stays_wrong_leaves_nothing(
    server: Server, hub: HubRepository, tmp_path: Path
) -> None:
    (good,) = server.files[resolve("model.safetensors")]
    server.files[resolve("model.safetensors")] = [good[::-1]]

    with pytest.raises(DownloadError, match=r"model.safetensors .* another hash .*, twice"):
        fetch(hub, tmp_path)

    assert hub.find(tmp_path / "ours") is None
    assert not list((tmp_path / "hub").rglob("*/model.safetensors"))
    blobs = (tmp_path / "hub").rglob("blobs/*")
    assert good[::-1] not in [path.read_bytes() for path in blobs]


def test_a_wrong_copy_in_the_hubs_cache_is_replaced(
    server: Server, hub: HubRepository, tmp_path: Path
) -> None:
    folder = fetch(hub, tmp_path)
    path = folder / "model.safetensors"
    good = path.read_bytes()
    path.resolve().write_bytes(good[::-1])

    assert hub.find(tmp_path / "ours") is None
    assert fetch(hub, tmp_path) == folder
    assert path.read_bytes() == good


def test_a_file_that_the_repository_does_not_have_is_one_line(
    hub: HubRepository, tmp_path: Path
) -> None:
    more = replace(hub, contents={**hub.contents, "vocab.json": (5, "0" * 64)})

    with pytest.raises(DownloadError, match=r"vocab.json from .* is missing or has another"):
        fetch(more, tmp_path)


def test_a_refusal_of_the_hub_is_one_line(
    server: Server, hub: HubRepository, tmp_path: Path
) -> None:
    for name in NAMES:
        server.status[resolve(name)] = 404

    with pytest.raises(DownloadError) as caught:
        fetch(hub, tmp_path)

    assert "404" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def unpinned(hub: HubRepository) -> HubRepository:
    """The same without pinned hashes, as ResNet50's."""
    return replace(hub, contents=dict.fromkeys(hub.contents, ("about 1 MB", "")))


def test_hashes_that_are_not_pinned_are_those_that_the_hub_states(
    server: Server, unpinned: HubRepository, tmp_path: Path
) -> None:
    (good,) = server.files[resolve("model.safetensors")]
    server.files[resolve("model.safetensors")] = [good[::-1]]

    with pytest.raises(DownloadError, match=r"model.safetensors .* another hash than sha256:"):
        fetch(unpinned, tmp_path)

    assert unpinned.find(tmp_path / "ours") is None


def test_hashes_that_are_not_pinned_are_recorded_and_then_compared(
    hub: HubRepository, unpinned: HubRepository, tmp_path: Path
) -> None:
    folder = fetch(unpinned, tmp_path)
    assert not unpinned.is_verifiable
    whole = unpinned.checkpoint_hash(folder)

    assert unpinned.is_verifiable
    assert whole == hub.checkpoint_hash(folder)
    for file in hub.files:
        seen = recorded(f"{unpinned.name}/{file.name}")
        assert seen == file.hash.removeprefix("sha256:")
    path = folder / "config.json"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"config.json has sha256 .* when first fetched here"):
        unpinned.checkpoint_hash(folder)


def test_a_hub_that_does_not_answer_for_hashes_is_one_line(
    server: Server, unpinned: HubRepository, tmp_path: Path
) -> None:
    server.status[f"/api/models/someone/model/revision/{REVISION}"] = 500

    with pytest.raises(DownloadError, match=r"hf:someone/model@0123.* cannot be looked up") as why:
        fetch(unpinned, tmp_path)

    assert "\n" not in str(why.value)


def test_the_hub_out_of_reach_names_file_address_size_and_place(
    hub: HubRepository, tmp_path: Path
) -> None:
    started = time.monotonic()

    with pytest.raises(DownloadError) as caught:
        fetch(replace(hub, endpoint="http://127.0.0.1:9"), tmp_path)

    assert time.monotonic() - started < 5
    target = tmp_path / "ours" / "model.safetensors"
    for part in ("model.safetensors", hub.files[0].page, "1 MB", str(target), "config.json", HINT):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_downloads_of_the_hub_print_nothing_and_report_to_the_display(
    hub: HubRepository, tmp_path: Path, shown: list[object], capfd
) -> None:
    fetch(hub, tmp_path)

    total = sum(file.size for file in hub.files)
    assert shown[0] == ("someone/model", total)
    assert shown[-1] == total
    assert capfd.readouterr() == ("", "")


def test_a_file_of_a_folder_means_the_folder(hub: HubRepository, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "other.safetensors").write_bytes(b"")

    assert hub.of_user(tmp_path / "model.safetensors") == tmp_path
    assert hub.of_user(tmp_path / "other.safetensors") == tmp_path / "other.safetensors"
