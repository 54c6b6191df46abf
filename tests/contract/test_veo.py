"""Veo through the official client, against a server that speaks Vertex AI's wire format."""

import base64
import os
import socket
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from shared.adapters.generators.google.veo import Veo
from shared.adapters.generators.remote.http import CannotOpen
from shared.domain.requests import ImageRequest
from shared.ports.generator import (
    Busy,
    ContentRejected,
    Down,
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
from tests.providers.server import FakeProvider, Reply
from tests.providers.veo import (
    MODEL_PATH,
    NAME,
    Credentials,
    open_veo,
    running,
    taken,
    with_video,
)

POLICY: Final = (
    "Veo could not generate videos because the input image violates Vertex AI's usage guidelines. "
    "Support codes: 15236754"
)


pytestmark = pytest.mark.usefixtures("quick_clients")


async def test_an_order_is_sent_as_vertex_ai_wants_it(provider: FakeProvider, veo: Veo) -> None:
    provider.answer(taken())
    assert await veo.start(a_film()) == Running(reference=NAME, poll_after=timedelta(seconds=10))
    [call] = provider.calls
    assert (call.method, call.path) == ("POST", f"{MODEL_PATH}:predictLongRunning")
    assert call.headers["authorization"] == "Bearer token-1"
    assert call.json == {
        "instances": [{"prompt": "a dog in the rain"}],
        "parameters": {
            "sampleCount": 1,
            "durationSeconds": 8,
            "aspectRatio": "16:9",
            "resolution": "720p",
            "seed": 7,
        },
    }


async def test_the_first_frame_travels_with_the_order(provider: FakeProvider, veo: Veo) -> None:
    provider.answer(taken())
    frame = InputImage(type="image/jpeg", content=os.urandom(1000))
    await veo.start(a_film(frame, InputImage(type="image/png", content=b"not used")))
    [instance] = provider.calls[0].json["instances"]
    assert instance["image"]["mimeType"] == "image/jpeg"
    assert base64.b64decode(instance["image"]["bytesBase64Encoded"]) == frame.content


@pytest.mark.parametrize(
    ("size", "ratio", "sent"),
    [
        ((720, 1280), "9:16", ("9:16", "720p")),
        ((1920, 1080), "", ("16:9", "1080p")),
        ((1080, 1920), "", ("9:16", "1080p")),
        ((3840, 2160), "16:9", ("16:9", "4k")),
    ],
)
async def test_the_frame_is_told_by_ratio_and_shorter_side(
    provider: FakeProvider, veo: Veo, size: tuple[int, int], ratio: str, sent: tuple[str, str]
) -> None:
    provider.answer(taken())
    await veo.start(a_film(width=size[0], height=size[1], aspect_ratio=ratio))
    parameters = provider.calls[0].json["parameters"]
    assert (parameters["aspectRatio"], parameters["resolution"]) == sent


async def test_videos_can_be_put_into_a_bucket(provider: FakeProvider, scratch: Path) -> None:
    provider.answer(taken())
    async with open_veo(provider, scratch, output_gcs_uri="gs://films/mediaforge") as veo:
        await veo.start(a_film())
    assert provider.calls[0].json["parameters"]["storageUri"] == "gs://films/mediaforge"


async def test_an_operation_is_followed_by_anybody_who_knows_its_reference(
    provider: FakeProvider, scratch: Path
) -> None:
    provider.answer(taken(), running(), with_video(FILM))
    async with open_veo(provider, scratch) as veo:
        started = await veo.start(a_film())
    assert isinstance(started, Running)
    async with open_veo(provider, scratch) as other:
        assert isinstance(await other.poll(a_film(), started.reference), Running)
        assert contents(await other.poll(a_film(), started.reference)) == FILM
    start, *polls = provider.calls
    assert start.path == f"{MODEL_PATH}:predictLongRunning"
    for poll in polls:
        assert (poll.method, poll.path) == ("POST", f"{MODEL_PATH}:fetchPredictOperation")
        assert poll.json == {"operationName": NAME}


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        (error(429, "RESOURCE_EXHAUSTED"), Busy),
        (error(404, "NOT_FOUND", "the publisher model was not found"), Retired),
        (error(401, "UNAUTHENTICATED"), Down),
        (error(403, "PERMISSION_DENIED"), Down),
        (error(400, "INVALID_ARGUMENT", "durationSeconds must be 4, 6 or 8"), RequestRefused),
        (error(400, "INVALID_ARGUMENT", POLICY), ContentRejected),
        (error(503, "UNAVAILABLE"), Down),
    ],
)
async def test_an_order_that_was_refused_took_nothing(
    provider: FakeProvider, veo: Veo, reply: Reply, meaning: type[GeneratorError]
) -> None:
    provider.answer(reply)
    with pytest.raises(meaning) as refused:
        await veo.start(a_film())
    assert type(refused.value) in (meaning, *meaning.__subclasses__())
    assert len(provider.calls) == provider.connections == 1


