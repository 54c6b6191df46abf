"""Gateway and worker as processes on Firestore, Pub/Sub and S3, with Gemini, Veo and OpenAI behind them.

The emulators and doubles speak the real protocols to the real clients. One system serves all tests here.
"""

import asyncio
import io
from collections.abc import AsyncIterator

import av
import pytest
import pytest_asyncio
from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient
from google.pubsub_v1.types import PubsubMessage
from PIL import Image

from services.local.emulators import s3_double
from services.local.pubsub_setup import set_up, subscription_for
from shared.envelope import DEAD_LETTER_TOPIC
from tests.acceptance.cloud import LEASE_SECONDS, SECRET, Cloud, a_cloud, is_finished

pytestmark = [pytest.mark.external, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud(
    tmp_path_factory: pytest.TempPathFactory, pubsub_emulator: str, firestore_emulator: str
) -> AsyncIterator[Cloud]:
    home = tmp_path_factory.mktemp("cloud")
    with s3_double(home / "s3.log") as s3:
        async with a_cloud(home, s3=f"http://{s3}") as cloud:
            yield cloud


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def books(cloud: Cloud) -> AsyncIterator[None]:
    """Whatever a test did, the books balance."""
    yield
    audit = cloud.command("audit")
    assert audit.returncode == 0, audit.stdout + audit.stderr


async def test_an_image_is_made_and_can_be_fetched(cloud: Cloud) -> None:
    before = await cloud.balance()
    job = await cloud.made("a fox", count=2)
    assert (job["status"], job["billing"]["charged"], job["model"]) == ("draft", 4, "gemini-image")
    assert await cloud.balance() == before - 4
    for url in [*(media["url"] for media in job["media"]), job["thumbnail_url"]]:
        assert url.startswith(f"{cloud.gateway.url}/media/"), "an address that works for ever"
        picture = await cloud.client.get(url)
        Image.open(io.BytesIO(picture.content)).load()
    assert cloud.makers.starts_of("a fox") == 2


async def test_a_video_is_made_and_can_be_fetched(cloud: Cloud) -> None:
    job = await cloud.made("waves", kind="video")
    assert (job["status"], job["billing"]["charged"]) == ("draft", 20)
    [media] = job["media"]
    film = await cloud.client.get(media["url"])
    with av.open(io.BytesIO(film.content), "r") as container:
        assert len(list(container.decode(video=0))) > 0
    assert cloud.makers.starts_of("waves") == 1


@pytest.mark.parametrize("kind", ["image", "video"])
async def test_a_prompt_against_the_policy_is_refunded_and_shown_to_nobody_else(
    cloud: Cloud, kind: str
) -> None:
    before = await cloud.balance()
    job = await cloud.made(f"nsfw {kind}", kind=kind)
    assert (job["status"], job["error"]["code"], job["error"]["stage"]) == (
        "failed",
        "content_rejected",
        "prompt",
    )
    assert (job["billing"]["state"], await cloud.balance()) == ("refunded", before)
    assert cloud.makers.starts_of(f"nsfw {kind}") == 1, "no other model was asked"


async def test_when_the_first_provider_is_down_the_next_one_makes_it(cloud: Cloud) -> None:
    job = await cloud.made("gemini is down")
    assert (job["status"], job["billing"]["charged"]) == ("draft", 2)
    assert cloud.makers.starts_of("gemini is down") == 2


async def test_when_every_provider_is_down_the_job_fails_and_is_refunded(cloud: Cloud) -> None:
    before = await cloud.balance()
    job = await cloud.made("everybody is down")
    assert (job["status"], job["error"]["code"]) == ("failed", "provider_failed")
    assert (job["billing"]["state"], await cloud.balance()) == ("refunded", before)
    assert cloud.makers.starts_of("everybody is down") == 4, "both, in each of two attempts"


async def test_a_provider_slower_than_the_lease_is_waited_for_and_asked_once(cloud: Cloud) -> None:
    job = await cloud.submit("a slow fox")
    await cloud.makers.provider.until(lambda: cloud.makers.starts_of("a slow fox") == 1, seconds=20)
    await asyncio.sleep(LEASE_SECONDS + 2)  # the worker's own time, which no test can move
    assert (await cloud.job(job))["status"] == "processing"
    cloud.makers.pictures_may_end.set()
    job = await cloud.until(job, is_finished)
    assert (job["status"], job["attempts"]) == ("draft", 0)
    assert cloud.makers.starts_of("a slow fox") == 1


async def test_a_video_outlives_the_worker_that_started_it(cloud: Cloud) -> None:
    job = await cloud.submit("long waves", kind="video")
    await cloud.makers.provider.until(lambda: cloud.makers.long_films_asked_about > 0, seconds=20)
    assert (await cloud.job(job))["status"] == "processing"
    cloud.worker.kill()
    await cloud.worker.start()
    cloud.makers.films_may_end.set()
    job = await cloud.until(job, is_finished, seconds=120)
    assert (job["status"], job["billing"]["charged"]) == ("draft", 20)
    assert cloud.makers.starts_of("long waves") == 1, "the operation was resumed, not bought again"


async def test_a_message_that_nobody_can_read_ends_in_the_dead_letters(cloud: Cloud) -> None:
    topic = f"projects/{cloud.project}/topics/image-generation-jobs"
    dead = f"projects/{cloud.project}/subscriptions/{subscription_for(DEAD_LETTER_TOPIC)}"
    async with PublisherAsyncClient() as publisher, SubscriberAsyncClient() as subscriber:
        await publisher.publish(topic=topic, messages=[PubsubMessage(data=b"poison")])
        async with asyncio.timeout(60):
            while not (pulled := await subscriber.pull(subscription=dead, max_messages=10)).received_messages:
                pass
        [message] = pulled.received_messages
        await subscriber.acknowledge(subscription=dead, ack_ids=[message.ack_id])
    assert message.message.data == b"poison"
    refused = cloud.worker.log.read_text().count("poison")
    assert refused == 0, "what a stranger wrote is not in the logs"


async def test_a_message_that_was_lost_is_sent_again_by_the_sweep(cloud: Cloud) -> None:
    name = f"projects/{cloud.project}/subscriptions/{subscription_for('image-generation-jobs')}"
    async with SubscriberAsyncClient() as subscriber:
        await subscriber.delete_subscription(subscription=name)
    job = await cloud.submit("a lost fox")  # its message reaches a topic that nobody reads
    await set_up(cloud.project, worker_url=cloud.worker.url, backoff=None, token=SECRET)
    job = await cloud.until(job, is_finished)
    assert (job["status"], cloud.makers.starts_of("a lost fox")) == ("draft", 1)


async def test_ready_names_both_parts(cloud: Cloud) -> None:
    assert (await cloud.client.get("/ready")).json() == {
        "status": "ok",
        "parts": {"store": "ok", "queue": "ok"},
    }


async def test_both_services_end_with_0_when_they_are_asked_to(cloud: Cloud) -> None:
    assert [service.stop() for service in (cloud.gateway, cloud.worker)] == [0, 0]
    assert "Traceback" not in cloud.gateway.log.read_text() + cloud.worker.log.read_text()
