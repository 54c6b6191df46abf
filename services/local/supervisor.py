"""Everything on one machine: gateway, worker and scheduler as one process group.

The supervisor is also the scheduler. It holds one end of a pipe whose other end its children watch, so
that they end with it even when it is killed.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import httpx
import structlog

from services.serving import DRAIN_SECONDS, EXIT_BAD_START, PARENT_PIPE, listener_on
from shared.settings import BadSettings, Settings
from shared.wiring import catalogue_of
from shared.wiring.media import open_media
from shared.wiring.secret import worker_secret
from shared.wiring.stores import open_store

START_SECONDS: Final = 60
SWEEP_PAUSE_SECONDS: Final = 1.0
RESTART_PAUSES_SECONDS: Final = (0.2, 1.0, 2.0, 5.0, 10.0)
"""Between the restarts of a service that keeps dying."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Child:
    name: str
    module: str
    health_url: str
    process: asyncio.subprocess.Process | None = None
    deaths: int = 0


@dataclass(slots=True)
class Supervisor:
    settings: Settings
    announce: Callable[[Settings], None]
    """Called once everything answers."""
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> int:
        """Until SIGINT or SIGTERM. Raises `BadSettings` before anything starts that cannot work."""
        await self._prepare()
        loop = asyncio.get_running_loop()
        for signal_ in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signal_, self._stop.set)
        ours, theirs = os.pipe()
        children = [
            _Child("gateway", "services.api_gateway", f"{self.settings.gateway_url_here}/health"),
            _Child("worker", "services.worker", f"{self.settings.push_url}/health"),
        ]
        try:
            for child in children:
                await self._start(child, ours)
            if not await self._all_answer(children):
                return 0 if self._stop.is_set() else EXIT_BAD_START
            self.announce(self.settings)
            keepers = [asyncio.create_task(self._keep(child, ours)) for child in children]
            scheduler = asyncio.create_task(self._schedule())
            await self._stop.wait()
            for task in (*keepers, scheduler):
                task.cancel()
            await asyncio.gather(*keepers, scheduler, return_exceptions=True)
            return 0
        finally:
            await asyncio.gather(*(_end(child) for child in children))
            os.close(ours)
            os.close(theirs)

    async def _prepare(self) -> None:
        """Find out now, in one line, what the children would find out later."""
        settings = self.settings
        if settings.store_url == "memory://":
            raise BadSettings("MEDIAFORGE_STORE: memory:// lives in one process and `up` starts two")
        worker_secret(settings)
        catalogue_of(settings)
        async with open_media(settings), open_store(settings):
            pass
        for port in (settings.gateway_port, settings.worker_port):
            listener_on(settings.host, port).close()

    async def _start(self, child: _Child, pipe: int) -> None:
        environment = {name: value for name, value in os.environ.items() if name != "PORT"}
        child.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            child.module,
            env=environment | {PARENT_PIPE: str(pipe)},
            pass_fds=(pipe,),
            stdin=asyncio.subprocess.DEVNULL,
        )

    async def _all_answer(self, children: list[_Child]) -> bool:
        """Wait until every child is healthy; false if one ends first or the time is up."""
        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            for _ in range(START_SECONDS * 20):
                if self._stop.is_set() or any(_has_ended(child) for child in children):
                    return False
                answers = [await _answers(client, child.health_url) for child in children]
                if all(answers):
                    return True
                await asyncio.sleep(0.05)
        print("mediaforge: the services did not answer in time", file=sys.stderr)  # noqa: T201
        return False

    async def _keep(self, child: _Child, pipe: int) -> None:
        """Start the child again whenever it dies."""
        while True:
            assert child.process is not None
            code = await child.process.wait()
            pause = RESTART_PAUSES_SECONDS[min(child.deaths, len(RESTART_PAUSES_SECONDS) - 1)]
            child.deaths += 1
            _log.error("service.died", name=child.name, exit_code=code, restart_in_seconds=pause)
            await asyncio.sleep(pause)
            await self._start(child, pipe)

    async def _schedule(self) -> None:
        """What Cloud Scheduler does elsewhere."""
        headers = {"Authorization": f"Bearer {worker_secret(self.settings)}"}
        async with httpx.AsyncClient(
            base_url=self.settings.push_url, headers=headers, timeout=90, trust_env=False
        ) as client:
            while True:
                try:
                    await client.post("/sweep")
                except httpx.HTTPError as error:
                    _log.warning("sweep.unreachable", error=str(error) or type(error).__name__)
                await asyncio.sleep(SWEEP_PAUSE_SECONDS)


def _has_ended(child: _Child) -> bool:
    return child.process is None or child.process.returncode is not None


async def _answers(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).is_success
    except httpx.HTTPError:
        return False


async def _end(child: _Child) -> None:
    """Ask it to end, and insist when it does not."""
    if child.process is None or _has_ended(child):
        return
    with suppress(ProcessLookupError):
        child.process.terminate()
    try:
        async with asyncio.timeout(DRAIN_SECONDS + 3):
            await child.process.wait()
    except TimeoutError:
        child.process.kill()
        await child.process.wait()
