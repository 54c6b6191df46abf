"""Pub/Sub on Google's emulator: the whole way into the real worker, dead letters, and setting it all up."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from google.api_core.exceptions import DeadlineExceeded
from google.pubsub_v1 import PublisherAsyncClient, PubsubMessage, ReceivedMessage, SubscriberAsyncClient
from google.pubsub_v1.types import Subscription

from services.local.emulators import pubsub_emulator as another_emulator
from services.local.pubsub_setup import set_up
from shared.adapters.auth.shared_secret import SharedSecret
from shared.adapters.queues.pubsub import PubSubQueue
from shared.domain.errors import QueueUnavailable, Unauthenticated
from shared.domain.job import Kind, Status
from shared.envelope import TOPIC_ROUTES
from shared.ports.queue import Hint
from tests.contract.pushed import PushedWorker, a_hint, hints, in_time, refusal_of, served
from tests.contract.real_worker import a_real_worker, publishing_to
from tests.emulators import a_project
from tests.services.conftest import Ailing
from tests.support import ManualClock, World, make_world

SECRET: Final = "the-workers-secret"
IMAGE_TOPIC, VIDEO_TOPIC = "image-generation-jobs", "video-generation-jobs"

pytestmark = pytest.mark.external


@pytest.fixture
def project(pubsub_emulator: str) -> str:
    return a_project()


@asynccontextmanager
async def a_system(project: str, world: World) -> AsyncIterator[World]:
    """Use cases that publish to the emulator, which pushes to the real worker over the same world."""
    async with PubSubQueue.open(project) as queue:
        world = publishing_to(queue, world)
        async with a_real_worker(world, verifier=SharedSecret(SECRET)) as url:
            await set_up(project, worker_url=url, backoff=None, token=SECRET)
            yield world


async def dead_letters(project: str, *, count: int, seconds: float = 20) -> list[ReceivedMessage]:
    """The first `count` of them; pulled, and acknowledged."""
    found: list[ReceivedMessage] = []
    subscription = f"projects/{project}/subscriptions/job-dlq-sub"
    async with SubscriberAsyncClient() as subscriber, asyncio.timeout(seconds):
        while len(found) < count:
            try:
                pulled = await subscriber.pull(
                    subscription=subscription, max_messages=10, timeout=1, retry=None
                )
            except DeadlineExceeded:
                continue
            found += pulled.received_messages
            ack_ids = [message.ack_id for message in pulled.received_messages]
            if ack_ids:
                await subscriber.acknowledge(subscription=subscription, ack_ids=ack_ids)
    return found


async def publish_raw(project: str, topic: str, *data: bytes) -> None:
    async with PublisherAsyncClient() as publisher:
        await publisher.publish(
            topic=f"projects/{project}/topics/{topic}", messages=[PubsubMessage(data=one) for one in data]
        )


async def until_finished(world: World, *kinds: str) -> list[Status]:
    """How jobs of these kinds, submitted now, ended."""
    jobs = [await world.submit(kind=kind) for kind in kinds]
    async with asyncio.timeout(20):
        while True:
            standing = [await world.job(job) for job in jobs]
            if all(job.is_finished for job in standing):
                return [job.status for job in standing]
            await asyncio.sleep(0.02)


async def test_a_submitted_job_is_pushed_to_the_worker_and_made(project: str) -> None:
    async with a_system(project, make_world()) as world:
        assert await until_finished(world, Kind.IMAGE, Kind.VIDEO) == [Status.DRAFT, Status.DRAFT]
        assert len(world.generator.started) == 2
        assert await world.balance() == 100 - 1 - 10


async def test_a_message_that_comes_three_times_makes_and_costs_one_picture(project: str) -> None:
    async with a_system(project, make_world()) as world:
        job = await world.submit()
        again = [Hint(job_id=job.id, kind=job.kind)] * 2
        await world.app.queue.publish(again)
        async with asyncio.timeout(20):
            while not (await world.job(job)).is_finished:  # noqa: ASYNC110 - a store cannot be awaited
                await asyncio.sleep(0.02)
        assert await until_finished(world, Kind.IMAGE) == [Status.DRAFT]
        assert len(world.generator.started) == 2
        assert await world.balance() == 100 - 1 - 1


async def test_what_the_worker_cannot_read_ends_in_the_dead_letters_after_five_refusals(project: str) -> None:
    """And holds up nobody else; a job that is gone is no poison."""
    gone = json.dumps({"job_id": a_hint().job_id, "kind": "image"}).encode()
    async with a_system(project, make_world()) as world:
        await publish_raw(
            project, IMAGE_TOPIC, b"not ours", b'{"job_id": "7; DROP TABLE", "kind": "image"}', gone
        )
        await publish_raw(project, VIDEO_TOPIC, b"not ours either")
        assert await until_finished(world, Kind.IMAGE, Kind.VIDEO) == [Status.DRAFT, Status.DRAFT]
        letters = await dead_letters(project, count=3)

    assert {letter.message.data for letter in letters} == {
        b"not ours",
        b"not ours either",
        b'{"job_id": "7; DROP TABLE", "kind": "image"}',
    }
    attributes = [dict(letter.message.attributes) for letter in letters]
    assert {one["CloudPubSubDeadLetterSourceDeliveryCount"] for one in attributes} == {"5"}
    assert {one["CloudPubSubDeadLetterSourceSubscription"] for one in attributes} == {
        "image-generation-jobs-sub",
        "video-generation-jobs-sub",
    }


async def test_what_a_worker_without_its_store_could_not_record_comes_again(project: str) -> None:
    world = make_world()
    store = Ailing(world.store)
    app = replace(world.app, store=store)
    world = replace(world, app=app, store=store)
    async with a_system(project, world) as world:
        job = await world.submit()
        store.is_down = True
        await world.app.queue.publish([Hint(job_id=job.id, kind=job.kind)])
        await asyncio.sleep(0.5)  # long enough for pushes that nobody can record
        store.is_down = False
        async with asyncio.timeout(20):
            while not (await world.job(job)).is_finished:  # noqa: ASYNC110 - a store cannot be awaited
                await asyncio.sleep(0.02)
        assert (await world.job(job)).status == Status.DRAFT
        assert len(world.generator.started) == 1


async def test_a_push_shows_the_token_and_the_worker_turns_it_away_if_it_is_wrong(project: str) -> None:
    shown: list[str] = []

    class LetsNobodyIn:
        async def verify(self, token: str) -> None:
            shown.append(token)
            raise Unauthenticated("not you")

    world = make_world()
    async with PubSubQueue.open(project) as queue:
        world = publishing_to(queue, world)
        async with a_real_worker(world, verifier=LetsNobodyIn()) as url:
            await set_up(project, worker_url=url, backoff=None, token="a token & more")
            await world.submit()
            await in_time(ManualClock(), lambda: len(shown) >= 2)
    assert set(shown) == {"a token & more"}
    assert world.generator.started == []


# Setting up.


async def subscription_of(project: str, name: str) -> Subscription:
    async with SubscriberAsyncClient() as subscriber:
        return await subscriber.get_subscription(subscription=f"projects/{project}/subscriptions/{name}")


async def test_the_subscriptions_are_the_ones_that_production_has(project: str) -> None:
    await set_up(
        project,
        worker_url="http://127.0.0.1:9/",
        service_account="push@example.iam.gserviceaccount.com",
        others={VIDEO_TOPIC: "http://127.0.0.1:8"},
    )
    for topic, route in TOPIC_ROUTES.items():
        made = await subscription_of(project, f"{topic}-sub")
        worker = "http://127.0.0.1:8" if topic == VIDEO_TOPIC else "http://127.0.0.1:9"
        assert made.topic == f"projects/{project}/topics/{topic}"
        assert made.push_config.push_endpoint == f"{worker}{route}"
        token = made.push_config.oidc_token
        assert (token.service_account_email, token.audience) == (
            "push@example.iam.gserviceaccount.com",
            worker,
        )
        assert made.ack_deadline_seconds == 600
        assert made.dead_letter_policy.dead_letter_topic == f"projects/{project}/topics/job-dlq"
        assert made.dead_letter_policy.max_delivery_attempts == 5
        assert made.retry_policy.minimum_backoff == timedelta(seconds=10)
        assert made.retry_policy.maximum_backoff == timedelta(seconds=600)
    letters = await subscription_of(project, "job-dlq-sub")
    assert letters.topic == f"projects/{project}/topics/job-dlq"
    assert not letters.push_config.push_endpoint


async def test_setting_up_again_brings_what_is_there_up_to_date(project: str) -> None:
    worker = PushedWorker()
    await set_up(project, worker_url="http://127.0.0.1:9", backoff=None)
    async with served(worker) as url, PubSubQueue.open(project) as queue:
        for _ in range(2):
            await set_up(project, worker_url=url, backoff=None)
        await queue.publish([a_hint()])
        await in_time(ManualClock(), lambda: worker.jobs == [a_hint().job_id])


async def test_a_topic_that_was_deleted_is_named_and_setting_up_heals_it(project: str) -> None:
    worker = PushedWorker()
    async with served(worker) as url, PubSubQueue.open(project) as queue:
        await set_up(project, worker_url=url, backoff=None)
        async with PublisherAsyncClient() as publisher:
            await publisher.delete_topic(topic=f"projects/{project}/topics/{IMAGE_TOPIC}")
        for attempt in (queue.publish([a_hint()]), queue.check()):
            assert f"projects/{project}/topics/{IMAGE_TOPIC} does not exist" in await refusal_of(attempt)

        await set_up(project, worker_url=url, backoff=None)
        await queue.check()
        await queue.publish([a_hint()])
        await in_time(ManualClock(), lambda: worker.jobs == [a_hint().job_id])


async def test_a_pub_sub_that_dies_in_mid_publish_is_said_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        with another_emulator(tmp_path / "log") as address:
            monkeypatch.setenv("PUBSUB_EMULATOR_HOST", address)
            await set_up("demo-dying", worker_url="http://127.0.0.1:9")
            queue = await stack.enter_async_context(PubSubQueue.open("demo-dying", patience_seconds=1))
            await queue.check()
            going = [asyncio.create_task(queue.publish(hints(range(5_000)))) for _ in range(4)]
            await asyncio.sleep(0.02)
        async with asyncio.timeout(4):
            ended = await asyncio.gather(*going, return_exceptions=True)
        assert {type(error) for error in ended} <= {QueueUnavailable, type(None)}
        assert "topics/image-generation-jobs" in await refusal_of(queue.publish([a_hint()]))
        assert "topics/" in await refusal_of(queue.check())
