"""Hearing of changes: few streams of Firestore for everybody in this process who watches.

Over the API's own Listen call, which carries many targets. The library's `on_snapshot` would take a
stream and two threads for each watcher, of the hundred streams that a connection has for everything; it
keeps every document that it ever saw, and it tells nobody when it dies.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

from shared.adapters.firestore.client import Firestore
from shared.adapters.firestore.documents import Documents, can_name
from shared.adapters.firestore.streams import Stream, Subject, Target, Version
from shared.adapters.watching import Watchers
from shared.domain.errors import StoreUnavailable
from shared.domain.job import Job
from shared.ports.store import Interest

ESTABLISH_TIMEOUT_SECONDS: Final = 10
TARGETS_PER_STREAM: Final = 100
REMEMBERED: Final = 10_000
"""Of how many documents it is known which version was told last."""


class Listener:
    def __init__(self, firestore: Firestore, documents: Documents) -> None:
        self._firestore = firestore
        self._documents = documents
        self._watchers = Watchers()
        self._targets: dict[Subject, Target] = {}
        self._streams: dict[Target, Stream] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._told: OrderedDict[str, Version] = OrderedDict()
        # The emulator garbles its answers where several targets share a stream.
        self._targets_per_stream = 1 if firestore.is_emulated else TARGETS_PER_STREAM

    @asynccontextmanager
    async def watch(self, interest: Interest) -> AsyncIterator[AsyncIterator[Job]]:
        async with self._watchers.watch(interest) as changes:
            targets = [self._join(subject) for subject in _subjects(interest)]
            try:
                await self._until_standing(targets)
                yield changes
            finally:
                for target in targets:
                    self._leave(target)

    async def close(self) -> None:
        for stream in set(self._streams.values()):
            self._end(stream)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _join(self, subject: Subject) -> Target:
        target = self._targets.get(subject)
        if target is None:
            target = self._targets[subject] = Target(subject)
            stream = self._streams[target] = self._stream_with_room()
            stream.add(target)
        target.watchers += 1
        return target

    def _leave(self, target: Target) -> None:
        target.watchers -= 1
        if target.watchers:
            return
        del self._targets[target.subject]
        stream = self._streams.pop(target)
        stream.remove(target)
        if not stream.targets:
            self._end(stream)

    def _stream_with_room(self) -> Stream:
        for stream in self._streams.values():
            if len(stream.targets) < self._targets_per_stream:
                return stream
        return Stream(self._firestore, self._documents, self._tell)

    def _tell(self, document: Any, version: Version) -> None:
        """Tell everybody, once, and never what is older than what was told: streams are not in step."""
        if self._told.get(document.name, (0, 0)) >= version:
            return
        self._told[document.name] = version
        self._told.move_to_end(document.name)
        if len(self._told) > REMEMBERED:
            self._told.popitem(last=False)
        self._watchers.tell(self._documents.readable_jobs([document]))

    def _end(self, stream: Stream) -> None:
        self._ending.add(stream.task)
        stream.task.add_done_callback(self._ending.discard)
        stream.task.cancel()

    async def _until_standing(self, targets: Iterable[Target]) -> None:
        limit = asyncio.timeout(ESTABLISH_TIMEOUT_SECONDS)
        try:
            async with limit:
                for target in targets:
                    await target.stands.wait()
        except TimeoutError as error:
            trouble = next((t.trouble for t in targets if not t.stands.is_set() and t.trouble), "no answer")
            raise StoreUnavailable(f"Firestore does not tell of changes: {trouble}") from error


def _subjects(interest: Interest) -> Iterable[Subject]:
    jobs = frozenset(job for job in interest.jobs if can_name(job))
    if jobs:
        yield jobs
    if interest.user_id is not None:
        yield interest.user_id
