"""A provider for tests: real sockets on loopback, a script of answers, a record of every call.

    async with FakeProvider() as provider:
        provider.answer(Reply.json({"candidates": []}))
        ... the adapter under test talks to provider.url ...
        [call] = provider.calls

Answers are given in the order of the script; a handler, where one is set, answers what the script does not.
Connections are counted, so that a call that is sent twice behind our back is seen.
"""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

import h11

CHUNK_BYTES: Final = 65536


@dataclass(frozen=True)
class Part:
    """One part of a multipart body."""

    name: str
    filename: str | None
    type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Call:
    """What a client sent."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def parts(self) -> list[Part]:
        """Of a multipart body."""
        head = f"content-type: {self.headers['content-type']}\r\n\r\n".encode()
        message = BytesParser(policy=HTTP).parsebytes(head + self.body)
        assert message.is_multipart(), self.headers["content-type"]
        parts = []
        for part in message.walk():
            content = part.get_payload(decode=True)
            if isinstance(content, bytes):
                name = str(part.get_param("name", header="content-disposition"))
                parts.append(Part(name, part.get_filename(), part.get_content_type(), content))
        return parts

    @property
    def fields(self) -> dict[str, str]:
        """The parts of a multipart body that are not files."""
        return {part.name: part.content.decode() for part in self.parts if part.filename is None}


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer. The connection can be dropped before it, or after `sent_bytes` of its body."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    after: asyncio.Event | None = None
    """Nothing is answered until it is set."""
    is_dropped: bool = False
    sent_bytes: int | None = None

    @classmethod
    def json(cls, content: Any, *, status: int = 200, **more: Any) -> Self:
        headers = {"content-type": "application/json; charset=UTF-8", **more.pop("headers", {})}
        return cls(status=status, body=json.dumps(content).encode(), headers=headers, **more)

    @classmethod
    def text(cls, content: str | bytes, *, status: int = 200, type_: str = "text/html", **more: Any) -> Self:
        """Anything, under any name: HTML from a proxy, or `type_="application/json"` that is none."""
        body = content.encode() if isinstance(content, str) else content
        return cls(status=status, body=body, headers={"content-type": type_}, **more)

    @classmethod
    def dropped(cls, *, after: asyncio.Event | None = None) -> Self:
        """The connection ends when the request has been read, without a word."""
        return cls(is_dropped=True, after=after)

    @classmethod
    def never(cls) -> Self:
        """No answer at all, as long as the client waits."""
        return cls(after=asyncio.Event())


Handler = Callable[[Call], Reply | Awaitable[Reply]]


class FakeProvider:
    """Listens on a free port of loopback while its context is open."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.connections = 0
        self.handler: Handler | None = None
        self.gone = 0
        """Clients that went away before they had their whole answer."""
        self._script: deque[Reply] = deque()
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self._port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def answer(self, *replies: Reply) -> None:
        """Append to the script."""
        self._script.extend(replies)

    async def close(self) -> None:
        """End every connection and refuse new ones; `url` then names a closed port."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        if server is not None:
            await server.wait_closed()

    async def until(self, condition: Callable[[], bool], *, seconds: float = 5) -> None:
        """Wait until something about the calls has become true."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        self.connections += 1
        try:
            await self._talk(reader, writer)
        except (ConnectionError, h11.RemoteProtocolError):
            self.gone += 1
        except asyncio.CancelledError:
            pass  # the test is over; streams of this Python complain about cancelled callbacks
        finally:
            self._talks.discard(task)
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()
            await self._tell()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        while (call := await _read_call(connection, reader)) is not None:
            self.calls.append(call)
            await self._tell()
            reply = await self._reply_to(call)
            if reply.after is not None:
                await self._wait(reply.after, reader)
            if reply.is_dropped or not await _send(connection, writer, reply):
                return
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    async def _reply_to(self, call: Call) -> Reply:
        if self._script:
            return self._script.popleft()
        if self.handler is None:
            return Reply.text(f"the script has no answer to {call.method} {call.path}", status=599)
        reply = self.handler(call)
        return reply if isinstance(reply, Reply) else await reply

    async def _wait(self, event: asyncio.Event, reader: asyncio.StreamReader) -> None:
        """Until the event, or until the client has gone."""
        told = asyncio.ensure_future(event.wait())
        left = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({told, left}, return_when=asyncio.FIRST_COMPLETED)
            if left.done() and not told.done():
                raise ConnectionResetError
        finally:
            for waiting in (told, left):
                waiting.cancel()
            await asyncio.gather(told, left, return_exceptions=True)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


async def _read_call(connection: h11.Connection, reader: asyncio.StreamReader) -> Call | None:
    request: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(CHUNK_BYTES)
            if not data and request is None:
                return None
            if not data:
                raise ConnectionResetError
            connection.receive_data(data)
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            target = urlsplit(request.target.decode())
            return Call(
                method=request.method.decode(),
                path=target.path,
                query=parse_qs(target.query, keep_blank_values=True),
                headers={name.decode(): value.decode() for name, value in request.headers},
                body=bytes(body),
            )
        else:
            return None


async def _send(connection: h11.Connection, writer: asyncio.StreamWriter, reply: Reply) -> bool:
    """Whether the whole answer was sent."""
    headers = {**reply.headers, "content-length": str(len(reply.body))}
    head = connection.send(h11.Response(status_code=reply.status, headers=list(headers.items())))
    writer.write(head)
    if reply.sent_bytes is not None:
        writer.write(connection.send(h11.Data(data=reply.body[: reply.sent_bytes])) or b"")
        await writer.drain()
        return False
    writer.write(connection.send(h11.Data(data=reply.body)) or b"")
    writer.write(connection.send(h11.EndOfMessage()) or b"")
    await writer.drain()
    return True
