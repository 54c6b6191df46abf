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
from tests.providers import gemini, omni, openai, veo
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


def a_renderer(home: Path, clock: ManualClock) -> AbstractAsyncContextManager[Generator]:
    return LocalRenderer(home, clock=clock, noise=system_noise)


def a_remote(name: str, provider: FakeProvider, home: Path) -> AbstractAsyncContextManager[Generator]:
    """The generator of an outside maker, with a double of that maker."""
    match name:
        case "gemini_image":
            provider.handler = gemini.a_model
            return GeminiImages.open(api_key="K", base_url=provider.url)
        case "openai_image":
            provider.handler = openai.a_model
            return OpenAIImages.open(api_key="K", base_url=f"{provider.url}/v1")
        case "veo":
            provider.handler = veo.AModel()
            return veo.open_veo(provider, home)
        case _:
            provider.handler = omni.AModel()
            return omni.open_omni(provider, home)


PAINTERS, FILM_MAKERS = ["local_renderer", "gemini_image", "openai_image"], ["local_renderer", "veo", "omni"]


@pytest.fixture
async def made_by(
    request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock
) -> AsyncIterator[Generator]:
    async with AsyncExitStack() as stack:
        if request.param == "local_renderer":
            yield await stack.enter_async_context(a_renderer(tmp_path, clock))
            return
        provider = await stack.enter_async_context(FakeProvider())
        yield await stack.enter_async_context(a_remote(request.param, provider, tmp_path))


every_generator = pytest.mark.parametrize("made_by", sorted({*PAINTERS, *FILM_MAKERS}), indirect=True)
painters = pytest.mark.parametrize("made_by", PAINTERS, indirect=True)
film_makers = pytest.mark.parametrize("made_by", FILM_MAKERS, indirect=True)


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


@painters
async def test_an_image_order_makes_as_many_images_as_were_asked_for(made_by: Generator) -> None:
    made = await made_by.start(PICTURES)
    assert isinstance(made, Made)
    assert len(made.items) == 2
    inspector = PillowInspector()
    for item in made.items:
        assert isinstance(item, Artifact)
        seen = await inspector.inspect(item.content)
        assert (seen.type, seen.width, seen.height) == (item.type, 64, 48)
    inspector.close()


@film_makers
async def test_a_video_order_becomes_an_operation_that_ends_in_a_film(
    made_by: Generator, clock: ManualClock
) -> None:
    taken = await made_by.start(FILM)
    assert isinstance(taken, Running)
    [item] = (await followed(made_by, taken, clock)).items
    assert isinstance(item, Artifact)
    inspector = PillowInspector()
    seen = await inspector.inspect(item.content)
    inspector.close()
    assert (seen.type, seen.width, seen.height, seen.seconds) == ("video/mp4", 64, 48, 1.0)


@film_makers
async def test_a_finished_operation_may_be_asked_about_again(made_by: Generator, clock: ManualClock) -> None:
    taken = await made_by.start(FILM)
    assert isinstance(taken, Running)
    contents = []
    for _ in range(2):
        [item] = (await followed(made_by, taken, clock)).items
        assert isinstance(item, Artifact)
        assert isinstance(item.content, Path)
        contents.append(item.content.read_bytes())
        item.content.unlink()  # it belongs to the receiver
    assert contents[0] == contents[1]


@painters
async def test_a_prompt_against_the_policy_is_refused_before_anything_is_taken(made_by: Generator) -> None:
    with pytest.raises(ContentRejected) as refused:
        await made_by.start(REFUSED)
    assert refused.value.stage == "prompt"


@every_generator
@pytest.mark.parametrize("reference", ["", "nonsense", "../../etc/passwd", "x" * 10_000])
async def test_an_operation_that_does_not_exist_has_failed(made_by: Generator, reference: str) -> None:
    with pytest.raises(GenerationFailed):
        await made_by.poll(FILM, reference)
    await made_by.cancel(FILM, reference)


@pytest.mark.parametrize("made_by", ["local_renderer", "omni"], indirect=True)
async def test_a_cancelled_operation_yields_nothing_and_may_be_cancelled_again(
    made_by: Generator, clock: ManualClock
) -> None:
    taken = await made_by.start(FILM)
    assert isinstance(taken, Running)
    for _ in range(2):
        await made_by.cancel(FILM, taken.reference)
    clock.advance(minutes=1)
    with pytest.raises(GenerationFailed):
        await made_by.poll(FILM, taken.reference)
