"""The generator port's contract, over every adapter; those of outside providers talk to a double."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest

from shared.adapters.clock import system_noise
from shared.adapters.generators.google.gemini_image import GeminiImages
from shared.adapters.generators.local_renderer import LocalRenderer
from shared.adapters.generators.openai.images import OpenAIImages
from shared.adapters.media.inspector import PillowInspector
from shared.domain.ids import JobId
from shared.domain.requests import ImageRequest, VideoRequest
from shared.ports.generator import (
    Artifact,
    ContentRejected,
    GenerationFailed,
    Generator,
    Made,
    Order,
    Running,
)
from tests.providers import gemini, openai
from tests.providers.server import FakeProvider
from tests.support import ManualClock

JOB = JobId("job_00000000000000000000000001")
PICTURES = Order(
    job_id=JOB,
    model="local-image",
    request=ImageRequest(prompt="a fox", width=64, height=48, seed=7, count=2),
)
FILM = Order(
    job_id=JOB,
    model="local-video",
    request=VideoRequest(prompt="waves", width=64, height=48, seconds=1, seed=7),
)
REFUSED = Order(
    job_id=JOB,
    model="local-image",
    request=ImageRequest(prompt="nsfw", width=64, height=48, seed=7),
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["local_renderer", "gemini_image", "openai_image"])
async def generator(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> AsyncIterator[Generator]:
    async with AsyncExitStack() as stack:
        if request.param == "local_renderer":
            renderer = LocalRenderer(tmp_path, clock=clock, noise=system_noise)
            yield await stack.enter_async_context(renderer)
            return
        provider = await stack.enter_async_context(FakeProvider())
        if request.param == "gemini_image":
            provider.handler = gemini.a_model
            opened: AbstractAsyncContextManager[Generator] = GeminiImages.open(
                api_key="K", base_url=provider.url
            )
        else:
            provider.handler = openai.a_model
            opened = OpenAIImages.open(api_key="K", base_url=f"{provider.url}/v1")
        yield await stack.enter_async_context(opened)


@pytest.fixture(params=["local_renderer"])
async def film_maker(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Generator]:
    async with LocalRenderer(tmp_path, clock=clock, noise=system_noise) as renderer:
        yield renderer


async def followed(generator: Generator, taken: Running | Made, clock: ManualClock) -> Made:
    progress = -1
    for _ in range(100):
        if isinstance(taken, Made):
            return taken
        assert progress <= taken.progress <= 99
        progress = taken.progress
        clock.advance(seconds=max(taken.poll_after.total_seconds(), 0.1))
        taken = await generator.poll(FILM, taken.reference)
    raise AssertionError("the operation never ends")


async def test_an_image_order_makes_as_many_images_as_were_asked_for(generator: Generator) -> None:
    made = await generator.start(PICTURES)
    assert isinstance(made, Made)
    assert len(made.items) == 2
    inspector = PillowInspector()
    for item in made.items:
        assert isinstance(item, Artifact)
        seen = await inspector.inspect(item.content)
        assert (seen.type, seen.width, seen.height) == (item.type, 64, 48)
    inspector.close()


async def test_a_video_order_becomes_an_operation_that_ends_in_a_film(
    film_maker: Generator, clock: ManualClock
) -> None:
    taken = await film_maker.start(FILM)
    assert isinstance(taken, Running)
    [item] = (await followed(film_maker, taken, clock)).items
    assert isinstance(item, Artifact)
    inspector = PillowInspector()
    seen = await inspector.inspect(item.content)
    inspector.close()
    assert (seen.type, seen.width, seen.height, seen.seconds) == ("video/mp4", 64, 48, 1.0)


async def test_a_finished_operation_may_be_asked_about_again(
    film_maker: Generator, clock: ManualClock
) -> None:
    taken = await film_maker.start(FILM)
    assert isinstance(taken, Running)
    contents = []
    for _ in range(2):
        [item] = (await followed(film_maker, taken, clock)).items
        assert isinstance(item, Artifact)
        assert isinstance(item.content, Path)
        contents.append(item.content.read_bytes())
        item.content.unlink()  # it belongs to the receiver
    assert contents[0] == contents[1]


async def test_a_prompt_against_the_policy_is_refused_before_anything_is_taken(generator: Generator) -> None:
    with pytest.raises(ContentRejected) as refused:
        await generator.start(REFUSED)
    assert refused.value.stage == "prompt"


@pytest.mark.parametrize("reference", ["", "nonsense", "../../etc/passwd", "x" * 10_000])
async def test_an_operation_that_does_not_exist_has_failed(generator: Generator, reference: str) -> None:
    with pytest.raises(GenerationFailed):
        await generator.poll(FILM, reference)
    await generator.cancel(FILM, reference)


async def test_a_cancelled_operation_yields_nothing_and_may_be_cancelled_again(
    film_maker: Generator, clock: ManualClock
) -> None:
    taken = await film_maker.start(FILM)
    assert isinstance(taken, Running)
    for _ in range(2):
        await film_maker.cancel(FILM, taken.reference)
    clock.advance(minutes=1)
    with pytest.raises(GenerationFailed):
        await film_maker.poll(FILM, taken.reference)
