"""What any process wrote to PostgreSQL, told to those who watch in this one.

Asked for at intervals, and only while somebody watches: `LISTEN` needs a session of its own, which a pooler
does not give.
"""

import asyncio
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog
from sqlalchemy import Select, Text, cast, func, select

from shared.adapters.sql import statements
from shared.adapters.sql.rows import readable_jobs
from shared.adapters.watching import Watchers
from shared.domain.errors import StoreUnavailable
from shared.domain.job import Job
from shared.ports.store import Interest

INTERVAL_SECONDS: Final = 0.25

_BATCH: Final = 500
_SNAPSHOT: Final = select(cast(func.pg_current_snapshot(), Text))
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Which transactions had ended when it was taken."""

    text: str
    oldest: int
    """Every transaction before this one had ended."""
    end: int
    """No transaction from this one on had ended."""


class Changes:
    def __init__(self, rows: Callable[[Select[Any]], Awaitable[Sequence[Any]]]) -> None:
        self._rows = rows
        self._watchers = Watchers()
        self._watching: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watch(self, interest: Interest) -> AsyncIterator[AsyncIterator[Job]]:
        async with self._watchers.watch(interest) as changes:
            if self._watching is None:
                snapshot = await self._snapshot()
                if self._watching is None:
                    self._watching = asyncio.create_task(
                        self._watch(snapshot.oldest), name="watch postgres", context=contextvars.Context()
                    )
            yield changes

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching

    async def _watch(self, since: int) -> None:
        """Tell the watchers what any process wrote.

        Transactions end in another order than they begin, so a place in the order of changes may be
        filled after later ones were seen. Filled for good is what lies before the oldest transaction
        that was still open when we looked; everything from there on is read again the next time.
        """
        told: set[tuple[int, str]] = set()
        seen: _Snapshot | None = None
        while self._watchers:
            try:
                snapshot = await self._snapshot()
                if snapshot != seen:  # else no transaction that wrote has ended
                    told = await self._tell_changes(since, snapshot, told)
                    since, seen = snapshot.oldest, snapshot
            except StoreUnavailable as error:
                _log.warning("store.watch_failed", error=str(error))
            await asyncio.sleep(INTERVAL_SECONDS)
        self._watching = None

    async def _tell_changes(
        self, since: int, snapshot: _Snapshot, told: set[tuple[int, str]]
    ) -> set[tuple[int, str]]:
        """Tell what was not told yet; returns what was told and will be read again."""
        place, again = (since, ""), set[tuple[int, str]]()
        while True:
            # With an end: a database restored elsewhere holds changes of transactions yet to come.
            rows = await self._rows(statements.changed_between(place, snapshot.end, _BATCH))
            self._watchers.tell(readable_jobs(row for row in rows if (row.changed, row.id) not in told))
            again |= {(row.changed, row.id) for row in rows if row.changed >= snapshot.oldest}
            if len(rows) < _BATCH:
                return again
            place = (rows[-1].changed, rows[-1].id)

    async def _snapshot(self) -> _Snapshot:
        [(text,)] = await self._rows(_SNAPSHOT)
        oldest, end, _ = text.split(":")
        return _Snapshot(text, int(oldest), int(end))
