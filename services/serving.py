"""Running an ASGI app as a process that starts or says why in one line, and ends well.

SIGTERM is told to the app at once, requests under way are drained, and the exit code is 0.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import uvicorn

from shared.logs import configure_logs
from shared.settings import BadSettings, Settings, load_settings, port_to_listen_on

EXIT_BAD_START: Final = 2
DRAIN_SECONDS: Final = 7
"""Requests under way get this long after SIGTERM; Cloud Run kills the process after 10."""
BACKLOG: Final = 2048
PARENT_PIPE: Final = "MEDIAFORGE_PARENT_PIPE"
"""The descriptor of a pipe that closes when the process that started us is gone, however it went."""


@dataclass(frozen=True)
class Service:
    """An app that is ready to serve, and what to tell it when the process is asked to end."""

    app: Any
    on_stop: Callable[[], None] = lambda: None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's own: tell the app before requests are drained, and exit with 0."""
        loop = asyncio.get_running_loop()
        for signal_ in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signal_, self._stop)
        try:
            yield
        finally:
            for signal_ in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(signal_)

    def _stop(self) -> None:
        self._on_stop()
        self.should_exit = True


def run(
    name: str,
    port_of: Callable[[Settings], int],
    open_service: Callable[[Settings], AbstractAsyncContextManager[Service]],
) -> int:
    """Be a service until SIGTERM or SIGINT; returns the exit code: 0, or 2 if it could not start."""
    try:
        _end_with_parent()
        settings = load_settings()
        configure_logs(as_json=settings.logs_as_json, level=settings.log_level, service=name)
        listener = listener_on(settings.host, port_to_listen_on(port_of(settings)))
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(listener, open_service(settings)))
    except BadSettings as error:
        print(f"mediaforge {name}: {error}", file=sys.stderr)  # noqa: T201 - for people, before any log
        return EXIT_BAD_START
    return 0


async def _serve(listener: socket.socket, opening: AbstractAsyncContextManager[Service]) -> None:
    async with opening as service:
        config = uvicorn.Config(
            service.app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        await _Server(config, service.on_stop).serve(sockets=[listener])


def listener_on(host: str, port: int) -> socket.socket:
    """A bound socket; raises `BadSettings` when somebody else listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)  # now: only then a second process that wants the port is told
    except OSError as error:
        listener.close()
        raise BadSettings(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it exists."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _end_with_parent() -> None:
    """A supervisor that is killed cannot say goodbye; its end of the pipe closes all the same."""
    descriptor = os.environ.pop(PARENT_PIPE, None)
    if descriptor is None:
        return

    def wait() -> None:
        os.read(int(descriptor), 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()
