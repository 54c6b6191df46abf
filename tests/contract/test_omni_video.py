"""Gemini Omni video through the official client, against a server that speaks the Interactions API."""

import base64
import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from shared.adapters.generators.google.omni_video import OmniVideo
from shared.adapters.generators.remote.http import CannotOpen
from shared.domain.requests import ImageRequest
from shared.ports.generator import (
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
    Running,
)
from tests.providers.films import FILM, a_film, contents
from tests.providers.gemini import error, retry_info
from tests.providers.omni import (
    ID,
    KEY,
    failed,
    interaction,
    open_omni,
    own_error,
    video_inside,
)
from tests.providers.server import FakeProvider, Reply

POLICY: Final = "The prompt was blocked: it may violate our Generative AI Prohibited Use Policy."


pytestmark = pytest.mark.usefixtures("quick_clients")


async def test_an_order_is_an_interaction_in_the_background(provider: FakeProvider, omni: OmniVideo) -> None:
    provider.answer(interaction())
    assert await omni.start(a_film()) == Running(reference=ID, poll_after=timedelta(seconds=5))
    [call] = provider.calls
    assert (call.method, call.path) == ("POST", "/v1/interactions")
    assert call.headers["x-goog-api-key"] == KEY
    assert call.json == {
        "model": "video-model",
        "background": True,
        "input": "a dog in the rain",
        "response_format": {
            "type": "video",
            "delivery": "uri",
            "aspect_ratio": "16:9",
            "duration": "8s",
            "resolution": "720p",
        },
        "generation_config": {"seed": 7, "video_config": {"task": "text_to_video"}},
    }


async def test_the_first_frame_travels_with_the_order(provider: FakeProvider, omni: OmniVideo) -> None:
    provider.answer(interaction())
    frame = InputImage(type="image/png", content=os.urandom(1000))
    await omni.start(a_film(frame))
    asked = provider.calls[0].json
    [step] = asked["input"]
    image, text = step["content"]
    assert (image["type"], image["mime_type"]) == ("image", "image/png")
    assert base64.b64decode(image["data"]) == frame.content
    assert (text["type"], text["text"]) == ("text", "<FIRST_FRAME> a dog in the rain")
    assert asked["generation_config"]["video_config"] == {"task": "image_to_video"}


async def test_a_film_that_stands_upright_is_asked_for_by_its_shorter_side(
    provider: FakeProvider, omni: OmniVideo
) -> None:
    provider.answer(interaction())
    await omni.start(a_film(width=1080, height=1920, aspect_ratio=""))
    wanted = provider.calls[0].json["response_format"]
    assert (wanted["aspect_ratio"], wanted["resolution"]) == ("9:16", "1080p")


async def test_an_interaction_is_followed_by_anybody_who_knows_its_reference(
    provider: FakeProvider, scratch: Path
) -> None:
    provider.answer(interaction("queued"), interaction(), video_inside(FILM))
    async with open_omni(provider, scratch) as omni:
        started = await omni.start(a_film())
    assert isinstance(started, Running)
    async with open_omni(provider, scratch) as other:
        assert isinstance(await other.poll(a_film(), started.reference), Running)
        assert contents(await other.poll(a_film(), started.reference)) == FILM
    start, *polls = provider.calls
    assert start.method == "POST"
    for poll in polls:
        assert (poll.method, poll.path) == ("GET", f"/v1/interactions/{ID}")


@pytest.mark.parametrize("reply", [video_inside(FILM), failed(("internal", "it broke"))])
async def test_what_became_of_an_order_is_left_to_the_poll(
    provider: FakeProvider, omni: OmniVideo, reply: Reply
) -> None:
    """Its reference can be saved first, then a worker that dies here loses nothing."""
    provider.answer(reply)
    assert isinstance(await omni.start(a_film()), Running)


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        (error(429, "RESOURCE_EXHAUSTED"), Busy),
        (error(404, "NOT_FOUND", "the model was not found"), Retired),
        (error(401, "UNAUTHENTICATED"), Down),
        (error(403, "PERMISSION_DENIED"), Down),
        (error(400, "INVALID_ARGUMENT", "the duration must be 3s to 10s"), RequestRefused),
        (error(400, "INVALID_ARGUMENT", POLICY), ContentRejected),
        (error(400, "FAILED_PRECONDITION", "billing is off"), Down),
        (error(503, "UNAVAILABLE"), Down),
        (own_error(429, "rate_limit_exceeded"), Busy),
        (own_error(404, "model_not_found"), Retired),
        (own_error(403, "permission_denied"), Down),
        (own_error(400, "invalid_request", "API key not valid. Please pass a valid API key."), Down),
        (own_error(400, "invalid_request", "the duration must be 3s to 10s"), RequestRefused),
        (own_error(400, "https://errors.test/prohibited_content", "no"), ContentRejected),
        (own_error(503, "unavailable"), Down),
    ],
)
async def test_an_order_that_was_refused_took_nothing_and_is_sent_once(
    provider: FakeProvider, omni: OmniVideo, reply: Reply, meaning: type[GeneratorError]
) -> None:
    """This part of the client repeats a call four times, unless it is told not to."""
    provider.answer(reply)
    with pytest.raises(meaning) as refused:
        await omni.start(a_film())
    assert type(refused.value) in (meaning, *meaning.__subclasses__())
    assert len(provider.calls) == provider.connections == 1


