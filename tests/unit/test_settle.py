"""Ending a job from outside its worker: cancel at every stage, deadlines, and who wins."""

import asyncio
from datetime import timedelta

import pytest

from shared.domain.changes import Create, Delete, job_key
from shared.domain.errors import NotFound, StoreUnavailable, WrongState
from shared.domain.job import Job, JobError, Kind, Status
from shared.domain.ledger import Reason
from shared.domain.lifecycle import Verdict, parked
from shared.domain.outcomes import cancelled
from shared.ports.generator import Busy, GenerationFailed, Order, Running
from shared.ports.store import Interest
from shared.usecases.settle import (
    EXHAUSTED,
    TIMED_OUT,
    UNKNOWN,
    advance,
    cancel,
    forced_end,
    settle_if_forced,
)
from shared.usecases.sweep import sweep
from tests.support import (
    ADA,
    BOB,
    NOON,
    UnsteadyStore,
    World,
    a_job,
    down,
    film,
    make_world,
    until,
    while_time_passes,
)


async def refunds(world: World, job: Job) -> list[int]:
    return [e.tokens for e in await world.store.entries_of([job.id]) if e.reason is Reason.REFUND]


def running(order: Order) -> Running:
    return Running(reference="op-1", poll_after=timedelta(seconds=50))


async def a_parked_video(world: World) -> Job:
    """Bought, its operation running, nobody on it."""
    job = await world.submit(kind=Kind.VIDEO)
    world.generator.starts = [running]
    world.generator.polls = [lambda order: Busy("later")]
    return await world.deliver(job)


@pytest.mark.parametrize(
    ("judged", "error"),
    [(Verdict.OVERDUE, TIMED_OUT), (Verdict.EXHAUSTED, EXHAUSTED), (Verdict.UNKNOWN, UNKNOWN)],
)
def test_what_no_worker_may_take_any_more_fails_with_its_reason(judged: Verdict, error: JobError) -> None:
    end = forced_end(a_job(1), judged)
    assert end is not None
    assert (end.status, end.error) == (Status.FAILED, error)
    assert forced_end(a_job(1, cancel_requested=True), judged) == cancelled()


@pytest.mark.parametrize("judged", [Verdict.FREE, Verdict.HELD, Verdict.EARLY, Verdict.FINISHED])
def test_what_a_worker_may_still_take_is_not_ended(judged: Verdict) -> None:
    assert forced_end(a_job(1), judged) is None
    assert forced_end(a_job(1), Verdict.CANCEL) == cancelled()


# --- cancel, stage by stage


async def test_a_queued_job_is_cancelled_at_once_and_refunded() -> None:
    world = make_world()
    job = await world.submit(count=2)
    after = await cancel(world.app, job.id, ADA)
    assert (after.status, after.refunded, after.finished_at) == (Status.CANCELLED, 2, NOON)
    assert await refunds(world, job) == [2]
    assert await world.balance() == 100
    await world.deliver(job)
    assert world.generator.started == []


async def test_a_job_that_waits_for_its_next_attempt_is_cancelled_at_once() -> None:
    world = make_world()
    world.generator.starts = [lambda order: GenerationFailed("broke", retryable=True)]
    job = await world.deliver(await world.submit())
    assert (job.status, job.attempts) == (Status.QUEUED, 1)
    assert (await cancel(world.app, job.id, ADA)).status is Status.CANCELLED
    assert await world.balance() == 100


async def test_a_job_that_waits_for_a_quota_is_cancelled_at_once() -> None:
    world = make_world()
    world.generator.starts = [lambda order: Busy("full", retry_after=timedelta(minutes=5))]
    job = await world.deliver(await world.submit())
    assert (await cancel(world.app, job.id, ADA)).status is Status.CANCELLED
    assert await world.balance() == 100


