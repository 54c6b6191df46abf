"""Whatever a provider answers, a generator says what it means for the order, and says nothing else."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from shared.adapters.generators.google.gemini_image import GeminiImages
from shared.adapters.generators.google.omni_video import OmniVideo
from shared.adapters.generators.google.veo import Veo
from shared.adapters.generators.openai.images import OpenAIImages
from shared.domain.ids import JobId
from shared.domain.requests import ImageRequest
from shared.ports.generator import Artifact, GeneratorError, Made, Order, OutcomeUnknown, Running, Withheld
from tests.providers import gemini, omni, openai, veo
from tests.providers.damage import damaged
from tests.providers.films import FILM, a_film
from tests.providers.pictures import a_png
from tests.providers.server import FakeProvider, Reply

pytestmark = pytest.mark.usefixtures("quick_clients")

PICTURE = Order(
    job_id=JobId("job_00000000000000000000000001"),
    model="m",
    request=ImageRequest(prompt="a fox", width=1024, height=1024, seed=7),
)
SEEDS = range(50)

Ask = Callable[[], Awaitable[Running | Made]]


async def every_answer_is_understood(
    provider: FakeProvider, ask: Ask, document: Any, status: int = 200
) -> None:
    seen: set[type] = set()
    for body in damaged(document, seeds=SEEDS):
        provider.answer(Reply.text(body, type_="application/json", status=status))
        understood = await meaning_of(ask, body)
        seen.add(type(understood))
        if isinstance(understood, GeneratorError):
            assert len(understood.message) <= 1_000, body
            assert understood.message.isprintable(), body
        for item in understood.items if isinstance(understood, Made) else ():
            assert isinstance(item, Artifact | Withheld)
            if isinstance(item, Artifact) and isinstance(item.content, Path):
                item.content.unlink()
    assert len(provider.calls) == len(SEEDS) == provider.connections, "each was asked once"
    assert len(seen) > 1 or status == 429, "damage that changes nothing proves nothing"


async def meaning_of(ask: Ask, body: bytes) -> Running | Made | GeneratorError:
    try:
        return await ask()
    except GeneratorError as error:
        return error
    except Exception as error:
        raise AssertionError(f"{error!r} for {body!r}") from error


def body_of(reply: Reply) -> Any:
    return json.loads(reply.body)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (gemini.an_image(a_png()), 200),
        (gemini.blocked_prompt(message="no"), 200),
        (gemini.answer(gemini.text_part("no"), finish="IMAGE_SAFETY", message="why"), 200),
        (gemini.error(429, "RESOURCE_EXHAUSTED", "m", gemini.retry_info("17s")), 429),
        (gemini.error(400, "INVALID_ARGUMENT", "m", gemini.API_KEY_INVALID), 400),
    ],
    ids=["an image", "a block", "a held back image", "a limit", "a wrong key"],
)
async def test_of_gemini(provider: FakeProvider, reply: Reply, status: int) -> None:
    async with GeminiImages.open(api_key="K", base_url=provider.url) as images:
        await every_answer_is_understood(provider, lambda: images.start(PICTURE), body_of(reply), status)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (openai.images(a_png()), 200),
        (openai.moderated(), 400),
        (openai.error(429, "rate_limit_exceeded", "requests"), 429),
    ],
    ids=["an image", "a block", "a limit"],
)
async def test_of_openai(provider: FakeProvider, reply: Reply, status: int) -> None:
    async with OpenAIImages.open(api_key="K", base_url=f"{provider.url}/v1") as images:
        await every_answer_is_understood(provider, lambda: images.start(PICTURE), body_of(reply), status)


@pytest.mark.parametrize(
    "reply",
    [veo.running({"progressPercent": 40}), veo.with_video(FILM), veo.filtered("a"), veo.failed(3, "why")],
    ids=["at work", "a film", "a held back film", "a failure"],
)
async def test_of_veo(provider: FakeProvider, veo: Veo, reply: Reply) -> None:
    await every_answer_is_understood(provider, lambda: veo.poll(a_film(), NAME), body_of(reply))


NAME = veo.NAME


async def test_of_veo_to_a_start(provider: FakeProvider, veo: Veo) -> None:
    await every_answer_is_understood(provider, lambda: veo.start(a_film()), {"name": NAME, "metadata": {}})


@pytest.mark.parametrize(
    "reply",
    [omni.interaction(), omni.video_inside(FILM), omni.failed(("code", "why"))],
    ids=["at work", "a film", "a failure"],
)
async def test_of_omni(provider: FakeProvider, omni: OmniVideo, reply: Reply) -> None:
    await every_answer_is_understood(provider, lambda: omni.poll(a_film(), ID), body_of(reply))


ID = omni.ID


async def test_of_omni_to_a_start(provider: FakeProvider, omni: OmniVideo) -> None:
    document = {"id": ID, "status": "in_progress", "object": "interaction"}
    await every_answer_is_understood(provider, lambda: omni.start(a_film()), document)


async def test_a_start_whose_answer_is_damaged_is_never_taken_for_one_that_took_nothing(
    provider: FakeProvider, veo: Veo
) -> None:
    """It answered 200: an operation runs, whether or not we know its name."""
    for body in damaged({"name": NAME}, seeds=SEEDS):
        provider.answer(Reply.text(body, type_="application/json"))
        try:
            assert isinstance(await veo.start(a_film()), Running)
        except OutcomeUnknown:
            continue
