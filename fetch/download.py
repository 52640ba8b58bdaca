"""Download a file once: resumed where it stopped, verified by its hash, placed whole.

A file in progress is `<name>.part` beside its target. Only bytes whose hash is right get the
final name, by rename. Everything that can go wrong is one line that says what to do next.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import requests
    from rich.progress import Progress

CONNECT_S = 2.0  # with the interpreter and torch to start, no network is told within 5 s
READ_S = 30.0
ATTEMPTS = 5  # of a transfer that breaks off; each continues where the last one ended
CHUNK = 1 << 16  # at most this much is lost of a connection that breaks


class DownloadError(OSError):
    """A file could not be obtained; the message says which, why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file on the network whose bytes are known in advance."""

    name: str
    urls: tuple[str, ...]
    """Tried in turn; `doi:<doi>/<file>` is looked up in the archive that the DOI names."""
    hash: str
    """`<algorithm>:<hex digest>`, as pooch writes it; "" where the publisher states none."""
    size: int = 0
    """In bytes; 0 where it is not known."""
    about_size: str = ""
    """For people, where `size` is not known."""

    @property
    def page(self) -> str:
        """Address for a person: the last URL, which is never a `doi:` one."""
        return self.urls[-1]


def is_intact(file: RemoteFile, path: Path) -> bool:
    """Say whether `path` holds exactly the bytes of `file`, as far as they are known."""
    from pooch import file_hash

    if not path.is_file() or (file.size and path.stat().st_size != file.size):
        return False
    if not file.hash:
        return True
    algorithm, digest = file.hash.split(":")
    return bool(file_hash(str(path), alg=algorithm) == digest)


def fetch(file: RemoteFile, folder: Path, *, offline: bool = False, hint: str = "") -> Path:
    """Return the path of `file` in `folder`, after downloading it if it is not there intact.

    Processes that want the same file at once wait for the first. `hint` ends the message of a
    file that cannot be had: another way to get on.
    """
    from filelock import FileLock

    target = folder / file.name
    if is_intact(file, target):
        return target
    if offline:
        raise DownloadError(unobtainable(file, target, "offline was asked for", hint))
    with _plain_errors(file, target, hint):
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{file.name}.lock"):
            _download(file, target, hint)
    return target


def unobtainable(file: RemoteFile, target: Path, why: str, hint: str = "") -> str:
    """Say in one line which file is missing, why, and where to put it by hand."""
    size = megabytes(file.size) if file.size else file.about_size or "size unknown"
    return (
        f"{file.name} is not on this machine and cannot be downloaded ({why}): "
        f"get {file.page} ({size}) and put it at {target.absolute()}{'; ' if hint else ''}{hint}"
    )


def megabytes(size: int) -> str:
    """Write a size for people."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size:,} bytes"


def reachable(urls: Iterable[str], seconds: float = CONNECT_S) -> bool:
    """Say whether any of the hosts (or the proxy before it) takes a connection in time.

    Name lookups have no timeout of their own, so each host is tried in a thread.
    """
    answers: SimpleQueue[bool] = SimpleQueue()
    hosts = {_first_hop(url) for url in urls}

    def knock(host: str, port: int) -> None:
        try:
            with socket.create_connection((host, port), timeout=seconds):
                answers.put(True)
        except OSError:
            answers.put(False)

    for host in hosts:
        threading.Thread(target=knock, args=host, daemon=True).start()
    deadline = time.monotonic() + seconds
    for _ in hosts:
        try:
            if answers.get(timeout=max(0.0, deadline - time.monotonic())):
                return True
        except Empty:
            return False
    return False


def _first_hop(url: str) -> tuple[str, int]:
    from requests.utils import get_environ_proxies, select_proxy

    url = "https://doi.org" if url.startswith("doi:") else url
    proxy = select_proxy(url, get_environ_proxies(url))
    parts = urlsplit(url if proxy is None else proxy if "://" in proxy else f"http://{proxy}")
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    return parts.hostname or "", port


def _download(file: RemoteFile, target: Path, hint: str) -> None:
    import pooch

    if is_intact(file, target):  # another process has just brought it
        return
    part = target.with_name(f"{target.name}.part")
    done = part.stat().st_size if part.is_file() else 0
    free = shutil.disk_usage(target.parent).free
    if file.size - done > free:
        raise DownloadError(
            f"{file.name} needs {megabytes(file.size - done)} more in {target.parent}, where "
            f"{megabytes(free)} are free; free some space and run again"
        )
    if not reachable(file.urls):
        raise DownloadError(unobtainable(file, target, "no network", hint))
    pooch.get_logger().setLevel("WARNING")
    store = pooch.create(
        path=target.parent,
        base_url="",
        registry={target.name: file.hash},
        urls={target.name: file.urls[0]},
        retry_if_failed=1,  # where the hash is wrong; such a file never gets its name
    )
    try:
        store.fetch(target.name, downloader=_Resuming(file, part))
    except ValueError as error:
        raise DownloadError(
            f"{file.name} from {file.page} has another hash than {file.hash}, twice; "
            f"nothing was kept. Try again later, or put a good copy at {target}"
        ) from error


