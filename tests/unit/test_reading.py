"""Reading: what is not theirs does not exist for them; waiting for an end; figures for operators."""

import asyncio

import pytest

from shared.domain.changes import Create, Delete, job_key
from shared.domain.errors import NotFound
from shared.domain.job import Job, Kind, Status
from shared.usecases.fingerprint import fingerprint
from shared.usecases.publication import delete
from shared.usecases.reading import get_job, visible, wait_for_end
from shared.usecases.stats import stats
from tests.support import ADA, BOB, UnsteadyStore, a_job, make_world, until


async def test_a_user_finds_their_own_job() -> None:
    world = make_world()
    job = await world.submit()
    assert await get_job(world.app, job.id, ADA) == job


@pytest.mark.parametrize(
    "job", [None, a_job(1, user=BOB), a_job(1, kind=Kind.ERASURE), a_job(1, deleted_at=a_job(1).created_at)]
)
def test_what_is_missing_or_hidden_or_somebody_elses_is_not_found_in_the_same_words(job: Job | None) -> None:
    with pytest.raises(NotFound, match=f"^there is no job {a_job(1).id}$"):
        visible(job, a_job(1).id, ADA)


async def test_a_deleted_job_is_not_found() -> None:
    world = make_world()
    job = await world.deliver(await world.submit())
    await delete(world.app, job.id, ADA)
    with pytest.raises(NotFound):
        await get_job(world.app, job.id, ADA)


# --- waiting for the end


async def test_a_finished_job_is_not_waited_for() -> None:
    world = make_world()
    job = await world.deliver(await world.submit())
    assert await wait_for_end(world.app, job, 60) is job


async def test_no_time_is_no_wait() -> None:
    world = make_world()
    job = await world.submit()
    assert await wait_for_end(world.app, job, 0) is job


async def test_who_waits_is_given_the_job_as_soon_as_it_has_ended() -> None:
    world = make_world()
    world.generator.gate = asyncio.Event()
    job = await world.submit()
    waiting = asyncio.create_task(wait_for_end(world.app, job, 60))
    working = asyncio.create_task(world.work.process(job.id))
    await until(lambda: bool(world.generator.started))
    assert not waiting.done(), "a claim is no end"
    world.generator.gate.set()
    assert (await waiting).status is Status.DRAFT
    await working


async def test_who_waits_too_long_is_given_the_job_as_it_stands() -> None:
    world = make_world()
    job = await world.submit()
    assert await wait_for_end(world.app, job, 0.001) == job


async def test_an_end_that_came_before_the_watch_is_seen() -> None:
    world = make_world()
    job = await world.submit()
    await world.work.process(job.id)
    assert (await wait_for_end(world.app, job, 60)).status is Status.DRAFT


async def test_an_end_that_came_while_the_watch_began_is_seen() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    job = await world.submit()

    async def finish() -> None:
        await world.work.process(job.id)

    store.before_load = finish
    assert (await wait_for_end(world.app, job, 60)).status is Status.DRAFT


async def test_a_job_that_is_gone_is_given_as_it_was_known() -> None:
    world = make_world()
    job = await world.submit()
    key = job_key(job.id)
    await world.store.change([key], lambda _: [Delete(key)])
    assert await wait_for_end(world.app, job, 0.001) == job


# --- fingerprints, figures


def test_a_fingerprint_is_that_of_the_values_whatever_their_order() -> None:
    assert fingerprint({"a": 1, "b": [2, None]}) == fingerprint({"b": [2, None], "a": 1})
    assert (
        len({fingerprint(1, 2), fingerprint([1, 2]), fingerprint(2, 1), fingerprint("1", "2"), fingerprint()})
        == 5
    )


async def test_the_figures_count_jobs_and_tokens_by_kind_and_status() -> None:
    world = make_world()
    assert await stats(world.app) == {
        "kinds": {"image": {}, "video": {}},
        "success_rate": None,
        "sweep_lag_seconds": 0.0,
    }
    await world.deliver(await world.submit(count=2))
    await world.submit(kind=Kind.VIDEO)
    await world.store.change([], lambda _: [Create(a_job(9, user=BOB, cost=4, kind=Kind.ERASURE))])
    late = await world.submit()
    world.clock.advance(minutes=10, seconds=2.5)
    await world.deliver(late)
    assert await stats(world.app) == {
        "kinds": {
            "image": {"draft": {"jobs": 1, "tokens": 2}, "failed": {"jobs": 1, "tokens": 1}},
            "video": {"queued": {"jobs": 1, "tokens": 10}},
        },
        "success_rate": 0.5,
        "sweep_lag_seconds": 592.5,
    }
