"""The argument of `watch`, and a TOML file of several sources."""

import pytest

from pipeline.exits import UsageError
from pipeline.watching.sources_file import NO_AUDIO_S, SourceChoice, read_sources, sources_of

NO_FLAGS = {"machine": "", "raw": "", "no_audio": ""}

FILE = """
[[source]]
folder = "incoming"
no_audio = "2h"

[[source]]
name = "camera"
command = ["ffmpeg", "-i", "rtsp://camera", "-f", "wav", "-"]
machine = "press7"

[[source]]
microphone = "USB Audio"
machine = "press8"
"""


def test_the_argument_is_a_folder_standard_input_or_a_microphone(tmp_path):
    assert sources_of(str(tmp_path), **NO_FLAGS) == [
        SourceChoice(str(tmp_path), 0.0, folder=tmp_path)
    ]
    assert sources_of("-", **NO_FLAGS) == [SourceChoice("-", NO_AUDIO_S, command=())]
    assert sources_of("mic", **{**NO_FLAGS, "no_audio": "0"}) == [
        SourceChoice("mic", 0.0, microphone="")
    ]


def test_a_file_names_several(tmp_path):
    path = tmp_path / "sources.toml"
    path.write_text(FILE)

    folder, camera, microphone = sources_of(str(path), **NO_FLAGS)

    assert folder == SourceChoice("incoming", 7200.0, folder=tmp_path / "incoming")
    assert camera.command == ("ffmpeg", "-i", "rtsp://camera", "-f", "wav", "-")
    assert (camera.name, camera.machine, camera.no_audio_s) == ("camera", "press7", NO_AUDIO_S)
    assert (microphone.name, microphone.microphone) == ("USB Audio", "USB Audio")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "expected a table"),
        ("[[source]]", "expected one of folder, microphone and command"),
        ("[[source]]\nfolder = 'a'\nmicrophone = 'b'", "expected one of"),
        ("[[source]]\nfolders = 'a'", "source 1: there is no 'folders': did you mean 'folder'?"),
        ("[[source]]\nfolder = 7", "folder must be a text; got 7"),
        ("[[source]]\ncommand = []", "command must be a list of texts"),
        ("[[source]]\nfolder = 'a'\nraw = '8000:u8:1'", "raw is for a command"),
        ("[[source]]\nfolder = 'a'\nno_audio = 'soon'", "no_audio soon: expected a duration"),
        ("[[source]]\nfolder = 'a'\n[[source]]\nfolder = 'a'", "two sources have the name 'a'"),
        ("[[source]\n", "cannot be read"),
        ("source = 3", "expected a table"),
        ("source = [3]", "expected a table"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, content, said):
    path = tmp_path / "sources.toml"
    path.write_text(content)

    with pytest.raises(UsageError) as error:
        read_sources(path)
    assert said in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("source", "flags", "said"),
    [
        ("nowhere", {}, "there is no folder nowhere"),
        (__file__, {}, "is one recording; `check` judges it"),
        (".", {"raw": "8000:u8:1"}, "--raw is for standard input"),
        ("sources.toml", {"machine": "press7"}, "--machine is for one source"),
        ("-", {"no_audio": "soon"}, "--no-audio soon"),
    ],
)
def test_what_cannot_be_watched_is_said(source, flags, said):
    with pytest.raises(UsageError, match=said):
        sources_of(source, **{**NO_FLAGS, **flags})
