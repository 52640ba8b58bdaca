"""Settings from flags, a config.toml, a run folder or Python: what wins, and what is refused."""

import random
from dataclasses import fields
from pathlib import Path

import pytest
import tomli_w

from pipeline.exits import UsageError
from pipeline.settings import (
    EmbedSettings,
    LearnSettings,
    Settings,
    as_config,
    flag_of,
    given_from_python,
    refuse_empty,
    settings_of,
)


@pytest.fixture
def config(tmp_path) -> Path:
    settings = Settings(detector="knn", set=["knn.k=3"], fit_per="type", out=Path("elsewhere"))
    path = tmp_path / "config.toml"
    path.write_text(tomli_w.dumps({"settings": as_config(settings), "provenance": {}}))
    return path


@pytest.mark.parametrize("of_a_folder", [False, True])
def test_flags_win_over_a_config_and_options_come_from_both(config, of_a_folder):
    given = {"detector": "gmm", "set": ["gmm.n_components=2"]}

    settings = settings_of(Settings, given, config.parent if of_a_folder else config)

    assert (settings.detector, settings.fit_per) == ("gmm", "type")
    assert settings.set == ["knn.k=3", "gmm.n_components=2"]
    assert settings.out == Path("elsewhere")


def test_a_system_that_is_given_replaces_the_parts_of_a_config(config):
    settings = settings_of(Settings, {"system": "twfr-gmm"}, config)

    assert (settings.detector, settings.set, settings.fit_per) == ("", [], None)


def test_what_is_written_is_what_is_read(config):
    settings = settings_of(Settings, {}, config)

    again = config.with_name("again.toml")
    again.write_text(tomli_w.dumps({"settings": as_config(settings)}))
    assert settings_of(Settings, {}, again) == settings


def test_a_command_takes_the_settings_that_it_has_from_the_config_of_another(config):
    assert settings_of(EmbedSettings, {}, config).out == Path("elsewhere")
    assert settings_of(LearnSettings, {}, config).detector == "knn"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no [settings]"),
        (b"encoder = 'mfcc'", "no [settings]"),
        (b"settings = 3", "not a table"),
        (b"[settings]\ndetecter = 'knn'", "no setting 'detecter'; did you mean 'detector'?"),
        (b"[settings]\nseed = 'one'", "seed should be a valid integer; got 'one'"),
        (b"[settings]\nset = 'knn.k=3'", "set"),
        (b"[settings]\nset = 3", "set"),
        (b"[settings]\nout = 3", "out"),
        (b"[settings]\nnormalize = 'loud'", "normalize"),
        (b"[settings]\ndata = '\xff'", "is not a config.toml of a run"),
        (b"[settings]\ndata = " + b"[" * 5000, "is not a config.toml of a run"),
        (b"[settings]\ndetector = 'package.module:Class'", "--trust-classes"),
        (b"[settings]\nfuse = 'logmel/mean/package.module:Class'", "--trust-classes"),
    ],
)
def test_a_config_that_cannot_be_meant_is_refused(tmp_path, content, message):
    path = tmp_path / "config.toml"
    path.write_bytes(content)

    with pytest.raises(UsageError) as raised:
        settings_of(Settings, {}, path)

    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_class_from_outside_counts_where_it_is_typed_or_trusted(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[settings]\ndetector = 'package.module:Class'")

    assert settings_of(Settings, {"detector": "package.module:Class"}).detector
    assert settings_of(Settings, {"trust_classes": True}, path).detector


def test_a_config_that_trusts_itself_is_not_trusted(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[settings]\ndetector = 'package.module:Class'\ntrust_classes = true")

    with pytest.raises(UsageError, match="--trust-classes"):
        settings_of(Settings, {}, path)


@pytest.mark.parametrize("name", ["encoder", "pooling", "detector", "system", "fuse"])
def test_a_flag_that_names_none_is_refused(name):
    with pytest.raises(UsageError, match=f"--{name} names none"):
        refuse_empty({name: " , "})


def test_python_may_give_lists_paths_and_numbers():
    given = given_from_python(
        data=Path("a"), encoder=["logmel", "mfcc"], set="knn.k=3", false_alarms=0.1, channel=1
    )

    assert given == {
        "data": "a", "encoder": "logmel,mfcc", "set": ["knn.k=3"],
        "false_alarms": "0.1", "channel": "1",
    }  # fmt: skip
    with pytest.raises(UsageError, match="no setting 'encodr'; did you mean 'encoder'"):
        settings_of(Settings, given_from_python(encodr="logmel"))


def test_every_setting_is_a_flag_with_a_line_about_it():
    for setting in fields(Settings):
        flag = flag_of(setting.name)
        assert flag.names.split()[0] == f"--{setting.name.replace('_', '-')}"
        assert flag.about


def mutated(rng: random.Random, content: bytes) -> bytes:
    """Change, remove, repeat or insert bytes at one to eight places."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        at = rng.randrange(len(changed) + 1)
        part = bytes(rng.randrange(256) for _ in range(rng.randint(0, 4)))
        changed[at : at + rng.choice((0, 0, 1, 4, 40))] = rng.choice(
            (part, b"[[", b"'", b"\n", b"=")
        )
    return bytes(changed)


@pytest.mark.parametrize("n_trials", [60, pytest.param(2000, marks=pytest.mark.faults, id="all")])
def test_a_config_of_any_bytes_is_settings_or_one_line(config, n_trials):
    content, rng = config.read_bytes(), random.Random(0)
    counts, messages = {"read": 0, "refused": 0}, []

    for _ in range(n_trials):
        config.write_bytes(mutated(rng, content))
        try:
            settings_of(Settings, {}, config)
            counts["read"] += 1
        except UsageError as error:
            counts["refused"] += 1
            messages.append(str(error))

    assert not [message for message in messages if "\n" in message]
    print(f"\nconfig.toml: {n_trials} mutants, {counts}")
    assert counts["refused"] > n_trials / 10
