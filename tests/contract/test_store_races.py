"""The use cases racing over every store: whoever comes second changes nothing, and the books stay right."""

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import timedelta

import pytest

from shared.domain.errors import InsufficientTokens, MediaForgeError, WrongState
from shared.domain.ids import AccountId, UserId
from shared.domain.job import Job, Kind, Status
from shared.domain.ledger import Entry, Reason
from shared.ports.generator import Order, Running
from shared.ports.store import JobFilter, Store
from shared.usecases.accounts import grant, open_account
from shared.usecases.audit import audit
from shared.usecases.publication import delete, publish, unpublish
from shared.usecases.settle import cancel
from shared.usecases.sweep import sweep
from tests.support import (
    ADA,
    NOON,
    ManualClock,
    ScriptedGenerator,
    World,
    another_worker,
    make_world,
    until,
)


@pytest.fixture
def world(store: Store) -> World:
    return make_world(store=store)


@pytest.fixture
def rival(world: World, other_view: Store) -> World:
    """Another process, whose clock and generator are its own."""
    return another_worker(
        world, store=other_view, clock=ManualClock(), generators={"local": ScriptedGenerator()}
    )


async def entries(world: World, user: UserId = ADA) -> Sequence[Entry]:
    return (await world.store.entries(AccountId(user), limit=500)).data


async def refunds(world: World, job: Job) -> list[int]:
    return [e.tokens for e in await world.store.entries_of([job.id]) if e.reason is Reason.REFUND]


async def require_sound_books(world: World) -> None:
    assert (await audit(world.app)).findings == []


def running(order: Order) -> Running:
    return Running(reference=f"op-{order.job_id}")


async def test_of_two_claims_one_wins_and_the_other_leaves_the_job_alone(world: World, rival: World) -> None:
    job = await world.submit()
    for one in (world, rival):
        one.generator.gate = asyncio.Event()
    turns = [asyncio.create_task(one.work.process(job.id)) for one in (world, rival)]

    [loser], [winner] = await asyncio.wait(turns, return_when=asyncio.FIRST_COMPLETED, timeout=10)
    assert (await world.job(job)).fence == 1
    for one in (world, rival):
        assert one.generator.gate is not None
        one.generator.gate.set()
    await asyncio.gather(loser, winner)

    assert len(world.generator.started) + len(rival.generator.started) == 1
    assert (await world.job(job)).status is Status.DRAFT
    await require_sound_books(world)


async def test_of_many_messages_for_one_job_one_makes_it(world: World, rival: World) -> None:
    job = await world.submit()
    await asyncio.gather(*(one.work.process(job.id) for one in [world, rival] * 10))
    assert len(world.generator.started) + len(rival.generator.started) == 1
    assert (await world.job(job)).status is Status.DRAFT


async def test_who_claims_after_the_lease_expired_wins_and_the_first_changes_nothing(
    world: World, rival: World
) -> None:
    """The first stalled: it knows nothing of the time that passed until its generator answers."""
    job = await world.submit()
    world.generator.gate = asyncio.Event()
    stalled = asyncio.create_task(world.work.process(job.id))
    await until(lambda: bool(world.generator.started))

    rival.clock.advance(seconds=61)
    await rival.work.process(job.id)
    made = await world.job(job)
    world.generator.gate.set()
    await stalled

    assert made.status is Status.DRAFT
    assert await world.job(job) == made
    assert (made.fence, made.attempts) == (3, 1)  # two claims and the settlement
    shown = {media.key for media in made.media} | {made.thumbnail.key if made.thumbnail else ""}
    assert set(world.media.objects) == shown
    assert await world.balance() == 99
    await require_sound_books(world)


async def test_what_an_old_fence_says_after_a_settlement_counts_nothing(world: World, rival: World) -> None:
    job = await world.submit()
    world.generator.gate = asyncio.Event()
    late = asyncio.create_task(world.work.process(job.id))
    await until(lambda: bool(world.generator.started))

    rival.clock.advance(minutes=10)
    assert await sweep(rival.app, rival.work) == 1
    settled = await world.job(job)
    world.generator.gate.set()
    await late

    assert (settled.status, settled.fence) == (Status.FAILED, 2)
    assert await world.job(job) == settled
    assert world.media.objects == {}
    assert await refunds(world, job) == [1]
    assert await world.balance() == 100
    await require_sound_books(world)


@pytest.mark.parametrize("first", ["cancel", "finish"])
async def test_a_cancel_that_races_the_finish_of_a_bought_job_never_refunds_it(
    world: World, rival: World, first: str
) -> None:
    job = await world.submit()
    gate = world.generator.gate = asyncio.Event()
    making = asyncio.create_task(world.work.process(job.id))
    await until(lambda: bool(world.generator.started))

    async def finish() -> Job:
        gate.set()
        await making
        return await world.job(job)

    racers = [cancel(rival.app, job.id, ADA), finish()]
    ends = await asyncio.gather(*(racers if first == "cancel" else racers[::-1]), return_exceptions=True)

    ended = await world.job(job)
    assert all(isinstance(end, Job | WrongState) for end in ends)
    assert (ended.status, ended.refunded) == (Status.DRAFT, 0)
    assert await refunds(world, job) == []
    await require_sound_books(world)


@pytest.mark.parametrize("attempt", range(5))
async def test_a_cancel_that_races_the_claim_ends_the_job_in_one_way(
    world: World, rival: World, attempt: int
) -> None:
    """Either it was cancelled before anything was bought, or it came too late and the result is theirs."""
    job = await world.submit()
    racers: list[Coroutine[None, None, Job | None]] = [
        cancel(rival.app, job.id, ADA),
        world.work.process(job.id),
    ]
    ends = await asyncio.gather(*(racers if attempt % 2 else racers[::-1]), return_exceptions=True)

    ended = await world.job(job)
    bought = len(world.generator.started)
    assert all(end is None or isinstance(end, Job | WrongState) for end in ends)
    assert (ended.status, bought, await world.balance()) in [
        (Status.CANCELLED, 0, 100),
        (Status.DRAFT, 1, 99),
    ]
    await require_sound_books(world)


