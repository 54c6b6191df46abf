"""The world around the use cases, and all that can go wrong in it.

A `Process` is one run of the code under test: every call it makes to a port passes `Process.call`, where a
drawn `Trouble` may strike before or after the call took effect. A process that crashed is dead: each
further call of its own is refused, so nothing that it would still do counts.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar

from shared.adapters.memory import MemoryStore
from shared.domain.catalogue import Catalogue, KindRules, Model, Per
from shared.domain.changes import AnyKey, Decide, Records, job_key
from shared.domain.errors import MediaUnavailable, QueueUnavailable, StoreUnavailable
from shared.domain.ids import AccountId, ClaimToken, JobId
from shared.domain.job import Job, Purchase
from shared.domain.keys import ApiKey
from shared.domain.ledger import Entry
from shared.domain.outcomes import Outcome
from shared.domain.policy import Policy
from shared.domain.requests import ImageRequest
from shared.ports.generator import (
    Artifact,
    Busy,
    ContentRejected,
    Down,
    GenerationFailed,
    Made,
    Order,
    OutcomeUnknown,
    RequestRefused,
    Retired,
    Running,
    Withheld,
)
from shared.ports.media import Inspection, UnreadableMedia
from shared.ports.queue import Hint
from shared.ports.store import Balance, Interest, JobFilter, Page, Store, Tally
from shared.usecases.app import WorkerApp
from shared.usecases.handlers import all_handlers
from shared.usecases.handlers.base import Handler
from shared.usecases.turn import LeaseLost, Turn
from shared.usecases.work import Work
from tests.support import PNG, Dice, ManualClock, MemoryMedia, RecordingQueue, TrustingInspector

T = TypeVar("T")

SIGNUP_TOKENS: Final = 100
MODELS: Final = {
    "sketch": Model(
        generator="local",
        tokens=1,
        per=Per.IMAGE,
        start_timeout_seconds=45,
        repeatable=True,
        max_count=4,
        sizes={"1:1": "64x64"},
    ),
    "studio": Model(
        generator="studio",
        tokens=3,
        per=Per.IMAGE,
        start_timeout_seconds=100,
        max_count=4,
        sizes={"1:1": "64x64"},
    ),
    "film": Model(
        generator="local",
        tokens=10,
        per=Per.JOB,
        start_timeout_seconds=30,
        seconds=(4,),
        sizes={"1:1": "64x64"},
    ),
    "cinema": Model(
        generator="studio",
        tokens=5,
        per=Per.SECOND,
        start_timeout_seconds=30,
        seconds=(4,),
        sizes={"1:1": "64x64"},
    ),
}
CATALOGUE: Final = Catalogue(
    kinds={
        "image": KindRules(deadline_seconds=600, models=("sketch", "studio")),
        "video": KindRules(deadline_seconds=3600, models=("film", "cinema")),
        "erasure": KindRules(deadline_seconds=30 * 24 * 3600),
    },
    models=MODELS,
)


class Crash(BaseException):
    """The process has died here."""


class Surprise(Exception):
    """An error that no contract speaks of."""


class What(StrEnum):
    CRASH_BEFORE = "crash_before"
    CRASH_AFTER = "crash_after"
    FREEZE_BEFORE = "freeze_before"
    """The whole process stops, as under a debugger, until it is released: it renews no lease."""
    FREEZE_AFTER = "freeze_after"
    SLOW = "slow"
    """Only this call waits until it is released; the lease is renewed meanwhile."""
    FAIL_BEFORE = "fail_before"
    """The error that the port knows, and nothing has happened."""
    FAIL_AFTER = "fail_after"
    """The same error, though the call took effect: a commit or an order of unknown result."""
    SURPRISE = "surprise"
    """`Surprise`, after the effect; a store has none such."""
    TWICE = "twice"
    """A store that does not know the result of its commit loads and decides again."""


@dataclass(frozen=True)
class Trouble:
    """What strikes the `at`-th call that a process makes to any port, and the calls after it."""

    what: What
    at: int = 1
    calls: int = 1


class Says(StrEnum):
    MADE = "made"
    PARTLY = "partly"
    JUNK = "junk"
    PARTLY_JUNK = "partly_junk"
    RUNNING = "running"
    REJECTED = "rejected"
    REFUSED = "refused"
    BUSY = "busy"
    BUSY_FOR_LONG = "busy_for_long"
    DOWN = "down"
    RETIRED = "retired"
    FAILED = "failed"
    FAILED_RETRYABLY = "failed_retryably"
    UNKNOWN = "unknown"
    TIMES_OUT = "times_out"


ENDS: Final = (
    Says.MADE,
    Says.PARTLY,
    Says.JUNK,
    Says.REJECTED,
    Says.FAILED,
    Says.FAILED_RETRYABLY,
)
_TOOK_NOTHING: Final[Mapping[Says, Callable[[], Exception]]] = {
    Says.BUSY: lambda: Busy("full"),
    Says.BUSY_FOR_LONG: lambda: Busy("full", retry_after=timedelta(minutes=8)),
    Says.DOWN: lambda: Down("down"),
    Says.RETIRED: lambda: Retired("gone"),
}
_ENDED_BADLY: Final[Mapping[Says, Callable[[], Exception]]] = {
    Says.REJECTED: lambda: ContentRejected("not allowed", stage="prompt"),
    Says.REFUSED: lambda: RequestRefused("never"),
    Says.FAILED: lambda: GenerationFailed("broke", retryable=False),
    Says.FAILED_RETRYABLY: lambda: GenerationFailed("broke", retryable=True),
    Says.UNKNOWN: lambda: OutcomeUnknown("broke off"),
    Says.TIMES_OUT: TimeoutError,
}


@dataclass(frozen=True)
class Answer:
    """What the provider says to a start; a running operation is polled `polls` times before it ends."""

    says: Says = Says.MADE
    polls: int = 0
    ends: Says = Says.MADE


@dataclass
class Start:
    """One order that reached the provider."""

    number: int
    job: JobId
    model: str
    wanted: int
    answer: Answer
    at: int
    caller_began: int
    polls_left: int
    polled_at: int | None = None
    over: bool = False
    """The provider said that nothing was taken or that it failed and could be tried again."""
    said: set[Says] = field(default_factory=set)
    usable: int | None = None
    """How many artifacts it made that can be used."""

    @property
    def reference(self) -> str:
        return f"operations/{self.number}"

    def forbids_another(self, repeatable: bool, caller_began: int) -> bool:
        """Whether starting the job again would be buying it twice.

        The reference of a cheap operation is known to be saved once somebody asked about it. A cheap
        order may still be placed by a worker that claimed the job before that and then fell behind.
        """
        decided_at = self.polled_at if MODELS[self.model].repeatable else self.at
        if self.over or decided_at is None:
            return False
        return not repeatable or decided_at < caller_began


class Provider:
    """Answers what was drawn, counts what was ordered, and notes whatever should not have been."""

    def __init__(self) -> None:
        self.starts: list[Start] = []
        self.violations: list[str] = []
        self.moment = 0
        self.healed = False

    def of(self, job: JobId) -> list[Start]:
        return [start for start in self.starts if start.job == job]

    def tick(self) -> int:
        self.moment += 1
        return self.moment

    def start(self, order: Order, answer: Answer, caller_began: int) -> Running | Made:
        model = MODELS[order.model]
        for earlier in self.of(order.job_id):
            if earlier.forbids_another(model.repeatable, caller_began):
                self.violations.append(f"{order.job_id} was bought again from {order.model} after {earlier}")
        wanted = order.request.count if isinstance(order.request, ImageRequest) else 1
        start = Start(
            number=len(self.starts),
            job=order.job_id,
            model=order.model,
            wanted=wanted,
            answer=answer,
            at=self.tick(),
            caller_began=caller_began,
            polls_left=answer.polls,
        )
        self.starts.append(start)
        if answer.says is Says.RUNNING:
            return Running(reference=start.reference)
        return self._say(start, answer.says)

    def poll(self, reference: str) -> Running | Made:
        [start] = [start for start in self.starts if start.reference == reference]
        start.polled_at = start.polled_at or self.tick()
        if start.polls_left > 0 and not self.healed:
            start.polls_left -= 1
            return Running(reference=reference, progress=90 - start.polls_left)
        return self._say(start, start.answer.ends)

    def _say(self, start: Start, says: Says) -> Made:
        start.said.add(says)
        start.over = says in _TOOK_NOTHING or says is Says.FAILED_RETRYABLY
        error = _TOOK_NOTHING.get(says) or _ENDED_BADLY.get(says)
        if error is not None:
            raise error()
        items = [_item(start, says, number) for number in range(start.wanted)]
        start.usable = sum(isinstance(item, Artifact) and item.content != JUNK for item in items)
        return Made(items=items)


JUNK: Final = b"junk"


def _item(start: Start, says: Says, number: int) -> Artifact | Withheld:
    """The first item of several is good unless all are junk; the bytes tell what they were made for."""
    is_film = start.model in ("film", "cinema")
    content = (b"film " if is_film else PNG) + f"|{start.job}|{start.number}|{number}".encode()
    if says is Says.JUNK or (says is Says.PARTLY_JUNK and number > 0):
        content = JUNK
    elif says is Says.PARTLY and number > 0:
        return Withheld(reason="policy")
    return Artifact(type="video/mp4" if is_film else "image/png", content=content)


class Universe:
    """What outlives every process: the store, the queue, the objects, the provider, the time."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.queue = RecordingQueue()
        self.media = MemoryMedia()
        self.provider = Provider()
        self.noise = Dice()
        self.policy = Policy()
        self.down: dict[str, int] = {}
        """Which ports answer nobody, and for how many rules yet."""
        self.violations: list[str] = []
        self.activity = 0