async def test_a_cancel_between_claim_and_purchase_is_honoured_before_anything_is_bought() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    job = await world.submit(kind=Kind.VIDEO)
    answered: list[Job] = []

    async def her_cancel() -> None:
        answered.append(await cancel(world.app, job.id, ADA))

    store.interludes = [None, her_cancel]  # the claim, then the intent
    after = await world.deliver(job)

    assert (answered[0].status, answered[0].cancel_requested) == (Status.PROCESSING, True)
    assert world.generator.started == []
    assert (after.status, after.error) == (Status.CANCELLED, None)
    assert await refunds(world, job) == [10]


async def test_a_cancel_while_it_is_made_comes_too_late_and_the_result_is_theirs() -> None:
    world = make_world()
    world.generator.gate = asyncio.Event()
    job = await world.submit()
    making = asyncio.create_task(world.work.process(job.id))
    await until(lambda: bool(world.generator.started))

    noted = await cancel(world.app, job.id, ADA)
    again = await cancel(world.app, job.id, ADA)
    world.generator.gate.set()
    await making

    assert noted == again
    assert (noted.status, noted.cancel_requested) == (Status.PROCESSING, True)
    after = await world.job(job)
    assert (after.status, after.refunded, len(after.media)) == (Status.DRAFT, 0, 1)
    assert await world.balance() == 99


async def test_a_cancel_while_it_is_made_is_honoured_if_it_then_fails() -> None:
    world = make_world()
    world.generator.gate = asyncio.Event()
    world.generator.starts = [lambda order: GenerationFailed("broke", retryable=True)]
    job = await world.submit()
    making = asyncio.create_task(world.work.process(job.id))
    await until(lambda: bool(world.generator.started))
    await cancel(world.app, job.id, ADA)
    world.generator.gate.set()
    await making

    after = await world.job(job)
    assert (after.status, after.error, after.refunded) == (Status.CANCELLED, None, 1)


async def test_a_cancel_of_a_parked_operation_comes_too_late_and_the_result_is_theirs() -> None:
    world = make_world()
    job = await a_parked_video(world)
    assert job.lease is None

    noted = await cancel(world.app, job.id, ADA)
    assert (noted.status, noted.cancel_requested) == (Status.PROCESSING, True)
    world.generator.polls = [film]
    world.clock.advance(seconds=16)
    after = await world.deliver(job)

    assert (after.status, after.refunded) == (Status.DRAFT, 0)
    assert await world.balance() == 90


async def test_a_cancel_after_a_cheap_purchase_whose_worker_died_is_honoured_at_the_next_look() -> None:
    world = make_world()
    world.generator.gate = asyncio.Event()
    job = await world.submit()
    dying = asyncio.create_task(world.work.process(job.id))
    await until(lambda: bool(world.generator.started))
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert (await cancel(world.app, job.id, ADA)).cancel_requested

    world.clock.advance(minutes=2)
    assert (await world.deliver(job)).status is Status.CANCELLED
    assert len(world.generator.started) == 1
    assert await world.balance() == 100


async def test_what_has_ended_cannot_be_cancelled() -> None:
    world = make_world()
    job = await world.deliver(await world.submit())
    with pytest.raises(WrongState):
        await cancel(world.app, job.id, ADA)
    assert await world.job(job) == job


async def test_a_cancel_that_finds_the_job_finished_meanwhile_says_so() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    job = await world.submit()

    async def finish() -> None:
        await world.work.process(job.id)

    store.interludes = [finish]
    with pytest.raises(WrongState, match="already draft"):
        await cancel(world.app, job.id, ADA)
    assert await world.balance() == 99


async def test_a_cancel_that_finds_the_job_gone_meanwhile_says_so() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    job = await world.submit()
    key = job_key(job.id)

    async def vanish() -> None:
        await store.change([key], lambda _: [Delete(key)])

    store.interludes = [vanish]
    with pytest.raises(NotFound):
        await cancel(world.app, job.id, ADA)


async def test_nobody_else_can_cancel_a_job() -> None:
    world = make_world()
    job = await world.submit()
    with pytest.raises(NotFound):
        await cancel(world.app, job.id, BOB)
    assert await world.job(job) == job