async def test_of_many_settlements_of_one_job_one_refunds(world: World, rival: World) -> None:
    """The deadline has come: sweeps, late messages and a cancel all want to end it."""
    job = await world.submit(kind=Kind.VIDEO)
    for one in (world, rival):
        one.clock.advance(hours=2)

    ends = await asyncio.gather(
        *(sweep(one.app, one.work) for one in [world, rival] * 3),
        *(one.work.process(job.id) for one in [world, rival] * 3),
        *(cancel(one.app, job.id, ADA) for one in [world, rival] * 3),
        return_exceptions=True,
    )

    assert [end for end in ends if isinstance(end, Exception) and not isinstance(end, WrongState)] == []
    ended = await world.job(job)
    assert ended.status in (Status.FAILED, Status.CANCELLED)
    assert await refunds(world, job) == [10]
    assert await world.balance() == 100
    await require_sound_books(world)


async def test_many_cancels_of_one_job_refund_it_once(world: World, rival: World) -> None:
    job = await world.submit()
    ends = await asyncio.gather(
        *(cancel(one.app, job.id, ADA) for one in [world, rival] * 10), return_exceptions=True
    )
    assert any(isinstance(end, Job) for end in ends)
    assert {type(end) for end in ends} <= {Job, WrongState}
    assert await refunds(world, job) == [1]
    await require_sound_books(world)


async def test_only_the_sweep_whose_change_won_publishes_the_job(world: World, rival: World) -> None:
    jobs = [await world.submit() for _ in range(3)]
    world.queue.hints.clear()
    for one in (world, rival):
        one.clock.advance(seconds=11)

    await asyncio.gather(*(sweep(one.app, one.work) for one in [world, rival] * 2))

    assert sorted(hint.job_id for hint in world.queue.hints) == sorted(job.id for job in jobs)
    assert {(await world.job(job)).sweeps for job in jobs} == {1}


async def test_fifty_submits_with_one_idempotency_key_make_one_job_and_one_debit(
    world: World, rival: World
) -> None:
    jobs = await asyncio.gather(*(one.submit(key="k", count=2) for one in [world, rival] * 25))

    assert len({job.id for job in jobs}) == 1
    assert [entry.tokens for entry in await entries(world) if entry.reason is Reason.DEBIT] == [-2]
    assert await world.balance() == 98
    assert (await world.store.count(JobFilter())).jobs == 1
    assert len(world.queue.hints) == 1
    await require_sound_books(world)


async def test_submits_at_once_are_accepted_as_far_as_the_account_can_pay(
    store: Store, other_view: Store
) -> None:
    world = make_world(store=store, signup_tokens=20)
    rival = another_worker(world, store=other_view)
    ends = await asyncio.gather(*(one.submit() for one in [world, rival] * 20), return_exceptions=True)
    assert sum(isinstance(end, Job) for end in ends) == 20
    assert sum(isinstance(end, InsufficientTokens) for end in ends) == 20
    assert await world.balance() == 0
    await require_sound_books(world)


async def test_an_account_that_is_first_used_by_many_at_once_is_opened_once(
    world: World, rival: World
) -> None:
    await asyncio.gather(
        *(open_account(one.app, ADA, None) for one in [world, rival] * 5),
        *(grant(one.app, AccountId(ADA), 5, note=None, idempotency_key="g") for one in [world, rival] * 5),
        *(one.submit() for one in [world, rival] * 5),
    )
    assert await world.balance() == 100 + 5 - 10
    assert sorted(e.reason for e in await entries(world) if e.tokens > 0) == [Reason.GRANT, Reason.SIGNUP]
    await require_sound_books(world)


async def test_publishing_unpublishing_and_deleting_at_once_leaves_a_job_that_is_one_of_them(
    world: World, rival: World
) -> None:
    job = await world.submit()
    await world.work.process(job.id)

    ends = await asyncio.gather(
        *(act(one.app, job.id, ADA) for one in [world, rival] for act in (publish, delete, unpublish)),
        return_exceptions=True,
    )

    assert [end for end in ends if isinstance(end, Exception) and not isinstance(end, MediaForgeError)] == []
    assert (await world.job(job)).deleted_at is not None
    assert (await world.store.feed(limit=5)).data == []
    assert (await world.store.count(JobFilter(kinds=frozenset({Kind.ERASURE})))).jobs == 1


async def test_an_operation_is_followed_by_whoever_claims_it_next_and_never_started_again(
    world: World, rival: World
) -> None:
    job = await world.submit(kind=Kind.VIDEO)
    world.generator.starts = [running]
    world.generator.polls = [lambda order: Running(reference="op", poll_after=timedelta(seconds=120))]
    stalled = asyncio.create_task(world.work.process(job.id))
    await until(lambda: bool(world.generator.polled))

    rival.clock.advance(seconds=61)
    await asyncio.gather(*(rival.work.process(job.id) for _ in range(5)))
    made = await world.job(job)
    world.clock.advance(seconds=130)
    await stalled

    assert made.status is Status.DRAFT
    assert await world.job(job) == made
    assert rival.generator.started == []
    assert rival.generator.polled == [f"op-{job.id}"]
    assert all(media.key in world.media.objects for media in made.media)
    assert rival.clock.now() == NOON + timedelta(seconds=61)
    await require_sound_books(world)
