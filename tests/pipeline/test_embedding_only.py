"""`embed` fills the cache with what the whole job would read."""

import pytest

from pipeline.embedding_only import embed_only
from pipeline.exits import UsageError
from pipeline.settings import EmbedSettings, Settings


def pairs(**flags) -> list[tuple[str, str]]:
    done = embed_only(EmbedSettings(**flags, quiet=True))
    return [(source.encoder, source.pooling) for source in done.sources]


def test_nothing_named_is_what_the_default_of_the_whole_job_reads(data, capsys):
    from pipeline.job import run_job

    assert pairs() == [
        ("logmel", "fluctuation"), ("logmel", "quiet"), ("spectrum", "clip"), ("wave", "clip")
    ]  # fmt: skip

    run_job(Settings())
    assert "embed with" not in capsys.readouterr().err


def test_a_pair_that_does_not_go_together_is_skipped_unless_it_is_the_only_one(data, capsys):
    assert pairs(encoder="logmel,mfcc", pooling="fluctuation") == [("logmel", "fluctuation")]
    assert "skipped: mfcc-fluctuation: fluctuation needs log-mel in dB" in capsys.readouterr().err

    with pytest.raises(UsageError, match="needs log-mel in dB"):
        pairs(encoder="mfcc", pooling="fluctuation")


def test_an_encoder_that_cannot_be_had_is_a_failure_beside_the_others(data, monkeypatch, tmp_path):
    for name in ("HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "empty"))

    done = embed_only(EmbedSettings(encoder="panns,wave", offline=True, quiet=True))

    assert done.failed
    assert [source.encoder for source in done.sources] == ["wave"]
