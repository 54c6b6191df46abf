"""Cloud Tasks: the whole way into the real worker, by a clock that the test moves."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.adapters.auth.shared_secret import SharedSecret
from shared.domain.errors import Unauthenticated
from shared.domain.job import Job, Kind, Status
from shared.ports.auth import PushVerifier
from shared.ports.generator import Running
from shared.ports.queue import Hint
from tests.contract.cloud_tasks_double import CloudTasksDouble
from tests.contract.pushed import served
from tests.contract.queue_adapters import ACCOUNT, queues_at, tasks_queue
from tests.contract.real_worker import publishing_to, worker_app
from tests.services.conftest import Ailing
from tests.support import ManualClock, World, make_world


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def tasks(clock: ManualClock) -> AsyncIterator[tuple[CloudTasksDouble, str]]:
    async with CloudTasksDouble.serving(clock) as (double, address):
        await queues_at(address)
        yield double, address


@pytest.fixture
def double(tasks: tuple[CloudTasksDouble, str]) -> CloudTasksDouble:
    return tasks[0]


class LetsTheAccountIn:
    """Reads the unsigned token that the double sends."""

    async def verify(self, token: str) -> None:
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1]))
        if claims != {"email": ACCOUNT, "aud": "the-worker"}:
            raise Unauthenticated("not you")


class MadeLater:
    """An app whose address is needed to make it."""

    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@asynccontextmanager
async def a_system(
    world: World, address: str, *, verifier: PushVerifier | None = None, **given: Any
) -> AsyncIterator[World]:
    """Use cases that publish tasks, which are dispatched to the real worker over the same world."""
    worker = MadeLater()
    async with served(worker) as url, tasks_queue(address, world.clock, worker_url=url, **given) as queue:
        world = publishing_to(queue, world)
        worker.app = worker_app(world, verifier=verifier or LetsTheAccountIn())
        yield world


async def until_finished(world: World, *jobs: Job) -> list[Status]:
    """How the jobs ended, while the manual clock runs."""
    async with asyncio.timeout(20):
        while True:
            standing = [await world.job(job) for job in jobs]
            if all(job.is_finished for job in standing):
                return [job.status for job in standing]
            world.clock.advance(seconds=0.5)
            await asyncio.sleep(0.005)


async def test_submitted_jobs_are_dispatched_to_the_worker_and_made(
    tasks: tuple[CloudTasksDouble, str], clock: ManualClock
) -> None:
    async with a_system(make_world(clock=clock), tasks[1]) as world:
        jobs = [await world.submit(), await world.submit(kind=Kind.VIDEO)]
        assert await until_finished(world, *jobs) == [Status.DRAFT, Status.DRAFT]
        assert await world.balance() == 100 - 1 - 10


async def test_on_one_machine_tasks_show_the_workers_secret(
    tasks: tuple[CloudTasksDouble, str], clock: ManualClock
) -> None:
    async with a_system(
        make_world(clock=clock), tasks[1], verifier=SharedSecret("the-secret"), secret="the-secret"
    ) as world:
        assert await until_finished(world, await world.submit()) == [Status.DRAFT]
    assert "oidc_token" not in tasks[0].asked[0].http_request


async def test_a_parked_job_wakes_at_its_time_without_any_sweep(
    tasks: tuple[CloudTasksDouble, str], clock: ManualClock
) -> None:
    world = make_world(clock=clock)
    going = Running(reference="operation-1", poll_after=timedelta(minutes=2))
    world.generator.starts.append(lambda order: going)
    world.generator.polls += [lambda order: going] * 2
    async with a_system(world, tasks[1]) as world:
        job = await world.submit(kind=Kind.VIDEO)
        async with asyncio.timeout(10):
            while (parked := await world.job(job)).not_before is None:
                clock.advance(seconds=0.5)
                await asyncio.sleep(0.005)
        assert parked.not_before > clock.now()
        assert await until_finished(world, job) == [Status.DRAFT]
        assert clock.now() >= parked.not_before
    assert world.generator.polled == ["operation-1"] * 3
    assert len(world.generator.started) == 1


async def test_what_a_worker_without_its_store_could_not_record_comes_again(
    tasks: tuple[CloudTasksDouble, str], clock: ManualClock
) -> None:
    world = make_world(clock=clock)
    store = Ailing(world.store)
    world = replace(world, app=replace(world.app, store=store), store=store)
    async with a_system(world, tasks[1]) as world:
        job = await world.submit()
        store.is_down = True
        await world.app.queue.publish([Hint(job_id=job.id, kind=job.kind)])
        await asyncio.sleep(0.2)
        store.is_down = False
        assert await until_finished(world, job) == [Status.DRAFT]
        assert len(world.generator.started) == 1
