"""`dcase2020:slider` becomes a folder of clips, and a bad archive never leaves its folder."""

import hashlib
import io
import random
import stat
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import Server, serving

from embed.recordings.clips import find_clips
from fetch.datasets import ARCHIVES, fetch_data_set, unpack, wanted
from fetch.download import DownloadError, RemoteFile

CLIPS = {
    "slider/train/normal_id_00_00000000.wav": b"RIFF one",
    "slider/test/normal_id_00_00000000.wav": b"RIFF two",
    "slider/test/anomaly_id_00_00000000.wav": b"RIFF three",
}
EVALUATION = {"slider/test/id_01_00000000.wav": b"RIFF four"}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def zipped(files: dict[str, bytes], link: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("slider/", b"")
        for name, content in files.items():
            archive.writestr(name, content)
        if link:
            entry = zipfile.ZipInfo(link)
            entry.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(entry, "/etc")
    return buffer.getvalue()


def served(server: Server, name: str, content: bytes) -> RemoteFile:
    server.files[f"/{name}"] = [content]
    digest = hashlib.md5(content).hexdigest()
    return RemoteFile(name=name, urls=(f"{server.url}/{name}",), hash=f"md5:{digest}")


@pytest.fixture
def archives(server: Server) -> dict[str, dict[str, RemoteFile]]:
    return {
        "development": {"slider": served(server, "dev_data_slider.zip", zipped(CLIPS))},
        "evaluation": {"slider": served(server, "eval_data_test_slider.zip", zipped(EVALUATION))},
    }


def files_in(root: Path) -> dict[str, bytes]:
    paths = [p for p in root.rglob("*") if p.is_file()]
    keys = {p.relative_to(root).as_posix(): p.read_bytes() for p in paths}
    return {key: content for key, content in keys.items() if not key.startswith(".")}


def test_a_data_set_is_fetched_and_unpacked_once(server, archives, tmp_path: Path) -> None:
    root = tmp_path / "dcase2020"

    machine_type = fetch_data_set("dcase2020:slider", root, archives=archives)
    n_asked = len(server.asked)
    fetch_data_set("dcase2020:slider", root, archives=archives, offline=True)

    assert machine_type == "slider"
    assert files_in(root) == CLIPS
    assert len(server.asked) == n_asked == 1
    assert [clip.key for clip in find_clips(root).clips] == sorted(CLIPS)


def test_further_parts_come_on_request(archives, tmp_path: Path) -> None:
    fetch_data_set("dcase2020:slider+evaluation", tmp_path, archives=archives)

    assert files_in(tmp_path) == {**CLIPS, **EVALUATION}


def test_a_broken_download_is_resumed(server: Server, tmp_path: Path) -> None:
    large = {**CLIPS, "slider/train/normal_id_00_00000001.wav": random.Random(0).randbytes(300_000)}
    file = served(server, "dev_data_slider.zip", zipped(large))
    server.cut["/dev_data_slider.zip"] = [200_000]

    fetch_data_set("dcase2020:slider", tmp_path, archives={"development": {"slider": file}})

    assert files_in(tmp_path) == large
    first, second = server.gets("/dev_data_slider.zip")
    assert first == ""
    assert int(second.removeprefix("bytes=").rstrip("-")) > 100_000


def test_an_archive_put_there_by_hand_is_taken(server, archives, tmp_path: Path) -> None:
    (tmp_path / "dev_data_slider.zip").write_bytes(zipped(CLIPS))
    file = archives["development"]["slider"]
    digest = hashlib.md5((tmp_path / "dev_data_slider.zip").read_bytes()).hexdigest()
    by_hand = {"development": {"slider": replace(file, hash=f"md5:{digest}")}}

    fetch_data_set("dcase2020:slider", tmp_path, archives=by_hand, offline=True)

    assert files_in(tmp_path) == CLIPS
    assert server.asked == []


def test_an_interrupted_unpacking_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(CLIPS))
    first = tmp_path / "slider/train/normal_id_00_00000000.wav"
    first.parent.mkdir(parents=True)
    first.write_bytes(CLIPS["slider/train/normal_id_00_00000000.wav"])
    before = first.stat().st_mtime_ns
    (first.parent / f".{first.name}.part").write_bytes(b"RI")

    unpack(tmp_path / "a.zip", tmp_path, "slider")

    assert {k: v for k, v in files_in(tmp_path).items() if k in CLIPS} == CLIPS
    assert first.stat().st_mtime_ns == before


