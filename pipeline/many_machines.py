"""`--engine ray`: the same workers as actors of Ray Data, on this machine or on a cluster.

    clips -> portions (one block each) -> actors -> reports -> the tasks of the pass

Only file names and reports travel. Recordings are read, and rows are written, by the actors, so
every machine has to see both folders under the same path. All of Ray is in this file.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pickle
import platform
import re
import secrets
import socket
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from ground.files import write_whole
from ground.text import one_line
from ground.versions import installed_version
from pipeline.exits import UsageError
from pipeline.portions import ClipFile, ClipPass, Report, Worker
from pipeline.screen import say

T = TypeVar("T")

LOCAL = "local"
HEAD_PORT = 6379
"""Where `ray start --head` listens."""
OBJECT_STORE_BYTES = 128 * 2**20
"""Of a Ray that is started here: file names and reports are small."""
PATIENCE_S = 30.0
DECODERS_PER_GPU = 4
ROOMS = ("ground", "fetch", "embed", "cache", "pipeline")
"""The code that makes vectors: it has to be the same on every machine."""


def check_engine(engine: str) -> None:
    """Raise UsageError for an --engine that there is not, and where Ray is not installed."""
    if engine == LOCAL:
        return
    if engine not in ("ray", "auto") and not re.fullmatch(r"ray://[^/\s:]+(:\d{1,5})?", engine):
        raise UsageError(f"--engine {engine}: expected local, ray, auto or ray://HOST[:PORT]")
    if not all(map(find_spec, ("ray", "pyarrow"))):
        raise UsageError(f"--engine {engine} needs Ray: pip install -c constraints.txt -e '.[ray]'")


# -- a cluster ------------------------------------------------------------------------------------


@contextmanager
def _cluster(engine: str) -> Iterator[None]:
    """Start Ray here, or join a running cluster, and leave it; OSError where there is none.

    Where the program has joined one before, that one is used and stays.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what matters is raised
    import ray
    from ray.data import DataContext

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if engine == "ray":
        options |= {"address": "local", "include_dashboard": False}
        options |= {"object_store_memory": OBJECT_STORE_BYTES}
    else:
        options["address"] = _address(engine)
    is_joined = ray.is_initialized()
    try:
        if engine.startswith("ray://"):  # Ray itself tries for minutes
            host, port = options["address"].split(":")
            socket.create_connection((host, int(port)), PATIENCE_S).close()
        if not is_joined:
            ray.init(**options)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise OSError(
            f"--engine {engine}: no Ray cluster could be joined ({one_line(error)[:200]}); "
            "`ray start --head` starts one; for a token, set RAY_AUTH_MODE=token and "
            "have the token of the cluster here"
        ) from None
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    except ray.exceptions.RayError as error:
        raise OSError(
            f"--engine {engine}: {_reason(error)}; what is written is kept, and the same command "
            "goes on from there"
        ) from None
    finally:
        if not is_joined:
            ray.shutdown()


def _address(engine: str) -> str:
    """Return where Ray finds the head of a cluster."""
    if engine == "auto":
        return "auto"
    place = engine.removeprefix("ray://")
    return place if ":" in place else f"{place}:{HEAD_PORT}"


def _reason(error: Exception) -> str:
    """Return the last line of an error of Ray, which is what happened at first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(ValueError(lines[-1] if lines else type(error).__name__))


def _wait_for(resources: Mapping[str, float]) -> None:
    """Wait until some machine has the resources free; say so once it takes long."""
    import ray

    def is_ready() -> bool:
        return True

    ready = ray.remote(is_ready).options(**resources).remote()
    if ray.wait([ready], timeout=PATIENCE_S)[0]:
        return
    asked = " and ".join(
        f"{n:g} {name.removeprefix('num_').upper()}" for name, n in resources.items()
    )
    nodes = [node for node in ray.nodes() if node["Alive"]]
    there = "; ".join(
        f"{node['NodeManagerHostname']} has {node['Resources'].get('CPU', 0):g} CPUS and "
        f"{node['Resources'].get('GPU', 0):g} GPUS"
        for node in nodes[:8]
    )
    say(
        "waiting",
        f"no machine of the cluster has had {asked} free for {PATIENCE_S:.0f} s; of its "
        f"{len(nodes)} machines {there}",
        "yellow",
    )
    ray.get(ready)


# -- what every machine must have -----------------------------------------------------------------


@dataclass(frozen=True)
class _Premises:
    """What a machine needs to have as the one that started the run has it."""

    code: str
    recording: str
    """One of the clips."""
    token: str
    """A file in the cache folder that was made for this run."""
    weights: Sequence[str]
    """Hashes of the encoders' weights."""
    working_folder: str
    """Where relative paths of the command line begin."""

    def refusal(self, worker: Worker) -> str:
        """Say why this machine cannot take part; "" if it can.

        The process then works in the folder of the command, where this machine has it.
        """
        if Path(self.working_folder).is_dir():
            os.chdir(self.working_folder)
        machine = platform.node()
        same = "every machine has to see it under the same path"
        if _hash_of_code() != self.code:
            return (
                f"the machine {machine} has another version of this project; install the same one "
                f"({installed_version()} there) on every machine"
            )
        if not Path(self.recording).exists():
            return f"the machine {machine} does not see the recording {self.recording}; {same}"
        if not Path(self.token).exists():
            return f"the machine {machine} does not see the cache {Path(self.token).parent}; {same}"
        try:
            weights = [errand.encoder.weights_sha256 for errand in worker.errands]
        except (OSError, ValueError) as error:
            return f"the machine {machine} lacks weights: {one_line(error)}"
        if weights != self.weights:
            return f"the machine {machine} has other weights; every machine needs the same files"
        return ""


