"""Messages are posted, signed, and stay in the outbox whatever the server does."""

import hashlib
import hmac
import json
import ssl
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from alarm_receivers import free_port, make_certificates, web_server
from watched_machines import message

from pipeline.exits import UsageError
from pipeline.watching.credentials import Credential
from pipeline.watching.sink import Undelivered
from pipeline.watching.webhook import WebhookSink, webhook_sink

TLS = ssl.create_default_context()


def sink_at(port, *, scheme="http", tls=TLS, **options):
    return WebhookSink(Credential(f"{scheme}://127.0.0.1:{port}/hook/s3cret"), tls=tls, **options)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def test_a_message_is_posted_signed_and_carries_its_id():
    with web_server() as server:
        sink = sink_at(server.port, secret=Credential("k3y"), token=Credential("t0ken"))

        sink.deliver(message("a1", machine="Lüfter 1"))

    headers, body = server.requests[0]
    assert json.loads(body)["machine"] == "Lüfter 1"
    assert headers["Idempotency-Key"] == "a1"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Bearer t0ken"
    digest = hmac.new(b"k3y", body, hashlib.sha256).hexdigest()
    assert headers["X-Signature"] == f"sha256={digest}"


@pytest.mark.parametrize(
    ("status", "expected", "is_refused"),
    [
        (500, "127.0.0.1 answers 500", False),
        (404, "answers 404; look at the address", False),
        (401, "answers 401; look at WATCH_WEBHOOK_TOKEN", False),
        (307, "a redirect, which is not followed", False),
        (400, "answers 400", True),
    ],
)
def test_an_answer_other_than_success_is_a_failed_delivery(status, expected, is_refused):
    answer = (status, {"Location": "http://127.0.0.1:1/"})

    with web_server(answers=[answer]) as server, pytest.raises(Undelivered, match=expected) as no:
        sink_at(server.port).deliver(message("a"))

    assert no.value.is_refused is is_refused
    assert len(server.requests) == 1


def test_a_server_that_asks_for_time_gets_it():
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    asked = ["7", date, "soon", "-5", "99999999999"]
    answers = [(503, {"Retry-After": text}) for text in asked]
    waits = []

    with web_server(answers=answers) as server:
        for _ in asked:
            with pytest.raises(Undelivered) as no:
                sink_at(server.port).deliver(message("a"))
            waits.append(no.value.retry_after_s)

    assert waits[0] == 7
    assert 90 < waits[1] <= 100
    assert waits[2:] == [None, None, 24 * 3600]


def test_a_server_that_is_down_slow_or_no_web_server_is_said_by_its_host_alone():
    with web_server(slow_s=0.6) as server:
        started = time.monotonic()
        with pytest.raises(Undelivered, match=r"127.0.0.1 gave no answer in 0\.1 s") as slow:
            sink_at(server.port, limit_s=0.1).deliver(message("a"))
        assert time.monotonic() - started < 0.5
        with pytest.raises(Undelivered, match=r"no TLS with 127.0.0.1") as plain:
            sink_at(server.port, scheme="https").deliver(message("a"))
    with pytest.raises(
        Undelivered, match=r"no connection to 127.0.0.1: Connection refused"
    ) as down:
        sink_at(free_port()).deliver(message("a"))

    assert not any("s3cret" in str(each.value) for each in (slow, plain, down))


def test_a_certificate_is_verified_and_a_wrong_one_gets_no_message(certificates):
    tls = ssl.create_default_context(cafile=certificates.authority)

    with web_server(certificate=certificates.server) as trusted:
        sink_at(trusted.port, scheme="https", tls=tls).deliver(message("a"))
        with pytest.raises(
            Undelivered, match=r"certificate of 127.0.0.1 is not trusted.*--ca-file"
        ):
            sink_at(trusted.port, scheme="https").deliver(message("b"))
        stranger = WebhookSink(Credential(f"https://localhost:{trusted.port}/"), tls=tls)
        with pytest.raises(Undelivered, match=r"localhost is not trusted.*Hostname mismatch"):
            stranger.deliver(message("c"))
    with (
        web_server(certificate=certificates.self_signed) as other,
        pytest.raises(Undelivered, match="self-signed certificate"),
    ):
        sink_at(other.port, scheme="https", tls=tls).deliver(message("d"))

    assert trusted.ids == ["a"]
    assert other.ids == []


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ftp://example.com/s3cret", "takes an address such as"),
        ("example.com/s3cret", "takes an address such as"),
        ("https://user:s3cret@example.com/", "takes no user or password"),
        ("https://example.com:99999/s3cret", "takes an address such as"),
        ("https://example.com/s3cret x", "without spaces"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_without_showing_it(url, expected):
    no = Credential()

    with pytest.raises(UsageError, match=expected) as refused:
        webhook_sink(Credential(url), tls=TLS, secret=no, token=no)

    assert "s3cret" not in str(refused.value)
