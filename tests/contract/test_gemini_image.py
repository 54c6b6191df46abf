"""Images from Gemini, through Google's client, against a double that speaks its wire format."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from google.genai import types

from shared.adapters.generators.google.gemini_image import GeminiImages
from shared.adapters.generators.remote.http import CannotOpen
from shared.domain.ids import JobId
from shared.domain.requests import ImageRequest
from shared.ports.generator import (
    Artifact,
    Busy,
    ContentRejected,
    Down,
    GenerationFailed,
    InputImage,
    Order,
    RequestRefused,
    Retired,
    Withheld,
)
from tests.providers import gemini
from tests.providers.server import Call, FakeProvider, Reply

REQUEST = ImageRequest(prompt="a fox", width=1344, height=768, aspect_ratio="16:9", seed=7)
ORDER = Order(job_id=JobId("job_00000000000000000000000001"), model="a-model", request=REQUEST)


def ordered(**changes: Any) -> Order:
    return replace(ORDER, request=replace(REQUEST, **changes))


@pytest.fixture
async def images(provider: FakeProvider) -> AsyncIterator[GeminiImages]:
    async with GeminiImages.open(api_key="K", base_url=provider.url) as images:
        yield images


# What is asked for


async def test_the_words_the_ratio_and_the_seed_are_sent_to_the_model(
    images: GeminiImages, provider: FakeProvider
) -> None:
    provider.answer(gemini.an_image(b"a picture"))
    await images.start(ORDER)
    [call] = provider.calls
    assert (call.method, call.path) == ("POST", "/v1/models/a-model:generateContent")
    assert call.headers["x-goog-api-key"] == "K"
    assert call.headers["x-server-timeout"] == "240"
    assert gemini.asked_parts(call) == [{"text": "a fox"}]
    assert gemini.asked_for(call) == {
        "seed": 7,
        "responseModalities": ["TEXT", "IMAGE"],
        "imageConfig": {"aspectRatio": "16:9"},
    }
    assert "safetySettings" not in call.json


async def test_on_vertex_ai_the_model_is_asked_under_its_project_with_a_token(
    provider: FakeProvider,
) -> None:
    provider.handler = gemini.a_model
    credentials = gemini.FakeCredentials()
    async with GeminiImages.open(
        project="p", location="us-central1", credentials=credentials, base_url=provider.url
    ) as images:
        await images.start(ORDER)
        await images.start(ORDER)
    assert {(call.path, call.headers["authorization"]) for call in provider.calls} == {
        (
            "/v1beta1/projects/p/locations/us-central1/publishers/google/models/a-model:generateContent",
            "Bearer token-1",
        )
    }
    assert credentials.refreshed == 1


async def test_style_and_what_must_not_be_there_are_told_in_words(
    images: GeminiImages, provider: FakeProvider
) -> None:
    provider.answer(gemini.an_image(b"a picture"))
    await images.start(ordered(style_prompt="oil on canvas", negative_prompt="people"))
    [part] = gemini.asked_parts(provider.calls[0])
    assert part["text"] == "a fox\n\nStyle: oil on canvas\n\nDo not show: people"


async def test_references_follow_the_words(images: GeminiImages, provider: FakeProvider) -> None:
    provider.answer(gemini.an_image(b"a picture"))
    references = (
        InputImage(type="image/png", content=b"\x89PNG"),
        InputImage(type="image/jpeg", content=b"\xff\xd8\xff"),
    )
    await images.start(replace(ORDER, images=references))
    text, *blobs = gemini.asked_parts(provider.calls[0])
    assert text == {"text": "a fox"}
    assert [gemini.blob_of(part) for part in blobs] == [
        ("image/png", b"\x89PNG"),
        ("image/jpeg", b"\xff\xd8\xff"),
    ]


async def test_safety_settings_are_sent_where_the_operator_gave_some(provider: FakeProvider) -> None:
    provider.answer(gemini.an_image(b"a picture"))
    settings = types.SafetySetting(
        category=types.HarmCategory.HARM_CATEGORY_HARASSMENT,
        threshold=types.HarmBlockThreshold.BLOCK_ONLY_HIGH,
    )
    async with GeminiImages.open(api_key="K", base_url=provider.url, safety_settings=(settings,)) as images:
        await images.start(ORDER)
    assert provider.calls[0].json["safetySettings"] == [
        {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}
    ]


@pytest.mark.parametrize(
    ("size", "step"),
    [
        ((512, 512), None),
        ((1024, 1024), None),
        ((1584, 672), None),
        ((1376, 768), None),
        ((2048, 2048), "2K"),
        ((3168, 1344), "2K"),
        ((2752, 1536), "2K"),
        ((4096, 4096), "4K"),
        ((6336, 2688), "4K"),
        ((8192, 8192), "4K"),
    ],
)
async def test_large_images_are_asked_for_by_the_providers_steps(
    images: GeminiImages, provider: FakeProvider, size: tuple[int, int], step: str | None
) -> None:
    provider.answer(gemini.an_image(b"a picture"))
    width, height = size
    await images.start(ordered(width=width, height=height))
    assert gemini.asked_for(provider.calls[0])["imageConfig"].get("imageSize") == step


@pytest.mark.parametrize(
    ("size", "ratio"),
    [
        ((1024, 1024), "1:1"),
        ((1344, 768), "16:9"),
        ((768, 1344), "9:16"),
        ((1248, 832), "3:2"),
        ((888, 1184), "3:4"),
        ((4000, 500), "21:9"),
    ],
)
async def test_without_a_ratio_the_nearest_to_the_size_is_asked_for(
    images: GeminiImages, provider: FakeProvider, size: tuple[int, int], ratio: str
) -> None:
    provider.answer(gemini.an_image(b"a picture"))
    width, height = size
    await images.start(ordered(width=width, height=height, aspect_ratio=""))
    assert gemini.asked_for(provider.calls[0])["imageConfig"]["aspectRatio"] == ratio


# What comes back


async def test_the_image_is_delivered_as_it_came(images: GeminiImages, provider: FakeProvider) -> None:
    provider.answer(gemini.an_image(b"\x00\xff a picture", "image/jpeg"))
    made = await images.start(ORDER)
    assert made.items == [Artifact(type="image/jpeg", content=b"\x00\xff a picture")]


async def test_a_sketch_among_the_thoughts_is_not_the_image(
    images: GeminiImages, provider: FakeProvider
) -> None:
    provider.answer(
        gemini.answer(
            gemini.text_part("first I sketch", thought=True),
            gemini.image_part(b"a sketch", thought=True),
            gemini.image_part(b"a picture"),
        )
    )
    [item] = (await images.start(ORDER)).items
    assert isinstance(item, Artifact)
    assert item.content == b"a picture"


async def test_an_image_that_cannot_be_decoded_may_be_made_again(
    images: GeminiImages, provider: FakeProvider
) -> None:
    provider.answer(gemini.answer({"inlineData": {"mimeType": "image/png", "data": "%%%"}}))
    with pytest.raises(GenerationFailed, match="cannot be read") as failed:
        await images.start(ORDER)
    assert failed.value.retryable


@pytest.mark.parametrize("data", ["-_8=", "+/8=", "-_8"])
async def test_both_alphabets_of_base64_are_read(
    images: GeminiImages, provider: FakeProvider, data: str
) -> None:
    provider.answer(gemini.answer({"inlineData": {"mimeType": "image/png", "data": data}}))
    assert (await images.start(ORDER)).items == [Artifact(type="image/png", content=b"\xfb\xff")]


@pytest.mark.parametrize("reason", ["PROHIBITED_CONTENT", "SAFETY", "OTHER", "JAILBREAK", "NEWER_THAN_US"])
async def test_a_blocked_prompt_is_rejected(
    images: GeminiImages, provider: FakeProvider, reason: str
) -> None:
    provider.answer(gemini.blocked_prompt(reason))
    with pytest.raises(ContentRejected) as rejected:
        await images.start(ORDER)
    assert rejected.value.stage == "prompt"
    assert rejected.value.message == "the prompt was refused by the content policy"


async def test_the_providers_own_words_about_a_blocked_prompt_are_passed_on(
    images: GeminiImages, provider: FakeProvider
) -> None:
    provider.answer(gemini.blocked_prompt("SAFETY", "no\x00such\n thing"))
    with pytest.raises(ContentRejected, match=r"^no such thing$"):
        await images.start(ORDER)


@pytest.mark.parametrize(
    "reason",
    [
        "BLOCKLIST",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "IMAGE_SAFETY",
        "MODEL_ARMOR",
        "PROHIBITED_CONTENT",
        "RECITATION",
        "SAFETY",
        "SPII",
    ],
)
async def test_an_output_that_the_policy_holds_back_is_rejected(
    images: GeminiImages, provider: FakeProvider, reason: str
) -> None:
    provider.answer(gemini.answer(finish=reason, message="held back"))
    with pytest.raises(ContentRejected, match="held back") as rejected:
        await images.start(ORDER)
    assert rejected.value.stage == "output"


async def test_words_instead_of_an_image_are_a_refusal_and_shown_shortened(
    images: GeminiImages, provider: FakeProvider
) -> None:
    provider.answer(gemini.answer(gemini.text_part("I can't draw that.\n" + "Really not. " * 100)))
    with pytest.raises(ContentRejected, match=r"^I can't draw that\. Really") as rejected:
        await images.start(ORDER)
    assert rejected.value.stage == "output"
    assert len(rejected.value.message) <= 300


@pytest.mark.parametrize(
    "reason",
    [
        "IMAGE_OTHER",
        "MALFORMED_FUNCTION_CALL",
        "MALFORMED_RESPONSE",
        "MAX_TOKENS",
        "NEWER_THAN_US",
        "NO_IMAGE",
        "OTHER",
        "STOP",
        None,
    ],
)
async def test_no_image_for_no_reason_may_be_tried_again(
    images: GeminiImages, provider: FakeProvider, reason: str | None
) -> None:
    provider.answer(gemini.answer(finish=reason))
    with pytest.raises(GenerationFailed) as failed:
        await images.start(ORDER)
    assert failed.value.retryable


async def test_an_empty_answer_may_be_tried_again(images: GeminiImages, provider: FakeProvider) -> None:
    provider.answer(Reply.json({}))
    with pytest.raises(GenerationFailed) as failed:
        await images.start(ORDER)
    assert failed.value.retryable


async def test_a_language_that_the_model_does_not_know_is_refused(
    images: GeminiImages, provider: FakeProvider
) -> None:
    provider.answer(gemini.answer(finish="LANGUAGE"))
    with pytest.raises(RequestRefused):
        await images.start(ORDER)


async def test_an_answer_to_be_continued_is_not_bought_on_by_the_client(
    images: GeminiImages, provider: FakeProvider
) -> None:
    """The client would by itself make one more call per continuation token."""
    candidate = {"finishReason": "CONTINUATION", "continuationToken": "dG9rZW4="}
    provider.handler = lambda _: Reply.json({"candidates": [candidate]})
    with pytest.raises(GenerationFailed):
        await images.start(ORDER)
    assert len(provider.calls) == 1


async def test_a_call_of_a_function_nobody_offered_is_not_answered(
    images: GeminiImages, provider: FakeProvider
) -> None:
    provider.handler = lambda _: gemini.answer({"functionCall": {"name": "buy_more", "args": {}}})
    with pytest.raises(GenerationFailed):
        await images.start(ORDER)
    assert len(provider.calls) == 1


# What the provider refuses


async def test_a_limit_is_waited_for_as_long_as_the_provider_says(
    images: GeminiImages, provider: FakeProvider
) -> None:
    provider.answer(gemini.error(429, "RESOURCE_EXHAUSTED", "slow down", gemini.retry_info("17s")))
    with pytest.raises(Busy) as busy:
        await images.start(ORDER)
    assert busy.value.retry_after == timedelta(seconds=17)


@pytest.mark.parametrize(("status", "name"), [(500, "INTERNAL"), (503, "UNAVAILABLE")])
async def test_what_googles_servers_fail_on_is_not_charged_and_took_nothing(
    images: GeminiImages, provider: FakeProvider, status: int, name: str
) -> None:
    provider.answer(gemini.error(status, name))
    with pytest.raises(Down):
        await images.start(ORDER)


async def test_a_model_that_is_gone_has_retired(images: GeminiImages, provider: FakeProvider) -> None:
    provider.answer(gemini.error(404, "NOT_FOUND", "models/a-model is not found for API version v1"))
    with pytest.raises(Retired):
        await images.start(ORDER)


async def test_a_request_that_the_provider_does_not_take_is_refused_in_its_words(
    images: GeminiImages, provider: FakeProvider
) -> None:
    provider.answer(gemini.error(400, "INVALID_ARGUMENT", "aspect ratio 5:1 of projects/secret-7/x"))
    with pytest.raises(RequestRefused, match=r"aspect ratio 5:1 of projects/…/x$"):
        await images.start(ORDER)


@pytest.mark.parametrize(
    "reply",
    [
        gemini.error(400, "INVALID_ARGUMENT", "API key not valid.", gemini.API_KEY_INVALID),
        gemini.error(400, "FAILED_PRECONDITION", "enable billing"),
        gemini.error(403, "PERMISSION_DENIED", "the service is disabled"),
    ],
)
async def test_a_wrong_key_or_account_is_no_invalid_request(
    images: GeminiImages, provider: FakeProvider, reply: Reply
) -> None:
    provider.answer(reply)
    with pytest.raises(Down):
        await images.start(ORDER)


async def test_credentials_that_get_no_token_took_nothing(provider: FakeProvider) -> None:
    async with GeminiImages.open(
        project="p", credentials=gemini.FakeCredentials(is_refused=True), base_url=provider.url
    ) as images:
        with pytest.raises(Down):
            await images.start(ORDER)
    assert provider.calls == []


async def test_neither_key_nor_project_is_told_at_start() -> None:
    with pytest.raises(CannotOpen, match="API key or a project"):
        async with GeminiImages.open():
            pass


async def test_a_machine_without_credentials_is_told_at_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file.json")
    with pytest.raises(CannotOpen, match=r"^no Google credentials were found on this machine$"):
        async with GeminiImages.open(project="p"):
            pass


# Several at once


def seeds(calls: list[Call]) -> set[int]:
    return {gemini.asked_for(call)["seed"] for call in calls}


async def test_several_images_are_as_many_calls_at_once_each_with_a_seed_of_its_own(
    images: GeminiImages, provider: FakeProvider
) -> None:
    everybody_is_here = asyncio.Event()

    async def after_all(call: Call) -> Reply:
        await everybody_is_here.wait()
        return gemini.an_image(str(gemini.asked_for(call)["seed"]).encode())

    provider.handler = after_all
    start = asyncio.ensure_future(images.start(ordered(count=4)))
    await provider.until(lambda: len(provider.calls) == 4)
    everybody_is_here.set()
    made = await start
    assert [item.content for item in made.items if isinstance(item, Artifact)] == [b"7", b"8", b"9", b"10"]
    assert seeds(provider.calls) == {7, 8, 9, 10}


async def test_seeds_stay_within_what_the_interface_takes(
    images: GeminiImages, provider: FakeProvider
) -> None:
    provider.handler = lambda _: gemini.an_image(b"a picture")
    await images.start(ordered(count=2, seed=2**31 - 1))
    assert seeds(provider.calls) == {2**31 - 1, 0}


async def test_an_image_that_is_blocked_or_fails_leaves_the_others_and_their_order(
    images: GeminiImages, provider: FakeProvider
) -> None:
    by_seed = {
        7: gemini.an_image(b"first"),
        8: gemini.answer(finish="IMAGE_SAFETY", message="held back"),
        9: gemini.error(503, "UNAVAILABLE"),
        10: gemini.an_image(b"last"),
    }
    provider.handler = lambda call: by_seed[gemini.asked_for(call)["seed"]]
    made = await images.start(ordered(count=4))
    assert made.items == [
        Artifact(type="image/png", content=b"first"),
        Withheld(reason="held back"),
        Withheld(reason="the provider is overloaded"),
        Artifact(type="image/png", content=b"last"),
    ]


async def test_cancelling_the_start_of_several_closes_all_their_calls(
    images: GeminiImages, provider: FakeProvider
) -> None:
    provider.handler = lambda _: Reply.never()
    start = asyncio.ensure_future(images.start(ordered(count=4)))
    await provider.until(lambda: len(provider.calls) == 4)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await provider.until(lambda: provider.gone == 4)