async def test_a_full_quota_says_when_it_opens(provider: FakeProvider, omni: OmniVideo) -> None:
    provider.answer(error(429, "RESOURCE_EXHAUSTED", "full", retry_info("17s")))
    with pytest.raises(Busy) as full:
        await omni.start(a_film())
    assert full.value.retry_after == timedelta(seconds=17)


async def test_a_refusal_repeats_the_words_of_the_provider(provider: FakeProvider, omni: OmniVideo) -> None:
    provider.answer(error(400, "INVALID_ARGUMENT", POLICY), error(400, "INVALID_ARGUMENT", "too long"))
    with pytest.raises(ContentRejected, match="Prohibited Use Policy") as rejected:
        await omni.start(a_film())
    assert rejected.value.stage == "prompt"
    with pytest.raises(RequestRefused, match="too long"):
        await omni.start(a_film())


@pytest.mark.parametrize(
    "reply",
    [
        error(500, "INTERNAL"),
        own_error(500, "internal_error"),
        error(504, "DEADLINE_EXCEEDED"),
        Reply.text("<html>502</html>", status=502),
        Reply.text("<html>the backend went away</html>", status=503),
        Reply(status=503, body=b"later", headers={"retry-after": "5"}),
        Reply.text("{broken", type_="application/json", status=500),
        Reply.text("{broken", type_="application/json"),
        Reply.text("<html>", type_="text/html"),
        Reply.json([1]),
        Reply.json({}),
        Reply.json({"id": 7}),
        Reply.json({"id": "../../files/x"}),
        Reply.json({"id": ID}, sent_bytes=5),
        Reply.dropped(),
    ],
)
async def test_after_any_other_answer_the_outcome_is_unknown_and_nothing_is_sent_again(
    provider: FakeProvider, omni: OmniVideo, reply: Reply
) -> None:
    provider.answer(reply, interaction())
    with pytest.raises(OutcomeUnknown):
        await omni.start(a_film())
    assert len(provider.calls) == provider.connections == 1


async def test_a_start_without_an_answer_is_unknown_and_sent_once(
    provider: FakeProvider, scratch: Path
) -> None:
    provider.answer(Reply.never(), interaction())
    async with open_omni(provider, scratch, start_seconds=0.2) as omni:
        with pytest.raises(OutcomeUnknown):
            await omni.start(a_film())
    assert len(provider.calls) == provider.connections == 1


async def test_a_provider_that_refuses_the_connection_took_nothing(
    provider: FakeProvider, omni: OmniVideo
) -> None:
    await provider.close()
    with pytest.raises(Down):
        await omni.start(a_film())


async def test_omni_makes_no_pictures(provider: FakeProvider, omni: OmniVideo) -> None:
    request = ImageRequest(prompt="a fox", width=64, height=64, seed=1)
    with pytest.raises(RequestRefused):
        await omni.start(Order(job_id=a_film().job_id, model=a_film().model, request=request))
    assert provider.calls == []


async def test_an_interaction_is_cancelled_and_may_be_cancelled_again(
    provider: FakeProvider, omni: OmniVideo
) -> None:
    provider.answer(interaction("cancelled"), error(400, "INVALID_ARGUMENT", "it has ended"))
    for _ in range(2):
        await omni.cancel(a_film(), ID)
    assert {(call.method, call.path) for call in provider.calls} == {
        ("POST", f"/v1/interactions/{ID}/cancel")
    }
    provider.answer(interaction("cancelled"))
    with pytest.raises(GenerationFailed):
        await omni.poll(a_film(), ID)


async def test_cancelling_what_is_not_there_does_nothing(provider: FakeProvider, omni: OmniVideo) -> None:
    provider.answer(error(404, "NOT_FOUND"))
    await omni.cancel(a_film(), ID)


async def test_cancelling_tells_when_the_provider_cannot_be_asked(
    provider: FakeProvider, omni: OmniVideo
) -> None:
    provider.answer(error(503, "UNAVAILABLE"))
    with pytest.raises(Down):
        await omni.cancel(a_film(), ID)


@pytest.mark.parametrize(
    ("settings", "what"),
    [({"api_key": ""}, "key"), ({"api_key": "two words"}, "key"), ({"base_url": "gemini"}, "URL")],
)
async def test_wrong_settings_are_told_in_one_line_when_it_opens(
    provider: FakeProvider, scratch: Path, settings: dict[str, Any], what: str
) -> None:
    with pytest.raises(CannotOpen, match=what) as told:
        async with open_omni(provider, scratch, **settings):
            pass
    assert "\n" not in str(told.value)
    assert "two words" not in str(told.value)
