"""The page shows what happens, to those who may see it, and nothing from outside becomes code."""

import base64
import http.client
import json
import os
import re
import socket
import sqlite3
import urllib.parse
from contextlib import closing

import numpy as np
import pytest
import soundfile
from browser import chromium  # noqa: F401 - a fixture
from watched_machines import add_alarm, add_machine, ago, message, put, state_file

from pipeline.exits import UsageError
from pipeline.watching import outbox
from pipeline.watching.delivery_settings import DeliverySettings
from pipeline.watching.page import page_of, serve

EVIL = "<script>alert(1)</script> <img src=x onerror=alert(1)>"
TOKEN = "a-token-of-24-characters"


@pytest.fixture(scope="module")
def watch(tmp_path_factory):
    """A state file and an alarms folder, with a machine in alarm and one with an evil name."""
    folder = tmp_path_factory.mktemp("watch")
    path, alarms = state_file(folder), folder / "alarms"
    (alarms / "fan").mkdir(parents=True)
    tone = np.sin(np.arange(8000) * 0.2).astype("float32") / 4
    soundfile.write(alarms / "fan" / "one tone.flac", tone, 8000)
    (alarms / "fan" / "one.png").write_bytes(base64.b64decode(PIXEL))
    add_machine(path, "fan id_00", [1.0] * 50 + [3.5] * 5)
    add_machine(path, EVIL, [1.0, 1.5])
    files = {"sound": "fan/one tone.flac", "picture": "fan/one.png"}
    add_alarm(path, message("a1", at=ago(50), score=3.5, p_value=0.01, **files))
    add_alarm(path, message(EVIL, machine=EVIL, at=ago(99), sentence=EVIL, reason=EVIL, sound=EVIL))
    put(path, ["a1"], "mqtt")
    with closing(sqlite3.connect(path)) as connection, connection:
        outbox.put(connection, message("d", kind="drift", machine=EVIL, sentence=EVIL), [])
    return path, alarms


PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQ"
    "DwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)


@pytest.fixture(scope="module")
def served(watch):
    with serve(*watch, 0) as page:
        yield page


def get(page, path, method="GET", **headers):
    port = urllib.parse.urlsplit(page.url).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.headers


def test_every_answer_forbids_what_the_page_does_not_need(served):
    for path in ["/", "/watch_page.js", "/state.json", "/alarms/fan/one.png", "/nothing"]:
        _, _, headers = get(served, path)
        assert headers["Content-Security-Policy"].startswith(
            "default-src 'none'; script-src 'self';"
        )
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "request_line",
    [b"POST / HTTP/1.1", b"<script> / HTTP/1.1", b"GET", b"\xff\xfe", b"GET / HTTP/9"],
)
def test_a_request_that_is_none_is_refused_and_the_connection_ends(served, request_line):
    port = urllib.parse.urlsplit(served.url).port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request_line + b"\r\nHost: localhost\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert re.match(rb"HTTP/1\.1 (400|501|505) ", answer)
    assert b"text/plain" in answer
    assert b"default-src 'none'" in answer


def test_the_state_is_sent_again_only_when_it_has_changed(served):
    status, body, headers = get(served, "/state.json?span=week")
    again, empty, _ = get(served, "/state.json?span=week", If_None_Match=headers["ETag"])

    assert (status, json.loads(body)["span"]) == (200, "week")
    assert (again, empty) == (304, b"")
    assert get(served, "/state.json?span=year")[0] == 404


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("", 200, slice(None)),
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=5-", 206, slice(5, None)),
        ("bytes=-7", 206, slice(-7, None)),
        ("bytes=0-99999999", 206, slice(None)),
        ("bytes=99999999-", 416, slice(0, 0)),
        ("bytes=-0", 416, slice(0, 0)),
        ("bytes=0-1,4-5", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
    ],
)
def test_a_player_gets_the_part_of_a_sound_that_it_asks_for(served, watch, asked, status, part):
    whole = (watch[1] / "fan" / "one tone.flac").read_bytes()

    got, body, headers = get(served, "/alarms/fan/one%20tone.flac", Range=asked)
    head = get(served, "/alarms/fan/one%20tone.flac", "HEAD", Range=asked)

    assert (got, body) == (status, whole[part])
    assert int(headers["Content-Length"]) == len(body)
    assert (head[0], head[1]) == (status, b"")
    if status == 206:
        start = whole.index(body) if len(body) > 6 else 0
        assert headers["Content-Range"] == f"bytes {start}-{start + len(body) - 1}/{len(whole)}"


