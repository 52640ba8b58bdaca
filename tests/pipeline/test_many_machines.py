"""`--engine ray` on a cluster of three raylets: the same bits, whatever is killed meanwhile."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import mortal_encoder
import numpy as np
import pytest
from ray_cluster import LoopbackCluster
from small_recordings import write_recordings

from cache.store import EmbeddingStore, stores_in
from embed.encoders.wave import Wave
from ground.text import json_text
from pipeline.embedding_only import embed_only
from pipeline.exits import UsageError
from pipeline.job import run
from pipeline.learning import learn_model
from pipeline.many_machines import _hash_of_code, _Premises, check_engine
from pipeline.portions import Worker
from pipeline.printing import job_facts
from pipeline.settings import EmbedSettings, LearnSettings

ROOT = Path(__file__).resolve().parents[2]
SECONDS_PER_CLIP = 0.25


@pytest.mark.parametrize("engine", ["spark", "ray:", "ray://", "ray://a b", "ray://host:port"])
def test_an_engine_that_there_is_not_is_a_usage_error(engine):
    with pytest.raises(UsageError, match=r"expected local, ray, auto or ray://HOST\[:PORT\]"):
        check_engine(engine)


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)

    with pytest.raises(UsageError, match=r"--engine auto needs Ray: pip install .*\[ray\]"):
        check_engine("auto")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"code": "of another day"}, "has another version of this project"),
        ({"recording": "/nowhere/a.wav"}, "does not see the recording /nowhere/a.wav"),
        ({"token": "/nowhere/.token"}, "does not see the cache /nowhere"),
    ],
)
def test_a_machine_that_lacks_something_names_itself_and_what(
    tmp_path, monkeypatch, change, reason
):
    here = tmp_path / "here"
    here.touch()
    premises = {"code": _hash_of_code(), "recording": str(here), "token": str(here), "weights": []}
    premises["working_folder"] = str(tmp_path)
    monkeypatch.chdir("/")

    refusal = _Premises(**{**premises, **change}).refusal(Worker([], None, 0, 1))

    assert reason in refusal
    assert Path.cwd() == tmp_path
    assert bool(refusal) == bool(change)
    assert not change or os.uname().nodename in refusal


def test_other_weights_are_refused(tmp_path):
    from pipeline.portions import Errand, StoreRows

    worker = Worker([Errand(Wave(), [], StoreRows([], [], []))], None, 0, 1)
    here = str(tmp_path)
    premises = _Premises(_hash_of_code(), here, here, ["of another file"], "/nowhere")

    assert "has other weights" in premises.refusal(worker)


def test_windows_are_not_computed_on_a_cluster():
    with pytest.raises(UsageError, match="leave out --engine or --window"):
        learn_model(LearnSettings(window=1.0, engine="ray"))


@pytest.mark.ray
def test_no_cluster_is_one_line_and_leaves_nothing_in_the_cache(hall):
    cache_dir = hall.folder / "none"
    settings = EmbedSettings(
        data=str(hall.data), encoder="wave", cache_dir=cache_dir, engine="ray://127.0.0.1:1"
    )

    with pytest.raises(OSError, match=r"127\.0\.0\.1:1: no Ray cluster could be joined"):
        embed_only(settings)
    assert [path for path in cache_dir.iterdir() if not path.name.endswith(".lock")] == []


# -- a real cluster -------------------------------------------------------------------------------


class Hall:
    """Recordings, one of them bad, and the vectors that one machine computes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = write_recordings(folder / "data", ("id_00", "id_01", "id_02", "id_03"))
        self.bad = next(self.data.rglob("test/*.wav"))
        self.bad.write_bytes(b"no sound")
        settings = EmbedSettings(
            data=str(self.data), encoder=mortal_encoder.NAME, cache_dir=folder / "alone", quiet=True
        )
        (self.alone,) = embed_only(settings).sources

    def command(self, cache_dir: str, *flags: str) -> list[str]:
        return [
            sys.executable, str(ROOT / "run_pipeline.py"), "embed", "--data", str(self.data),
            "--encoder", mortal_encoder.NAME, "--cache-dir", str(self.folder / cache_dir), *flags,
        ]  # fmt: skip

    def parts(self, cache_dir: str) -> int:
        return len(list((self.folder / cache_dir).glob("*.parts/part-*")))

    def check(self, cache_dir: str) -> None:
        """Assert that the store of a folder is that of one machine, bit for bit."""
        (path,) = stores_in(self.folder / cache_dir)
        store, keys = EmbeddingStore.at(path), sorted(self.alone.keys)
        assert sorted(store.keys()) == keys
        assert not any(store.faults().values())
        np.testing.assert_array_equal(store.read(keys), self.alone.read(keys))


