"""What tests are built from: a clock moved by hand, chance that repeats, scripted generators, a world."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

from shared.adapters.memory import MemoryStore
from shared.catalogue import load_catalogue
from shared.domain.changes import AnyKey, Create, Decide, Record, Records, account_key, job_key
from shared.domain.errors import MediaUnavailable, StoreUnavailable
from shared.domain.ids import AccountId, EntryId, JobId, UserId
from shared.domain.job import Job, Kind, Status
from shared.domain.ledger import Account, Entry, Reason
from shared.domain.orders import image_order, video_order
from shared.domain.policy import Policy
from shared.ports.generator import Artifact, Made, Order, Running
from shared.ports.media import Inspection
from shared.ports.queue import Hint
from shared.ports.store import Store
from shared.usecases.app import WorkerApp
from shared.usecases.fingerprint import fingerprint
from shared.usecases.handlers import all_handlers
from shared.usecases.submit import Submission, submit
from shared.usecases.work import Work

T = TypeVar("T")

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ADA = UserId("ada")
BOB = UserId("bob")
PNG = b"\x89PNG\r\n\x1a\n a picture"


class ManualClock:
    """Time stands still until a test moves it; sleepers wake when their time has come."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    def advance(self, **delta: float) -> None:
        self._now += timedelta(**delta)
        for due, sleeper in self._sleepers:
            if due <= self._now and not sleeper.done():
                sleeper.set_result(None)
        self._sleepers = [(due, sleeper) for due, sleeper in self._sleepers if not sleeper.done()]

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now + timedelta(seconds=seconds), sleeper))
        await sleeper


class EagerClock(ManualClock):
    """Sleeping moves the time: for tests in which one actor waits and nobody else matters."""

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds=max(seconds, 0))
        await asyncio.sleep(0)


class Dice:
    """Random bytes that are the same in every run."""

    def __init__(self, seed: str = "dice") -> None:
        self._seed = seed
        self._drawn = 0

    def __call__(self, count: int) -> bytes:
        self._drawn += 1
        return hashlib.shake_128(f"{self._seed}/{self._drawn}".encode()).digest(count)


class RecordingQueue:
    """Keeps every hint until a test delivers it; `fails` makes it refuse the next ones."""

    delays = False

    def __init__(self) -> None:
        self.hints: list[Hint] = []
        self.fails: Exception | None = None

    async def publish(self, hints: Sequence[Hint]) -> None:
        if self.fails is not None:
            raise self.fails
        self.hints.extend(hints)

    async def check(self) -> None:
        if self.fails is not None:
            raise self.fails