def test_a_file_of_ones_own_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(CLIPS))
    own = tmp_path / "slider/test/normal_id_00_00000000.wav"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"RIFF own")

    with pytest.raises(FileExistsError, match="another file than the data set's"):
        unpack(tmp_path / "a.zip", tmp_path, "slider")

    assert own.read_bytes() == b"RIFF own"
    assert not (tmp_path / "slider/train").exists()


@pytest.mark.parametrize(
    "name",
    [
        "../outside.wav",
        "slider/train/../../../outside.wav",
        "/tmp/outside.wav",
        "slider\\train\\outside.wav",
        "C:/outside.wav",
    ],
)
def test_paths_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    root = tmp_path / "deep" / "root"
    root.mkdir(parents=True)
    (root / "a.zip").write_bytes(zipped({**CLIPS, name: b"x"}))

    with pytest.raises(ValueError, match=r"is refused: it holds .*nothing was unpacked"):
        unpack(root / "a.zip", root, "slider")

    assert list(files_in(tmp_path)) == ["deep/root/a.zip"]


def test_links_in_an_archive_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(CLIPS, link="slider/train/normal_id_00_1.wav"))

    with pytest.raises(ValueError, match="or is a link"):
        unpack(tmp_path / "a.zip", tmp_path, "slider")


def test_a_folder_that_is_a_link_elsewhere_is_not_written_through(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (root / "slider").symlink_to(elsewhere)
    (root / "a.zip").write_bytes(zipped(CLIPS))

    with pytest.raises(ValueError, match="by a link"):
        unpack(root / "a.zip", root, "slider")

    assert files_in(elsewhere) == {}


def test_a_damaged_archive_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(CLIPS)[:200])

    with pytest.raises(ValueError, match="is not a whole zip archive"):
        unpack(tmp_path / "a.zip", tmp_path, "slider")


def with_password(archive: bytes) -> bytes:
    """Mark every entry as protected, in its own header and in the archive's directory."""
    protected = bytearray(archive)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = protected.find(signature)
        while start >= 0:
            protected[start + offset] |= 1
            start = protected.find(signature, start + 4)
    return bytes(protected)


