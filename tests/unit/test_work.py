"""Work: one claim at a time, every outcome written down, and nothing from those who lost the job."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from shared.domain.changes import Create, Delete, Put, job_key
from shared.domain.errors import BrokenInvariant, QueueUnavailable, StoreUnavailable
from shared.domain.ids import JobId, new_claim_token
from shared.domain.job import Job, JobError, Kind, Lease, Media, Purchase, Status
from shared.domain.ledger import Reason
from shared.domain.lifecycle import claimed
from shared.domain.outcomes import Done, Failed, Outcome, Retry
from shared.ports.generator import Busy, Running
from shared.usecases.audit import audit
from shared.usecases.handlers.base import Handler
from shared.usecases.turn import PROGRESS_INTERVAL, LeaseLost, Turn, uninterrupted
from shared.usecases.work import RECORD_PAUSES_SECONDS, Work
from tests.support import (
    NOON,
    Dice,
    ManualClock,
    ScriptedGenerator,
    UnsteadyStore,
    World,
    a_job,
    an_account,
    another_worker,
    down,
    make_world,
    until,
    while_time_passes,
)

BROKE = JobError(code="provider_failed", message="it broke", retryable=True)


class Scripted(Handler):
    """A handler whose steps end as the test says; an exception is raised."""

    def __init__(self, *ends: Outcome | Exception) -> None:
        self.ends = list(ends)
        self.abandoned: list[JobId] = []

    async def step(self, turn: Turn) -> Outcome:
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    def intent_at_claim(self, job: Job, now: datetime) -> Purchase | None:
        return None

    def longest_call(self, job: Job) -> timedelta:
        return timedelta()

    async def abandon(self, job: Job) -> None:
        self.abandoned.append(job.id)


def handled_by(handler: Handler, *, store: UnsteadyStore | None = None) -> World:
    world = make_world(store=store)
    world.work = Work(world.app, {Kind.IMAGE: handler})
    return world


async def begin(world: World, job: Job) -> asyncio.Task[None]:
    """A worker that has bought the job and waits for its generator."""
    world.generator.gate = world.generator.gate or asyncio.Event()
    before = len(world.generator.started)
    working = asyncio.create_task(world.work.process(job.id))
    await until(lambda: len(world.generator.started) > before)
    return working


def let_go(world: World) -> None:
    assert world.generator.gate is not None
    world.generator.gate.set()


async def refunds(world: World, job: Job) -> list[int]:
    return [e.tokens for e in await world.store.entries_of([job.id]) if e.reason is Reason.REFUND]


async def stolen(world: World, job: Job) -> Job:
    """Somebody else holds the job from now on."""
    key = job_key(job.id)
    other = Lease(token=new_claim_token(Dice("thief")(16)), until=world.clock.now() + timedelta(hours=1))

    def decide(standing: Job) -> Job:
        return replace(standing, fence=standing.fence + 1, lease=other)

    await world.store.change([key], lambda records: [Put(decide(records.need(key)))])
    return await world.job(job)


# --- claims


async def test_a_message_for_a_job_that_is_gone_is_acknowledged() -> None:
    await make_world().work.process(a_job(1).id)


async def test_a_message_that_comes_twice_finds_the_job_done() -> None:
    world = make_world()
    job = await world.deliver(await world.submit())
    assert await world.deliver(job) == job
    assert len(world.generator.started) == 1


async def test_a_claim_is_refused_while_another_lease_lives() -> None:
    world = make_world()
    job = await world.submit()
    working = await begin(world, job)
    held = await world.job(job)
    await world.work.process(job.id)
    assert await world.job(job) == held
    let_go(world)
    await working
    assert len(world.generator.started) == 1


async def test_a_message_that_comes_before_its_time_is_acknowledged_and_changes_nothing() -> None:
    world = handled_by(Scripted(Retry(BROKE, timedelta(minutes=1))))
    job = await world.deliver(await world.submit())
    world.clock.advance(seconds=58)
    assert await world.deliver(job) == job


async def test_a_store_that_does_not_take_the_claim_refuses_the_message() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    job = await world.submit()
    store.interludes = [down]
    with pytest.raises(StoreUnavailable):
        await world.work.process(job.id)
    assert await world.job(job) == job


async def test_a_kind_that_this_version_does_not_know_is_parked_for_a_newer_one() -> None:
    world = make_world()
    job = a_job(1, kind="hologram")
    await world.store.change([], lambda _: [Create(job)])
    parked = await world.deliver(job)
    assert (parked.status, parked.attempts, parked.lease) == (Status.QUEUED, 0, None)
    assert parked.not_before == NOON + timedelta(seconds=60)


async def test_a_job_whose_workers_always_die_ends_and_is_refunded() -> None:
    world = make_world()
    job = await world.submit()
    for _ in range(5):
        dying = await begin(world, job)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        world.clock.advance(seconds=61)
    await world.deliver(job)
    after = await world.deliver(job)
    assert (after.status, after.error.code if after.error else None) == (Status.FAILED, "attempts_exhausted")
    assert len(world.generator.started) == 5
    assert await refunds(world, job) == [1]


async def test_a_job_that_must_end_is_settled_by_whoever_comes_and_its_handler_told() -> None:
    handler = Scripted()
    world = handled_by(handler)
    job = await world.submit()
    world.clock.advance(minutes=10)
    assert (await world.deliver(job)).status is Status.FAILED
    assert handler.abandoned == [job.id]


# --- outcomes


async def test_an_outcome_is_written_with_its_money() -> None:
    world = handled_by(Scripted(Done(delivered=1, requested=2), Failed(BROKE)))
    partly = await world.deliver(await world.submit(count=2))
    assert (partly.status, partly.refunded, await refunds(world, partly)) == (Status.DRAFT, 1, [1])
    failed = await world.deliver(await world.submit(count=2))
    assert (failed.status, failed.error, failed.refunded) == (Status.FAILED, BROKE, 2)
    assert await world.balance() == 99
    assert (await audit(world.app)).findings == []


async def test_an_error_that_nobody_foresaw_is_tried_again_until_the_attempts_are_used_up() -> None:
    world = handled_by(Scripted(*[ZeroDivisionError("a bug")] * 5))
    job = await world.submit()
    attempts = []
    for _ in range(5):
        job = await world.deliver(job)
        attempts.append(job.attempts)
        world.clock.advance(minutes=1)
    assert attempts == [1, 2, 3, 4, 4]
    assert (job.status, job.refunded) == (Status.FAILED, 1)
    assert job.error is not None
    assert "bug" not in job.error.message


async def test_the_pause_before_the_next_attempt_grows() -> None:
    world = handled_by(Scripted(*[Retry(BROKE)] * 4))
    job = await world.submit()
    pauses = []
    for _ in range(4):
        now = world.clock.now()
        job = await world.deliver(job)
        assert job.not_before is not None
        pauses.append((job.not_before - now).total_seconds())
        world.clock.advance(minutes=1)
    for pause, whole in zip(pauses, (1, 2, 4, 8), strict=True):
        assert whole / 2 <= pause <= whole


async def test_an_outcome_is_offered_again_to_a_store_that_does_not_answer() -> None:
    store = UnsteadyStore()
    world = handled_by(Scripted(Done()), store=store)
    job = await world.submit()
    store.interludes = [None, *[down] * len(RECORD_PAUSES_SECONDS)]
    await while_time_passes(world.clock, world.work.process(job.id))
    assert (await world.job(job)).status is Status.DRAFT


async def test_an_outcome_that_cannot_be_recorded_refuses_the_message_and_the_next_claim_goes_on() -> None:
    store = UnsteadyStore()
    world = handled_by(Scripted(Done(), Done()), store=store)
    job = await world.submit()
    store.interludes = [None, *[down] * (len(RECORD_PAUSES_SECONDS) + 1)]
    with pytest.raises(StoreUnavailable):
        await while_time_passes(world.clock, world.work.process(job.id))
    assert (await world.job(job)).status is Status.PROCESSING
    world.clock.advance(seconds=61)
    assert (await world.deliver(job)).status is Status.DRAFT


async def test_a_store_that_fails_within_a_step_refuses_the_message() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    job = await world.submit(kind=Kind.VIDEO)
    store.interludes = [None, down]
    with pytest.raises(StoreUnavailable):
        await world.work.process(job.id)
    assert world.generator.started == [], "nothing is bought without a saved intent"
    world.clock.advance(seconds=61)
    assert (await world.deliver(job)).attempts == 1


async def test_commits_of_unknown_result_change_nothing_about_a_jobs_life() -> None:
    """Every decision is taken twice, the second time over what the first one wrote."""
    lives = []
    for decides_again in (False, True):
        store = UnsteadyStore()
        store.decides_again = decides_again
        world = make_world(store=store)
        world.generator.starts = [lambda order: Running(reference="op")]
        image, video = await world.submit(count=2), await world.submit(kind=Kind.VIDEO)
        lives.append([await world.deliver(image), await world.deliver(video), await world.balance()])
        assert (await audit(world.app)).findings == []
    assert lives[0] == lives[1]


async def test_every_settlement_leaves_sound_books_whatever_the_order() -> None:
    world = handled_by(Scripted(Done(), Failed(BROKE), Done(delivered=3, requested=4), Retry(BROKE)))
    for _ in range(4):
        await world.deliver(await world.submit(count=4))
    report = await audit(world.app)
    assert report.findings == []
    assert report.statuses == {"draft": 2, "failed": 1, "queued": 1}
    assert await world.balance() == 100 - 4 - 3 - 4


# --- the lease


async def test_the_lease_is_renewed_while_the_work_goes_on() -> None:
    world = make_world()
    job = await world.submit()
    working = await begin(world, job)

    async def five_minutes() -> None:
        await world.clock.sleep(300)

    await while_time_passes(world.clock, five_minutes(), step=5)
    held = await world.job(job)
    assert held.has_live_lease(world.clock.now())
    assert (held.fence, held.attempts) == (1, 0)
    let_go(world)
    await working
    assert (await world.job(job)).status is Status.DRAFT


async def test_a_store_that_misses_a_renewal_is_asked_again() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    job = await world.submit()
    working = await begin(world, job)
    lease = (await world.job(job)).lease
    assert lease is not None
    half = (lease.until - NOON) / 2
    store.interludes = [down]

    async def almost_two_halves() -> None:
        await world.clock.sleep(half.total_seconds() * 2)

    await while_time_passes(world.clock, almost_two_halves(), step=half.total_seconds())
    await until(lambda: store.interludes == [])
    let_go(world)
    await working
    assert (await world.job(job)).status is Status.DRAFT


async def test_work_whose_lease_cannot_be_renewed_is_let_go_and_done_again() -> None:
    """A renewal that breaks over a bug of ours must not leave a worker that believes to hold the job."""
    store = UnsteadyStore()
    world = make_world(store=store)
    job = await world.submit()
    working = await begin(world, job)

    async def breaks() -> None:
        raise BrokenInvariant("a bug")

    store.interludes = [breaks]
    await while_time_passes(world.clock, asyncio.wait_for(asyncio.shield(working), None), step=5)
    assert (await world.job(job)).status is Status.PROCESSING
    let_go(world)
    world.clock.advance(minutes=1)
    assert (await world.deliver(job)).status is Status.DRAFT


async def test_who_lost_the_lease_stops_and_changes_nothing() -> None:
    world = make_world()
    job = await world.submit()
    working = await begin(world, job)
    theirs = await stolen(world, job)
    await while_time_passes(world.clock, asyncio.wait_for(asyncio.shield(working), None), step=5)
    assert await world.job(job) == theirs
    assert world.media.objects == {}
    assert await world.balance() == 99


async def test_who_learns_at_the_end_that_the_lease_was_lost_removes_what_it_stored() -> None:
    world = make_world()
    job = await world.submit()
    working = await begin(world, job)
    theirs = await stolen(world, job)
    let_go(world)
    await working
    assert await world.job(job) == theirs
    assert world.media.objects == {}


async def test_media_that_cannot_be_removed_are_left_and_the_message_is_acknowledged() -> None:
    world = handled_by(Scripted(Done()))
    job = await world.submit()
    key = job_key(job.id)

    class Thief(Scripted):
        async def step(self, turn: Turn) -> Outcome:
            await stolen(world, job)
            turn.has_stored = True
            await world.media.save(f"{job.id}/{turn.token}/0.png", b"x", type_="image/png")
            world.media.fails = True
            return Done()

    world.work = Work(world.app, {Kind.IMAGE: Thief()})
    await world.work.process(job.id)
    assert len(world.media.objects) == 1
    assert (await world.store.load([key])).need(key).status is Status.PROCESSING


async def test_media_that_the_job_shows_are_never_removed() -> None:
    """The outcome was recorded, but whoever recorded it believes that the lease was lost."""
    world = make_world()
    job = await world.submit()
    key = job_key(job.id)

    class Doubting(Scripted):
        async def step(self, turn: Turn) -> Outcome:
            shown = Media(key=f"{job.id}/{turn.token}/0.png", type="image/png", size=1, sha256="0")
            turn.has_stored = True
            await world.media.save(shown.key, b"x", type_="image/png")
            done = replace(
                turn.job, status=Status.DRAFT, media=(shown,), lease=None, wake_at=None, finished_at=NOON
            )
            await world.store.change([key], lambda _: [Put(done)])
            await turn.renew()
            raise AssertionError("the lease is gone")

    world.work = Work(world.app, {Kind.IMAGE: Doubting()})
    after = await world.deliver(job)
    assert [media.key for media in after.media] == list(world.media.objects)


async def test_a_job_that_was_erased_under_a_workers_hands_leaves_no_media() -> None:
    world = make_world()
    job = await world.submit()
    working = await begin(world, job)
    key = job_key(job.id)
    await world.store.change([key], lambda _: [Delete(key)])
    let_go(world)
    await working
    assert world.media.objects == {}
    assert (await world.store.load([key])).find(key) is None


# --- stopping


async def test_a_step_that_ends_in_the_grace_of_a_stopping_process_is_recorded() -> None:
    world = make_world()
    job = await world.submit()
    working = await begin(world, job)
    world.app.stopping.set()
    await asyncio.sleep(0)
    let_go(world)
    await working
    assert (await world.job(job)).status is Status.DRAFT


async def test_a_queue_that_can_wait_is_told_at_once_when_a_parked_job_shall_wake() -> None:
    world = make_world()
    world.generator.starts = [lambda order: Busy("full", retry_after=timedelta(minutes=1))] * 2
    parked = await world.deliver(await world.submit())
    assert len(world.queue.hints) == 1, "an ordinary queue would deliver it now, in vain"
    world.queue.delays = True
    parked = await world.deliver(await world.submit())
    assert world.queue.hints[-1].job_id == parked.id
    assert world.queue.hints[-1].not_before == parked.not_before == NOON + timedelta(minutes=1)


async def test_a_step_that_does_not_end_in_the_grace_is_parked_and_published() -> None:
    world = another_worker(make_world(), stop_grace_seconds=0)
    job = await world.submit()
    working = await begin(world, job)
    world.queue.hints.clear()
    world.app.stopping.set()
    await working
    parked = await world.job(job)
    assert (parked.status, parked.lease, parked.attempts) == (Status.PROCESSING, None, 0)
    assert [hint.job_id for hint in world.queue.hints] == [job.id]

    rival = another_worker(world, generators={"local": ScriptedGenerator()})
    assert (await rival.deliver(job)).status is Status.DRAFT


async def test_a_video_whose_order_was_broken_off_by_a_stop_is_refunded_and_not_bought_again() -> None:
    world = another_worker(make_world(), stop_grace_seconds=0)
    job = await world.submit(kind=Kind.VIDEO)
    working = await begin(world, job)
    world.app.stopping.set()
    await working
    rival = another_worker(world, generators={"local": ScriptedGenerator()})
    after = await rival.deliver(job)
    assert (after.status, after.error.code if after.error else None) == (Status.FAILED, "outcome_unknown")
    assert rival.generator.started == []
    assert await world.balance() == 100


async def test_a_queue_that_is_down_does_not_keep_a_stopping_process_from_parking() -> None:
    world = another_worker(make_world(), stop_grace_seconds=0)
    job = await world.submit()
    working = await begin(world, job)
    world.queue.fails = QueueUnavailable("down")
    world.app.stopping.set()
    await working
    assert (await world.job(job)).lease is None


# --- a turn


async def a_turn(world: World, *, lease: timedelta = timedelta(seconds=60)) -> Turn:
    token = new_claim_token(Dice("turn")(16))
    await world.store.change([], lambda _: [Create(an_account())])
    await world.store.change([], lambda _: [Create(claimed(a_job(1), token, now=NOON, lease=lease))])
    return Turn(world.app, await world.job(a_job(1)), token, lease)


async def test_progress_is_told_at_most_once_a_second_and_only_forward() -> None:
    world = make_world()
    turn = await a_turn(world)
    await turn.report(10)
    assert turn.job.progress == 0, "the claim itself was a write a moment ago"
    world.clock.advance(seconds=PROGRESS_INTERVAL.total_seconds())
    await turn.report(20)
    assert turn.job.progress == 20
    await turn.report(30)
    world.clock.advance(seconds=5)
    await turn.report(20)
    assert (await world.job(turn.job)).progress == 20
    await turn.report(99)
    assert (await world.job(turn.job)).progress == 99


async def test_a_turn_that_was_taken_over_may_write_nothing() -> None:
    world = make_world()
    turn = await a_turn(world)
    theirs = await stolen(world, turn.job)
    purchase = Purchase(model="m", repeatable=True, intended_at=NOON)
    for write in (turn.renew(50), turn.intend(purchase), turn.save_reference("op"), turn.took_nothing()):
        with pytest.raises(LeaseLost):
            await write
    assert await world.job(turn.job) == theirs


async def test_a_turn_notes_what_it_buys_and_what_became_of_it() -> None:
    world = make_world()
    turn = await a_turn(world)
    purchase = Purchase(model="m", repeatable=True, intended_at=NOON)
    world.clock.advance(seconds=30)
    await turn.intend(purchase)
    assert (await world.job(turn.job)).purchase == purchase
    assert turn.job.lease is not None
    assert turn.job.lease.until == NOON + timedelta(seconds=90), "the intent renewed the lease"
    await turn.save_reference("op")
    assert (await world.job(turn.job)).purchase == replace(purchase, reference="op")
    await turn.took_nothing()
    assert not (await world.job(turn.job)).is_bought


async def test_renewals_end_when_the_lease_is_lost_and_rest_while_others_write() -> None:
    world = make_world()
    turn = await a_turn(world)
    renewing = asyncio.create_task(turn.keep_renewing())
    await asyncio.sleep(0)
    world.clock.advance(seconds=20)
    await turn.renew(10)
    world.clock.advance(seconds=10)  # the time to renew, but that was done ten seconds ago
    await asyncio.sleep(0)
    assert turn.job.lease is not None
    assert turn.job.lease.until == NOON + timedelta(seconds=80)
    await stolen(world, turn.job)
    await while_time_passes(world.clock, asyncio.wait_for(renewing, None), step=30)
    assert renewing.done()


async def test_a_pause_ends_when_its_time_is_over_or_the_process_wants_to_end() -> None:
    world = make_world()
    turn = await a_turn(world)
    await while_time_passes(world.clock, turn.pause(5))
    assert world.clock.now() >= NOON + timedelta(seconds=5)
    world.app.stopping.set()
    await turn.pause(1000)
    assert turn.is_stopping


async def test_two_workers_in_one_process_never_use_the_same_token() -> None:
    world = make_world()
    tokens = set()
    for _ in range(5):
        job = await world.deliver(await world.submit())
        tokens.add(job.media[0].key.split("/")[1])
    assert len(tokens) == 5


async def test_a_clock_that_stands_still_ends_no_lease() -> None:
    world = make_world()
    job = await world.submit()
    working = await begin(world, job)
    rival = another_worker(world, clock=ManualClock(NOON - timedelta(hours=1)))
    await rival.work.process(job.id)
    assert len(world.generator.started) == 1
    let_go(world)
    await working


async def test_what_must_not_be_interrupted_ends_first_and_is_cancelled_then() -> None:
    may_end, has_ended = asyncio.Event(), False

    async def work() -> None:
        nonlocal has_ended
        await may_end.wait()
        has_ended = True

    working = asyncio.create_task(uninterrupted(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        working.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert has_ended
