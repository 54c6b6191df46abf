"""Handing out changes of jobs to whoever watches, inside one process."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Self

from shared.domain.ids import JobId
from shared.domain.job import Job
from shared.ports.store import Interest


class _Watcher:
    """Iterates over what was told. An object, not a generator: giving up waiting must not end it."""

    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        self._latest: dict[JobId, Job] = {}
        self._told = asyncio.Event()

    def tell(self, job: Job) -> None:
        self._latest[job.id] = job
        self._told.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Job:
        while not self._latest:
            self._told.clear()
            await self._told.wait()
        return self._latest.pop(next(iter(self._latest)))


class Watchers:
    """Keeps only the latest state of each job per watcher, so a slow one costs no memory."""

    def __init__(self) -> None:
        self._watchers: set[_Watcher] = set()

    def __bool__(self) -> bool:
        return bool(self._watchers)

    def tell(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            for watcher in self._watchers:
                if watcher.interest.includes(job):
                    watcher.tell(job)

    @asynccontextmanager
    async def watch(self, interest: Interest) -> AsyncIterator[AsyncIterator[Job]]:
        watcher = _Watcher(interest)
        self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)
