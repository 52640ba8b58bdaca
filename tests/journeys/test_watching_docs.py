"""What docs/watching.md shows to copy can be copied: the unit, the Compose file, the signature."""

import re
import shlex
import shutil
import ssl
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml
from alarm_receivers import web_server
from watched_machines import message

from pipeline.flags import Flag
from pipeline.watching import credentials, outbox, webhook
from pipeline.watching.delivery import MOST_REFUSALS, BackOff
from pipeline.watching.delivery_settings import DeliverySettings
from pipeline.watching.exec_sink import LIMIT_S
from pipeline.watching.message import Message

PAGE = Path(__file__).resolve().parents[2].joinpath("docs", "watching.md").read_text("utf-8")


def block(language):
    (text,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return text


def flags_of(settings):
    hints = get_type_hints(settings, include_extras=True)
    flags = [a for f in fields(settings) for a in get_args(hints[f.name]) if isinstance(a, Flag)]
    return {name for flag in flags for name in flag.names.split()}


def test_the_systemd_unit_is_one(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    program = "/opt/anomalous-sound/.venv/bin/anomalous-sound"
    unit = tmp_path / "anomalous-sound.service"
    unit.write_text(block("ini").replace(program, "/bin/true"))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )

    assert program in block("ini")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_compose_file_starts_a_watch_that_is_reached_from_this_computer_only():
    compose = yaml.safe_load(block("yaml"))
    watch = compose["services"]["watch"]
    words = shlex.split(watch["command"])

    assert words[:2] == ["anomalous-sound", "watch"]
    assert words[words.index("--mqtt") + 1] in compose["services"]
    assert all(
        port.startswith("127.0.0.1:") for s in compose["services"].values() for port in s["ports"]
    )
    assert set(watch["secrets"]) == set(compose["secrets"])
    named = {v.partition(":")[0] for v in watch["volumes"] if v[0] not in "./"}
    assert named == set(compose["volumes"])


def test_the_page_names_every_flag_and_field_of_a_message_and_no_other_variable():
    code = Path(credentials.__file__).parent
    known = {
        name
        for file in code.glob("*.py")
        for name in re.findall(r"\bWATCH_[A-Z_]+[A-Z]\b", file.read_text())
    }

    assert [flag for flag in flags_of(DeliverySettings) if flag not in PAGE] == []
    assert [field.name for field in fields(Message) if f"`{field.name}`" not in PAGE] == []
    assert set(re.findall(r"\bWATCH_[A-Z_]+[A-Z]\b", PAGE)) <= known | {
        f"{name}_FILE" for name in known
    }


def test_the_figures_of_the_page_are_those_of_the_code():
    assert f"Per receiver, {outbox.MOST:,} messages" in PAGE
    assert f"ended after {LIMIT_S:g} s" in PAGE
    assert MOST_REFUSALS == 5
    assert "five times" in PAGE
    assert ", ".join(map(str, sorted(webhook.REFUSALS))) in PAGE
    assert (BackOff().first_s, BackOff().longest_s) == (1, 60)


def test_a_receiver_tells_by_the_shown_function_who_sent_a_message():
    shown = {}
    exec(block("python"), shown)  # the page's own code
    secret = credentials.Credential("k3y")

    with web_server() as server:
        url = credentials.Credential(f"http://127.0.0.1:{server.port}/")
        tls = ssl.create_default_context()
        webhook.WebhookSink(url, tls=tls, secret=secret).deliver(message("a"))

    headers, body = server.requests[0]
    assert shown["is_from_the_watch"](b"k3y", body, headers["X-Signature"])
    assert not shown["is_from_the_watch"](b"other", body, headers["X-Signature"])
