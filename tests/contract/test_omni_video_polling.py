"""Following Omni's interactions, and bringing home what they made."""

import asyncio
import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from shared.adapters.generators.google.omni_video import OmniVideo, headers_for
from shared.ports.generator import (
    Busy,
    ContentRejected,
    Down,
    GenerationFailed,
    GeneratorError,
    Running,
)
from tests.providers.films import FILM, a_film, contents, files_in
from tests.providers.gemini import error, retry_info
from tests.providers.omni import (
    ID,
    KEY,
    failed,
    interaction,
    open_omni,
    own_error,
    said,
    video_at,
    video_inside,
)
from tests.providers.server import FakeProvider, Reply

FILE: Final = "/v1beta/files/abc123:download"
POLICY: Final = "The prompt was blocked: it may violate our Generative AI Prohibited Use Policy."


pytestmark = pytest.mark.usefixtures("quick_clients")


@pytest.mark.parametrize(
    "status", ["queued", "in_progress", "requires_continuation", "thinking_hard", None, 7]
)
async def test_an_interaction_that_has_not_ended_is_running(
    provider: FakeProvider, omni: OmniVideo, status: Any
) -> None:
    """A word that we do not know is no reason to give up what is paid for."""
    provider.answer(interaction(status))
    assert await omni.poll(a_film(), ID) == Running(reference=ID, poll_after=timedelta(seconds=5))


async def test_a_video_at_a_link_is_fetched_with_the_key(provider: FakeProvider, omni: OmniVideo) -> None:
    provider.answer(video_at(f"{provider.url}{FILE}?alt=media"), Reply.text(FILM, type_="video/mp4"))
    assert contents(await omni.poll(a_film(), ID)) == FILM
    _, fetch = provider.calls
    assert (fetch.method, fetch.path, fetch.query) == ("GET", FILE, {"alt": ["media"]})
    assert fetch.headers["x-goog-api-key"] == KEY


async def test_a_video_in_the_answer_ends_in_a_file(
    provider: FakeProvider, omni: OmniVideo, scratch: Path
) -> None:
    large = os.urandom(7_000_001)
    provider.answer(video_inside(large), video_inside(FILM))
    assert contents(await omni.poll(a_film(), ID)) == large
    assert contents(await omni.poll(a_film(), ID)) == FILM
    assert files_in(scratch) == []


async def test_a_link_may_lead_elsewhere_in_the_api(provider: FakeProvider, omni: OmniVideo) -> None:
    moved = Reply(status=302, headers={"location": "/download/abc123"})
    provider.answer(video_at(f"{provider.url}{FILE}"), moved, Reply.text(FILM, type_="video/mp4"))
    assert contents(await omni.poll(a_film(), ID)) == FILM
    assert provider.calls[-1].path == "/download/abc123"


async def test_a_link_that_never_arrives_is_given_up(
    provider: FakeProvider, omni: OmniVideo, scratch: Path
) -> None:
    provider.answer(video_at(f"{provider.url}{FILE}"))
    provider.handler = lambda call: Reply(status=302, headers={"location": call.path + "x"})
    with pytest.raises(GenerationFailed):
        await omni.poll(a_film(), ID)
    assert len(provider.calls) == 5
    assert files_in(scratch) == []


async def test_nothing_is_fetched_from_strangers(provider: FakeProvider, omni: OmniVideo) -> None:
    async with FakeProvider() as stranger:
        moved = Reply(status=302, headers={"location": f"{stranger.url}/film.mp4"})
        provider.answer(video_at(f"{stranger.url}/film.mp4"), video_at(f"{provider.url}{FILE}"), moved)
        for _ in range(2):
            with pytest.raises(GenerationFailed):
                await omni.poll(a_film(), ID)
        assert stranger.connections == 0


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("https://proxy.test/v1/files/x", {"x-goog-api-key": KEY}),
        ("https://generativelanguage.googleapis.com/v1beta/files/x", {"x-goog-api-key": KEY}),
        ("https://storage.googleapis.com/signed", {}),
        ("https://x.googleusercontent.com/film", {}),
        ("http://generativelanguage.googleapis.com/v1beta/files/x", None),
        ("http://proxy.test/v1/files/x", None),
        ("https://proxy.test:444/v1/files/x", None),
        ("https://googleapis.com.evil.test/film", None),
        ("https://evilgoogleapis.com/film", None),
        ("file:///etc/passwd", None),
    ],
)
def test_the_key_goes_to_the_api_and_to_nobody_else(url: str, headers: dict[str, str] | None) -> None:
    api_url = httpx2.URL("https://proxy.test")
    assert headers_for(httpx2.URL(url), api_url=api_url, api_key=KEY) == headers


