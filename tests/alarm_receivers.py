"""What receives alarms in tests: a web server that misbehaves on request, and a broker."""

import http.server
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


@dataclass
class WebServer:
    """The requests that it received, and the answers that it gives."""

    port: int
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Status and headers of the next answers; after them it is 200."""
    slow_s: float = 0.0
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    """Headers and body of each POST."""

    @property
    def ids(self) -> list[str]:
        return [json.loads(body)["id"] for _, body in self.requests]


@contextmanager
def web_server(
    port: int = 0, certificate: tuple[Path, Path] | None = None, **state: object
) -> Iterator[WebServer]:
    """Serve at 127.0.0.1, with TLS where a certificate and its key are given."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if len(body) < int(self.headers["Content-Length"]):
                return  # the client was killed
            time.sleep(server_state.slow_s)
            status, headers = server_state.answers.pop(0) if server_state.answers else (200, {})
            server_state.requests.append((dict(self.headers), body))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Ignore clients that close the connection; some tests do that."""

    httpd = Server(("127.0.0.1", port), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    server_state = WebServer(httpd.server_port, **state)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server_state
    finally:
        httpd.shutdown()
        httpd.server_close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Mosquitto:
    """A real broker on loopback that can be stopped and started again; it keeps what it had."""

    folder: Path
    port: int
    settings: str
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        config = self.folder / "mosquitto.conf"
        kept = f"persistence true\npersistence_location {self.folder}/\nuser root\n"
        config.write_text(f"listener {self.port} 127.0.0.1\n{kept}{self.settings}\n")
        log = (self.folder / "mosquitto.log").open("ab")
        assert MOSQUITTO
        self.process = subprocess.Popen([MOSQUITTO, "-v", "-c", config], stdout=log, stderr=log)
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "mosquitto.log").read_text()
                time.sleep(0.01)
        raise TimeoutError("mosquitto does not listen")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None


@contextmanager
def mosquitto(folder: Path, settings: str = "allow_anonymous true") -> Iterator[Mosquitto]:
    """Run the broker; the test is skipped where there is none."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    broker = Mosquitto(folder, free_port(), settings)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@contextmanager
def subscriber(
    port: int, *topics: str, client_id: str = ""
) -> Iterator[list[tuple[str, str, bool]]]:
    """Collect what a broker sends: topic, text, and whether it was retained.

    A broker keeps messages for a `client_id` while it is away.
    """
    client_module = pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    received: list[tuple[str, str, bool]] = []
    is_there = threading.Event()
    client = client_module.Client(
        client_module.CallbackAPIVersion.VERSION2, client_id, clean_session=not client_id
    )
    client.on_message = lambda c, u, m: received.append((m.topic, m.payload.decode(), m.retain))
    client.on_subscribe = lambda *_: is_there.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.subscribe([(topic, 1) for topic in topics])
    assert is_there.wait(10)
    try:
        yield received
    finally:
        client.disconnect()
        client.loop_stop()


@dataclass(frozen=True)
class Certificates:
    """An authority, and a certificate of it for 127.0.0.1 with its key, as PEM files."""

    authority: Path
    server: tuple[Path, Path]
    self_signed: tuple[Path, Path]


def make_certificates(folder: Path) -> Certificates:
    """Make certificates by openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    name = ("-addext", "subjectAltName=IP:127.0.0.1")
    openssl("req", "-x509", *key, "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    openssl(
        "req", "-x509", *key, "-subj", "/CN=server", *name, "-CA", "ca.pem", "-CAkey", "ca.key",
        "-addext", "basicConstraints=critical,CA:FALSE",
        "-keyout", "server.key", "-out", "server.pem",
    )  # fmt: skip
    openssl(
        "req", "-x509", *key, "-subj", "/CN=self", *name, "-keyout", "self.key", "-out", "self.pem"
    )
    pairs = [(folder / f"{each}.pem", folder / f"{each}.key") for each in ("server", "self")]
    return Certificates(folder / "ca.pem", *pairs)
