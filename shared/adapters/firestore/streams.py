"""One Listen call and what it listens to, opened anew whenever it breaks."""

import asyncio
import contextvars
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Final, Self

import structlog
from google.cloud.firestore_v1 import types

from shared.adapters.firestore import statements
from shared.adapters.firestore.client import Firestore, in_one_line, pause_before
from shared.adapters.firestore.documents import Documents
from shared.domain.changes import job_key
from shared.domain.ids import JobId, UserId

PAUSE_SECONDS: Final = 0.1
"""Up to so long before what broke is asked for again; twice as long each time it breaks again."""
LONGEST_PAUSE_SECONDS: Final = 10.0
HEALTHY_AFTER: Final = timedelta(minutes=1)
"""A stream that lasted so long did not break for the reason that it had before."""
LAG: Final = timedelta(minutes=5)
"""A user's jobs are listened to from so long ago: what a commit notes as its time is not quite it."""

Subject = UserId | frozenset[JobId]
Version = tuple[int, int]
"""When a document was written: seconds and nanoseconds."""

_Request: Final[Any] = types.ListenRequest.pb()
_Description: Final[Any] = types.Target.pb()
_Change: Final = types.TargetChange.TargetChangeType
_log = structlog.get_logger(__name__)


@dataclass(eq=False, slots=True)
class Target:
    """What Firestore tells us about, for one or more watchers."""

    subject: Subject
    watchers: int = 0
    stands: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once everything that stood before has been told, so that the rest are changes."""
    trouble: str | None = None
    is_told: bool = False
    """Whether the stream that is open now has told all that stands."""
    number: int = 0
    since: datetime | None = None
    """For a user: as of when jobs are listened to that have changed."""
    seen: dict[str, Version] = field(default_factory=dict)
    """Which version of each document was told: everything is told again from time to time."""
    failures: int = 0


class Stream:
    def __init__(
        self, firestore: Firestore, documents: Documents, tell: Callable[[Any, Version], None]
    ) -> None:
        self.targets: dict[int, Target] = {}
        self._firestore = firestore
        self._documents = documents
        self._tell = tell
        self._numbers = count(1)
        self._requests: asyncio.Queue[Any] = asyncio.Queue()
        # In a context of its own: what it logs has nothing to do with who came first.
        self.task = asyncio.create_task(self._run(), name="watch firestore", context=contextvars.Context())

    def add(self, target: Target) -> None:
        target.number = next(self._numbers)
        target.since = self._firestore.now() - LAG
        self.targets[target.number] = target
        self._say(add_target=self._described(target))

    def remove(self, target: Target) -> None:
        del self.targets[target.number]
        self._say(remove_target=target.number)

    def _say(self, **wish: Any) -> None:
        self._requests.put_nowait(_Request(database=self._firestore.database, **wish))

    async def _run(self) -> None:
        failures = 0
        while True:
            began = self._firestore.now()
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001 - whatever it is, those who watch wait for changes
                self._note(error)
            for target in self.targets.values():
                self._lose(target)
            failures = 1 if self._firestore.now() - began > HEALTHY_AFTER else failures + 1
            await asyncio.sleep(_pause_before(failures))

    async def _listen(self) -> None:
        requests = self._requests = asyncio.Queue()
        for target in self.targets.values():
            self._say(add_target=self._described(target))
        stream = await self._firestore.listen(_Said(requests))
        try:
            async for response in stream:
                self._hear(types.ListenResponse.pb(response))
        finally:
            stream.cancel()

    def _note(self, error: Exception) -> None:
        for target in self.targets.values():
            target.trouble = in_one_line(error)
        _log.warning("store.watch_failed", error=in_one_line(error), kind=type(error).__name__)

    def _hear(self, response: Any) -> None:
        match response.WhichOneof("response_type"):
            case "target_change":
                self._hear_of_targets(response.target_change)
            case "document_change":
                self._hear_of_document(response.document_change)
            case _:
                pass  # what was removed is not told, and nothing is counted

    def _hear_of_targets(self, change: Any) -> None:
        for target in self._numbered(change.target_ids):
            if change.target_change_type == _Change.CURRENT:
                target.stands.set()
                target.is_told = True
                target.failures = 0
            elif change.target_change_type == _Change.REMOVE:
                self._add_later(target, change.cause.message)

    def _hear_of_document(self, change: Any) -> None:
        document, is_news = change.document, False
        version = document.update_time.seconds, document.update_time.nanos
        for target in self._numbered(change.target_ids):
            if target.seen.get(document.name) != version:
                target.seen[document.name] = version
                is_news |= target.stands.is_set()
        if is_news:
            self._tell(document, version)

    def _numbered(self, numbers: Iterable[int]) -> list[Target]:
        return [self.targets[number] for number in numbers if number in self.targets]

    def _add_later(self, target: Target, trouble: str) -> None:
        """Firestore gave one target up: the others go on."""
        self._lose(target)
        target.trouble = trouble
        target.failures += 1
        _log.warning("store.watch_failed", error=trouble, subject=str(target.subject))
        pause = _pause_before(target.failures)
        asyncio.get_running_loop().call_later(pause, self._add_again, target, self._requests)

    def _lose(self, target: Target) -> None:
        """Note until when it was well; it may be lost again and again before it is well once more."""
        if target.is_told:
            target.is_told, target.since = False, self._firestore.now() - LAG

    def _add_again(self, target: Target, requests: "asyncio.Queue[Any]") -> None:
        if target.number in self.targets and requests is self._requests:
            self._say(add_target=self._described(target))

    def _described(self, target: Target) -> Any:
        described = _Description(target_id=target.number)
        if isinstance(target.subject, frozenset):
            names = [self._documents.name_of(job_key(job)) for job in sorted(target.subject)]
            described.documents.documents.extend(names)
        else:
            assert target.since is not None
            described.query.parent = self._documents.root
            query = statements.changed_since(target.subject, target.since)
            described.query.structured_query.CopyFrom(query)
        return described


class _Said:
    """Iterates over requests as they are made. An object: a generator would have to be closed."""

    def __init__(self, requests: "asyncio.Queue[Any]") -> None:
        self._requests = requests

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return types.ListenRequest.wrap(await self._requests.get())


def _pause_before(attempt: int) -> float:
    return pause_before(attempt, first_seconds=PAUSE_SECONDS, at_most_seconds=LONGEST_PAUSE_SECONDS)
