"""Downloads arrive whole and verified or not at all, and continue where they stopped."""

import hashlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import Server, serving

from fetch.download import DownloadError, RemoteFile, fetch

CONTENT = bytes(range(256)) * 4000  # a bit over a megabyte


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


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


@pytest.mark.parametrize("how", ["option", "environment"])
def test_offline_asks_nobody(
    how: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/w"] = [CONTENT]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1" if how == "environment" else "0")

    with pytest.raises(DownloadError, match="offline was asked for"):
        fetch(remote(f"{server.url}/w"), tmp_path, offline=how == "option")

    assert server.asked == []


def test_progress_is_reported_to_the_display_that_a_program_sets(
    server: Server, tmp_path: Path, shown: list[object], capfd
) -> None:
    server.files["/w"] = [CONTENT]
    server.cut["/w"] = [300_000]

    fetch(remote(f"{server.url}/w"), tmp_path)

    opened, *counts = shown
    assert opened == ("weights.bin", len(CONTENT))
    assert counts == sorted(counts)
    assert counts[-1] == len(CONTENT)
    assert capfd.readouterr() == ("", "")
