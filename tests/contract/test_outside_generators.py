"""What holds for every generator that buys images from somebody else: each call is sent once, over real
sockets through the official client, and whatever becomes of it, the port's errors say what was taken."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from shared.adapters.generators.google.gemini_image import GeminiImages
from shared.adapters.generators.openai.images import OpenAIImages
from shared.adapters.generators.remote import http as provider_http
from shared.adapters.generators.remote.http import CannotOpen
from shared.domain.ids import JobId
from shared.domain.requests import ImageRequest, VideoRequest
from shared.ports.generator import (
    Busy,
    Down,
    GenerationFailed,
    Generator,
    GeneratorError,
    Made,
    Order,
    OutcomeUnknown,
    RequestRefused,
)
from tests.providers import gemini, openai
from tests.providers.server import FakeProvider, Reply

ORDER = Order(
    job_id=JobId("job_00000000000000000000000001"),
    model="a-model",
    request=ImageRequest(prompt="a fox", width=1024, height=1024, aspect_ratio="1:1", seed=7),
)
FILM = replace(ORDER, request=VideoRequest(prompt="waves", width=1280, height=720, seconds=4, seed=7))

Opener = Callable[..., AbstractAsyncContextManager[Generator]]


def on_the_gemini_api(url: str, **more: Any) -> AbstractAsyncContextManager[Generator]:
    return GeminiImages.open(api_key="K", base_url=url, **more)


def on_vertex_ai(url: str, **more: Any) -> AbstractAsyncContextManager[Generator]:
    return GeminiImages.open(
        project="p", location="global", credentials=gemini.FakeCredentials(), base_url=url, **more
    )


def on_openai(url: str, **more: Any) -> AbstractAsyncContextManager[Generator]:
    return OpenAIImages.open(api_key="K", base_url=f"{url}/v1", **more)


@dataclass(frozen=True)
class Outside:
    opener: Opener
    image: Reply
    """An answer with one image."""
    model: Callable[..., Reply]


OUTSIDE = {
    "gemini": Outside(on_the_gemini_api, gemini.an_image(b"a picture"), gemini.a_model),
    "vertex": Outside(on_vertex_ai, gemini.an_image(b"a picture"), gemini.a_model),
    "openai": Outside(on_openai, openai.images(b"a picture"), openai.a_model),
}


@pytest.fixture(params=OUTSIDE)
def outside(request: pytest.FixtureRequest) -> Outside:
    return OUTSIDE[request.param]


@pytest.fixture
async def generator(outside: Outside, provider: FakeProvider) -> AsyncIterator[Generator]:
    async with outside.opener(provider.url) as generator:
        yield generator


async def test_a_start_that_is_cut_off_before_the_answer_is_never_sent_twice(
    generator: Generator, provider: FakeProvider
) -> None:
    provider.answer(Reply.dropped())
    with pytest.raises(OutcomeUnknown):
        await generator.start(ORDER)
    assert (len(provider.calls), provider.connections) == (1, 1)


async def test_a_start_that_is_cut_off_in_the_middle_of_the_answer_is_never_sent_twice(
    generator: Generator, provider: FakeProvider, outside: Outside
) -> None:
    provider.answer(replace(outside.image, sent_bytes=20))
    with pytest.raises(OutcomeUnknown):
        await generator.start(ORDER)
    assert (len(provider.calls), provider.connections) == (1, 1)


async def test_a_provider_that_never_answers_is_left_in_time_and_what_it_took_is_unknown(
    outside: Outside, provider: FakeProvider
) -> None:
    provider.answer(Reply.never())
    async with outside.opener(provider.url, timeout_seconds=0.3) as generator:
        with pytest.raises(OutcomeUnknown):
            await generator.start(ORDER)
    await provider.until(lambda: provider.gone == 1)
    assert (len(provider.calls), provider.connections) == (1, 1)


async def test_cancelling_a_start_closes_its_call(generator: Generator, provider: FakeProvider) -> None:
    provider.answer(Reply.never())
    start = asyncio.ensure_future(generator.start(ORDER))
    await provider.until(lambda: len(provider.calls) == 1)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await provider.until(lambda: provider.gone == 1)
    assert provider.connections == 1


async def test_a_refused_connection_took_nothing(generator: Generator, provider: FakeProvider) -> None:
    await provider.close()
    with pytest.raises(Down):
        await generator.start(ORDER)


async def test_a_host_that_does_not_exist_took_nothing(outside: Outside) -> None:
    async with outside.opener("http://no-such-host.invalid") as generator:
        with pytest.raises(Down):
            await generator.start(ORDER)


async def test_a_handshake_that_fails_took_nothing(outside: Outside, provider: FakeProvider) -> None:
    """TLS, where the other side speaks none."""
    async with outside.opener(provider.url.replace("http:", "https:")) as generator:
        with pytest.raises(Down):
            await generator.start(ORDER)
    assert provider.calls == []


async def test_a_host_that_takes_no_connection_is_given_up_soon_and_took_nothing(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_http, "CONNECT_SECONDS", 0.2)
    with a_full_port() as port:
        async with outside.opener(f"http://127.0.0.1:{port}", timeout_seconds=60) as generator:
            with pytest.raises(Down):
                await generator.start(ORDER)


@contextmanager
def a_full_port() -> Iterator[int]:
    """Somebody listens, and never accepts: once its queue is full, handshakes are not even answered."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        for _ in range(4):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_the_client_repeats_nothing_by_itself(
    generator: Generator, provider: FakeProvider, status: int
) -> None:
    provider.handler = lambda _: Reply.text("not now", status=status)
    with pytest.raises(GeneratorError):
        await generator.start(ORDER)
    assert (len(provider.calls), provider.connections) == (1, 1)