@pytest.mark.parametrize("uri", ["", "files/abc123", "http://[", "gs://films/x.mp4", "file:///etc/passwd"])
async def test_a_link_that_is_none_has_failed(provider: FakeProvider, omni: OmniVideo, uri: str) -> None:
    provider.answer(video_at(uri))
    with pytest.raises(GenerationFailed):
        await omni.poll(a_film(), ID)
    assert len(provider.calls) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply.text(FILM, type_="video/mp4", sent_bytes=3000),
        Reply.dropped(),
        error(400, "FAILED_PRECONDITION", "the file is not ACTIVE"),
        error(403, "PERMISSION_DENIED"),
        error(500, "INTERNAL"),
    ],
)
async def test_a_fetch_that_fails_is_done_again_by_the_next_poll(
    provider: FakeProvider, omni: OmniVideo, scratch: Path, reply: Reply
) -> None:
    """Also of a file that the provider is still working on."""
    link = video_at(f"{provider.url}{FILE}")
    provider.answer(link, reply, link, Reply.text(FILM, type_="video/mp4"))
    with pytest.raises(Down):
        await omni.poll(a_film(), ID)
    assert files_in(scratch) == []
    assert contents(await omni.poll(a_film(), ID)) == FILM


@pytest.mark.parametrize("data", ["!!!!", "AAA", "é" * 8])
async def test_a_video_that_cannot_be_decoded_has_failed(
    provider: FakeProvider, omni: OmniVideo, scratch: Path, data: str
) -> None:
    provider.answer(said({"type": "video", "data": data, "mime_type": "video/mp4"}))
    with pytest.raises(GenerationFailed):
        await omni.poll(a_film(), ID)
    assert files_in(scratch) == []


async def test_a_refusal_in_words_was_rejected(provider: FakeProvider, omni: OmniVideo) -> None:
    provider.answer(said({"type": "text", "text": "I cannot make\nthat video."}))
    with pytest.raises(ContentRejected, match=r"^I cannot make that video\.$") as rejected:
        await omni.poll(a_film(), ID)
    assert rejected.value.stage == "output"


@pytest.mark.parametrize(
    "steps", [None, [], "none", [4], [{"type": "model_output", "content": [{"type": "video"}]}]]
)
async def test_an_interaction_that_ends_without_a_video_has_failed(
    provider: FakeProvider, omni: OmniVideo, steps: Any
) -> None:
    provider.answer(interaction("completed", steps=steps))
    with pytest.raises(GenerationFailed) as told:
        await omni.poll(a_film(), ID)
    assert told.value.retryable


@pytest.mark.parametrize(
    ("errors", "retryable"),
    [
        ([("https://errors/internal", "it broke")], True),
        ([("quota", "resource exhausted")], True),
        ([("x", "please try again later")], True),
        ([("https://errors/invalid-argument", "too many references")], False),
        ([], True),
    ],
)
async def test_an_interaction_that_failed_says_whether_another_try_may_succeed(
    provider: FakeProvider, omni: OmniVideo, errors: list[tuple[str, str]], retryable: bool
) -> None:
    provider.answer(failed(*errors))
    with pytest.raises(GenerationFailed) as told:
        await omni.poll(a_film(), ID)
    assert told.value.retryable is retryable
    assert all(message in told.value.message for _, message in errors)


async def test_an_interaction_that_failed_at_the_policy_was_rejected(
    provider: FakeProvider, omni: OmniVideo
) -> None:
    provider.answer(failed(("https://errors/content", POLICY)))
    with pytest.raises(ContentRejected, match="Prohibited Use Policy") as rejected:
        await omni.poll(a_film(), ID)
    assert rejected.value.stage == "output"


