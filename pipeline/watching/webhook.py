"""The sink `--webhook URL`: each message is one POST of JSON."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ssl
import urllib.error
import urllib.request
from datetime import UTC, datetime
from email.message import Message as Headers
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from ground.versions import OURS, installed_version
from pipeline.exits import UsageError
from pipeline.watching.credentials import NO_CREDENTIAL, Credential
from pipeline.watching.message import Message
from pipeline.watching.sink import Sink, Undelivered

LIMIT_S = 15.0
"""Seconds that a server may take to connect, and again to answer."""
LONGEST_RETRY_AFTER_S = 24 * 3600.0
REFUSALS = {400, 413, 415, 422}
"""Answers about the message itself; all others may be different next time."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would turn POST into GET, and could lead to a stranger."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


class WebhookSink(Sink):
    """Posts messages to one address, which is never shown: a part of it may be a secret."""

    name = "webhook"

    def __init__(
        self,
        url: Credential,
        *,
        tls: ssl.SSLContext,
        secret: Credential = NO_CREDENTIAL,
        token: Credential = NO_CREDENTIAL,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._url, self._secret, self._token = url, secret, token
        self._host = urlsplit(url.value).hostname or ""
        self._limit_s = limit_s
        handlers = (urllib.request.HTTPSHandler(context=tls), _NoRedirect())
        self._opener = urllib.request.build_opener(*handlers)

    def deliver(self, message: Message) -> None:
        """Post the message; Undelivered for another answer than success, and for none."""
        body = message.as_json().encode()
        request = urllib.request.Request(  # noqa: S310 - http or https, see webhook_sink
            self._url.value, data=body, headers=self._headers(message.id, body), method="POST"
        )
        try:
            with self._opener.open(request, timeout=self._limit_s):
                pass  # the body of the answer says nothing that is needed
        except urllib.error.HTTPError as answer:
            with answer:
                raise self._refusal(answer.code, answer.headers) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Undelivered(self._trouble(error)) from None

    def _headers(self, id: str, body: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"{OURS}/{installed_version()}",
            "Idempotency-Key": id.encode("ascii", "backslashreplace").decode("ascii"),
        }
        if self._secret:
            digest = hmac.new(self._secret.value.encode(), body, hashlib.sha256).hexdigest()
            headers["X-Signature"] = f"sha256={digest}"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token.value}"
        return headers

    def _refusal(self, status: int, headers: Headers) -> Undelivered:
        """Say what an answer other than success means, and when to try again."""
        what = f"{self._host} answers {status}"
        if 300 <= status < 400:
            what += ", a redirect, which is not followed; give the final address"
        elif status in (401, 403):
            what += "; look at WATCH_WEBHOOK_TOKEN and WATCH_WEBHOOK_SECRET"
        elif status in (404, 410):
            what += "; look at the address"
        wait = _retry_after_s(headers.get("Retry-After", ""))
        return Undelivered(what, retry_after_s=wait, is_refused=status in REFUSALS)

    def _trouble(self, error: Exception) -> str:
        """Say why there was no answer, in one line that names only the host."""
        cause = getattr(error, "reason", error)
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"the certificate of {self._host} is not trusted: {cause.verify_message}; "
                "--ca-file takes the certificate of your own authority"
            )
        if isinstance(cause, TimeoutError):
            return f"{self._host} gave no answer in {self._limit_s:g} s"
        if isinstance(cause, ssl.SSLError):
            return f"no TLS with {self._host}: {cause.reason or 'it broke off'}"
        if isinstance(cause, OSError) and cause.strerror:
            return f"no connection to {self._host}: {cause.strerror}"
        return f"{self._host} did not answer as a web server does: {type(cause).__name__}"


def _retry_after_s(text: str) -> float | None:
    """Read the header `Retry-After`, seconds or a date; None where it is neither."""
    try:
        if text.strip().isdecimal():
            seconds = float(text)
        else:
            seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):  # TypeError: a date without a time zone
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_S)


def webhook_sink(
    url: Credential, *, tls: ssl.SSLContext, secret: Credential, token: Credential
) -> WebhookSink:
    """Make the sink; UsageError for an address that cannot be one, without showing it."""
    try:
        parts = urlsplit(url.value)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:
        has_host = False
    if not has_host or parts.scheme not in ("http", "https") or not url.value.isascii():
        raise UsageError("--webhook takes an address such as https://example.com/alarms")
    if " " in url.value:
        raise UsageError("--webhook takes an address without spaces")
    if parts.username is not None or parts.password is not None:
        raise UsageError(
            "--webhook takes no user or password, because every user of this computer would see "
            "them in the list of processes; set WATCH_WEBHOOK_TOKEN instead"
        )
    return WebhookSink(url, tls=tls, secret=secret, token=token)
