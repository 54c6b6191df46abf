"""Images from OpenAI, through its client, against a double that speaks its wire format."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import httpx2
import pytest
from openai import APIConnectionError, APITimeoutError, OpenAIError

from shared.adapters.generators.openai.errors import openai_call
from shared.adapters.generators.openai.images import OpenAIImages
from shared.adapters.generators.remote.http import AnswerTooLarge
from shared.domain.ids import JobId
from shared.domain.requests import ImageRequest
from shared.ports.generator import (
    Artifact,
    Busy,
    ContentRejected,
    Down,
    GenerationFailed,
    GeneratorError,
    InputImage,
    Order,
    OutcomeUnknown,
    RequestRefused,
    Retired,
    Withheld,
)
from tests.providers import openai
from tests.providers.server import FakeProvider, Reply

REQUEST = ImageRequest(prompt="a fox", width=1536, height=1024, aspect_ratio="3:2", seed=7)
ORDER = Order(job_id=JobId("job_00000000000000000000000001"), model="a-model", request=REQUEST)


def ordered(**changes: Any) -> Order:
    return replace(ORDER, request=replace(REQUEST, **changes))


@pytest.fixture
async def images(provider: FakeProvider) -> AsyncIterator[OpenAIImages]:
    async with OpenAIImages.open(api_key="K", base_url=f"{provider.url}/v1") as images:
        yield images


# What is asked for


async def test_all_images_of_an_order_are_asked_for_in_one_call(
    images: OpenAIImages, provider: FakeProvider
) -> None:
    provider.answer(openai.images(b"one", b"two"))
    made = await images.start(ordered(count=2, style_prompt="oil", negative_prompt="people"))
    [call] = provider.calls
    assert (call.method, call.path) == ("POST", "/v1/images/generations")
    assert call.headers["authorization"] == "Bearer K"
    assert call.json == {
        "model": "a-model",
        "prompt": "a fox\n\nStyle: oil\n\nDo not show: people",
        "n": 2,
        "size": "1536x1024",
    }
    assert made.items == [
        Artifact(type="image/png", content=b"one"),
        Artifact(type="image/png", content=b"two"),
    ]


async def test_quality_and_moderation_are_sent_where_the_operator_chose_them(provider: FakeProvider) -> None:
    provider.answer(openai.images(b"a picture"))
    async with OpenAIImages.open(
        api_key="K", base_url=f"{provider.url}/v1", quality="low", moderation="low"
    ) as images:
        await images.start(ORDER)
    asked = provider.calls[0].json
    assert (asked["quality"], asked["moderation"]) == ("low", "low")


async def test_references_make_it_an_edit_with_the_pictures_attached(
    images: OpenAIImages, provider: FakeProvider
) -> None:
    provider.answer(openai.images(b"a picture"))
    references = (
        InputImage(type="image/png", content=b"\x89PNG"),
        InputImage(type="image/jpeg", content=b"\xff\xd8\r\n\xff"),
    )
    await images.start(replace(ORDER, images=references))
    [call] = provider.calls
    assert call.path == "/v1/images/edits"
    assert call.fields == {"model": "a-model", "prompt": "a fox", "n": "1", "size": "1536x1024"}
    assert [(part.name, part.type, part.content) for part in call.parts if part.filename] == [
        ("image[]", "image/png", b"\x89PNG"),
        ("image[]", "image/jpeg", b"\xff\xd8\r\n\xff"),
    ]


async def test_more_images_than_one_call_takes_are_refused_without_a_call(
    images: OpenAIImages, provider: FakeProvider
) -> None:
    with pytest.raises(RequestRefused, match="at most 10"):
        await images.start(ordered(count=11))
    assert provider.calls == []


# What comes back


async def test_the_type_is_the_one_that_the_answer_claims(
    images: OpenAIImages, provider: FakeProvider
) -> None:
    provider.answer(openai.images(b"a picture", output_format="webp"))
    assert (await images.start(ORDER)).items == [Artifact(type="image/webp", content=b"a picture")]


async def test_what_is_missing_of_an_order_is_withheld_and_what_is_too_much_is_left(
    images: OpenAIImages, provider: FakeProvider
) -> None:
    provider.answer(openai.images(b"one"), openai.images(b"one", b"two", b"three"))
    first, second = await images.start(ordered(count=2)), await images.start(ordered(count=2))
    assert first.items == [
        Artifact(type="image/png", content=b"one"),
        Withheld(reason="the provider did not deliver it"),
    ]
    assert len(second.items) == 2


@pytest.mark.parametrize("broken", ["%%%", "abcde", "b25l\n", "", None])
async def test_an_image_that_cannot_be_decoded_leaves_the_others(
    images: OpenAIImages, provider: FakeProvider, broken: str | None
) -> None:
    provider.answer(Reply.json({"created": 1, "data": [{"b64_json": broken}, {"b64_json": "b25l"}]}))
    first, second = (await images.start(ordered(count=2))).items
    assert isinstance(first, Withheld)
    assert second == Artifact(type="image/png", content=b"one")


async def test_an_image_larger_than_we_hold_is_withheld(provider: FakeProvider) -> None:
    provider.answer(openai.images(b"x" * 1001, b"y" * 1000))
    async with OpenAIImages.open(
        api_key="K", base_url=f"{provider.url}/v1", largest_image_bytes=1000
    ) as images:
        first, second = (await images.start(ordered(count=2))).items
    assert first == Withheld(reason="the image is too large")
    assert isinstance(second, Artifact)


@pytest.mark.parametrize("body", [{}, {"created": 1, "data": []}, {"data": None}, {"data": [{"url": "x"}]}])
async def test_an_answer_without_an_image_may_be_tried_again(
    images: OpenAIImages, provider: FakeProvider, body: dict[str, Any]
) -> None:
    provider.answer(Reply.json(body))
    with pytest.raises(GenerationFailed) as failed:
        await images.start(ORDER)
    assert failed.value.retryable


# What the provider refuses


async def test_a_prompt_that_moderation_blocks_is_rejected(
    images: OpenAIImages, provider: FakeProvider
) -> None:
    provider.answer(openai.moderated())
    with pytest.raises(ContentRejected, match="rejected by the safety system") as rejected:
        await images.start(ORDER)
    assert rejected.value.stage == "prompt"


@pytest.mark.parametrize(
    ("told", "stage"), [("input", "prompt"), ("output", "output"), ("unknown", "prompt")]
)
async def test_moderation_says_at_which_stage_it_blocked(
    images: OpenAIImages, provider: FakeProvider, told: str, stage: str
) -> None:
    provider.answer(openai.moderated(moderation_details={"moderation_stage": told, "categories": []}))
    with pytest.raises(ContentRejected) as rejected:
        await images.start(ORDER)
    assert rejected.value.stage == stage


@pytest.mark.parametrize("header", ["20", "19.2"])
async def test_a_rate_limit_is_waited_for_as_long_as_the_header_says(
    images: OpenAIImages, provider: FakeProvider, header: str
) -> None:
    provider.answer(openai.error(429, "rate_limit_exceeded", "requests", headers={"retry-after": header}))
    with pytest.raises(Busy) as busy:
        await images.start(ORDER)
    assert busy.value.retry_after == timedelta(seconds=20)


@pytest.mark.parametrize("headers", [{}, {"retry-after": "soon"}, {"retry-after": "-5"}])
async def test_a_rate_limit_that_does_not_say_how_long_is_a_limit_too(
    images: OpenAIImages, provider: FakeProvider, headers: dict[str, str]
) -> None:
    provider.answer(openai.error(429, "rate_limit_exceeded", "requests", headers=headers))
    with pytest.raises(Busy) as busy:
        await images.start(ORDER)
    assert busy.value.retry_after is None


@pytest.mark.parametrize(
    "reply",
    [
        openai.error(429, "insufficient_quota", "insufficient_quota"),
        openai.error(429, "credit_balance_exhausted"),
        openai.error(400, "billing_hard_limit_reached", "billing_limit_user_error"),
        openai.error(401, "invalid_api_key"),
        openai.error(403, None, message="your organization must be verified"),
        openai.error(404, None, message="Invalid URL (POST /v1/images)"),
    ],
)
async def test_an_empty_purse_or_a_wrong_key_took_nothing_and_waiting_does_not_help(
    images: OpenAIImages, provider: FakeProvider, reply: Reply
) -> None:
    provider.answer(reply)
    with pytest.raises(Down):
        await images.start(ORDER)


@pytest.mark.parametrize(
    "reply",
    [
        openai.error(404, "model_not_found"),
        openai.error(400, "invalid_value", param="model"),
        openai.error(410, None),
    ],
)
async def test_a_model_that_is_gone_has_retired(
    images: OpenAIImages, provider: FakeProvider, reply: Reply
) -> None:
    provider.answer(reply)
    with pytest.raises(Retired):
        await images.start(ORDER)


async def test_a_request_that_the_provider_does_not_take_is_refused_in_its_words(
    images: OpenAIImages, provider: FakeProvider
) -> None:
    provider.answer(
        openai.error(400, "invalid_value", message="the size must be\ndivisible by 16", param="size")
    )
    with pytest.raises(
        RequestRefused, match=r"^the provider refused the request: the size must be divisible"
    ):
        await images.start(ORDER)


async def test_what_openais_servers_fail_on_was_taken_and_may_be_tried_again(
    images: OpenAIImages, provider: FakeProvider
) -> None:
    provider.answer(openai.error(500, None, "server_error"))
    with pytest.raises(GenerationFailed) as failed:
        await images.start(ORDER)
    assert failed.value.retryable


async def test_an_overload_took_nothing(images: OpenAIImages, provider: FakeProvider) -> None:
    provider.answer(openai.error(503, "server_is_overloaded", "service_unavailable_error"))
    with pytest.raises(Down):
        await images.start(ORDER)


async def test_a_connection_that_broke_behind_a_gateway_leaves_it_unknown_what_was_taken(
    images: OpenAIImages, provider: FakeProvider
) -> None:
    broke_off = b"upstream connect error or disconnect/reset before headers. reset reason: x"
    provider.answer(Reply.text(broke_off, status=503, type_="text/plain"))
    with pytest.raises(OutcomeUnknown):
        await images.start(ORDER)


async def test_a_request_timeout_leaves_it_unknown_what_was_taken(
    images: OpenAIImages, provider: FakeProvider
) -> None:
    provider.answer(openai.error(408, None))
    with pytest.raises(OutcomeUnknown):
        await images.start(ORDER)


async def test_a_call_ends_in_time_even_if_something_arrives_all_the_while() -> None:
    """The HTTP client's own limits are on silence, not on the whole call."""
    with pytest.raises(OutcomeUnknown):
        async with openai_call(timeout_seconds=0.01):
            await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        (httpx2.ConnectError("refused"), Down),
        (httpx2.ReadError("reset"), OutcomeUnknown),
        (anyio.EndOfStream(), OutcomeUnknown),
        (ConnectionResetError(), OutcomeUnknown),
        (AnswerTooLarge("large"), GenerationFailed),
        (APIConnectionError(request=httpx2.Request("POST", "http://x")), OutcomeUnknown),
        (APITimeoutError(httpx2.Request("POST", "http://x")), OutcomeUnknown),
        (OpenAIError("something new"), OutcomeUnknown),
        (RuntimeError("the client has been closed"), OutcomeUnknown),
        (KeyError("data"), OutcomeUnknown),
    ],
)
async def test_whatever_the_client_raises_becomes_an_error_of_the_port(
    error: Exception, meant: type[GeneratorError]
) -> None:
    with pytest.raises(meant):
        async with openai_call(timeout_seconds=5):
            raise error


@pytest.mark.parametrize(
    "body", [None, "text", [], {}, {"error": None}, {"error": "text"}, {"error": {"code": 5, "message": []}}]
)
@pytest.mark.parametrize("status", [302, 400, 401, 404, 429, 500, 503])
async def test_no_body_of_an_error_is_too_strange(
    images: OpenAIImages, provider: FakeProvider, status: int, body: object
) -> None:
    provider.answer(Reply.json(body, status=status))
    with pytest.raises(GeneratorError):
        await images.start(ORDER)