class Process:
    """One run of the code under test, with troubles of its own."""

    def __init__(
        self,
        universe: Universe,
        troubles: Sequence[Trouble] = (),
        *,
        answers: Sequence[Answer] = (),
        skew_seconds: int = 0,
    ) -> None:
        self.universe = universe
        self.began = universe.provider.tick()
        self.is_dead = False
        self.was_troubled = False
        self.has_failed = False
        """It died, or a call of its own failed: it may have left something behind."""
        self.task: asyncio.Task[Any] | None = None
        self._troubles = troubles
        self._answers = list(answers)
        self._calls = 0
        self._running = asyncio.Event()
        self._running.set()
        self._slow: list[asyncio.Event] = []
        self.app = WorkerApp(
            store=_Store(self),
            queue=_Queue(self),
            catalogue=CATALOGUE,
            policy=universe.policy,
            clock=_Clock(self, timedelta(seconds=skew_seconds)),
            noise=universe.noise,
            signup_tokens=SIGNUP_TOKENS,
            media=_Media(self),
            inspector=_Inspector(self),
            generators={name: _Generator(self) for name in ("local", "studio")},
            stop_grace_seconds=0,
        )
        handlers = {kind: _Handler(self, handler) for kind, handler in all_handlers(self.app).items()}
        self.work = Work(self.app, dict(handlers))

    @property
    def is_waiting(self) -> bool:
        return not self._running.is_set() or any(not slow.is_set() for slow in self._slow)

    def release(self) -> None:
        self._running.set()
        for slow in self._slow:
            slow.set()

    def kill(self) -> None:
        self.is_dead = self.was_troubled = self.has_failed = True
        if self.task is not None:
            self.task.cancel()

    def stop(self) -> None:
        """What a process is told before its machine is taken away."""
        self.app.stopping.set()

    def next_answer(self, order: Order) -> Answer:
        if self._answers:
            return self._answers.pop(0)
        return Answer() if isinstance(order.request, ImageRequest) else Answer(Says.RUNNING, polls=1)

    async def call(self, port: str, effect: Callable[[], Awaitable[T]], error: Callable[[], Exception]) -> T:
        """Let one call to a port through, or let the trouble strike that was drawn for it."""
        self.universe.activity += 1
        self._calls += 1
        what = self._trouble_at(self._calls)
        await self._alive()
        await self._before(what)
        if port in self.universe.down or what is What.FAIL_BEFORE:
            self.was_troubled = self.has_failed = True
            raise error()
        try:
            result = await effect()
            if what is What.TWICE and port == "store":
                result = await effect()
        finally:
            # Also after an answer that is an error: whoever asked may not live to hear it.
            await self._after(what, port, error)
        return result

    def _trouble_at(self, call: int) -> What | None:
        for trouble in self._troubles:
            if trouble.at <= call < trouble.at + trouble.calls:
                return trouble.what
        return None

    async def _before(self, what: What | None) -> None:
        if what is What.CRASH_BEFORE:
            self._die()
        if what is What.FREEZE_BEFORE:
            await self._freeze()

    async def _after(self, what: What | None, port: str, error: Callable[[], Exception]) -> None:
        if what is What.CRASH_AFTER:
            self._die()
        if what is What.FREEZE_AFTER:
            await self._freeze()
        if what is What.SLOW:
            # A store that does not answer keeps the lease from being renewed, too.
            self.was_troubled |= port == "store"
            slow = asyncio.Event()
            self._slow.append(slow)
            await slow.wait()
        await self._alive()
        if what in (What.FAIL_AFTER, What.SURPRISE):
            self.was_troubled = self.has_failed = True
            raise Surprise if what is What.SURPRISE and port in _SURPRISING else error()

    async def _freeze(self) -> None:
        self.was_troubled = True
        self._running.clear()
        await self._alive()

    async def _alive(self) -> None:
        await self._running.wait()
        if self.is_dead:
            raise Crash

    def _die(self) -> None:
        self.is_dead = self.was_troubled = self.has_failed = True
        raise Crash