async def test_a_full_quota_says_when_it_opens(provider: FakeProvider, veo: Veo) -> None:
    provider.answer(error(429, "RESOURCE_EXHAUSTED", "full", retry_info("17s")))
    with pytest.raises(Busy) as full:
        await veo.start(a_film())
    assert full.value.retry_after == timedelta(seconds=17)


async def test_a_refusal_repeats_the_words_of_the_provider(provider: FakeProvider, veo: Veo) -> None:
    provider.answer(error(400, "INVALID_ARGUMENT", POLICY), error(400, "INVALID_ARGUMENT", "too long"))
    with pytest.raises(ContentRejected, match="input image violates") as rejected:
        await veo.start(a_film())
    assert rejected.value.stage == "prompt"
    with pytest.raises(RequestRefused, match="too long"):
        await veo.start(a_film())


@pytest.mark.parametrize(
    "reply",
    [
        error(500, "INTERNAL"),
        error(504, "DEADLINE_EXCEEDED"),
        Reply.text("<html>502</html>", status=502),
        Reply.text("<html>the backend went away</html>", status=503),
        Reply(status=503, body=b"later", headers={"retry-after": "5"}),
        Reply.text("{broken", type_="application/json", status=500),
        Reply.text("{broken", type_="application/json"),
        Reply.text("<html>", type_="text/html"),
        Reply.json([1]),
        taken(""),
        taken(7),
        taken("projects/p/locations/l/operations/../models/x"),
        Reply.json({}),
        Reply.dropped(),
    ],
)
async def test_after_any_other_answer_the_outcome_is_unknown_and_nothing_is_sent_again(
    provider: FakeProvider, veo: Veo, reply: Reply
) -> None:
    provider.answer(reply, taken())
    with pytest.raises(OutcomeUnknown):
        await veo.start(a_film())
    assert len(provider.calls) == provider.connections == 1


async def test_a_start_that_is_cut_off_in_the_answer_is_unknown_and_sent_once(
    provider: FakeProvider, veo: Veo
) -> None:
    provider.answer(Reply.json({"name": NAME}, sent_bytes=10), taken())
    with pytest.raises(OutcomeUnknown):
        await veo.start(a_film())
    assert len(provider.calls) == provider.connections == 1


async def test_a_start_without_an_answer_is_unknown_and_sent_once(
    provider: FakeProvider, scratch: Path
) -> None:
    provider.answer(Reply.never(), taken())
    async with open_veo(provider, scratch, start_seconds=0.2) as veo:
        with pytest.raises(OutcomeUnknown):
            await veo.start(a_film())
    assert len(provider.calls) == provider.connections == 1


async def test_a_provider_that_refuses_the_connection_took_nothing(provider: FakeProvider, veo: Veo) -> None:
    await provider.close()
    with pytest.raises(Down):
        await veo.start(a_film())


async def test_a_provider_whose_name_is_unknown_took_nothing(
    provider: FakeProvider, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    async with open_veo(provider, scratch, base_url="http://vertex.test") as veo:
        with pytest.raises(Down):
            await veo.start(a_film())


async def test_credentials_that_do_not_work_are_not_the_users_fault(
    provider: FakeProvider, scratch: Path
) -> None:
    async with open_veo(provider, scratch, credentials=Credentials(broken=True)) as veo:
        with pytest.raises(Down):
            await veo.start(a_film())
        with pytest.raises(Down):
            await veo.poll(a_film(), NAME)
    assert provider.calls == []


async def test_a_token_is_fetched_in_a_thread(provider: FakeProvider, scratch: Path) -> None:
    """It is a synchronous call over the network."""
    provider.answer(taken())
    credentials = Credentials()
    async with open_veo(provider, scratch, credentials=credentials) as veo:
        await veo.start(a_film())
    [thread] = credentials.refreshed_by
    assert thread != threading.get_ident()


async def test_veo_makes_no_pictures(provider: FakeProvider, veo: Veo) -> None:
    request = ImageRequest(prompt="a fox", width=64, height=64, seed=1)
    with pytest.raises(RequestRefused):
        await veo.start(Order(job_id=a_film().job_id, model=a_film().model, request=request))
    assert provider.calls == []


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"project": ""}, "project"),
        ({"location": ""}, "location"),
        ({"output_gcs_uri": "/films"}, "gs://"),
        ({"base_url": "vertex"}, "URL"),
        ({"storage_url": "storage"}, "URL"),
    ],
)
async def test_wrong_settings_are_told_in_one_line_when_it_opens(
    provider: FakeProvider, scratch: Path, settings: dict[str, Any], what: str
) -> None:
    with pytest.raises(CannotOpen, match=what) as told:
        async with open_veo(provider, scratch, **settings):
            pass
    assert "\n" not in str(told.value)


async def test_missing_credentials_are_told_in_one_line_when_it_opens(
    provider: FakeProvider, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(scratch / "none.json"))
    with pytest.raises(CannotOpen, match="no Google credentials"):
        async with open_veo(provider, scratch, credentials=None):
            pass


async def test_a_folder_that_cannot_be_written_to_is_told_when_it_opens(
    provider: FakeProvider, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CannotOpen, match="cannot write"):
        async with open_veo(provider, tmp_path / "file" / "scratch"):
            pass
