"""The sweep: no lost message loses a job, nobody waits past a deadline, and an idle system costs nothing."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from shared.domain.changes import Create
from shared.domain.errors import BrokenInvariant, QueueUnavailable, StoreUnavailable
from shared.domain.ids import ClaimToken
from shared.domain.job import Job, Kind, Lease, Status
from shared.ports.generator import Busy, Down, Order, Running
from shared.usecases.sweep import BATCH, sweep, sweep_for
from tests.support import (
    ADA,
    NOON,
    ScriptedGenerator,
    UnsteadyStore,
    World,
    a_job,
    an_account,
    another_worker,
    down,
    make_world,
    while_time_passes,
)


def hinted(world: World) -> list[str]:
    return [hint.job_id for hint in world.queue.hints]


async def swept(world: World) -> int:
    world.queue.hints.clear()
    return await sweep(world.app, world.work)


async def test_a_job_whose_message_was_lost_is_published_again_once_the_grace_is_over() -> None:
    world = make_world()
    job = await world.submit()
    world.clock.advance(seconds=9)
    assert (await swept(world), hinted(world)) == (0, [])
    world.clock.advance(seconds=1)
    assert (await swept(world), hinted(world)) == (1, [job.id])
    after = await world.job(job)
    assert (after.status, after.sweeps) == (Status.QUEUED, 1)
    assert after.wake_at == world.clock.now() + timedelta(seconds=30)


async def test_the_pauses_between_sweeps_of_one_job_double_until_somebody_claims_it() -> None:
    world = make_world()
    job = await world.submit()
    pauses = []
    for _ in range(4):
        woken = (await world.job(job)).wake_at
        assert woken is not None
        pauses.append((woken - world.clock.now()).total_seconds())
        world.clock.advance(seconds=pauses[-1])
        assert await swept(world) == 1
    assert pauses == [10, 30, 60, 120]
    assert (await world.job(job)).sweeps == 4
    assert (await world.deliver(job)).sweeps == 0


async def test_of_two_sweeps_at_the_very_same_instant_one_publishes() -> None:
    world = make_world()
    job = await world.submit()
    world.clock.advance(seconds=10)
    world.queue.hints.clear()
    await asyncio.gather(*(sweep(world.app, world.work) for _ in range(5)))
    assert hinted(world) == [job.id]


async def test_a_sweep_that_was_overtaken_leaves_the_job_to_whoever_did() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    rival = another_worker(world)
    jobs = [await world.submit() for _ in range(2)]
    world.clock.advance(seconds=10)
    world.queue.hints.clear()

    async def another_sweep() -> None:
        await sweep(rival.app, rival.work)

    store.interludes = [another_sweep]
    await sweep(world.app, world.work)
    assert sorted(hinted(world)) == sorted(job.id for job in jobs)


async def test_a_job_that_ended_meanwhile_is_left_alone() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    job = await world.submit()
    world.clock.advance(seconds=10)
    world.queue.hints.clear()

    async def finish() -> None:
        await world.work.process(job.id)

    store.interludes = [finish]
    await sweep(world.app, world.work)
    assert (await world.job(job)).status is Status.DRAFT
    assert hinted(world) == []


async def test_a_job_whose_worker_died_is_published_when_its_lease_is_over() -> None:
    world = make_world()
    lease = Lease(token=ClaimToken("a" * 32), until=NOON + timedelta(seconds=60))
    held = a_job(1, status=Status.PROCESSING, lease=lease, wake_at=lease.until, fence=1)
    await world.store.change([], lambda _: [Create(held)])
    world.clock.advance(seconds=59)
    assert await swept(world) == 0
    world.clock.advance(seconds=1)
    assert (await swept(world), hinted(world)) == (1, [held.id])
    assert (await world.deliver(held)).attempts == 1


async def test_a_parked_job_is_published_when_its_time_has_come() -> None:
    world = make_world()
    world.generator.starts = [lambda order: Busy("full", retry_after=timedelta(minutes=2))]
    job = await world.deliver(await world.submit())
    world.clock.advance(seconds=119)
    assert await swept(world) == 0
    world.clock.advance(seconds=1)
    assert (await swept(world), hinted(world)) == (1, [job.id])
    assert (await world.deliver(job)).status is Status.DRAFT


async def test_at_its_deadline_a_job_is_settled_instead_of_published() -> None:
    world = make_world()
    job = await world.submit()
    world.clock.advance(minutes=10)
    assert (await swept(world), hinted(world)) == (1, [])
    after = await world.job(job)
    assert (after.status, after.error.code if after.error else None) == (Status.FAILED, "timed_out")
    assert await world.balance() == 100
    assert await swept(world) == 0


async def test_no_push_goes_past_the_deadline() -> None:
    world = make_world()
    job = await world.submit()
    world.clock.advance(seconds=590)
    await swept(world)
    assert (await world.job(job)).wake_at == job.deadline_at


async def test_a_sweep_looks_at_everything_that_is_due_batch_after_batch() -> None:
    world = make_world()
    count = 2 * BATCH + 7
    await world.store.change([], lambda _: [Create(a_job(n)) for n in range(count)])
    world.clock.advance(seconds=10)
    assert await swept(world) == count
    assert len(set(hinted(world))) == count


async def test_a_queue_that_is_down_costs_the_sweep_nothing_but_the_hint() -> None:
    world = make_world()
    job = await world.submit()
    world.clock.advance(seconds=10)
    world.queue.fails = QueueUnavailable("down")
    assert await swept(world) == 1
    world.queue.fails = None
    world.clock.advance(seconds=30)
    assert (await swept(world), hinted(world)) == (1, [job.id])


async def test_a_store_that_is_down_fails_the_sweep() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    await world.submit()
    world.clock.advance(seconds=10)
    store.interludes = [down]
    with pytest.raises(StoreUnavailable):
        await sweep(world.app, world.work)


async def test_a_job_that_cannot_be_looked_at_does_not_keep_the_others() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    jobs = [await world.submit() for _ in range(3)]
    world.clock.advance(seconds=10)

    async def a_bug() -> None:
        raise BrokenInvariant("a bug")

    store.interludes = [a_bug]
    assert await swept(world) == 3
    assert len(hinted(world)) == 2
    assert await swept(world) == 1
    assert {(await world.job(job)).sweeps for job in jobs} == {1}


class Stubborn(ScriptedGenerator):
    async def cancel(self, order: Order, reference: str) -> None:
        await super().cancel(order, reference)
        raise Down("cannot be reached")


async def test_a_settled_operation_is_cancelled_at_its_provider_and_a_refusal_does_no_harm() -> None:
    stubborn = Stubborn(starts=[lambda order: Running(reference="op-1")], polls=[lambda order: Busy("later")])
    world = another_worker(make_world(), generators={"local": stubborn})
    job = await world.deliver(await world.submit(kind=Kind.VIDEO))
    world.clock.advance(hours=1)
    assert await swept(world) == 1
    assert stubborn.cancelled == ["op-1"]
    assert (await world.job(job)).status is Status.FAILED


async def test_the_end_of_a_kind_that_this_version_does_not_know_is_settled_as_well() -> None:
    world = make_world()
    await world.store.change(
        [], lambda _: [Create(an_account(ADA, balance=0)), Create(a_job(1, kind="hologram"))]
    )
    world.clock.advance(minutes=10)
    assert await swept(world) == 1
    assert (await world.job(a_job(1))).status is Status.FAILED
    assert await world.balance() == 1


# --- sweeping for a while


async def test_an_idle_system_is_swept_once() -> None:
    world = make_world()
    assert await sweep_for(world.app, world.work, 50) == 0
    await world.submit()
    assert await sweep_for(world.app, world.work, 9) == 0, "due only after that time"


async def test_a_sweep_waits_for_what_becomes_due_in_its_time() -> None:
    world = make_world()
    job = await world.submit()
    world.queue.hints.clear()
    assert await while_time_passes(world.clock, sweep_for(world.app, world.work, 50)) == 2
    assert hinted(world) == [job.id, job.id]
    assert (await world.job(job)).sweeps == 2, "after ten seconds, and thirty later"


async def test_a_sweep_notices_what_becomes_due_earlier_than_anything_it_saw() -> None:
    world = make_world()
    await world.store.change([], lambda _: [Create(a_job(1, wake_at=NOON + timedelta(seconds=40)))])
    sweeping = asyncio.create_task(while_time_passes(world.clock, sweep_for(world.app, world.work, 45)))
    await asyncio.sleep(0)
    await world.store.change([], lambda _: [Create(a_job(2, wake_at=NOON + timedelta(seconds=4)))])
    await sweeping
    assert hinted(world)[0] == a_job(2).id
    assert set(hinted(world)) == {a_job(1).id, a_job(2).id}


async def test_a_process_that_wants_to_end_stops_sweeping() -> None:
    world = make_world()
    await world.submit()
    world.app.stopping.set()
    assert await sweep_for(world.app, world.work, 50) == 0


class Counting(UnsteadyStore):
    """Counts how often it is asked what is due."""

    asked = 0

    async def due(self, now: datetime, *, limit: int) -> Sequence[Job]:
        self.asked += 1
        return await super().due(now, limit=limit)


async def test_a_job_that_nobody_can_look_at_does_not_make_the_sweep_spin() -> None:
    """It stays due; were it looked at again at once, it would take all of the store and all of the log."""
    store = Counting()
    world = make_world(store=store)
    await world.submit()
    world.clock.advance(seconds=10)

    async def a_bug() -> None:
        raise BrokenInvariant("a bug")

    store.interludes = [a_bug] * 1000
    await while_time_passes(world.clock, sweep_for(world.app, world.work, 10), step=0.1)
    assert 2 < store.asked < 10, "on some stores every look costs money, all day"


async def test_a_process_that_wants_to_end_leaves_what_is_due_to_the_next_one() -> None:
    """Its hints would die with it, and the job would wait for the sweep after."""
    world = make_world()
    job = await world.submit()
    world.clock.advance(minutes=1)
    world.app.stopping.set()
    assert await sweep_for(world.app, world.work, 50) == 0
    assert (await world.job(job)).sweeps == 0
