"""What queues push to in tests: a worker that keeps every push, also behind a real address, and hints."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn

from shared.domain.errors import QueueUnavailable
from shared.domain.ids import JobId, RequestId
from shared.domain.job import Kind
from shared.envelope import read_hint
from shared.ports.queue import Hint
from tests.support import ManualClock

IMAGES, VIDEOS, OTHERS = "/process-generation", "/process-video", "/process-batch"

Answer = int | Exception | dict[str, str]
"""A status, a broken connection, or 503 with these headers."""


@dataclass
class PushedWorker:
    """A worker that keeps every push and answers what the test says: 204, unless told otherwise."""

    answers: list[Answer] = field(default_factory=list)
    pushes: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    """Routes on which a push is not answered before the event."""
    in_flight: int = 0
    most_in_flight: int = 0

    @property
    def jobs(self) -> list[str]:
        return [read_hint(body).job_id for _, _, body in self.pushes]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.pushes.append((scope["path"], headers, body))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if gate := self.gates.get(scope["path"]):
                await gate.wait()
        finally:
            self.in_flight -= 1
        answer = self.answers.pop(0) if self.answers else 204
        if isinstance(answer, Exception):
            raise answer
        status, extra = (503, answer) if isinstance(answer, dict) else (answer, {})
        answered = [(name.encode(), value.encode()) for name, value in extra.items()]
        await send({"type": "http.response.start", "status": status, "headers": answered})
        await send({"type": "http.response.body", "body": b""})


def a_hint(number: int = 1, kind: str = Kind.IMAGE, request_id: str | None = None) -> Hint:
    return Hint(
        job_id=JobId(f"job_{number:026d}"),
        kind=kind,
        request_id=RequestId(request_id) if request_id is not None else None,
    )


def hints(numbers: Iterable[int], kind: str = Kind.IMAGE) -> list[Hint]:
    return [a_hint(number, kind) for number in numbers]


async def rest() -> None:
    """Until everything that can happen without the clock has happened."""
    for _ in range(200):
        await asyncio.sleep(0)


async def passing(clock: ManualClock, seconds: float) -> None:
    await rest()
    clock.advance(seconds=seconds)
    await rest()


async def in_time(clock: ManualClock, happened: Callable[[], bool], *, seconds: float = 20) -> None:
    """Until something has happened, while the manual clock runs much faster than the real one."""
    async with asyncio.timeout(seconds):
        while not happened():
            clock.advance(seconds=0.5)
            await asyncio.sleep(0.005)


async def refusal_of(call: Awaitable[None]) -> str:
    """Why a queue did not take it: one line, however it came about."""
    with pytest.raises(QueueUnavailable) as refused:
        await call
    assert "\n" not in refused.value.message
    assert len(refused.value.message) < 500
    return refused.value.message


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ctrl-C is for the tests."""
        yield


@asynccontextmanager
async def served(app: Callable[..., Any]) -> AsyncIterator[str]:
    """The app's address while it is served over HTTP on this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        await serving
        listener.close()