@pytest.fixture(scope="module")
def hall(tmp_path_factory) -> Hall:
    return Hall(tmp_path_factory.mktemp("hall"))


@pytest.fixture(scope="module")
def deaths(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("deaths")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, deaths):
    import tempfile

    environment = {
        mortal_encoder.DEATHS: str(deaths),
        mortal_encoder.SECONDS: str(SECONDS_PER_CLIP),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
    }
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # a socket's path must be short
        running = LoopbackCluster(Path(folder), environment)
        running.add_node()
        running.add_node()
        yield running
        running.stop()
        assert running.processes() == []


def begun(
    command: list[str], cluster: LoopbackCluster, **environment: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env={**cluster.environment, **environment},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for(condition, what: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@pytest.mark.ray
def test_killed_workers_a_killed_node_and_a_new_one_lose_and_double_nothing(hall, cluster, deaths):
    for number in range(2):
        (deaths / str(number)).touch()

    run = begun(hall.command("killed", "--engine", cluster.engine), cluster)
    wait_for(lambda: hall.parts("killed") >= 2 or run.poll() is not None, "no part is written")
    cluster.kill_raylet(cluster.nodes[1])
    cluster.add_node()
    _, errors = run.communicate(timeout=200)

    assert run.returncode == 3, errors
    assert not list(deaths.iterdir())
    assert errors.count("left out") == 1
    assert hall.bad.name in errors
    hall.check("killed")


@pytest.mark.ray
def test_after_the_driver_was_killed_the_next_run_waits_for_its_cpus_and_goes_on(hall, cluster):
    run = begun(hall.command("again", "--engine", cluster.engine), cluster)
    wait_for(lambda: hall.parts("again") >= 2 or run.poll() is not None, "no part is written")
    run.kill()
    run.communicate(timeout=60)
    n_kept = len(EmbeddingStore.at(stores_in(hall.folder / "again")[0]))

    impatient = (
        "import sys, pipeline.many_machines as ray; from pipeline.command_line import main; "
        "ray.PATIENCE_S = 2.0; sys.exit(main())"
    )
    _, _, *words = hall.command("again", "--engine", "auto", "--workers", "2")
    run = begun([sys.executable, "-c", impatient, *words], cluster, RAY_ADDRESS=cluster.address)
    lines = iter(run.stderr)
    waiting = next((line for line in lines if line.startswith("waiting")), "nothing was said")
    cluster.add_node(n_cpus=2)
    errors = "".join(lines)

    assert run.wait(60) == 3, errors
    assert "no machine of the cluster has had 2 CPUS free for 2 s; of its " in waiting
    assert 0 < n_kept < len(hall.alone.keys)
    (counted,) = [line for line in errors.splitlines() if " clips in " in line]
    assert int(counted.split(": ")[1].split()[0]) <= len(hall.alone.keys) + 1 - n_kept
    hall.check("again")


@pytest.mark.ray
def test_the_fits_on_the_cluster_are_those_of_one_machine(hall, cluster):
    code = (
        "import sys, pipeline.judging as judging; from pipeline.command_line import main; "
        "judging.SECONDS_ALONE = -1.0; sys.exit(main())"
    )
    flags = {"data": str(hall.data), "encoder": mortal_encoder.NAME, "detector": "knn"}
    flags |= {"cache_dir": str(hall.folder / "alone"), "out": str(hall.folder / "runs")}
    local = json.loads(json_text(job_facts(run(**flags, quiet=True), with_scores=True)))

    words = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    words += ["--json", "--scores", "--quiet", "--engine", cluster.engine]
    spread = begun([sys.executable, "-c", code, *words], cluster)
    printed, errors = spread.communicate(timeout=200)

    assert spread.returncode == 3, errors
    assert local["runs"][0]["results"]
    assert json.loads(printed)["runs"] == local["runs"]
