"""A real cluster of Ray on the loopback: a raylet per node, each started by `ray start`."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

OBJECT_STORE_BYTES = 100 * 2**20
RAY = Path(sys.executable).with_name("ray")


class LoopbackCluster:
    """Nodes of one CPU each on 127.0.0.1; every process of it is named by its own folder."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder = folder  # short: Ray puts sockets below it
        token = secrets.token_hex(16)  # whoever reaches a port of Ray could run code without one
        self.environment = {
            **os.environ, **environment, "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token,
        }  # fmt: skip
        """Of the nodes, and of a program that joins them."""
        self.port = _free_port()
        self.nodes: list[subprocess.Popen[bytes]] = []
        self._start(
            "--head",
            f"--port={self.port}",
            f"--temp-dir={folder}",
            "--include-dashboard=false",
            n_cpus=1,
        )
        self._wait_for_port()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def engine(self) -> str:
        return f"ray://{self.address}"

    def add_node(self, n_cpus: int = 1) -> subprocess.Popen[bytes]:
        return self._start(f"--address={self.address}", n_cpus=n_cpus)

    def kill_raylet(self, node: subprocess.Popen[bytes]) -> None:
        """Kill the raylet of a node as a power cut would; its actors end with it."""
        (raylet,) = [pid for pid in _children(node.pid) if "raylet/raylet" in _command(pid)]
        os.kill(raylet, signal.SIGKILL)
        node.wait(60)

    def processes(self) -> list[str]:
        """List the commands of all processes of this cluster."""
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        commands = [_command(pid) for pid in pids]
        return [each for each in commands if str(self._folder) in each]

    def stop(self) -> None:
        """End every node, the head last: a raylet without one takes half a minute to end."""
        head, *others = self.nodes
        for nodes in (others, [head]):
            for node in nodes:
                node.terminate()
            for node in nodes:
                node.wait(60)

    def _start(self, *flags: str, n_cpus: int) -> subprocess.Popen[bytes]:
        command = [
            str(RAY), "start", "--block", "--node-ip-address=127.0.0.1", *flags,
            f"--num-cpus={n_cpus}", f"--object-store-memory={OBJECT_STORE_BYTES}",
            "--disable-usage-stats",
        ]  # fmt: skip
        log = (self._folder / f"node{len(self.nodes)}.log").open("wb")
        node = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        self.nodes.append(node)
        return node

    def _wait_for_port(self) -> None:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.1)
        raise TimeoutError(f"no head of a cluster on port {self.port}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _command(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""
