"""Weights arrive whole and verified or not at all, and bad checkpoints say what is wrong."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from file_server import REVISION, Server, serving
from safetensors.torch import save_file

from embed import make_encoder
from fetch.download import DownloadError, RemoteFile, fetch
from fetch.first_seen import recorded
from fetch.weights import (
    WEIGHTS,
    Weights,
    find_checkpoint,
    find_published,
    identity,
    published,
    read_tensors,
)

CONTENT = bytes(range(256)) * 4000  # a bit over a megabyte


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def remote(*urls: str, content: bytes = CONTENT, name: str = "weights.bin") -> RemoteFile:
    digest = hashlib.sha256(content).hexdigest()
    return RemoteFile(name=name, urls=urls, size=len(content), hash=f"sha256:{digest}")


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.endswith(".lock"))


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    server.files["/w"] = [CONTENT]
    file = remote(f"{server.url}/w")

    path = fetch(file, tmp_path)
    again = fetch(file, tmp_path)

    assert path == again == tmp_path / "weights.bin"
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert leftovers(tmp_path) == ["weights.bin"]


def test_a_broken_connection_is_resumed_where_it_ended(server: Server, tmp_path: Path) -> None:
    server.files["/w"] = [CONTENT]
    server.cut["/w"] = [300_000, 400_000]

    path = fetch(remote(f"{server.url}/w"), tmp_path)

    assert path.read_bytes() == CONTENT
    starts = [int(r.removeprefix("bytes=").rstrip("-") or 0) for r in server.gets("/w")]
    assert len(starts) == 3
    assert 0 == starts[0] < starts[1] < starts[2]


def test_a_download_that_ended_short_continues_in_the_next_run(
    server: Server, tmp_path: Path
) -> None:
    server.files["/w"] = [CONTENT]
    server.cut["/w"] = [300_000] + [0] * 20

    with pytest.raises(DownloadError, match=r"broke off at .* of 1,024,000 bytes.*run again"):
        fetch(remote(f"{server.url}/w"), tmp_path)
    assert leftovers(tmp_path) == ["weights.bin.part"]
    held = (tmp_path / "weights.bin.part").stat().st_size
    server.cut.clear()
    server.asked.clear()
    path = fetch(remote(f"{server.url}/w"), tmp_path)

    assert path.read_bytes() == CONTENT
    assert server.gets("/w") == [f"bytes={held}-"]
    assert held > 0


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.files["/w"] = [CONTENT]
    server.ranges = False
    (tmp_path / "weights.bin.part").write_bytes(b"x" * 1000)

    assert fetch(remote(f"{server.url}/w"), tmp_path).read_bytes() == CONTENT


def test_a_wrong_hash_is_tried_once_more(server: Server, tmp_path: Path) -> None:
    server.files["/w"] = [CONTENT[::-1], CONTENT]

    path = fetch(remote(f"{server.url}/w"), tmp_path)

    assert path.read_bytes() == CONTENT
    assert len(server.gets("/w")) == 2


def test_a_part_of_another_file_does_not_spoil_the_download(server: Server, tmp_path: Path) -> None:
    server.files["/w"] = [CONTENT]
    (tmp_path / "weights.bin.part").write_bytes(b"x" * 1000)

    assert fetch(remote(f"{server.url}/w"), tmp_path).read_bytes() == CONTENT


def test_a_hash_that_stays_wrong_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.files["/w"] = [CONTENT[::-1]]

    with pytest.raises(DownloadError, match=r"another hash than sha256:.*, twice; nothing"):
        fetch(remote(f"{server.url}/w"), tmp_path)

    assert len(server.gets("/w")) == 2
    assert leftovers(tmp_path) == []


def test_a_page_instead_of_the_file_is_refused_before_it_is_read(
    server: Server, tmp_path: Path
) -> None:
    server.files["/w"] = [b"<html>Please accept our terms</html>"]

    with pytest.raises(DownloadError, match=r"36 bytes, expected 1,024,000"):
        fetch(remote(f"{server.url}/w"), tmp_path)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_refusal_is_named_with_its_address(server: Server, tmp_path: Path, status: int) -> None:
    server.files["/w"] = [CONTENT]
    server.status["/w"] = status

    with pytest.raises(DownloadError, match=rf"{server.url}/w answered {status}"):
        fetch(remote(f"{server.url}/w"), tmp_path)

    assert leftovers(tmp_path) == []


def test_the_second_address_helps_where_the_first_does_not(server: Server, tmp_path: Path) -> None:
    server.files["/good"] = [CONTENT]

    path = fetch(remote(f"{server.url}/gone", f"{server.url}/good"), tmp_path)

    assert path.read_bytes() == CONTENT


def test_a_redirect_is_followed(server: Server, tmp_path: Path) -> None:
    server.files["/elsewhere"] = [CONTENT]
    server.redirect["/w"] = f"{server.url}/elsewhere"

    assert fetch(remote(f"{server.url}/w"), tmp_path).read_bytes() == CONTENT


def test_a_disk_that_fills_up_is_one_line(server: Server, tmp_path: Path) -> None:
    server.files["/w"] = [CONTENT]
    (tmp_path / "weights.bin.part").symlink_to("/dev/full")

    with pytest.raises(DownloadError, match=r"disk .* is full, weights.bin \(1 MB\)"):
        fetch(remote(f"{server.url}/w"), tmp_path)

    assert not (tmp_path / "weights.bin").exists()


def test_a_file_too_large_for_the_disk_is_not_begun(server: Server, tmp_path: Path) -> None:
    server.files["/w"] = [CONTENT]

    with pytest.raises(DownloadError, match=r"needs 1,000,000,000,000 MB more"):
        fetch(replace(remote(f"{server.url}/w"), size=10**18), tmp_path)

    assert server.asked == []


def test_two_processes_at_once_download_once(server: Server, tmp_path: Path) -> None:
    server.files["/w"] = [CONTENT]
    server.slow = 0.5
    file = remote(f"{server.url}/w")
    code = (
        "import sys; from pathlib import Path; from fetch.download import RemoteFile, fetch\n"
        f"print(fetch({file!r}, Path(sys.argv[1])))"
    )

    both = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=60)[0].decode().strip() for process in both]

    assert printed == [str(tmp_path / "weights.bin")] * 2
    assert len(server.gets("/w")) == 1
    assert (tmp_path / "weights.bin").read_bytes() == CONTENT


# a port that refuses, and an address that swallows packets (TEST-NET-1)
@pytest.mark.parametrize("url", ["http://127.0.0.1:9/w", "http://192.0.2.1/w"])
def test_without_a_network_one_line_says_it_all_within_five_seconds(
    tmp_path: Path, url: str
) -> None:
    started = time.monotonic()

    with pytest.raises(DownloadError) as caught:
        fetch(remote(url), tmp_path, hint="or pass --weights PATH")

    assert time.monotonic() - started < 5
    message = str(caught.value)
    for part in ("weights.bin", url, "1 MB", str(tmp_path / "weights.bin"), "--weights PATH"):
        assert part in message
    assert "\n" not in message


def test_offline_asks_nobody(server: Server, tmp_path: Path) -> None:
    server.files["/w"] = [CONTENT]

    with pytest.raises(DownloadError, match="offline was asked for"):
        fetch(remote(f"{server.url}/w"), tmp_path, offline=True)

    assert server.asked == []


def test_offline_by_the_environment_asks_nobody(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    row = replace(WEIGHTS["panns"], files=(remote(f"{server.url}/w"),), elsewhere=())

    with pytest.raises(DownloadError, match="offline was asked for"):
        published(row, folder=tmp_path)

    assert server.asked == []


def test_another_programs_copy_is_used_if_its_hash_is_right(server: Server, tmp_path: Path) -> None:
    theirs = tmp_path / "panns_data"
    theirs.mkdir()
    server.files["/w"] = [CONTENT]
    row = replace(WEIGHTS["panns"], files=(remote(f"{server.url}/w"),), elsewhere=(str(theirs),))

    (theirs / "weights.bin").write_bytes(CONTENT)
    assert published(row, folder=tmp_path / "ours") == theirs / "weights.bin"
    assert server.asked == []

    (theirs / "weights.bin").write_bytes(CONTENT[:-1] + b"!")
    assert published(row, folder=tmp_path / "ours") == tmp_path / "ours" / "weights.bin"


@pytest.fixture
def hub(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """A repository of three files on the local server, and an empty hub cache."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    names = ("model.safetensors", "config.json", "preprocessor_config.json")
    files = []
    for name in names:
        content = CONTENT + name.encode()
        path = f"/someone/model/resolve/{REVISION}/{name}"
        server.files[path] = [content]
        files.append(remote(server.url + path, content=content, name=name))
    return replace(
        WEIGHTS["ast"],
        repository="someone/model",
        revision=REVISION,
        hub=server.url,
        files=tuple(files),
    )


