"""Download a file once: resumed where it stopped, verified by its hash, placed whole.

A file in progress is `<name>.part` beside its target. Only bytes whose hash is right get the
final name, by rename. Every failure is one line that says what to do next.
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
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fetch import progress
from fetch.hashes import known_sha256
from fetch.places import is_offline, locked
from ground.files import sync
from ground.text import one_line

if TYPE_CHECKING:
    import requests

CONNECT_S = 2.0  # together with the imports, a missing network is reported within 5 s
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

    @property
    def size_in_words(self) -> str:
        """Size for a person."""
        return megabytes(self.size) if self.size else self.about_size or "size unknown"


def is_intact(file: RemoteFile, path: Path) -> bool:
    """Say whether `path` holds exactly the bytes of `file`, as far as they are known."""
    from pooch import file_hash

    if not path.is_file() or (file.size and path.stat().st_size != file.size):
        return False
    if not file.hash:
        return True
    algorithm, digest = file.hash.split(":")
    own = known_sha256(path) if algorithm == "sha256" else file_hash(str(path), alg=algorithm)
    return bool(own == digest)


def fetch(file: RemoteFile, folder: Path, *, offline: bool = False, hint: str = "") -> Path:
    """Return the path of `file` in `folder`, after downloading it if it is not there intact.

    Processes that want the same file at once wait for the first. `hint` ends the message about a
    file that cannot be downloaded: what else the user can do. Raises DownloadError.
    """
    target = folder / file.name
    if is_intact(file, target):
        return target
    if is_offline(offline):
        raise DownloadError(unobtainable(file, target, "offline was asked for", hint))
    with _plain_errors(file, target, hint), locked(target):
        _download(file, target, hint)
    return target


def unobtainable(file: RemoteFile, target: Path, why: str, hint: str = "") -> str:
    """Say in one line which file is missing, why, and where to put it by hand."""
    return (
        f"{file.name} is not on this machine and cannot be downloaded ({why}): get {file.page} "
        f"({file.size_in_words}) and put it at {target.absolute()}{'; ' if hint else ''}{hint}"
    )


def why_no_network(urls: Iterable[str], *, offline: bool) -> str:
    """Say why none of the hosts can be asked, or "" where one can."""
    if is_offline(offline):
        return "offline was asked for"
    return "" if reachable(urls) else "no network"


def megabytes(size: int) -> str:
    """Write a size for people."""
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size:,} bytes"


def reachable(urls: Iterable[str], seconds: float = CONNECT_S) -> bool:
    """Say whether any of the hosts (or the proxy before it) accepts a connection in `seconds`.

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
    """Bring the file to `target`; a copy of another hash is fetched once more, then refused."""
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
    for _ in range(2):
        _Transfer(file, part).run()
        if is_intact(file, part):
            part.replace(target)
            sync(target.parent)
            return
        part.unlink()
    raise DownloadError(
        f"{file.name} from {file.page} has another hash than {file.hash}, twice; "
        f"nothing was kept. Try again later, or put a good copy at {target}"
    )


class _Transfer:
    """Fills a part file, which survives a broken connection, from the first URL that works."""

    def __init__(self, file: RemoteFile, part: Path) -> None:
        self._file = file
        self._part = part
        self._total = file.size

    def run(self) -> None:
        """Fill the part file or raise DownloadError with the failure of each URL."""
        failures = []
        for url in self._file.urls:
            try:
                self._from(url)
            except DownloadError as error:
                failures.append(str(error))
                continue
            return
        raise DownloadError("; ".join(failures))

    def _from(self, url: str) -> None:
        """Transfer from one URL, in several attempts if the connection breaks."""
        import requests

        why: Exception | None = None
        shown = progress.display(self._file.name, self._file.size)
        with requests.Session() as session, shown as advance:
            for attempt in range(ATTEMPTS):
                before = self._size()
                try:
                    self._transfer(session, _resolved(url), advance)
                except requests.HTTPError as error:
                    raise DownloadError(f"{url} answered {error}") from error
                except requests.RequestException as error:
                    why = error
                if self._total > 0 and self._size() == self._total:
                    return
                if self._size() == before and attempt:
                    break
                time.sleep(0.1 * attempt)
        raise DownloadError(
            f"The download of {url} broke off at {self._size():,} of {self._total:,} bytes"
            f"{f' ({type(why).__name__})' if why else ''}; run again to continue there"
        )

    def _transfer(self, session: requests.Session, url: str, advance: progress.Advance) -> None:
        """Append what is missing to the part file; a part of another file is removed."""
        done, size = self._size(), self._file.size
        if size and done > size:
            self._part.unlink()
            done = 0
        if size and done == size:
            return
        headers = {"User-Agent": "anomalous-sound-pipeline", "Accept-Encoding": "identity"}
        if done:
            headers["Range"] = f"bytes={done}-"
        timeout = (CONNECT_S, READ_S)
        with session.get(url, headers=headers, stream=True, timeout=timeout) as response:
            given = response.headers.get("Content-Range", "")
            if response.status_code == 416:  # nothing after `done`
                if given == f"bytes */{done}":
                    self._total = done
                else:
                    self._part.unlink()
                return
            response.raise_for_status()
            resumes = response.status_code == 206
            if resumes and not given.startswith(f"bytes {done}-"):
                self._part.unlink()
                return
            done = done if resumes else 0
            length = response.headers.get("Content-Length")
            total = done + int(length) if length else 0
            if size and total and total != size:
                raise DownloadError(
                    f"{url} is a file of {total:,} bytes, expected {size:,}: "
                    "perhaps a login page of this network"
                )
            self._total = size or total
            self._append(response, done, resumes, advance)

    def _append(
        self, response: requests.Response, done: int, resumes: bool, advance: progress.Advance
    ) -> None:
        with self._part.open("ab" if resumes else "wb") as out:
            for chunk in response.iter_content(CHUNK):
                out.write(chunk)
                done += len(chunk)
                advance(done)
            out.flush()
            os.fsync(out.fileno())

    def _size(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0


def _resolved(url: str) -> str:
    """Look up the address of `doi:<doi>/<file>`; other URLs stay as they are."""
    if not url.startswith("doi:"):
        return url
    from pooch.downloaders import doi_to_repository

    doi, _, name = url.removeprefix("doi:").rpartition("/")
    try:
        return str(doi_to_repository(doi, timeout=(CONNECT_S, READ_S)).download_url(name))
    except (ValueError, KeyError) as error:
        raise DownloadError(f"{url} cannot be looked up ({one_line(error)})") from error


@contextmanager
def _plain_errors(file: RemoteFile, target: Path, hint: str) -> Iterator[None]:
    """Turn errors of the system and the network into one line about this file."""
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
