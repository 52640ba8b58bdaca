"""The loop from files to vectors: same vectors in any company, bad clips cost only themselves."""

import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from embed import embedding
from embed.embedding import Task, embed_clips
from embed.encoder import Encoder
from embed.pooling import Clip, Frames, Mean
from embed.recordings import audio
from embed.recordings.preprocessing import Preprocessing


@dataclass(frozen=True, kw_only=True)
class Loudness(Encoder):
    """An encoder to evaluate in one's head: the mean of the waveform, and its first samples."""

    sample_rate: int = 8000
    least: int = 1
    outputs = ("frames", "clip")

    @property
    def min_samples(self):
        return self.least

    def forward(self, waveforms, wanted):
        frames = waveforms[:, :8].reshape(len(waveforms), 4, 2)
        return {"frames": frames, "clip": waveforms.mean(axis=1, keepdims=True)}


class Alone(Loudness):
    """The same, encoded by the threads that decode."""

    concurrent = True


CLIP, ONE_DEVICE = (Clip(),), (Loudness(),)


class Sink:
    """Keeps what the loop writes and refuses."""

    def __init__(self):
        self.rows, self.contents, self.refused, self.remarks, self.threads = {}, {}, {}, {}, set()

    def write(self, keys, vectors, contents):
        self.threads.add(threading.current_thread().name)
        for i, key in enumerate(keys):
            self.rows[key] = [v[i] for v in vectors]
            self.contents[key] = contents[i]

    def task(self, encoders=ONE_DEVICE, poolings=CLIP, keys=None):
        return Task(
            encoders=encoders,
            poolings=poolings,
            write=self.write,
            on_bad_clip=self.refused.__setitem__,
            on_note=self.remarks.__setitem__,
            keys=keys,
        )

    def run(self, files, poolings=CLIP, encoders=ONE_DEVICE, **more):
        preprocessing = more.pop("preprocessing", Preprocessing())
        embed_clips([self.task(encoders, poolings)], preprocessing, files, **more)
        return self


@pytest.fixture
def files(tmp_path, rng) -> list[tuple[str, Path]]:
    """Thirty clips of three lengths; clip i has the constant value i / 100."""
    found = []
    for i in range(30):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, np.full(800 + 100 * (i % 3), i / 100), 8000, subtype="FLOAT")
        found.append((path.name, path))
    return found


@pytest.mark.parametrize("batch_size", [1, 4, 100])
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("encoder", [Loudness(), Alone()])
def test_every_clip_gets_its_own_vector(files, batch_size, workers, encoder):
    sink = Sink().run(files, encoders=(encoder,), batch_size=batch_size, workers=workers)

    assert set(sink.rows) == {key for key, _ in files}
    for i in range(30):
        np.testing.assert_allclose(sink.rows[f"{i}.wav"][0], [i / 100], rtol=1e-6)


def test_several_poolings_cost_one_forward_pass(files, monkeypatch):
    calls = []
    forward = Loudness.forward
    monkeypatch.setattr(
        Loudness,
        "forward",
        lambda self, w, wanted: calls.append(len(w)) or forward(self, w, wanted),
    )

    sink = Sink().run(files, [Clip(), Mean(), Frames()])

    assert sum(calls) == 30
    assert [row.shape for row in sink.rows["0.wav"]] == [(1,), (2,), (4, 2)]


def test_a_bad_clip_costs_that_clip(files, tmp_path):
    (tmp_path / "4.wav").write_text("not a recording")
    (tmp_path / "7.wav").unlink()

    sink = Sink().run(files)

    assert set(sink.refused) == {"4.wav", "7.wav"}
    assert len(sink.rows) == 28


def test_values_that_are_not_finite_are_refused_not_stored(files, monkeypatch):
    monkeypatch.setattr(
        Loudness,
        "forward",
        lambda self, w, wanted: {"clip": np.where(w[:, :1] > 0.2, np.nan, w[:, :1])},
    )

    sink = Sink().run(files)

    assert len(sink.rows) == 21
    assert set(sink.refused) == {f"{i}.wav" for i in range(21, 30)}


@pytest.mark.parametrize("encoder", [Loudness(), Alone()])
def test_an_error_of_the_only_encoder_is_raised(files, monkeypatch, encoder):
    def forward(self, waveforms, wanted):
        raise ValueError("no such layer")

    monkeypatch.setattr(Loudness, "forward", forward)

    with pytest.raises(ValueError, match="no such layer"):
        Sink().run(files, encoders=(encoder,))


def test_what_was_encoded_before_an_error_is_written(files):
    sink = Sink()

    def interrupted():
        yield from files[:24]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sink.run(interrupted(), batch_size=2, workers=1)

    assert len(sink.rows) >= 10


def test_a_failing_write_stops_the_loop_with_its_error(files):
    sink = Sink()

    def full(*_):
        raise OSError(28, "No space left on device")

    sink.write = full
    with pytest.raises(OSError, match="No space left"):
        sink.run(files)