def test_a_pinned_repository_fills_the_hubs_cache_once(
    server: Server, hub: Weights, tmp_path: Path
) -> None:
    folder = published(hub, folder=tmp_path / "ours")
    n_asked = len(server.asked)
    again = published(hub, folder=tmp_path / "ours", offline=True)

    assert folder == again
    assert hub.identity == identity(folder)
    assert sorted(p.name for p in folder.iterdir()) == sorted(f.name for f in hub.files)
    assert folder.is_relative_to(tmp_path / "hub")
    assert folder.name == REVISION
    assert len(server.asked) == n_asked


def test_a_wrong_hash_from_the_hub_is_tried_once_more(
    server: Server, hub: Weights, tmp_path: Path
) -> None:
    path = f"/someone/model/resolve/{REVISION}/model.safetensors"
    good = server.files[path][0]
    server.files[path] = [good[::-1], good]

    folder = published(hub, folder=tmp_path / "ours")

    assert (folder / "model.safetensors").read_bytes() == good


def test_a_hash_from_the_hub_that_stays_wrong_leaves_nothing(
    server: Server, hub: Weights, tmp_path: Path
) -> None:
    path = f"/someone/model/resolve/{REVISION}/model.safetensors"
    server.files[path] = [server.files[path][0][::-1]]

    with pytest.raises(DownloadError, match=r"model.safetensors .* another hash"):
        published(hub, folder=tmp_path / "ours")

    assert find_published(hub, folder=tmp_path / "ours") is None
    assert not list((tmp_path / "hub").rglob("*/model.safetensors"))


