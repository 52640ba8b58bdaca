"""Read a stranger's or a damaged file in a child process, with limits on memory, time and reach.

A few flipped bits are enough to make the HDF5 library loop for ever or crash, so no HDF5 file is
opened for reading in the user's process. The child answers in messages of one JSON line and raw
bytes; nothing it says can run code here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from ground.text import one_line

MEMORY_BYTES = 400 << 20
"""What the child may allocate."""
SECONDS = 7.0
"""What the child may take, on top of the time to read the bytes."""
BYTES_PER_SECOND = 2e6
"""A file of nothing but small datasets, on a slow disk."""
LONGEST_MESSAGE = 1 << 30

_PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
"""What the child needs of the environment to find Python's packages; it gets no more, and no
folder of HDF5 plugins among them."""

Send = Callable[[dict[str, Any], bytes], None]

_START = "import sys; sys.path[:0] = [sys.argv[1]]; from cache.sandbox import serve; serve()"


def ask(
    target: str, n_bytes: int, *, patience: float = 0.0, **request: Any
) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Call `target` ("module:function") in a child and yield the messages it sends.

    The function gets `send` and the request, which must be JSON. `n_bytes` is the size of what
    it is to read, `patience` how many seconds more than usual it may take. Raises ValueError with
    the child's reason, or with what became of the child.
    """
    environment = {
        **{name: os.environ[name] for name in _PASSED_ON if name in os.environ},
        "HDF5_PLUGIN_PRELOAD": "::",  # a filter that HDF5 lacks is not looked for on the disk
        "HDF5_USE_FILE_LOCKING": "FALSE",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    home = str(Path(__file__).resolve().parents[1])
    child = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", _START, home],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    if child.stdin is None or child.stdout is None:
        raise OSError("cannot talk to the process that reads the file")
    seconds = SECONDS + patience + n_bytes / BYTES_PER_SECOND
    began = time.monotonic()
    watchdog = threading.Timer(seconds, child.kill)
    watchdog.daemon = True
    watchdog.start()
    try:
        try:
            child.stdin.write(json.dumps({"target": target, **request}).encode())
            child.stdin.close()
        except BrokenPipeError:
            pass
        while True:
            message, data = _receive(child.stdout)
            if "refused" in message:
                raise ValueError(str(message["refused"]))
            if "done" in message:
                return
            if not message:
                if time.monotonic() - began >= seconds:
                    raise ValueError(
                        f"it takes over {seconds:.0f} s to read; it is damaged or made to do harm, "
                        "or this computer is very busy"
                    )
                raise ValueError("it makes its reader crash; it is damaged, or made to do harm")
            yield message, data
    finally:
        watchdog.cancel()
        child.kill()
        child.stdout.close()
        child.wait()


def _receive(stream: Any) -> tuple[dict[str, Any], bytes]:
    """Read one message; an empty one if the child is gone or talks nonsense."""
    line = stream.readline(64 << 20)
    try:
        message = json.loads(line)
        size = int(message.get("bytes", 0))
    except (ValueError, AttributeError, TypeError):
        return {}, b""
    if not 0 <= size <= LONGEST_MESSAGE:
        return {}, b""
    data = stream.read(size)
    return (message, data) if len(data) == size else ({}, b"")


def serve() -> None:
    """Be the child: limit this process, answer the one request on standard input."""
    request = json.load(sys.stdin)
    out = sys.stdout.buffer
    try:
        module, name = request.pop("target").split(":")
        function = getattr(import_module(module), name)
        _limit()
        function(_sender(out), **request)
    except MemoryError:
        reason = f"reading it takes more than {MEMORY_BYTES >> 20} MB of memory"
        _sender(out)({"refused": reason}, b"")
    except Exception as error:  # whatever a library makes of a hostile file is a refusal
        _sender(out)({"refused": one_line(error)[:1000]}, b"")
    else:
        _sender(out)({"done": True}, b"")


def _sender(out: BinaryIO) -> Send:
    def send(message: dict[str, Any], data: bytes) -> None:
        out.write(json.dumps({**message, "bytes": len(data)}).encode() + b"\n")
        out.write(data)
        out.flush()

    return send


def _limit() -> None:
    """Limit memory, forbid writing files and starting programs, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: the time limit and the separate process remain
        return
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
