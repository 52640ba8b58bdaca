"""The loop from files to vectors: same vectors in any company, bad clips cost only themselves."""

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from embed.embedding import embed_clips
from embed.encoder import Encoder
from embed.pooling import Clip, Frames, Mean
from embed.recordings.audio import Preprocessing


@dataclass(frozen=True, kw_only=True)
class Loudness(Encoder):
    """An encoder to evaluate in one's head: the mean of the waveform, and its first sample."""

    sample_rate: int = 8000
    outputs = ("frames", "clip")
    largest_batch = 100

    def forward(self, waveforms, wanted):
        if len(waveforms) > self.largest_batch:
            raise torch.OutOfMemoryError
        frames = waveforms[:, :8].reshape(len(waveforms), 4, 2)
        return {"frames": frames, "clip": waveforms.mean(dim=1, keepdim=True)}


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

    def run(self, files, poolings=CLIP, encoders=ONE_DEVICE, **more):
        embed_clips(
            encoders,
            more.pop("preprocessing", Preprocessing()),
            poolings,
            files,
            write=self.write,
            refuse=self.refused.__setitem__,
            remark=self.remarks.__setitem__,
            **more,
        )
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
def test_every_clip_gets_its_own_vector(files, batch_size, workers):
    sink = Sink().run(files, batch_size=batch_size, workers=workers)

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
        lambda self, w, wanted: {"clip": torch.where(w[:, :1] > 0.2, torch.nan, w[:, :1])},
    )

    sink = Sink().run(files)

    assert len(sink.rows) == 21
    assert set(sink.refused) == {f"{i}.wav" for i in range(21, 30)}


def test_a_batch_too_large_for_the_device_is_halved(files, monkeypatch):
    monkeypatch.setattr(Loudness, "largest_batch", 3)

    sink = Sink().run(files, batch_size=16)

    assert len(sink.rows) == 30


def test_one_clip_too_large_for_the_device_is_an_error(files, monkeypatch):
    monkeypatch.setattr(Loudness, "largest_batch", 0)

    with pytest.raises(torch.OutOfMemoryError):
        Sink().run(files)


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
    import hashlib

    sink = Sink().run(files)

    size, mtime_ns, sha256 = sink.contents["5.wav"]
    assert size == (tmp_path / "5.wav").stat().st_size
    assert mtime_ns == (tmp_path / "5.wav").stat().st_mtime_ns
    assert sha256 == hashlib.sha256((tmp_path / "5.wav").read_bytes()).hexdigest()


def test_two_devices_share_the_work(files):
    sink = Sink().run(files, encoders=(Loudness(), Loudness()), batch_size=2)

    assert len(sink.rows) == 30


def test_a_clip_that_was_lengthened_is_remarked(tmp_path):
    @dataclass(frozen=True, kw_only=True)
    class Patient(Loudness):
        min_samples = 1600

    soundfile.write(tmp_path / "a.wav", np.ones(800), 8000, subtype="FLOAT")

    sink = Sink().run(
        [("a.wav", tmp_path / "a.wav")],
        encoders=(Patient(),),
        preprocessing=Preprocessing(short="pad"),
    )

    assert "0.1" in sink.remarks["a.wav"]
    np.testing.assert_allclose(sink.rows["a.wav"][0], [0.5])


def test_many_lengths_do_not_pile_up(tmp_path, monkeypatch):
    """A folder in which every clip has its own length needs no more memory than any other."""
    from embed import embedding

    largest = 0
    batches = embedding._equal_lengths

    def watched(recordings, batch_size, longest):
        nonlocal largest
        taken = given = 0

        def counted():
            nonlocal taken
            for each in recordings:
                taken += 1
                yield each

        for batch in batches(counted(), batch_size, longest):
            largest = max(largest, taken - given)
            given += len(batch)
            yield batch

    monkeypatch.setattr(embedding, "_equal_lengths", watched)
    files = []
    for i in range(60):
        soundfile.write(tmp_path / f"{i}.wav", np.ones(100 + i), 8000)
        files.append((f"{i}.wav", tmp_path / f"{i}.wav"))

    sink = Sink().run(files, batch_size=4)

    assert len(sink.rows) == 60
    assert largest <= 16
