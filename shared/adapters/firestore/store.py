"""The store on Firestore: plain reads, a decision, and one commit that demands that nothing has changed.

No transactions: on one account they keep each other waiting, and hide whether a commit happened. What a
change writes names the version that it read; what it creates must not exist. Where that does not hold
any more, nothing is written, and what stands now is decided on.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from google.cloud.firestore_v1 import types

from shared.adapters.firestore.client import Firestore, Overtaken, ResultUnknown, pause_before
from shared.adapters.firestore.documents import Documents
from shared.adapters.firestore.queries import Queries
from shared.adapters.firestore.watching import Listener
from shared.adapters.keyed_locks import KeyedLocks
from shared.documents import MediaUrl
from shared.domain.changes import (
    AnyKey,
    Create,
    Decide,
    Delete,
    Record,
    Records,
    Write,
    require_sound,
    target_of,
)
from shared.domain.errors import BrokenInvariant, Conflict, StoreUnavailable
from shared.domain.job import Job
from shared.ports.store import Interest

CHANGE_TIMEOUT_SECONDS: Final = 30
"""For all tries of a change, waiting for others of this process included."""
CONFLICT_TRIES: Final = 15
"""How often a change is decided anew because others were faster."""
CONFLICT_PAUSE_SECONDS: Final = 0.02
"""Up to so long before the second try; twice as long before each further one."""
LOST_TRIES: Final = 3
"""How often a change is decided anew because it is not known whether its commit happened."""
LOST_PAUSE_SECONDS: Final = 0.2

_Write: Final[Any] = types.Write.pb()
_SERVER_TIME: Final = types.DocumentTransform.FieldTransform.ServerValue.REQUEST_TIME


@dataclass(frozen=True, slots=True)
class _Seen:
    """Records as they were read, and the versions of those that exist."""

    records: dict[AnyKey, Record | None]
    versions: dict[AnyKey, Any]

    def of(self, keys: Sequence[AnyKey]) -> "_Seen":
        return _Seen(
            {key: self.records[key] for key in keys},
            {key: self.versions[key] for key in keys if key in self.versions},
        )


class FirestoreStore(Queries):
    def __init__(self, firestore: Firestore, documents: Documents, *, shards: int) -> None:
        super().__init__(firestore, documents, shards=shards)
        self._locks = KeyedLocks()
        self._listener = Listener(firestore, documents)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, project: str, *, media_url: MediaUrl, database: str = "(default)", shards: int = 1
    ) -> AsyncIterator["FirestoreStore"]:
        """Raises `StoreUnavailable` if the database cannot be read.

        `media_url` is shown in documents. `shards` cuts the indexes into ranges, for more than some 500
        new jobs a second; it may grow but never shrink, and every process must know the largest.
        """
        async with Firestore.open(project, database=database) as firestore:
            documents = Documents(firestore.database, media_url=media_url, shards=shards)
            store = cls(firestore, documents, shards=shards)
            try:
                yield store
            finally:
                await store._listener.close()

    async def change(self, keys: Sequence[AnyKey], decide: Decide) -> Records:
        named = tuple(dict.fromkeys(keys))
        limit = asyncio.timeout(CHANGE_TIMEOUT_SECONDS)
        try:
            async with limit, self._locks.held(named):
                return await self._change(named, decide)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise StoreUnavailable("Firestore does not answer") from error

    async def _change(self, keys: Sequence[AnyKey], decide: Decide) -> Records:
        overtaken = lost = 0
        seen = await self._read(keys)
        while True:
            loaded = Records(seen.records)
            writes = decide(loaded)
            require_sound(loaded, writes)
            try:
                await self._commit(seen, writes)
            except Overtaken as error:
                overtaken += 1
                if overtaken == CONFLICT_TRIES:
                    raise Conflict("others kept changing the same records") from error
                await asyncio.sleep(pause_before(overtaken, first_seconds=CONFLICT_PAUSE_SECONDS))
                seen = await self._look_again(seen, writes)
            except ResultUnknown as error:
                lost += 1
                if lost == LOST_TRIES:
                    raise StoreUnavailable(f"Firestore does not confirm what is written: {error}") from error
                await asyncio.sleep(pause_before(lost, first_seconds=LOST_PAUSE_SECONDS))
                seen = await self._read(keys)
            else:
                written = {target_of(w): None if isinstance(w, Delete) else w.record for w in writes}
                return Records({**loaded, **written})

    async def load(self, keys: Sequence[AnyKey]) -> Records:
        return Records((await self._read(keys)).records)

    async def _read(self, keys: Sequence[AnyKey]) -> _Seen:
        names = {key: name for key in keys if (name := self._documents.name_of(key)) is not None}
        found = await self._firestore.get(list(names.values()))
        standing = {key: found[name] for key, name in names.items() if name in found}
        records: dict[AnyKey, Record | None] = dict.fromkeys(keys)
        records |= {key: self._documents.read(key.type, document) for key, document in standing.items()}
        return _Seen(records, {key: document.update_time for key, document in standing.items()})

    async def _look_again(self, seen: _Seen, writes: Sequence[Write]) -> _Seen:
        """What stands now; raises `Conflict` if nothing that the decision saw has changed: it would
        collide for ever."""
        keys = tuple(seen.records)
        unseen = [target_of(w) for w in writes if isinstance(w, Create) and target_of(w) not in seen.records]
        now = await self._read([*keys, *unseen])
        colliding = [key for key in unseen if key in now.versions]
        if colliding and now.of(keys).versions == seen.versions:
            raise Conflict(f"{colliding[0].id} exists already")
        return now.of(keys)

    async def _commit(self, seen: _Seen, writes: Sequence[Write]) -> None:
        if writes:
            await self._firestore.commit([part for write in writes for part in self._parts_of(seen, write)])

    def _parts_of(self, seen: _Seen, write: Write) -> Iterator[Any]:
        """The write, and what becomes of its job's document in the feed."""
        key = target_of(write)
        part = self._part_of(write, self._name_of(key), seen.versions.get(key))
        after = None if isinstance(write, Delete) else write.record
        before = seen.records.get(key)
        if isinstance(after, Job):
            # When it was written, for those who watch; the clock is Firestore's.
            part.update_transforms.add(field_path="internal.changed_at", set_to_server_value=_SERVER_TIME)
        yield part
        yield from self._feed_parts(_published(before), _published(after))

    def _part_of(self, write: Write, name: str, version: Any) -> Any:
        if isinstance(write, Delete):
            part = _Write(delete=name)
        else:
            written = self._documents.write(name, write.record)
            part = _Write(update=written.document)
            if not isinstance(write, Create):
                part.update_mask.field_paths.extend(written.known)
        if isinstance(write, Create):
            part.current_document.exists = False
        else:
            part.current_document.update_time.CopyFrom(version)
        return part

    def _feed_parts(self, before: Job | None, after: Job | None) -> Iterator[Any]:
        # Without conditions of their own: the job's document is written with them, and has one.
        shown = self._documents.feed_document(after) if after is not None else None
        if before is not None and after is None:
            yield _Write(delete=self._documents.feed_name(before))
        elif shown is not None and (before is None or self._documents.feed_document(before) != shown):
            yield _Write(update=shown)

    def _name_of(self, key: AnyKey) -> str:
        name = self._documents.name_of(key)
        if name is None:
            raise BrokenInvariant(f"Firestore holds nothing of the name {key.id!r}")
        return name

    def watch(self, interest: Interest) -> AbstractAsyncContextManager[AsyncIterator[Job]]:
        return self._listener.watch(interest)

    async def check(self) -> None:
        nothing = f"{self._documents.root}/checks/{uuid4().hex}"  # its own: nobody else writes it now
        await self._firestore.get([nothing])
        try:
            await self._firestore.commit([_Write(delete=nothing)])
        except (Overtaken, ResultUnknown) as error:
            raise StoreUnavailable(f"Firestore does not take what is written: {error}") from error


def _published(record: Record | None) -> Job | None:
    return record if isinstance(record, Job) and record.published_at is not None else None
