"""Locks by name, for one event loop: they exist only while somebody holds them or waits."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from shared.domain.changes import AnyKey
from shared.domain.job import Job
from shared.domain.ledger import Account

_ORDER: Final[dict[type, int]] = {Account: 0, Job: 1}


class KeyedLocks:
    """Keeps the changes of one process from getting in each other's way.

    Between processes the database does that: they collide and are decided again, or wait for each other
    while each holds a connection, which is right as well but slower.
    """

    def __init__(self) -> None:
        self._locks: dict[AnyKey, _Lock] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def held(self, keys: Iterable[AnyKey]) -> AsyncIterator[None]:
        """Hold the locks of all accounts and jobs among the keys, taken in one order by everybody."""
        wanted = {key for key in keys if key.type in _ORDER}
        async with AsyncExitStack() as stack:
            for key in sorted(wanted, key=lambda key: (_ORDER[key.type], key.id)):
                await stack.enter_async_context(self._one(key))
            yield

    @asynccontextmanager
    async def _one(self, key: AnyKey) -> AsyncIterator[None]:
        lock = self._locks.setdefault(key, _Lock())
        lock.wanted_by += 1
        try:
            async with lock:
                yield
        finally:
            lock.wanted_by -= 1
            if not lock.wanted_by:
                del self._locks[key]


class _Lock(asyncio.Lock):
    wanted_by = 0