async def test_a_cancel_whose_commit_was_unknown_refunds_once_and_answers_as_usual() -> None:
    store = UnsteadyStore()
    store.decides_again = True
    world = make_world(store=store)
    job = await world.submit()
    assert (await cancel(world.app, job.id, ADA)).status is Status.CANCELLED
    assert await refunds(world, job) == [1]


async def test_a_cancel_that_the_store_did_not_take_can_be_repeated() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    job = await world.submit()
    store.interludes = [down]
    with pytest.raises(StoreUnavailable):
        await cancel(world.app, job.id, ADA)
    assert (await cancel(world.app, job.id, ADA)).status is Status.CANCELLED


# --- deadlines


async def test_a_deadline_settles_a_queued_job_and_refunds_it() -> None:
    world = make_world()
    job = await world.submit()
    world.clock.advance(minutes=10)
    after = await settle_if_forced(world.app, job)
    assert after is not None
    assert (after.status, after.error, after.refunded) == (Status.FAILED, TIMED_OUT, 1)
    assert await settle_if_forced(world.app, job) == after
    assert await refunds(world, job) == [1]


async def test_a_deadline_settles_under_a_live_lease_and_raises_the_fence() -> None:
    world = make_world()
    job = await world.submit(kind=Kind.VIDEO)
    world.generator.starts = [running]
    world.generator.polls = [lambda order: Running(reference="op-1", poll_after=timedelta(seconds=50))] * 200
    working = asyncio.create_task(while_time_passes(world.clock, world.work.process(job.id), step=10))
    await until(lambda: world.clock.now() > NOON + timedelta(seconds=20))
    held = await world.job(job)
    assert held.has_live_lease(world.clock.now())

    world.clock.advance(hours=1)
    await sweep(world.app, world.work)
    after = await world.job(job)
    await working

    assert (after.status, after.error, after.fence) == (Status.FAILED, TIMED_OUT, held.fence + 1)
    assert await world.job(job) == after
    assert await refunds(world, job) == [10]
    assert world.media.objects == {}
    assert world.generator.cancelled == ["op-1"]


async def test_a_deadline_after_a_cancel_is_a_cancel() -> None:
    world = make_world()
    job = await a_parked_video(world)
    await cancel(world.app, job.id, ADA)
    world.clock.advance(hours=1)
    after = await settle_if_forced(world.app, job)
    assert after is not None
    assert (after.status, after.error, after.refunded) == (Status.CANCELLED, None, 10)


async def test_nothing_forces_a_job_that_can_be_worked_on() -> None:
    world = make_world()
    job = await world.submit()
    assert await settle_if_forced(world.app, job) == job
    assert await world.job(job) == job


# --- advance


async def test_a_move_that_changes_nothing_is_not_written() -> None:
    world = make_world()
    job = await world.submit()
    async with world.store.watch(Interest(jobs=frozenset({job.id}))) as changes:
        assert await advance(world.app, job, lambda standing: standing) == job
        assert await advance(world.app, job, lambda _: None) == job
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await anext(changes)


async def test_a_job_that_has_ended_or_is_gone_is_not_moved() -> None:
    world = make_world()
    job = await world.deliver(await world.submit())
    assert await advance(world.app, job, lambda standing: cancelled()) == job
    assert await advance(world.app, a_job(99), lambda standing: cancelled()) is None


async def test_a_job_can_be_moved_without_ending_it() -> None:
    world = make_world()
    await world.store.change([], lambda _: [Create(a_job(1))])
    until_ = NOON + timedelta(minutes=1)
    after = await advance(world.app, a_job(1), lambda standing: parked(standing, until_), refunds=False)
    assert after is not None
    assert (after.wake_at, after.not_before) == (until_, until_)


async def test_a_job_of_no_cost_ends_even_if_its_account_is_not_there() -> None:
    world = make_world()
    erasure = a_job(1, kind=Kind.ERASURE, cost=0)
    await world.store.change([], lambda _: [Create(erasure)])
    after = await advance(world.app, erasure, lambda standing: cancelled())
    assert after is not None
    assert after.status is Status.CANCELLED
