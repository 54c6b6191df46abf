"""What the clients of outside providers share: the HTTP client, and what its failures mean.

The official clients take an HTTP client of ours. So there is one place for timeouts, for the bound on an
answer's size, for proxies, and one family of transport errors.
"""

import base64
import binascii
import math
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cache
from typing import Final

import anyio
import httpx2

from shared.ports.generator import Down

CONNECT_SECONDS: Final = 10
LONGEST_MESSAGE: Final = 300
LONGEST_WAIT: Final = timedelta(days=1)

TRANSPORT_ERRORS: Final = (httpx2.HTTPError, httpx2.InvalidURL, anyio.EndOfStream, OSError)
"""Not all that goes wrong under TLS is translated by the HTTP client."""

_UNSENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
    httpx2.InvalidURL,
    httpx2.LocalProtocolError,
)


_NOT_FOR_USERS: Final = (
    (re.compile(r"projects/[^/\s]+"), "projects/…"),
    (re.compile(r"\b(project(?:_?number|_?id)?)( ?[:=#] ?| )['\"`]?\d{4,}[\w-]*", re.IGNORECASE), r"\1\2…"),
    (re.compile(r"\bgs://[^\s'\"`,;]+"), "gs://…"),
    (re.compile(r"[\w.+-]+@[\w.-]+\.\w+"), "…@…"),
    (re.compile(r"\b(org|proj|sk|AIza)[-_][\w*-]{6,}"), r"\1-…"),
    (re.compile(r"\bAIza[\w-]{6,}"), "AIza…"),
)
"""Which of our projects, buckets, accounts and keys was used."""


class CannotOpen(ValueError):
    """A generator cannot be opened as configured; the message is one line that says what is wrong."""


class AnswerTooLarge(Exception):
    """The provider sent more than we are ready to hold; the rest was not read."""


class OperatorNeeded(Down):
    """Only the operator can mend it: a key, a permission, a bill. Users learn that the provider is down."""

    def __init__(self, what: str) -> None:
        super().__init__("the provider is not available")
        self.what = what


@asynccontextmanager
async def open_http(
    *, timeout_seconds: float, largest_answer_bytes: int
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client that sends each request once, over a connection of its own.

    A kept connection may be closed by the other side just when a paid request is written to it, and then
    nobody knows whether it was taken. A handshake costs nothing beside a generation.
    """

    async def connect_soon(request: httpx2.Request) -> None:
        # The official clients give every phase the whole call's time.
        request.extensions["timeout"]["connect"] = min(CONNECT_SECONDS, timeout_seconds)

    async def bound(response: httpx2.Response) -> None:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Bounded(response.stream, largest_answer_bytes)

    async with httpx2.AsyncClient(
        verify=tls(),
        timeout=timeout_seconds,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0),
        # What is counted is then what is held: nothing grows by decoding.
        headers={"accept-encoding": "identity"},
        event_hooks={"request": [connect_soon], "response": [bound]},
        follow_redirects=False,
    ) as client:
        yield client


@cache
def tls() -> ssl.SSLContext:
    """One for every client of this process: reading the certificates takes 25 ms."""
    return httpx2.create_ssl_context()


def was_not_sent(error: BaseException | None) -> bool:
    """Whether the provider cannot have seen a whole request: refused, unresolved, no handshake."""
    return isinstance(error, _UNSENT)


def wait_told(headers: Mapping[str, str]) -> timedelta | None:
    """What `Retry-After` says in seconds; as a date it is not understood."""
    after = headers.get("retry-after", "")
    return bounded_wait(float(after)) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", after) else None


def bounded_wait(seconds: float) -> timedelta:
    """Whole seconds, up."""
    return min(timedelta(seconds=math.ceil(seconds)), LONGEST_WAIT)


def checked_key(api_key: str) -> str:
    """The key as a header can carry it, or `CannotOpen`; the message does not repeat it."""
    key = api_key.strip()
    if not key:
        raise CannotOpen("the API key is missing")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise CannotOpen("the API key has characters that cannot be part of a key")
    return key


def checked_url(base_url: str) -> str:
    try:
        url = httpx2.URL(base_url)
    except httpx2.InvalidURL as error:
        raise CannotOpen(f"the base URL is not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise CannotOpen("the base URL must begin with http:// or https:// and name a host")
    return base_url


def shown(text: str) -> str:
    """A provider's words as one line that a user may see."""
    for pattern, instead in _NOT_FOR_USERS:
        text = pattern.sub(instead, text)
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 1].rstrip() + "…"


def decoded(text: str) -> bytes | None:
    """Of base64, in either of its alphabets; `None` if it is none."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_", validate=True)
    except (binascii.Error, ValueError):
        return None


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, largest_bytes: int) -> None:
        self._stream = stream
        self._largest_bytes = largest_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen_bytes = 0
        async for chunk in self._stream:
            seen_bytes += len(chunk)
            if seen_bytes > self._largest_bytes:
                raise AnswerTooLarge(f"the answer is larger than {self._largest_bytes} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()