@pytest.mark.parametrize(
    "path",
    [
        "/alarms/../watch.sqlite", "/alarms/%2e%2e/secret.png", "/alarms//etc/passwd",
        "/alarms/..%5csecret.png", "/alarms/link.png", "/alarms/fan", "/alarms/",
        "/alarms/pipe.png",
        "/alarms/%00.png", "/alarms/" + "x" * 5000 + ".png", "/../page.py", "/watch.sqlite",
        "/alarms/fan/notes.txt", "//example.com/", "/%2e%2e/watch.sqlite",
    ],
)  # fmt: skip
def test_nothing_but_sounds_and_pictures_of_the_alarms_folder_is_served(served, watch, path):
    alarms = watch[1]
    if not (alarms / "link.png").is_symlink():
        (alarms.parent / "secret.png").write_bytes(b"secret")
        (alarms / "fan" / "notes.txt").write_bytes(b"secret")
        (alarms / "link.png").symlink_to(alarms.parent / "secret.png")
        os.mkfifo(alarms / "pipe.png")

    status, body, _ = get(served, path)

    assert status == 404
    assert b"secret" not in body


def test_a_name_of_a_stranger_that_leads_here_is_refused(served):
    assert get(served, "/state.json", Host="evil.example")[0] == 403
    assert get(served, "/state.json", Host="localhost.evil.example:80")[0] == 403
    assert get(served, "/state.json", Host="")[0] == 403
    assert get(served, "/state.json", Host="[::1")[0] == 403
    for host in ("localhost:9999", "127.0.0.1", "[::1]:80", socket.gethostname()):
        assert get(served, "/state.json", Host=host)[0] == 200


def test_another_address_than_loopback_needs_a_token_and_a_wrong_one_is_refused(watch):
    for token in ("", "short"):
        with pytest.raises(UsageError, match="WATCH_PAGE_TOKEN"):
            serve(*watch, 0, host="0.0.0.0", token=token)

    def basic(text):
        return "Basic " + base64.b64encode(text.encode()).decode()

    with serve(*watch, 0, host="0.0.0.0", token=TOKEN, names=["hall.example"]) as page:
        for path in ("/", "/state.json", "/alarms/fan/one.png", "/nothing"):
            status, body, headers = get(page, path)
            assert (status, headers["WWW-Authenticate"][:5]) == (401, "Basic")
            assert b"fan" not in body
        for wrong in (basic(":wrong"), basic(TOKEN), "Basic ?", "Bearer", f"Digest {TOKEN}"):
            assert get(page, "/", Authorization=wrong)[0] == 401
        for right in (basic(f"anyone:{TOKEN}"), f"Bearer {TOKEN}"):
            assert get(page, "/", Authorization=right, Host="hall.example:1")[0] == 200


def test_the_page_is_served_as_the_settings_say(watch, monkeypatch):
    monkeypatch.setenv("WATCH_PAGE_TOKEN", TOKEN)

    assert page_of(DeliverySettings(), *watch) is None
    with page_of(DeliverySettings(page=0), *watch) as page:
        port = urllib.parse.urlsplit(page.url).port
        assert get(page, "/")[0] == 401
        with pytest.raises(UsageError, match=f"--page {port} at 127.0.0.1 cannot be used: Addr"):
            page_of(DeliverySettings(page=port), *watch)


def test_a_state_file_that_cannot_be_read_is_said(tmp_path):
    with serve(tmp_path / "none.sqlite", tmp_path, 0) as page:
        status, body, _ = get(page, "/state.json")

    assert (status, body[:30]) == (503, b"the state file cannot be read:")