def bomb() -> bytes:
    """Make 300 kB that would unpack to 300 MB of silence."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("train/normal_id_00_1", "train/normal_id_00_2", "test/normal_id_00_1"):
            archive.writestr(f"slider/{name}.wav", bytes(10**8))
    return buffer.getvalue()


def twice() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of it
        for content in (b"RIFF one", b"RIFF two"):
            archive.writestr("slider/train/normal_id_00_1.wav", content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: with_password(zipped(CLIPS)), r"'slider/train/.*' is protected by a password"),
        (bomb, r"29\d,\d\d\d bytes would unpack to 300 MB, more than 20 times as much"),
        (twice, r"it holds 'slider/train/normal_id_00_1.wav' 2 times"),
    ],
)
def test_an_archive_that_could_do_harm_is_refused_in_one_line(
    content, message: str, tmp_path: Path
) -> None:
    (tmp_path / "a.zip").write_bytes(content())

    with pytest.raises(ValueError, match=rf"a.zip is refused: .*{message}") as caught:
        unpack(tmp_path / "a.zip", tmp_path, "slider")

    assert "\n" not in str(caught.value)
    assert list(files_in(tmp_path)) == ["a.zip"]


def message_of(archive: Path, root: Path) -> str:
    """Unpack an archive; return the message of the error that a user would see, or ""."""
    try:
        unpack(archive, root, "slider")
    except (ValueError, OSError) as error:
        return str(error)
    return ""


def try_mutants(folder: Path, n: int) -> dict[str, int]:
    """Unpack damaged archives; count what came of it. Anything but two errors is raised."""
    whole, rng, counts = zipped(CLIPS), random.Random(0), {"unpacked": 0, "refused": 0}
    for i in range(n):
        root = folder / str(i)
        root.mkdir(parents=True)
        content = bytearray(whole)
        for _ in range(rng.choice((1, 3, 10))):
            content[rng.randrange(len(content))] = rng.randrange(256)
        (root / "a.zip").write_bytes(content[: rng.choice((None, None, rng.randrange(len(whole))))])
        message = message_of(root / "a.zip", root)
        assert "\n" not in message
        counts["refused" if message else "unpacked"] += 1
        clips = {key: data for key, data in files_in(root).items() if key != "a.zip"}
        assert set(clips.values()) <= set(CLIPS.values())  # whole, or not there
    return counts


@pytest.mark.parametrize("n", [60, pytest.param(1000, marks=pytest.mark.faults)])
def test_a_damaged_archive_gives_whole_clips_or_one_line(n: int, tmp_path: Path) -> None:
    counts = try_mutants(tmp_path, n)

    print(f"data-set archives: {n} mutants, {counts}")
    assert counts["refused"] > 0


def test_files_beside_the_clips_are_left_in_the_archive(tmp_path: Path) -> None:
    strangers = {"__MACOSX/slider/._a.wav": b"", "slider/readme.txt": b"", "fan/train/a.wav": b""}
    (tmp_path / "a.zip").write_bytes(zipped({**CLIPS, **strangers}))

    unpack(tmp_path / "a.zip", tmp_path, "slider")

    assert set(files_in(tmp_path)) == {*CLIPS, "a.zip"}


def test_an_archive_of_another_machine_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(CLIPS))

    with pytest.raises(ValueError, match="holds no clips of 'fan'"):
        unpack(tmp_path / "a.zip", tmp_path, "fan")


def test_without_a_network_one_line_says_it_all_within_five_seconds(tmp_path: Path) -> None:
    file = RemoteFile(
        name="dev_data_slider.zip",
        urls=("http://127.0.0.1:9/dev_data_slider.zip",),
        hash=ARCHIVES[2020]["development"]["slider"].hash,
        size=1_002_998_966,
    )
    started = time.monotonic()

    with pytest.raises(DownloadError) as caught:
        fetch_data_set("dcase2020:slider", tmp_path, archives={"development": {"slider": file}})

    assert time.monotonic() - started < 5
    for part in (file.name, file.page, "1,003 MB", str(tmp_path / file.name)):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


NEW_CLIPS = {
    "sliderEmu/train/section_00_source_train_normal_0000_vel_6.wav": b"RIFF one",
    "sliderEmu/test/section_00_target_test_anomaly_0000_vel_6.wav": b"RIFF two",
    "sliderEmu/supplemental/section_00_machine_0001_.wav": b"RIFF three",
    "sliderEmu/attributes_00.csv": b"file_name,d1p,d1v\n",
}


def test_an_archive_without_a_known_hash_is_asked_for_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        fetch_data_set("dcase2026:sliderEmu", tmp_path)

    file = ARCHIVES[2026]["development"]["sliderEmu"]
    assert str(caught.value) == (
        f"dev_sliderEmu.zip is not downloaded, since its hash is not known here: get {file.page} "
        f"and put it at {tmp_path / 'dev_sliderEmu.zip'}; it is unpacked from there"
    )
    assert file.page == "https://zenodo.org/records/19336329/files/dev_sliderEmu.zip?download=1"


def test_such_an_archive_is_unpacked_with_its_supplemental_clips_and_attributes(
    tmp_path: Path,
) -> None:
    (tmp_path / "dev_sliderEmu.zip").write_bytes(zipped({**NEW_CLIPS, "sliderEmu/a.txt": b""}))

    fetch_data_set("dcase2026:sliderEmu", tmp_path)
    fetch_data_set("dcase2026:sliderEmu", tmp_path)  # the archive is gone, and not asked for again

    assert files_in(tmp_path) == NEW_CLIPS
    assert find_clips(tmp_path).layout == "dcase2026"


def test_attributes_that_are_there_already_stay(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(NEW_CLIPS))
    own = tmp_path / "sliderEmu" / "attributes_00.csv"
    own.parent.mkdir()
    own.write_bytes(b"my own")

    unpack(tmp_path / "a.zip", tmp_path, "sliderEmu")

    assert own.read_bytes() == b"my own"
    assert len(files_in(tmp_path / "sliderEmu")) == 4


def test_a_machine_of_the_evaluation_set_only_comes_with_its_training_clips(server, tmp_path):
    train = {"Sander/train/section_00_source_train_normal_0000_.wav": b"RIFF one"}
    test = {"Sander/test/section_00_0000.wav": b"RIFF two"}
    archives = {
        "additional": {"Sander": served(server, "eval_data_Sander_train.zip", zipped(train))},
        "evaluation": {"Sander": served(server, "eval_data_Sander_test.zip", zipped(test))},
    }

    fetch_data_set("dcase2026:Sander", tmp_path, archives=archives)

    assert files_in(tmp_path) == {**train, **test}


def test_names_are_read_whatever_their_case() -> None:
    assert wanted("dcase2020:toycar") == (2020, "ToyCar", ("development",))
    assert wanted("dcase2020:fan+evaluation+additional") == (
        2020,
        "fan",
        ("development", "additional", "evaluation"),
    )
    assert wanted("dcase2021:fan") == (2021, "fan", ("development",))
    assert wanted("dcase2026:sanDER") == (2026, "Sander", ("additional", "evaluation"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dcase2020:", "fan, pump, slider, ToyCar, ToyConveyor, valve"),
        ("dcase2020:gearbox", "fan, pump, slider, ToyCar, ToyConveyor, valve"),
        ("dcase2020:fan+more", "fan, pump, slider, ToyCar, ToyConveyor, valve"),
        ("dcase2026:slider", "sliderEmu, ToyCar, ToyCarEmu, valveEmu, BlowerDustCollector"),
        ("dcase2026:fan+evaluation", "dcase2026 has no evaluation clips of fan, only development"),
        ("dcase2019:fan", "there are dcase2020:<machine> to dcase2026:<machine>"),
        ("fan+more", "there are dcase2020:<machine> to dcase2026:<machine>"),
    ],
)
def test_other_names_are_refused_with_the_choices(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wanted(name)


def test_a_doi_is_looked_up_in_the_record_it_names(
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pooch import downloaders

    content = zipped(CLIPS)
    file = served(server, "dev_data_slider.zip", content)
    address = f'{{"files": [{{"key": "{file.name}", "links": {{"self": "{file.page}"}}}}]}}'
    server.files["/api/records/3678171"] = [address.encode()]
    monkeypatch.setattr(downloaders, "doi_to_url", lambda doi, **_: f"https://zenodo.org/{doi}")
    monkeypatch.setattr(downloaders.ZenodoRepository, "base_api_url", f"{server.url}/api/records")
    by_doi = replace(file, urls=(f"doi:3678171/{file.name}", server.url))

    fetch_data_set("dcase2020:slider", tmp_path, archives={"development": {"slider": by_doi}})

    assert files_in(tmp_path) == CLIPS


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("dcase2020:gearbox", 2, "one of fan, pump, slider, ToyCar, ToyConveyor, valve"),
        ("dcase2020:slider", 1, "(1,003 MB) and put it at"),
        ("dcase2024:slider", 1, "is not downloaded, since its hash is not known here: get https"),
    ],
)
def test_the_command_line_knows_the_names_and_says_what_is_missing(
    name: str, code: int, message: str, tmp_path: Path
) -> None:
    pipeline = Path(__file__).resolve().parents[2] / "run_pipeline.py"

    ended = subprocess.run(
        [sys.executable, pipeline, "--data", name, "--offline"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == code
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1
