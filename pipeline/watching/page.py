"""A page that shows watched machines while they are watched, served by the watching process.

It reads only: no request changes anything. All of the page comes from here, and nothing else may be
loaded (Content-Security-Policy). Names and sentences reach it as JSON and are shown as text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.server
import ipaddress
import os
import re
import socket
import socketserver
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from pipeline.exits import UsageError
from pipeline.watching.credentials import NO_CREDENTIAL, Credential, credential
from pipeline.watching.delivery_settings import DeliverySettings
from pipeline.watching.page_state import PageState
from pipeline.watching.score_history import SPANS_S

SHORTEST_TOKEN = 16
MOST_CONNECTIONS = 64
BLOCK = 65_536
IDLE_S = 30
"""A browser that sends nothing for so long is disconnected."""
OWN_FILES = {
    "/": ("watch_page.html", "text/html; charset=utf-8"),
    "/watch_page.css": ("watch_page.css", "text/css; charset=utf-8"),
    "/watch_page.js": ("watch_page.js", "text/javascript; charset=utf-8"),
}
Request = Any
"""A socket; the standard library's own annotation admits datagrams too."""
ALARM_FILES = {".flac": "audio/flac", ".wav": "audio/wav", ".png": "image/png"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class PageServer:
    """Serves the page from threads of its own until it is closed."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, args=(0.1,), name="page", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """The address for a browser on this computer."""
        host, port = self._server.server_address[:2]
        return f"http://{f'[{host!s}]' if ':' in str(host) else host!s}:{port}/"

    def close(self) -> None:
        """Stop to serve, also to browsers that are connected."""
        self._server.shutdown()
        self._server.disconnect_all()
        self._server.server_close()
        self._server.state.close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(
    path: Path,
    alarms_folder: Path,
    port: int,
    host: str = "127.0.0.1",
    token: Credential | str = NO_CREDENTIAL,
    names: Sequence[str] = (),
) -> PageServer:
    """Serve the page of a state file; port 0 takes a free one.

    Browsers on other computers need the token, as the password of any user name. `names` are host
    names by which they may call this one, besides its addresses and its own name. UsageError where
    the address is not loopback and there is no token, and where the port cannot be used.
    """
    secret = token if isinstance(token, Credential) else Credential(token)
    if not secret and not _is_loopback(host):
        raise UsageError(
            f"--page-address {host} is reached from other computers; set WATCH_PAGE_TOKEN or "
            "WATCH_PAGE_TOKEN_FILE, which browsers ask for as the password"
        )
    if secret and len(secret.value) < SHORTEST_TOKEN:
        raise UsageError(f"WATCH_PAGE_TOKEN needs at least {SHORTEST_TOKEN} characters")
    try:
        server = _Server(host, port, PageState(path), alarms_folder, secret, _names(names))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--page {port} at {host} cannot be used: {reason}") from None
    return PageServer(server)


def page_of(settings: DeliverySettings, path: Path, alarms_folder: Path) -> PageServer | None:
    """Serve the page as the settings and the environment say; None without `--page`."""
    if settings.page is None:
        return None
    names = [name.strip() for name in settings.page_names.split(",") if name.strip()]
    token = credential("WATCH_PAGE_TOKEN")
    return serve(path, alarms_folder, settings.page, settings.page_address, token, names)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names(more: Sequence[str]) -> frozenset[str]:
    """Return the host names by which a browser may call this server.

    A page of a stranger whose name is made to lead here (DNS rebinding) calls it by another name.
    """
    own = socket.gethostname()
    return frozenset(name.lower() for name in ("localhost", own, f"{own}.local", *more))


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Answers each connection in a thread, up to a most."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 32

    def __init__(
        self,
        host: str,
        port: int,
        state: PageState,
        alarms_folder: Path,
        token: Credential,
        names: frozenset[str],
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.state, self.alarms_folder = state, alarms_folder
        self.token, self.names = token, names
        self._open: set[socket.socket] = set()
        super().__init__((host, port), _Handler)

    def process_request(self, request: Request, client_address: object) -> None:
        """Answer in a thread, unless there are too many."""
        if len(self._open) >= MOST_CONNECTIONS:
            self.shutdown_request(request)
            return
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Request) -> None:
        super().shutdown_request(request)
        self._open.discard(request)

    def disconnect_all(self) -> None:
        """End the connections that browsers keep open."""
        for request in list(self._open):
            with suppress(OSError):  # it has just ended
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Request, client_address: object) -> None:
        """Say nothing: a browser that goes away in the middle is usual."""


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request after the other of a connection."""

    server: _Server
    protocol_version = "HTTP/1.1"
    server_version = "watch"
    sys_version = ""
    timeout = IDLE_S

    def log_message(self, *_: object) -> None:
        """Log nothing; a request may hold a credential."""

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that is none, or of another method than GET."""
        self.close_connection = True
        self.request_version = self.protocol_version  # else an answer without headers is sent
        self._send(code, f"{message or 'error'}\n".encode("ascii", "replace"))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        """Check who asks, and answer."""
        address = urlsplit(self.path)
        if not self._is_called_by_name():
            self._send(403, b"this host name is not served; see --page-names\n")
        elif not self._has_token():
            challenge = {"WWW-Authenticate": 'Basic realm="watched machines", charset="UTF-8"'}
            self._send(401, b"the token is needed as the password\n", more=challenge)
        elif address.path in OWN_FILES:
            name, kind = OWN_FILES[address.path]
            self._send(200, (Path(__file__).parent / name).read_bytes(), kind)
        elif address.path == "/state.json":
            self._send_state(parse_qs(address.query).get("span", ["hour"])[0])
        elif address.path.startswith("/alarms/"):
            self._send_alarm_file(unquote(address.path.removeprefix("/alarms/")))
        else:
            self._send(404, b"there is no such page\n")

    def _is_called_by_name(self) -> bool:
        """Tell whether the browser calls this computer by its address or a name of it."""
        try:
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        except ValueError:
            return False
        if host in self.server.names:
            return True
        try:
            return ipaddress.ip_address(host) is not None
        except ValueError:
            return False

    def _has_token(self) -> bool:
        if not self.server.token:
            return True
        kind, _, given = self.headers.get("Authorization", "").partition(" ")
        if kind.lower() == "basic":
            try:
                given = base64.b64decode(given, validate=True).decode().partition(":")[2]
            except (binascii.Error, ValueError):
                return False
        elif kind.lower() != "bearer":
            return False
        return hmac.compare_digest(given.encode(), self.server.token.value.encode())

    def _send_state(self, span: str) -> None:
        """Send the state as JSON, or only that it is the same as last time."""
        if span not in SPANS_S:
            self._send(404, b"span is hour, day or week\n")
            return
        try:
            body = self.server.state.as_json(span).encode("utf-8", "replace")
        except sqlite3.Error as error:
            self._send(503, f"the state file cannot be read: {error}\n".encode())
            return
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        if self.headers.get("If-None-Match") == tag:
            self._send(304, b"", more={"ETag": tag})
        else:
            self._send(200, body, "application/json", more={"ETag": tag})

    def _send_alarm_file(self, name: str) -> None:
        """Send a picture or a sound of the alarms folder, or the part of it that is asked for."""
        folder = self.server.alarms_folder
        try:
            path = (folder / name).resolve()
            kind = ALARM_FILES.get(path.suffix)
            is_inside = path.is_relative_to(folder.resolve())
            if kind is None or not is_inside or not path.is_file():
                raise FileNotFoundError(path)
            file = path.open("rb")
        except (OSError, ValueError):
            self._send(404, b"there is no such file\n")
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            asked = _asked_part(self.headers.get("Range", ""), size)
            start, stop = asked or (0, size)
            if start >= stop and asked:
                self._send(416, b"", more={"Content-Range": f"bytes */{size}"})
                return
            more = {"Accept-Ranges": "bytes"}
            if asked:
                more["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
            self._begin(206 if asked else 200, kind, stop - start, more)
            if self.command != "HEAD":
                file.seek(start)
                left = stop - start
                while left and (block := file.read(min(BLOCK, left))):
                    self.wfile.write(block)
                    left -= len(block)

    def _begin(self, status: int, kind: str, length: int, more: dict[str, str]) -> None:
        self.send_response(status)
        for header, value in {**HEADERS, **more}.items():
            self.send_header(header, value)
        if status != 304:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send(
        self,
        status: int,
        body: bytes,
        kind: str = "text/plain; charset=utf-8",
        more: dict[str, str] | None = None,
    ) -> None:
        self._begin(status, kind, len(body), more or {})
        if self.command != "HEAD":
            self.wfile.write(body)


def _asked_part(header: str, size: int) -> tuple[int, int] | None:
    """Read a `Range` of bytes as start and stop; None for the whole, also for several ranges.

    A range that holds no byte of the file has a stop that is not after its start.
    """
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        return max(0, size - int(match[2])), size
    return int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