def _hash_of_code() -> str:
    """Hash the code that makes vectors, and its version."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256(installed_version().encode())
    for path in sorted(path for room in ROOMS for path in (root / room).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _check_machines(premises: _Premises, worker: Worker) -> None:
    """Look at every machine of the cluster; OSError with the first reason of one that cannot."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    def look(what: bytes) -> str:  # travels by value: a machine may lack this project
        import pickle
        import platform

        try:
            premises, worker = pickle.loads(what)  # noqa: S301 - from this very run
        except Exception as error:
            return f"the machine {platform.node()} has not this project, or another one: {error}"
        return str(premises.refusal(worker))

    what = pickle.dumps((premises, worker))
    looks = [
        ray.remote(look)
        .options(
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        )
        .remote(what)
        for node in ray.nodes()
        if node["Alive"]
    ]
    for refusal in ray.get(looks):
        if refusal:
            raise OSError(refusal)


# -- encoding -------------------------------------------------------------------------------------


class _Actor:
    """A worker in a process of Ray; a machine that joined late is looked at here."""

    def __init__(self, worker: Worker, premises: _Premises) -> None:
        self._worker = worker
        self._refusal = premises.refusal(worker)

    def __call__(self, block: Any) -> Any:
        """Encode one portion, a table of clips; return the table of its reports."""
        import pyarrow as pa

        clips = [ClipFile(**row) for row in block.to_pylist()]
        if self._refusal:
            reports = [Report("refused", 0, "", self._refusal, platform.node())]
        else:
            reports = self._worker.encode(clips)
        return pa.Table.from_pylist([report._asdict() for report in reports])


def encode_on_cluster(clip_pass: ClipPass, engine: str, device: str) -> dict[int, Exception]:
    """Encode the clips on a cluster; return the errors by the number of the task.

    Each actor takes a GPU where `device` is one, and as many CPUs as it has decoding threads.
    OSError for a machine that cannot take part, and where the cluster is lost.
    """
    on_gpu = device.startswith("cuda") and not all(task.concurrent for task in clip_pass.tasks)
    decoders = clip_pass.workers or (DECODERS_PER_GPU if on_gpu else 1)
    worker = clip_pass.worker(decoders=decoders)
    resources = {"num_cpus": decoders, **({"num_gpus": 1} if on_gpu else {})}
    token = clip_pass.rows[0].stores[0].path.with_name(f".seen-by-{secrets.token_hex(8)}")
    premises = _Premises(
        code=_hash_of_code(),
        recording=str(next(iter(clip_pass.files.values()))),
        token=str(token),
        weights=[errand.encoder.weights_sha256 for errand in worker.errands],
        working_folder=str(Path.cwd()),
    )
    write_whole(token, "")
    try:
        with _cluster(engine):
            _check_machines(premises, worker)
            _wait_for(resources)
            with closing(_reports(clip_pass, worker, premises, resources)) as reports:
                return clip_pass.follow(reports)
    finally:
        token.unlink(missing_ok=True)


def _reports(
    clip_pass: ClipPass, worker: Worker, premises: _Premises, resources: Mapping[str, float]
) -> Generator[list[Report]]:
    """Have the portions encoded by a pool of actors that grows with the cluster."""
    import pyarrow as pa
    import ray.data

    n_actors = _n_fitting(resources)
    portions = [
        pa.Table.from_pylist([clip._asdict() for clip in portion])
        for portion in clip_pass.portions(n_actors)
    ]
    pool = ray.data.ActorPoolStrategy(
        min_size=1,
        initial_size=max(1, min(n_actors, len(portions))),
        max_size=max(1, len(portions)),
    )
    reports = ray.data.from_arrow(portions).map_batches(
        _Actor,
        fn_constructor_args=(worker, premises),
        compute=pool,
        batch_size=None,
        batch_format="pyarrow",
        **resources,
    )
    blocks = reports.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    with closing(iter(blocks)) as running:  # the actors end before the cluster is left
        for block in running:
            yield [Report(**row) for row in block.to_pylist()]


def _n_fitting(resources: Mapping[str, float]) -> int:
    """Count the actors that the machines of the cluster have room for."""
    import ray

    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    return sum(
        min(int(node["Resources"].get(names[name], 0) // n) for name, n in resources.items())
        for node in ray.nodes()
        if node["Alive"]
    )


# -- fitting --------------------------------------------------------------------------------------


def run_on_cluster(tasks: Sequence[Callable[[], T]], engine: str) -> Iterator[T]:
    """Run tasks by joblib on the CPUs of a cluster; yield what they return, in their order."""
    from joblib import Parallel, delayed, parallel_config

    with _cluster(engine):
        import ray
        from ray.util.joblib import register_ray

        register_ray()
        n_jobs = max(1, int(ray.cluster_resources().get("CPU", 1)))
        at_once = 8 * n_jobs
        with parallel_config(backend="ray", n_jobs=n_jobs):
            for first in range(0, len(tasks), at_once):
                yield from Parallel()(delayed(task)() for task in tasks[first : first + at_once])