async def test_an_overload_that_says_how_long_it_lasts_is_waited_for(
    generator: Generator, provider: FakeProvider
) -> None:
    provider.answer(Reply(status=503, headers={"retry-after": "30"}))
    with pytest.raises(Busy) as busy:
        await generator.start(ORDER)
    assert busy.value.retry_after is not None
    assert busy.value.retry_after.total_seconds() == 30


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_what_a_gateway_says_leaves_it_unknown_what_was_taken(
    generator: Generator, provider: FakeProvider, status: int
) -> None:
    provider.answer(Reply.text("<html><title>Bad gateway</title></html>", status=status))
    with pytest.raises(OutcomeUnknown):
        await generator.start(ORDER)


@pytest.mark.parametrize(
    "body",
    ["{", "<html>", "", "null", "[]", '"x"', "[" * 100_000, '{"candidates": 5, "data": 5}', b"\xff\xfe"],
)
@pytest.mark.parametrize("type_", ["application/json", "text/html"])
async def test_an_answer_that_cannot_be_read_was_paid_for_perhaps(
    generator: Generator, provider: FakeProvider, body: str | bytes, type_: str
) -> None:
    """A 200 says that the order was executed, or that something stands between us and the provider."""
    provider.answer(Reply.text(body, type_=type_))
    with pytest.raises((OutcomeUnknown, GenerationFailed)) as lost:
        await generator.start(ORDER)
    if isinstance(lost.value, GenerationFailed):
        assert body == ""
        assert lost.value.retryable


async def test_a_redirect_is_not_followed_with_the_key(generator: Generator, provider: FakeProvider) -> None:
    provider.answer(Reply(status=307, headers={"location": f"{provider.url}/elsewhere"}))
    with pytest.raises(Down):
        await generator.start(ORDER)
    assert len(provider.calls) == 1


async def test_an_answer_larger_than_we_hold_is_not_read_to_its_end(
    outside: Outside, provider: FakeProvider
) -> None:
    provider.answer(Reply.text(b" " * 20_000_000, type_="application/json"))
    async with outside.opener(provider.url, largest_image_bytes=1000) as generator:
        with pytest.raises(GenerationFailed) as failed:
            await generator.start(ORDER)
    assert not failed.value.retryable


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_refused_key_is_not_the_users_fault_and_says_nothing_about_it_to_them(
    generator: Generator, provider: FakeProvider, status: int
) -> None:
    provider.answer(
        Reply.json({"error": {"message": "key K of projects/p", "type": "t", "status": "X"}}, status=status)
    )
    with pytest.raises(Down) as down:
        await generator.start(ORDER)
    assert down.value.message == "the provider is not available"


async def test_orders_at_once_do_not_wait_for_each_other(
    generator: Generator, provider: FakeProvider, outside: Outside
) -> None:
    everybody_is_here = asyncio.Event()
    provider.answer(*[replace(outside.image, after=everybody_is_here)] * 30)
    starts = [asyncio.ensure_future(generator.start(ORDER)) for _ in range(30)]
    await provider.until(lambda: len(provider.calls) == 30)
    everybody_is_here.set()
    assert all(isinstance(made, Made) for made in await asyncio.gather(*starts))


async def test_no_connection_is_kept_that_the_other_side_might_just_be_closing(
    generator: Generator, provider: FakeProvider, outside: Outside
) -> None:
    provider.handler = outside.model
    for _ in range(3):
        await generator.start(ORDER)
    assert provider.connections == 3


async def test_a_film_is_refused_without_a_call(generator: Generator, provider: FakeProvider) -> None:
    with pytest.raises(RequestRefused):
        await generator.start(FILM)
    assert provider.calls == []


@pytest.mark.parametrize("key", ["", "  ", "\n"])
@pytest.mark.parametrize("opens", [GeminiImages.open, OpenAIImages.open])
async def test_a_missing_key_is_told_at_start(opens: Opener, key: str) -> None:
    with pytest.raises(CannotOpen, match=r"^the API key is missing$"):
        async with opens(api_key=key):
            pass


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
@pytest.mark.parametrize("opens", [GeminiImages.open, OpenAIImages.open])
async def test_a_key_that_no_header_can_carry_is_told_at_start_and_not_repeated(
    opens: Opener, key: str
) -> None:
    with pytest.raises(CannotOpen) as wrong:
        async with opens(api_key=key):
            pass
    assert key not in str(wrong.value)
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize("url", ["", "localhost:1234", "ftp://host", "http://", "http://[::1"])
@pytest.mark.parametrize("opens", [GeminiImages.open, OpenAIImages.open])
async def test_a_base_url_that_is_none_is_told_at_start(opens: Opener, url: str) -> None:
    with pytest.raises(CannotOpen, match="base URL"):
        async with opens(api_key="K", base_url=url):
            pass


async def test_a_key_is_taken_without_the_line_break_of_its_file(provider: FakeProvider) -> None:
    provider.answer(gemini.an_image(b"a picture"), openai.images(b"a picture"))
    async with AsyncExitStack() as stack:
        for opened in (
            GeminiImages.open(api_key="K\n", base_url=provider.url),
            OpenAIImages.open(api_key="K\n", base_url=provider.url),
        ):
            generator: Generator = await stack.enter_async_context(opened)
            await generator.start(ORDER)
    [at_google, at_openai] = provider.calls
    assert at_google.headers["x-goog-api-key"] == "K"
    assert at_openai.headers["authorization"] == "Bearer K"