def test_contents_tell_the_file_the_vector_came_from(files, tmp_path):
    sink = Sink().run(files)

    size, mtime_ns, sha256 = sink.contents["5.wav"]
    assert size == (tmp_path / "5.wav").stat().st_size
    assert mtime_ns == (tmp_path / "5.wav").stat().st_mtime_ns
    assert sha256 == hashlib.sha256((tmp_path / "5.wav").read_bytes()).hexdigest()


def test_two_devices_share_the_work(files):
    sink = Sink().run(files, encoders=(Loudness(), Loudness()), batch_size=2)

    assert len(sink.rows) == 30


def test_a_clip_that_was_lengthened_is_remarked(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.ones(800), 8000, subtype="FLOAT")

    sink = Sink().run(
        [("a.wav", tmp_path / "a.wav")],
        encoders=(Loudness(least=1600),),
        preprocessing=Preprocessing(short="pad"),
    )

    assert "0.1" in sink.remarks["a.wav"]
    np.testing.assert_allclose(sink.rows["a.wav"][0], [0.5])


def test_many_lengths_do_not_pile_up(tmp_path, monkeypatch):
    """A folder in which every clip has its own length needs no more memory than any other."""
    largest = 0
    add = embedding._Batches.add

    def watched(self, key, recording):
        nonlocal largest
        largest = max(largest, self.n_waiting + 1)
        return add(self, key, recording)

    monkeypatch.setattr(embedding._Batches, "add", watched)
    files = []
    for i in range(60):
        soundfile.write(tmp_path / f"{i}.wav", np.ones(100 + i), 8000)
        files.append((f"{i}.wav", tmp_path / f"{i}.wav"))

    sink = Sink().run(files, batch_size=4)

    assert len(sink.rows) == 60
    assert 4 < largest <= 16


def counted(monkeypatch, name: str) -> list[tuple]:
    """Note each call of a step of the reading of a file."""
    calls, step = [], getattr(audio, name)
    monkeypatch.setattr(audio, name, lambda *given: calls.append(given) or step(*given))
    return calls


def test_several_encoders_share_one_decode_and_one_resampling_per_rate(files, monkeypatch):
    decoded, prepared = (counted(monkeypatch, name) for name in ("opened", "preprocess"))
    encoders = [Loudness(), Alone(), Loudness(sample_rate=4000), Loudness(least=4)]
    sinks = [Sink() for _ in encoders]

    embed_clips(
        [sink.task([encoder]) for sink, encoder in zip(sinks, encoders, strict=True)],
        Preprocessing(),
        files,
    )

    assert len(decoded) == 30
    assert len(prepared) == 60
    for sink in sinks:
        assert len(sink.rows) == 30
        np.testing.assert_allclose(sink.rows["9.wav"][0], [0.09], rtol=1e-2)


def test_a_task_encodes_the_clips_that_it_lacks_and_files_of_no_task_are_not_read(files, tmp_path):
    (tmp_path / "5.wav").unlink()
    one, other = Sink(), Sink()

    embed_clips(
        [one.task(keys={"1.wav", "2.wav"}), other.task([Alone()], keys={"2.wav", "3.wav"})],
        Preprocessing(),
        files,
    )

    assert set(one.rows) == {"1.wav", "2.wav"}
    assert set(other.rows) == {"2.wav", "3.wav"}
    assert not one.refused
    assert not other.refused


def test_a_clip_too_short_for_one_encoder_is_refused_for_that_one_only(files):
    patient, quick = Sink(), Sink()

    embed_clips(
        [patient.task([Loudness(least=900)]), quick.task([Loudness()])], Preprocessing(), files
    )

    assert set(patient.refused) == {f"{i}.wav" for i in range(0, 30, 3)}
    assert len(patient.rows) == 20
    assert len(quick.rows) == 30
    assert not quick.refused


@pytest.mark.parametrize("broken", [Loudness(sample_rate=4000), Alone(sample_rate=4000)])
def test_the_error_of_one_task_leaves_the_others_their_rows(files, monkeypatch, broken):
    forward = Loudness.forward

    def failing(self, waveforms, wanted):
        if self.sample_rate == 4000:
            raise ValueError("no such layer")
        return forward(self, waveforms, wanted)

    monkeypatch.setattr(Loudness, "forward", failing)
    sound, hurt = Sink(), Sink()

    errors = embed_clips([hurt.task([broken]), sound.task()], Preprocessing(), files)

    assert list(errors) == [0]
    assert "no such layer" in str(errors[0])
    assert len(sound.rows) == 30
    assert not hurt.rows


def test_several_tasks_on_two_devices_each_use_both(files, monkeypatch):
    used = set()
    forward = Loudness.forward

    def noted(self, waveforms, wanted):
        used.add(id(self))
        return forward(self, waveforms, wanted)

    monkeypatch.setattr(Loudness, "forward", noted)
    tasks = [
        (Loudness(sample_rate=rate), Loudness(sample_rate=rate)) for rate in (8000, 4000, 2000)
    ]
    sinks = [Sink(), Sink(), Sink()]

    embed_clips(
        [sink.task(encoders) for sink, encoders in zip(sinks, tasks, strict=True)],
        Preprocessing(),
        files,
        batch_size=1,
    )

    assert [len(sink.rows) for sink in sinks] == [30, 30, 30]
    assert used == {id(encoder) for encoders in tasks for encoder in encoders}