class _Resuming:
    """Downloads for pooch by way of a part file that survives a broken connection."""

    def __init__(self, file: RemoteFile, part: Path) -> None:
        self._file = file
        self._part = part

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        failures = []
        for each in self._file.urls:
            try:
                self._from(each)
            except DownloadError as error:
                failures.append(str(error))
                continue
            self._part.replace(output_file)
            return
        raise DownloadError("; ".join(failures))

    def _from(self, url: str) -> None:
        import requests

        why: Exception | None = None
        with requests.Session() as session, _progress(self._file) as progress:
            for attempt in range(ATTEMPTS):
                before = self._size()
                try:
                    self._transfer(session, _resolved(url), progress)
                except requests.HTTPError as error:
                    raise DownloadError(f"{url} answered {error}") from error
                except requests.RequestException as error:
                    why = error
                if self._is_complete():
                    return
                if self._size() == before and attempt:
                    break
                time.sleep(0.1 * attempt)
        raise DownloadError(
            f"The download of {url} broke off at {self._size():,} of "
            f"{self._file.size or self._total:,} bytes"
            f"{f' ({type(why).__name__})' if why else ''}; run again to continue there"
        )

    def _transfer(self, session: requests.Session, url: str, progress: Progress) -> None:
        """Append what is missing to the part file."""
        done = self._size()
        if self._file.size and done > self._file.size:
            self._part.unlink()
            done = 0
        if self._file.size and done == self._file.size:
            return
        headers = {"User-Agent": "anomalous-sound-pipeline", "Accept-Encoding": "identity"}
        if done:
            headers["Range"] = f"bytes={done}-"
        timeout = (CONNECT_S, READ_S)
        with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
            if response.status_code == 416:  # nothing after `done`
                if response.headers.get("Content-Range") == f"bytes */{done}":
                    self._total = done
                else:  # another file than we began
                    self._part.unlink()
                return
            response.raise_for_status()
            resumes = response.status_code == 206
            if resumes and not response.headers.get("Content-Range", "").startswith(
                f"bytes {done}-"
            ):
                self._part.unlink()
                return
            done = done if resumes else 0
            length = response.headers.get("Content-Length")
            total = done + int(length) if length else 0
            if self._file.size and total and total != self._file.size:
                raise DownloadError(
                    f"{url} is a file of {total:,} bytes, expected {self._file.size:,}: "
                    "perhaps a page that stands before the network"
                )
            self._total = self._file.size or total
            task = progress.add_task(self._file.name, total=self._total or None, completed=done)
            with self._part.open("ab" if resumes else "wb") as out:
                for chunk in response.iter_content(CHUNK):
                    out.write(chunk)
                    progress.advance(task, len(chunk))
                out.flush()
                os.fsync(out.fileno())

    _total = 0

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _is_complete(self) -> bool:
        total = self._file.size or self._total
        return total > 0 and self._size() == total


def _resolved(url: str) -> str:
    if not url.startswith("doi:"):
        return url
    from pooch.downloaders import doi_to_repository

    doi, _, name = url.removeprefix("doi:").rpartition("/")
    try:
        return str(doi_to_repository(doi, timeout=(CONNECT_S, READ_S)).download_url(name))
    except (ValueError, KeyError) as error:
        raise DownloadError(f"{url} cannot be looked up ({error})") from error


@contextmanager
def _progress(file: RemoteFile) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress


@contextmanager
def _plain_errors(file: RemoteFile, target: Path, hint: str) -> Iterator[None]:
    """Turn what the system and the network say into one line about this file."""
    import requests

    try:
        yield
    except DownloadError:
        raise
    except requests.RequestException as error:
        reason = f"no network: {type(error).__name__}"
        raise DownloadError(unobtainable(file, target, reason, hint)) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            message = (
                f"The disk of {target.parent} is full, {file.name} ({megabytes(file.size)}) did "
                "not fit; free some space and run again: it continues where it stopped"
            )
        else:
            message = f"Cannot write {target}: {error.strerror or error}"
        raise DownloadError(message) from error