class MemoryMedia:
    """Objects in a dict, never replaced."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.fails = False

    async def save(self, key: str, content: bytes | Path, *, type_: str) -> None:
        if self.fails:
            raise MediaUnavailable("the media store is down")
        assert key not in self.objects
        self.objects[key] = _bytes_of(content)

    async def delete_prefix(self, prefix: str) -> None:
        if self.fails:
            raise MediaUnavailable("the media store is down")
        for key in [key for key in self.objects if key.startswith(prefix)]:
            del self.objects[key]

    async def check(self) -> None:
        if self.fails:
            raise MediaUnavailable("the media store is down")


class TrustingInspector:
    """Takes bytes for what they claim to be; videos are those that begin with `film`."""

    async def inspect(self, content: bytes | Path) -> Inspection:
        data = _bytes_of(content)
        is_film = data.startswith(b"film")
        return Inspection(
            type="video/mp4" if is_film else "image/webp" if data.startswith(b"small") else "image/png",
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            width=64,
            height=64,
            seconds=4.0 if is_film else None,
            thumbnail=None if data.startswith(b"small") else b"small " + data,
        )


def _bytes_of(content: bytes | Path) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


Answer = Running | Made | Exception
Script = Callable[[Order], Answer]


def picture(order: Order) -> Made:
    """What a generator that works makes of an image order."""
    count = getattr(order.request, "count", 1)
    return Made(items=[Artifact(type="image/png", content=PNG + bytes([n])) for n in range(count)])


@dataclass
class ScriptedGenerator:
    """Answers what the test says; counts what was bought. Without a script it draws a picture at once."""

    starts: list[Script] = field(default_factory=list)
    polls: list[Script] = field(default_factory=list)
    started: list[JobId] = field(default_factory=list)
    polled: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None
    """If set, `start` waits for it after it has taken the order."""

    async def start(self, order: Order) -> Running | Made:
        self.started.append(order.job_id)
        if self.gate is not None:
            await self.gate.wait()
        return _answered(self.starts.pop(0) if self.starts else picture, order)

    async def poll(self, order: Order, reference: str) -> Running | Made:
        self.polled.append(reference)
        return _answered(self.polls.pop(0) if self.polls else film, order)

    async def cancel(self, order: Order, reference: str) -> None:
        self.cancelled.append(reference)


def film(order: Order) -> Made:
    return Made(items=[Artifact(type="video/mp4", content=b"film")])


def _answered(script: Script, order: Order) -> Running | Made:
    answer = script(order)
    if isinstance(answer, Exception):
        raise answer
    return answer


@dataclass(kw_only=True)
class World:
    """The use cases over parts that a test holds in its hands."""

    clock: ManualClock
    store: Store
    queue: RecordingQueue
    media: MemoryMedia
    generator: ScriptedGenerator
    app: WorkerApp
    work: Work

    async def submit(
        self, *, user: UserId = ADA, kind: str = Kind.IMAGE, key: str | None = None, **wanted: object
    ) -> Job:
        order_of = image_order if kind == Kind.IMAGE else video_order
        asked = {"prompt": "a fox", "seed": 7} | {k: v for k, v in wanted.items() if k not in _SUBMISSION}
        submission = Submission(
            order=lambda: order_of(self.app.catalogue, **asked),  # type: ignore[arg-type]
            user_id=user,
            request_hash=fingerprint(kind, asked),
            idempotency_key=key,
            **{k: v for k, v in wanted.items() if k in _SUBMISSION},  # type: ignore[arg-type]
        )
        return (await submit(self.app, submission)).job

    async def deliver(self, job: Job) -> Job:
        """Let a worker look at the job; the job as it then stands."""
        await self.work.process(job.id)
        return await self.job(job)

    async def job(self, job: Job) -> Job:
        return (await self.store.load([job_key(job.id)])).need(job_key(job.id))

    async def balance(self, user: UserId = ADA) -> int:
        account = (await self.store.load([account_key(AccountId(user))])).find(account_key(AccountId(user)))
        return account.balance if account is not None else self.app.signup_tokens


_SUBMISSION = {"account_id", "max_cost", "metadata", "request_id"}


def make_world(
    *, store: Store | None = None, clock: ManualClock | None = None, signup_tokens: int = 100
) -> World:
    clock = clock or ManualClock()
    queue, media, generator = RecordingQueue(), MemoryMedia(), ScriptedGenerator()
    app = WorkerApp(
        store=store or MemoryStore(),
        queue=queue,
        catalogue=load_catalogue(None),
        policy=Policy(),
        clock=clock,
        noise=Dice(),
        signup_tokens=signup_tokens,
        media=media,
        inspector=TrustingInspector(),
        generators={"local": generator},
    )
    return World(
        clock=clock,
        store=app.store,
        queue=queue,
        media=media,
        generator=generator,
        app=app,
        work=Work(app, all_handlers(app)),
    )


def an_account(user: UserId = ADA, *, balance: int = 100) -> Account:
    return Account(id=AccountId(user), balance=balance, members=frozenset({user}), created_at=NOON)


def a_job(number: int = 1, *, user: UserId = ADA, at: datetime = NOON, **fields: object) -> Job:
    """A queued image job; ids sort by `number`."""
    job = Job(
        id=JobId(f"job_{number:026d}"),
        kind=Kind.IMAGE,
        status=Status.QUEUED,
        account_id=AccountId(user),
        user_id=user,
        request={"prompt": "a fox", "width": 64, "height": 64, "seed": 7, "count": 1},
        model="local-image",
        cost=1,
        created_at=at,
        deadline_at=at + timedelta(minutes=10),
        wake_at=at + timedelta(seconds=10),
    )
    return replace(job, **fields)  # type: ignore[arg-type]


def another_worker(world: World, *, seed: str = "another", **parts: object) -> World:
    """A second process over the same queue and media; `parts` of its app may differ."""
    app: WorkerApp = replace(world.app, noise=Dice(seed), stopping=asyncio.Event(), **parts)  # type: ignore[arg-type]
    generator = app.generators.get("local", world.generator)
    assert isinstance(generator, ScriptedGenerator)
    assert isinstance(app.clock, ManualClock)
    return World(
        clock=app.clock,
        store=app.store,
        queue=world.queue,
        media=world.media,
        generator=generator,
        app=app,
        work=Work(app, all_handlers(app)),
    )


async def until(happened: Callable[[], bool]) -> None:
    """Let other tasks, and a store's threads, run until something has happened."""
    async with asyncio.timeout(10):
        while not happened():  # noqa: ASYNC110 - what it waits for knows nothing of events
            await asyncio.sleep(0)


class UnsteadyStore(MemoryStore):
    """A store that things happen to: `interludes` run before the next changes, one each, and may raise."""

    def __init__(self) -> None:
        super().__init__()
        self.interludes: list[Callable[[], Awaitable[object]] | None] = []
        self.decides_again = False
        """Every commit's result is unknown at first: what stands is loaded and decided once more."""
        self.before_load: Callable[[], Awaitable[object]] | None = None
        """Runs before the next load, once."""

    async def load(self, keys: Sequence[AnyKey]) -> Records:
        before, self.before_load = self.before_load, None
        if before is not None:
            await before()
        return await super().load(keys)

    async def change(self, keys: Sequence[AnyKey], decide: Decide) -> Records:
        interlude = self.interludes.pop(0) if self.interludes else None
        if interlude is not None:
            later, self.interludes = self.interludes, []
            try:
                await interlude()
            finally:
                self.interludes = later
        after = await super().change(keys, decide)
        return await super().change(keys, decide) if self.decides_again else after


async def down() -> None:
    """An interlude of a store that does not answer."""
    raise StoreUnavailable("the store is down")


async def while_time_passes(clock: ManualClock, work: Coroutine[object, object, T], *, step: float = 1) -> T:
    """Run something to its end while the time goes on, `step` seconds whenever nothing else can run."""
    task = asyncio.create_task(work)
    async with asyncio.timeout(10):
        while True:
            for _ in range(30):
                await asyncio.sleep(0)
            if task.done():
                return task.result()
            clock.advance(seconds=step)


def an_entry(id_: str, *, account: str = ADA, tokens: int = -1, **fields: object) -> Entry:
    entry = Entry(
        id=EntryId(id_), account_id=AccountId(account), tokens=tokens, reason=Reason.DEBIT, created_at=NOON
    )
    return replace(entry, **fields)  # type: ignore[arg-type]


async def given(store: Store, *records: Record) -> None:
    """The records stand before the test begins."""
    await store.change([], lambda _: [Create(record) for record in records])


async def find(store: Store, key: AnyKey) -> Record | None:
    return (await store.load([key]))[key]
