"""What both services do with every request, as plain ASGI: request id, limits, headers."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import AbstractContextManager
from typing import Any, Final

import msgspec
import structlog
from starlette.exceptions import HTTPException

from shared.ports.tracing import Trace, read_trace, tracing

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/=+-]{1,128}")


class RequestFrame:
    """Gives each request an id that follows it into the logs, the job and the worker, as its trace does."""

    def __init__(self, app: App, *, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._app = app
        self._headers = list(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _asked_for(scope) or f"req_{secrets.token_hex(12)}"
        trace = read_trace(_header(scope, b"traceparent"), _header(scope, b"tracestate"))
        scope.setdefault("state", {})["request_id"] = request_id
        extra = [*self._headers, (b"x-request-id", request_id.encode())]

        async def framed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        with in_logs(request_id, trace), tracing(trace):
            await self._app(scope, receive, framed)


def in_logs(request_id: str, trace: Trace | None, **more: str) -> AbstractContextManager[None]:
    """What is logged inside names its request, and its trace if it has one."""
    named = {"trace_id": trace.id} if trace else {}
    return structlog.contextvars.bound_contextvars(request_id=request_id, **named, **more)


def _asked_for(scope: Scope) -> str | None:
    text = _header(scope, b"x-request-id")
    return text if text is not None and _REQUEST_ID.fullmatch(text) else None


def _header(scope: Scope, wanted: bytes) -> str | None:
    for name, value in scope["headers"]:
        if name == wanted:
            return str(value.decode("latin-1"))
    return None


class BodyLimit:
    """Refuses bodies that are too large, said or unsaid, or too slow, before they are in memory."""

    def __init__(self, app: App, *, max_bytes: int, max_seconds: float = 20) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received, is_complete = 0, False
        end = asyncio.get_running_loop().time() + self._max_seconds

        async def counted() -> Message:
            nonlocal received, is_complete
            if is_complete:
                return await receive()  # now it only tells that the client has gone, whenever that is
            try:
                async with asyncio.timeout_at(end):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, "the request's body did not arrive in time") from None
            received += len(message.get("body", b""))
            is_complete = not message.get("more_body", False)
            if received > self._max_bytes:
                raise HTTPException(413, f"a request's body may have {self._max_bytes} bytes at most")
            return message

        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit() and int(value[:18]) > self._max_bytes:
                await _answer(
                    send,
                    413,
                    "too_large",
                    f"a request's body may have {self._max_bytes} bytes at most",
                    scope,
                )
                return
        await self._app(scope, counted, send)


class Capacity:
    """Answers so many requests at once; more are told to come back, before anything is done for them."""

    def __init__(self, app: App, *, at_once: int, always: frozenset[str] = frozenset({"/health"})) -> None:
        self._app = app
        self._free = at_once
        self._always = always

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._always:
            await self._app(scope, receive, send)
            return
        if self._free <= 0:
            await _answer(send, 503, "unavailable", "full right now; try again", scope, retry_after=1)
            return
        self._free -= 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._free += 1


async def _answer(
    send: Send, status: int, code: str, message: str, scope: Scope, *, retry_after: int | None = None
) -> None:
    body = error_body(
        code,
        message,
        retryable=retry_after is not None,
        request_id=scope.get("state", {}).get("request_id", ""),
    )
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_body(
    code: str,
    message: str,
    *,
    request_id: str,
    param: str | None = None,
    retryable: bool = False,
    **more: int,
) -> bytes:
    """The one error shape."""
    error = {
        "code": code,
        "message": message,
        "param": param,
        "retryable": retryable,
        "request_id": request_id,
        **more,
    }
    return msgspec.json.encode({"error": error})
