"""What a user sees and pays when an image's provider blocks, limits, fails or falls silent.

The engine, the adapters, the official clients and the wire are real; only the providers and the time are not.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from shared.adapters.generators.google.gemini_image import GeminiImages
from shared.adapters.generators.openai.images import OpenAIImages
from shared.domain.catalogue import Catalogue, KindRules, Model, Per
from shared.domain.job import UNFINISHED, Job, Kind, Status
from shared.usecases.handlers import all_handlers
from shared.usecases.work import Work
from tests.providers import gemini, openai
from tests.providers.server import FakeProvider, Reply
from tests.support import PNG, World, make_world

PRICE = 10
GIFT = 100


def a_model(generator: str, *, repeatable: bool) -> Model:
    return Model(
        generator=generator,
        tokens=PRICE,
        per=Per.IMAGE,
        start_timeout_seconds=60,
        repeatable=repeatable,
        max_count=4,
        sizes={"1:1": "1024x1024"},
    )


@dataclass(frozen=True)
class Place:
    world: World
    google: FakeProvider
    openai: FakeProvider

    async def ended(self, *, count: int = 1) -> Job:
        """Submit a job and let workers look at it, whenever it is due, until it has ended."""
        job = await self.world.submit(count=count)
        while job.status in UNFINISHED:
            job = await self.world.deliver(job)
            if job.wake_at is not None and job.wake_at > self.world.clock.now():
                self.world.clock.advance(seconds=(job.wake_at - self.world.clock.now()).total_seconds())
        return job


@asynccontextmanager
async def a_place(*models: str, repeatable: bool = True) -> AsyncIterator[Place]:
    """A world whose images are made by the generators named, in this order."""
    async with (
        FakeProvider() as google,
        FakeProvider() as openais,
        GeminiImages.open(api_key="K", base_url=google.url) as gemini_images,
        OpenAIImages.open(api_key="K", base_url=f"{openais.url}/v1") as openai_images,
    ):
        world = make_world(signup_tokens=GIFT)
        erasure = world.app.catalogue.kinds[Kind.ERASURE]
        catalogue = Catalogue(
            kinds={Kind.IMAGE: KindRules(deadline_seconds=600, models=models), Kind.ERASURE: erasure},
            models={name: a_model(name, repeatable=repeatable) for name in models},
        )
        app = replace(
            world.app,
            catalogue=catalogue,
            generators={"gemini": gemini_images, "openai": openai_images},
        )
        yield Place(replace(world, app=app, work=Work(app, all_handlers(app))), google, openais)


FINAL, TRIED_AGAIN = False, True

GOOGLES = {
    "a blocked prompt": (gemini.blocked_prompt(), "content_rejected", FINAL),
    "a blocked image": (gemini.answer(finish="IMAGE_SAFETY"), "content_rejected", FINAL),
    "words instead of an image": (gemini.answer(gemini.text_part("no")), "content_rejected", FINAL),
    "an invalid argument": (gemini.error(400, "INVALID_ARGUMENT"), "invalid_request", FINAL),
    "a model that is gone": (gemini.error(404, "NOT_FOUND"), "model_retired", FINAL),
    "a wrong key": (
        gemini.error(400, "INVALID_ARGUMENT", "m", gemini.API_KEY_INVALID),
        "provider_failed",
        TRIED_AGAIN,
    ),
    "no permission": (gemini.error(403, "PERMISSION_DENIED"), "provider_failed", TRIED_AGAIN),
    "an error of its servers": (gemini.error(500, "INTERNAL"), "provider_failed", TRIED_AGAIN),
    "an overload": (gemini.error(503, "UNAVAILABLE"), "provider_failed", TRIED_AGAIN),
    "no image for no reason": (gemini.answer(finish="NO_IMAGE"), "provider_failed", TRIED_AGAIN),
    "a dropped connection": (Reply.dropped(), "outcome_unknown", TRIED_AGAIN),
    "half an answer": (replace(gemini.an_image(PNG), sent_bytes=10), "outcome_unknown", TRIED_AGAIN),
    "an answer that is none": (Reply.text("<html>"), "outcome_unknown", TRIED_AGAIN),
    "a limit that never ends": (
        gemini.error(429, "RESOURCE_EXHAUSTED", "m", gemini.retry_info("100s")),
        "timed_out",
        TRIED_AGAIN,
    ),
}

OPENAIS = {
    "a blocked prompt": (openai.moderated(), "content_rejected", FINAL),
    "an invalid value": (openai.error(400, "invalid_value", param="size"), "invalid_request", FINAL),
    "a model that is gone": (openai.error(404, "model_not_found"), "model_retired", FINAL),
    "a wrong key": (openai.error(401, "invalid_api_key"), "provider_failed", TRIED_AGAIN),
    "an empty purse": (openai.error(429, "insufficient_quota"), "provider_failed", TRIED_AGAIN),
    "an error of its servers": (openai.error(500, None, "server_error"), "provider_failed", TRIED_AGAIN),
    "a dropped connection": (Reply.dropped(), "outcome_unknown", TRIED_AGAIN),
    "a limit that never ends": (
        openai.error(429, "rate_limit_exceeded", "requests", headers={"retry-after": "100"}),
        "timed_out",
        TRIED_AGAIN,
    ),
}


@pytest.mark.parametrize("failure", GOOGLES)
async def test_a_failure_of_gemini_ends_in_its_code_and_is_refunded(failure: str) -> None:
    async with a_place("gemini") as place:
        await ends_refunded(place, place.google, *GOOGLES[failure])


@pytest.mark.parametrize("failure", OPENAIS)
async def test_a_failure_of_openai_ends_in_its_code_and_is_refunded(failure: str) -> None:
    async with a_place("openai") as place:
        await ends_refunded(place, place.openai, *OPENAIS[failure])


async def ends_refunded(
    place: Place, provider: FakeProvider, reply: Reply, code: str, is_tried_again: bool
) -> None:
    provider.handler = lambda _: reply
    job = await place.ended()
    assert job.error is not None
    assert (job.status, job.error.code) == (Status.FAILED, code)
    assert await place.world.balance() == GIFT
    assert (len(provider.calls) > 1) == is_tried_again
    assert len(provider.calls) <= 10
    assert provider.connections == len(provider.calls)


@pytest.mark.parametrize("reply", [Reply.dropped(), Reply.text("<html>"), Reply(status=504)])
async def test_what_is_too_dear_to_buy_twice_is_bought_once_when_nobody_knows(reply: Reply) -> None:
    async with a_place("gemini", repeatable=False) as place:
        place.google.handler = lambda _: reply
        job = await place.ended()
        assert job.error is not None
        assert job.error.code == "outcome_unknown"
        assert len(place.google.calls) == 1
        assert await place.world.balance() == GIFT


@pytest.mark.parametrize(
    "reply",
    [
        gemini.error(503, "UNAVAILABLE"),
        gemini.error(429, "RESOURCE_EXHAUSTED", "m", gemini.retry_info("7s")),
        gemini.error(500, "INTERNAL"),
        gemini.answer(finish="NO_IMAGE"),
        Reply.dropped(),
        Reply.text("{"),
    ],
)
async def test_a_failure_that_passes_is_not_seen_by_the_user(reply: Reply) -> None:
    async with a_place("gemini") as place:
        place.google.answer(reply, gemini.an_image(PNG))
        job = await place.ended()
        assert (job.status, len(job.media)) == (Status.DRAFT, 1)
        assert await place.world.balance() == GIFT - PRICE


@pytest.mark.parametrize(
    "reply",
    [
        gemini.error(503, "UNAVAILABLE"),
        gemini.error(429, "RESOURCE_EXHAUSTED"),
        gemini.error(404, "NOT_FOUND"),
        gemini.error(403, "PERMISSION_DENIED"),
    ],
)
async def test_what_certainly_took_nothing_is_made_by_the_next_generator(reply: Reply) -> None:
    async with a_place("gemini", "openai") as place:
        place.google.answer(reply)
        place.openai.answer(openai.images(PNG))
        job = await place.ended()
        assert job.status is Status.DRAFT
        assert (len(place.google.calls), len(place.openai.calls)) == (1, 1)


async def test_a_provider_that_cannot_be_reached_is_replaced_by_the_next() -> None:
    async with a_place("gemini", "openai") as place:
        await place.google.close()
        place.openai.answer(openai.images(PNG))
        assert (await place.ended()).status is Status.DRAFT


@pytest.mark.parametrize(
    "reply",
    [
        gemini.blocked_prompt(),
        gemini.answer(finish="IMAGE_SAFETY"),
        gemini.error(400, "INVALID_ARGUMENT"),
    ],
)
async def test_a_block_is_not_taken_to_the_next_generator(reply: Reply) -> None:
    async with a_place("gemini", "openai") as place:
        place.google.answer(reply)
        assert (await place.ended()).status is Status.FAILED
        assert place.openai.calls == []


async def test_what_may_have_been_taken_is_not_bought_from_the_next_generator() -> None:
    async with a_place("gemini", "openai", repeatable=False) as place:
        place.google.answer(Reply.dropped())
        assert (await place.ended()).status is Status.FAILED
        assert place.openai.calls == []


async def test_images_that_were_held_back_are_not_paid_for() -> None:
    async with a_place("gemini") as place:
        place.google.answer(
            gemini.an_image(PNG + b"1"), gemini.answer(finish="IMAGE_SAFETY"), gemini.an_image(PNG + b"2")
        )
        job = await place.ended(count=3)
        assert (job.status, len(job.media)) == (Status.DRAFT, 2)
        assert await place.world.balance() == GIFT - 2 * PRICE