def test_a_refusal_of_the_hub_is_one_line(server: Server, hub: Weights, tmp_path: Path) -> None:
    for file in hub.files:
        server.status[f"/someone/model/resolve/{REVISION}/{file.name}"] = 404

    with pytest.raises(DownloadError) as caught:
        published(hub, folder=tmp_path / "ours")

    assert "404" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def unpinned(
    server: Server, hub: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Weights:
    """The same without pinned hashes, as ResNet50's row, and a hub that states one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tensors = hub.files[0]
    siblings = [{"rfilename": file.name, "size": file.size} for file in hub.files]
    siblings[0]["lfs"] = {
        "sha256": tensors.hash.removeprefix("sha256:"),
        "size": tensors.size,
        "pointerSize": 1,
    }
    about = {"id": "someone/model", "sha": REVISION, "siblings": siblings}
    path = f"/api/models/someone/model/revision/{REVISION}?blobs=true"
    server.files[path] = [json.dumps(about).encode()]
    files = [replace(file, hash="", size=0, about_size="about 1 MB") for file in hub.files]
    return replace(hub, files=tuple(files))


def test_hashes_that_are_not_pinned_are_those_that_the_hub_states(
    server: Server, unpinned: Weights, tmp_path: Path
) -> None:
    path = f"/someone/model/resolve/{REVISION}/model.safetensors"
    server.files[path] = [server.files[path][0][::-1]]

    with pytest.raises(DownloadError, match=r"model.safetensors .* another hash than sha256:"):
        published(unpinned)

    assert not recorded(f"{unpinned.source}/model.safetensors")
    assert find_published(unpinned) is None


def test_what_is_fetched_without_a_pinned_hash_is_recorded_at_once(
    server: Server, hub: Weights, unpinned: Weights
) -> None:
    folder = published(unpinned)

    for file in hub.files:
        seen = recorded(f"{unpinned.source}/{file.name}")
        assert seen == file.hash.removeprefix("sha256:")
    path = folder / "config.json"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"config.json has sha256 .* when first fetched here"):
        find_checkpoint("", unpinned)


def test_a_hub_that_does_not_answer_for_hashes_is_one_line(
    server: Server, unpinned: Weights
) -> None:
    server.status[f"/api/models/someone/model/revision/{REVISION}?blobs=true"] = 500

    with pytest.raises(DownloadError, match=r"hf:someone/model@0123.* cannot be looked up") as why:
        published(unpinned)

    assert "\n" not in str(why.value)


def test_the_hub_out_of_reach_names_file_address_size_and_place(
    hub: Weights, tmp_path: Path
) -> None:
    started = time.monotonic()

    with pytest.raises(DownloadError) as caught:
        published(replace(hub, hub="http://127.0.0.1:9"), folder=tmp_path / "ours")

    assert time.monotonic() - started < 5
    target = tmp_path / "ours" / "model.safetensors"
    for part in ("model.safetensors", hub.files[0].page, "1 MB", str(target), "config.json"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", WEIGHTS)
def test_every_row_of_the_table_is_complete(name: str) -> None:
    row = WEIGHTS[name]

    assert row.encoder == name
    assert row.licence
    assert row.citation
    for file in row.files:
        assert file.size > 0 or file.about_size
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", file.hash) or not file.hash
        assert all(url.startswith("https://") for url in file.urls)


def test_a_checkpoint_that_is_not_there_names_what_the_flag_takes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"save_pretrained folder or 'random'"):
        find_checkpoint(str(tmp_path / "none.pth"), WEIGHTS["panns"])


def test_a_folder_is_identified_as_sha256sum_does(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).write_text(name)

    checkpoint = find_checkpoint(str(tmp_path), WEIGHTS["ast"])
    by_file = find_checkpoint(str(tmp_path / "model.safetensors"), WEIGHTS["ast"])

    command = "sha256sum config.json model.safetensors preprocessor_config.json | sha256sum"
    shell = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert checkpoint == by_file
    assert checkpoint.sha256 == shell.stdout.split()[0]


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")

    with pytest.raises(ValueError, match=r"expected config.json and model.safetensors, found mod"):
        find_checkpoint(str(tmp_path), WEIGHTS["ast"])


def test_a_folder_is_refused_where_a_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")

    with pytest.raises(ValueError, match="is a folder; panns takes a checkpoint file"):
        find_checkpoint(str(tmp_path), WEIGHTS["panns"])


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


def run_embed(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "embed", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_line_without_a_network_fails_in_one_line_within_five_seconds(
    tmp_path: Path,
) -> None:
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)}
    started = time.monotonic()

    ended = run_embed("weights", "fetch", "panns", "--offline", **home)

    assert time.monotonic() - started < 5
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    for part in ("Cnn14_mAP=0.431.pth", "https://zenodo.org", "327 MB", str(tmp_path)):
        assert part in ended.stderr


def test_the_command_line_lists_verifies_and_locates(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)}

    listed = run_embed("weights", "list", **home)
    verified = run_embed("weights", "verify", **home)
    located = run_embed("weights", "path", "panns", **home)
    unknown = run_embed("weights", "path", "nobody", **home)

    assert listed.returncode == 0
    for row in WEIGHTS.values():
        assert f"{row.encoder}: " in listed.stdout
        assert row.licence in listed.stdout
    assert verified.returncode == 1
    assert "weights fetch panns ast" in verified.stderr
    assert located.stdout.strip().endswith("weights/panns/Cnn14_mAP=0.431.pth")
    assert located.stdout.startswith(str(tmp_path))
    assert unknown.returncode == 2


def test_fetching_all_goes_on_after_one_that_fails(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)}
    place = weights_place(tmp_path) / "resnet50"
    place.mkdir(parents=True)
    for name in ("model.safetensors", "config.json"):
        (place / name).write_bytes(b"{}")

    ended = run_embed("weights", "fetch", "--offline", **home)

    assert ended.returncode == 1
    assert ended.stdout == f"{place}\n"
    told = [line.split(":")[1].strip() for line in ended.stderr.splitlines()]
    assert told == [name for name in WEIGHTS if name != "resnet50"]
    assert sorted(json.loads((place.parent / "first_seen.json").read_text())) == sorted(
        f"{WEIGHTS['resnet50'].source}/{name}" for name in ("model.safetensors", "config.json")
    )


def test_verifying_says_what_it_records_and_goes_on_after_a_wrong_one(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)}
    place = weights_place(tmp_path)
    for name in ("resnet50/model.safetensors", "resnet50/config.json", "vggish/vggish.safetensors"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"{}")

    first = run_embed("weights", "verify", "resnet50", "vggish", **home)
    again = run_embed("weights", "verify", "resnet50", "vggish", **home)
    (place / "vggish/vggish.safetensors").write_bytes(b"[]")
    wrong = run_embed("weights", "verify", "vggish", "resnet50", "panns", **home)

    assert (first.returncode, again.returncode, wrong.returncode) == (0, 0, 1)
    assert first.stdout.count("nothing to compare with, recorded now") == 2
    assert again.stdout.count(": ok, ") == 2
    assert "error: vggish: " in wrong.stderr
    assert "when first fetched here" in wrong.stderr
    assert "panns: not here whole" in wrong.stderr
    assert "resnet50: ok" in wrong.stdout


def weights_place(cache: Path) -> Path:
    return cache / "anomalous-sound-pipeline" / "weights"


def test_a_model_for_an_encoder_that_takes_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^panns takes no model; only hf:MODEL does$"):
        make_encoder("panns:foo")
