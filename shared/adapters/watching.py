"""Handing out changes of jobs to whoever watches, inside one process."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from shared.domain.ids import JobId
from shared.domain.job import Job
from shared.ports.store import Interest


class _Watcher:
    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        self._latest: dict[JobId, Job] = {}
        self._changed = asyncio.Event()

    def tell(self, job: Job) -> None:
        self._latest[job.id] = job
        self._changed.set()

    async def changes(self) -> AsyncIterator[Job]:
        while True:
            await self._changed.wait()
            self._changed.clear()
            latest, self._latest = self._latest, {}
            for job in latest.values():
                yield job


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
            yield watcher.changes()
        finally:
            self._watchers.discard(watcher)