@pytest.mark.parametrize(
    ("status", "retryable"),
    [("incomplete", True), ("cancelled", False), ("budget_exceeded", False), ("requires_action", False)],
)
async def test_an_interaction_that_stopped_has_failed(
    provider: FakeProvider, omni: OmniVideo, status: str, retryable: bool
) -> None:
    provider.answer(interaction(status))
    with pytest.raises(GenerationFailed) as told:
        await omni.poll(a_film(), ID)
    assert told.value.retryable is retryable


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        (error(429, "RESOURCE_EXHAUSTED", "full", retry_info("9s")), Busy),
        (error(401, "UNAUTHENTICATED"), Down),
        (error(403, "PERMISSION_DENIED"), Down),
        (error(500, "INTERNAL"), Down),
        (error(503, "UNAVAILABLE"), Down),
        (error(504, "DEADLINE_EXCEEDED"), Down),
        (own_error(429, "rate_limit_exceeded"), Busy),
        (own_error(503, "unavailable"), Down),
        (Reply.text("<html>", status=502), Down),
        (Reply.text("<html>who are you looking for?</html>", status=404), Down),
        (Reply.text("<html>"), Down),
        (Reply.text("{broken", type_="application/json"), Down),
        (Reply.json([1]), Down),
        (Reply.dropped(), Down),
        (Reply.json({"id": ID}, sent_bytes=5), Down),
        (Reply.never(), Down),
    ],
)
async def test_an_interaction_goes_on_while_the_provider_cannot_answer(
    provider: FakeProvider, scratch: Path, reply: Reply, meaning: type[GeneratorError]
) -> None:
    provider.answer(reply, video_inside(FILM))
    async with open_omni(provider, scratch, ask_seconds=0.3) as omni:
        with pytest.raises(meaning):
            await omni.poll(a_film(), ID)
        assert len(provider.calls) == 1
        assert contents(await omni.poll(a_film(), ID)) == FILM


async def test_a_full_quota_says_when_to_ask_again(provider: FakeProvider, omni: OmniVideo) -> None:
    provider.answer(error(429, "RESOURCE_EXHAUSTED", "full", retry_info("9s")))
    with pytest.raises(Busy) as full:
        await omni.poll(a_film(), ID)
    assert full.value.retry_after == timedelta(seconds=9)


async def test_an_interaction_that_is_not_kept_any_more_has_failed(
    provider: FakeProvider, omni: OmniVideo
) -> None:
    provider.answer(error(404, "NOT_FOUND"))
    with pytest.raises(GenerationFailed) as told:
        await omni.poll(a_film(), ID)
    assert not told.value.retryable


@pytest.mark.parametrize(
    "reference",
    ["", "..", "../../etc/passwd", "x" * 10_000, f"{ID}?stream=true", f"{ID}/cancel", f"{ID}\n", "é"],
)
async def test_a_reference_that_is_no_id_has_failed_and_is_not_sent(
    provider: FakeProvider, omni: OmniVideo, reference: str
) -> None:
    with pytest.raises(GenerationFailed) as told:
        await omni.poll(a_film(), reference)
    assert not told.value.retryable
    await omni.cancel(a_film(), reference)
    assert provider.calls == []


async def test_a_video_larger_than_allowed_is_not_kept(provider: FakeProvider, scratch: Path) -> None:
    link = video_at(f"{provider.url}{FILE}")
    provider.answer(video_inside(FILM), link, Reply.text(FILM, type_="video/mp4"))
    async with open_omni(provider, scratch, largest_video_bytes=4000) as omni:
        for _ in range(2):
            with pytest.raises(GenerationFailed) as told:
                await omni.poll(a_film(), ID)
            assert not told.value.retryable
        assert files_in(scratch) == []


async def test_an_answer_larger_than_allowed_is_not_read(provider: FakeProvider, scratch: Path) -> None:
    provider.answer(video_inside(FILM))
    async with open_omni(provider, scratch, largest_answer_bytes=4000) as omni:
        with pytest.raises(GenerationFailed):
            await omni.poll(a_film(), ID)


async def test_a_cancelled_poll_leaves_no_file(
    provider: FakeProvider, omni: OmniVideo, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it is cancelled while a thread is writing, and even twice."""
    writing, may_go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    write = os.write

    def slow(descriptor: int, content: memoryview) -> int:
        loop.call_soon_threadsafe(writing.set)
        may_go_on.wait(5)
        return write(descriptor, content)

    monkeypatch.setattr("shared.adapters.generators.google.fetched.os.write", slow)
    provider.answer(video_inside(FILM))
    poll = asyncio.create_task(omni.poll(a_film(), ID))
    await writing.wait()
    for _ in range(2):
        poll.cancel()
        await asyncio.sleep(0)
    assert not poll.done()
    assert len(files_in(scratch)) == 1
    may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await poll
    assert files_in(scratch) == []
