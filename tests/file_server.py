"""A file server on 127.0.0.1 that misbehaves on request, and speaks the API of the hub."""

import hashlib
import http.server
import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Server:
    """The answers of the server, and the requests it received."""

    files: dict[str, list[bytes]] = field(default_factory=dict)
    """Path, with or without its query, to its contents, one after the other; the last stays."""
    status: dict[str, int] = field(default_factory=dict)
    redirect: dict[str, str] = field(default_factory=dict)
    cut: dict[str, list[int]] = field(default_factory=dict)
    """Path to the number of body bytes after which it closes, one answer after the other."""
    slow: float = 0.0
    ranges: bool = True
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and Range header of each request."""
    url: str = ""

    def add_repository(self, name: str, commit: str, files: Mapping[str, bytes]) -> None:
        """Serve a repository of the Hugging Face hub at one commit: contents, tree and facts.

        The hub states the sha256 of tensors.
        """
        tree, siblings = [], []
        for path, content in files.items():
            self.files[f"/{name}/resolve/{commit}/{path}"] = [content]
            stored = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            is_large = path.endswith((".safetensors", ".bin"))
            entry = {"path": path, "size": len(content), "oid": "0" * 40, "type": "file"}
            lfs = {**stored, "oid": stored["sha256"], "pointerSize": 1}
            tree.append({**entry, "lfs": lfs} if is_large else entry)
            sibling = {"rfilename": path, "size": len(content), "blobId": "0" * 40}
            siblings.append({**sibling, "lfs": lfs} if is_large else sibling)
        self.files[f"/api/models/{name}/tree/{commit}"] = [json.dumps(tree).encode()]
        self.add_reference(name, commit, commit, siblings)

    def add_reference(
        self, name: str, revision: str, commit: str, siblings: list[dict[str, object]] | None = None
    ) -> None:
        """Make a revision of a repository mean a commit."""
        if siblings is None:
            (known,) = self.files[f"/api/models/{name}/revision/{commit}"]
            siblings = json.loads(known)["siblings"]
        facts = {"id": name, "modelId": name, "sha": commit, "siblings": siblings}
        self.files[f"/api/models/{name}/revision/{revision}"] = [json.dumps(facts).encode()]

    def gets(self, path: str) -> list[str]:
        return [r for method, p, r in self.asked if method == "GET" and p == path]


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server for the length of a test."""
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            asked_range = self.headers.get("Range", "")
            state.asked.append((self.command, self.path, asked_range))
            if self.path in state.redirect:
                self.send_response(302)
                self.send_header("Location", state.redirect[self.path])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            bare = self.path.partition("?")[0]
            contents = state.files.get(self.path) or state.files.get(bare, [])
            status = state.status.get(bare, 200 if contents else 404)
            content = contents[0] if contents else b"no such file"
            if body and len(contents) > 1:
                contents.pop(0)
            start = 0
            match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked_range)
            if status == 200 and match and state.ranges:
                start, status = int(match[1]), 206
            self.send_response(status)
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            commit = re.search("/resolve/([0-9a-f]{40})/", self.path)
            self.send_header("X-Repo-Commit", commit[1] if commit else REVISION)
            if status == 206:
                last = len(content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
            self.end_headers()
            if not body:
                return
            time.sleep(state.slow)
            cuts = state.cut.get(self.path, [])
            stop = start + cuts.pop(0) if cuts else len(content)
            self.wfile.write(content[start:stop])
            if stop < len(content):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Ignore clients that close the connection; some tests do that."""

    httpd = Quiet(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state
    httpd.shutdown()
    httpd.server_close()