class _Handler:
    """A handler that does not get away with a bug: the engine would put the error down as an attempt."""

    def __init__(self, process: Process, inner: Handler) -> None:
        self._violations = process.universe.violations
        self._inner = inner

    async def step(self, turn: Turn) -> Outcome:
        try:
            return await self._inner.step(turn)
        except (LeaseLost, StoreUnavailable, Surprise):
            raise
        except Exception as error:
            self._violations.append(f"a step of {turn.job} raised {error!r}")
            raise

    def intent_at_claim(self, job: Job, now: datetime) -> Purchase | None:
        return self._inner.intent_at_claim(job, now)

    def longest_call(self, job: Job) -> timedelta:
        return self._inner.longest_call(job)

    async def abandon(self, job: Job) -> None:
        await self._inner.abandon(job)


_SURPRISING: Final = ("provider", "inspector", "media")


class _Clock:
    def __init__(self, process: Process, skew: timedelta) -> None:
        self._process, self._skew = process, skew

    def now(self) -> datetime:
        return self._process.universe.clock.now() + self._skew

    async def sleep(self, seconds: float) -> None:
        await self._process.universe.clock.sleep(seconds)
        await self._process._alive()


class _Store(Store):
    """The one store, as a process reaches it."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._inner = process.universe.store
        self._claimed: tuple[str, ClaimToken] | None = None

    async def _ask(self, effect: Callable[[], Awaitable[T]]) -> T:
        return await self._process.call("store", effect, lambda: StoreUnavailable("the store is down"))

    async def change(self, keys: Sequence[AnyKey], decide: Decide) -> Records:
        return await self._ask(lambda: self._watched(keys, decide))

    async def _watched(self, keys: Sequence[AnyKey], decide: Decide) -> Records:
        """Promise 5: who claimed a job writes to it only as long as nobody else has claimed or ended it."""
        jobs = [job_key(JobId(key.id)) for key in keys if key.type is Job]
        before = await self._inner.load(jobs)
        after = await self._inner.change(keys, decide)
        for key in jobs:
            was, now = before.find(key), after.find(key)
            if self._claimed is None:
                if now is not None and now.lease is not None and (was is None or was.fence < now.fence):
                    self._claimed = (now.id, now.lease.token)
            elif was != now and key.id == self._claimed[0]:
                self._require_claim(was, self._claimed[1])
        return after

    def _require_claim(self, job: Job | None, token: ClaimToken) -> None:
        if job is None or job.lease is None or job.lease.token != token:
            self._process.universe.violations.append(f"a worker without a claim changed {job}")

    async def load(self, keys: Sequence[AnyKey]) -> Records:
        return await self._ask(lambda: self._inner.load(keys))

    async def due(self, now: datetime, *, limit: int) -> Sequence[Job]:
        return await self._ask(lambda: self._inner.due(now, limit=limit))

    async def next_wake(self) -> datetime | None:
        return await self._ask(self._inner.next_wake)

    async def jobs(self, wanted: JobFilter, *, limit: int, after: str | None = None) -> Page[Job]:
        return await self._ask(lambda: self._inner.jobs(wanted, limit=limit, after=after))

    async def feed(self, *, limit: int, after: str | None = None) -> Page[Job]:
        return await self._ask(lambda: self._inner.feed(limit=limit, after=after))

    async def entries(self, account: AccountId, *, limit: int, after: str | None = None) -> Page[Entry]:
        return await self._ask(lambda: self._inner.entries(account, limit=limit, after=after))

    async def entries_of(self, jobs: Sequence[JobId]) -> Sequence[Entry]:
        return await self._ask(lambda: self._inner.entries_of(jobs))

    async def balances(self, *, limit: int, after: str | None = None) -> Page[Balance]:
        return await self._ask(lambda: self._inner.balances(limit=limit, after=after))

    async def count(self, wanted: JobFilter) -> Tally:
        return await self._ask(lambda: self._inner.count(wanted))

    async def api_keys(self) -> Sequence[ApiKey]:
        return await self._ask(self._inner.api_keys)

    def watch(self, interest: Interest) -> AbstractAsyncContextManager[Any]:
        return self._inner.watch(interest)

    async def check(self) -> None:
        await self._ask(self._inner.check)


class _Queue:
    delays = False

    def __init__(self, process: Process) -> None:
        self._process = process

    async def publish(self, hints: Sequence[Hint]) -> None:
        await self._process.call(
            "queue",
            lambda: self._process.universe.queue.publish(hints),
            lambda: QueueUnavailable("the queue is down"),
        )

    async def check(self) -> None: ...


class _Media:
    def __init__(self, process: Process) -> None:
        self._process = process

    async def save(self, key: str, content: bytes | Path, *, type_: str) -> None:
        async def effect() -> None:
            if key in universe.media.objects:
                universe.violations.append(f"{key} was stored a second time")
            else:
                await universe.media.save(key, content, type_=type_)

        universe = self._process.universe
        await self._process.call("media", effect, self._error)

    async def delete_prefix(self, prefix: str) -> None:
        media = self._process.universe.media
        await self._process.call("media", lambda: media.delete_prefix(prefix), self._error)

    async def check(self) -> None: ...

    @staticmethod
    def _error() -> Exception:
        return MediaUnavailable("the media store is down")


class _Inspector:
    def __init__(self, process: Process) -> None:
        self._process = process

    async def inspect(self, content: bytes | Path) -> Inspection:
        async def effect() -> Inspection:
            if content == JUNK:
                raise UnreadableMedia
            return await TrustingInspector().inspect(content)

        return await self._process.call("inspector", effect, Surprise)


class _Generator:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._provider = process.universe.provider

    async def start(self, order: Order) -> Running | Made:
        async def effect() -> Running | Made:
            return self._provider.start(order, self._process.next_answer(order), self._process.began)

        is_down = "provider" in self._process.universe.down
        return await self._process.call(
            "provider", effect, lambda: Down("down") if is_down else OutcomeUnknown("broke off")
        )

    async def poll(self, order: Order, reference: str) -> Running | Made:
        async def effect() -> Running | Made:
            return self._provider.poll(reference)

        return await self._process.call("provider", effect, TimeoutError)

    async def cancel(self, order: Order, reference: str) -> None:
        async def effect() -> None: ...

        await self._process.call("provider", effect, lambda: Down("down"))