def shown(browser, page, *, has_clock=False, **options):
    """Open the page in a browser; remember dialogs, errors, and requests to anyone else."""
    context = browser.new_context(**options)
    tab, wrong = context.new_page(), []
    if has_clock:
        tab.clock.install()
    tab.on("dialog", lambda dialog: wrong.append(dialog.message) or dialog.dismiss())
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("request", lambda request: request.url.startswith(page.url) or wrong.append(request.url))
    tab.goto(page.url)
    tab.wait_for_selector("#machines article")
    return tab, wrong


def test_a_browser_shows_machines_alarms_pictures_and_plays_sounds(served, chromium):  # noqa: F811
    tab, wrong = shown(chromium, served)

    assert tab.inner_text("#summary") == "2 machines, 2 in alarm"
    label = tab.get_attribute("#machines svg >> nth=0", "aria-label")
    assert "highest" in label
    alarm = tab.locator("#alarm-a1")
    assert "fan id_00 sounds anomalous (a1)" in alarm.inner_text()
    alarm.locator("img").scroll_into_view_if_needed()
    tab.wait_for_function("document.querySelector('#alarm-a1 img').naturalWidth === 1")
    play = "async (a) => { a.muted = true; await a.play(); a.currentTime = 0.5; return a.duration }"
    assert alarm.locator("audio").evaluate(play) == 1
    assert "mqtt 0 delivered, 1 waiting" in tab.inner_text("#deliveries")
    assert wrong == []
    tab.context.close()


def test_names_and_sentences_from_outside_are_shown_and_never_run(served, chromium):  # noqa: F811
    tab, wrong = shown(chromium, served)

    assert EVIL in tab.locator("#machines h3").all_inner_texts()
    assert EVIL in tab.locator("#alarms .sentence").all_inner_texts()
    assert EVIL in tab.inner_text("#news")
    assert tab.evaluate("document.querySelectorAll('main script, main img[src=x]').length") == 0
    assert wrong == []
    tab.context.close()


def test_the_page_follows_what_happens_and_says_when_the_watch_is_gone(watch, chromium, tmp_path):  # noqa: F811
    path = state_file(tmp_path)
    add_machine(path, "fan id_00", [1.0])
    page = serve(path, tmp_path, 0)
    tab, _ = shown(chromium, page, has_clock=True)
    tab.keyboard.press("Tab")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")  # Day

    add_alarm(path, message("new", at=ago(1)))
    tab.clock.run_for(5100)
    tab.wait_for_selector("#alarm-new")
    focused = tab.evaluate("document.activeElement.dataset.span")
    page.close()
    tab.clock.run_for(5100)
    tab.wait_for_selector("#trouble:not([hidden])")

    assert tab.title() == "(1) Watched machines"
    assert focused == "day"
    assert tab.get_attribute("[data-span=day]", "aria-pressed") == "true"
    assert "The watch does not answer." in tab.inner_text("#trouble")
    tab.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_has_contrast(served, chromium, scheme):  # noqa: F811
    size = {"width": 360, "height": 640}
    tab, _ = shown(chromium, served, viewport=size, color_scheme=scheme)

    assert tab.evaluate("document.documentElement.scrollWidth") == 360
    colours = tab.evaluate(
        "[...document.querySelectorAll('.dim, .facts, .state, h1, p')].filter(e => e.offsetHeight)"
        ".map(e => [getComputedStyle(e).color, getComputedStyle(e.closest('article') || "
        "document.body).backgroundColor])"
    )
    assert min(contrast(*pair) for pair in colours) >= 4.5
    tab.context.close()


def contrast(*colours):
    """The contrast ratio of two colours, `rgb(r, g, b)`, as WCAG 2 defines it."""
    values = [np.array([int(n) for n in c[4:-1].split(",")]) / 255 for c in colours]
    linear = [np.where(v <= 0.03928, v / 12.92, ((v + 0.055) / 1.055) ** 2.4) for v in values]
    low, high = sorted(float(v @ [0.2126, 0.7152, 0.0722]) for v in linear)
    return (high + 0.05) / (low + 0.05)
