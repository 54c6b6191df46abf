"""Following Veo's operations, and bringing home what they made."""

import asyncio
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from shared.adapters.generators.google.veo import Veo
from shared.domain.job import Kind, Status
from shared.ports.generator import (
    Busy,
    ContentRejected,
    Down,
    GenerationFailed,
    GeneratorError,
    Running,
)
from shared.usecases.handlers import all_handlers
from shared.usecases.work import Work
from tests.providers.films import FILM, a_film, contents, files_in, put_there
from tests.providers.gemini import error, retry_info
from tests.providers.server import FakeProvider, Reply
from tests.providers.veo import (
    MODEL_PATH,
    NAME,
    ended,
    failed,
    film,
    filtered,
    in_storage,
    open_veo,
    running,
    taken,
    with_video,
)
from tests.support import World, make_world

OTHER_NAME: Final = NAME.replace("video-model", "local-video")
POLICY: Final = (
    "Veo could not generate videos because the input image violates Vertex AI's usage guidelines. "
    "Support codes: 15236754"
)


pytestmark = pytest.mark.usefixtures("quick_clients")


@pytest.mark.parametrize(
    ("metadata", "progress"),
    [
        (None, 0),
        ({"progressPercent": 40}, 40),
        ({"progressPercentage": 100}, 99),
        ({"progressPercent": -5}, 0),
        ({"progressPercent": "half"}, 0),
    ],
)
async def test_an_operation_that_is_not_done_is_running(
    provider: FakeProvider, veo: Veo, metadata: Any, progress: int
) -> None:
    provider.answer(running(metadata))
    assert await veo.poll(a_film(), NAME) == Running(
        reference=NAME, progress=progress, poll_after=timedelta(seconds=10)
    )


async def test_a_video_in_the_answer_ends_in_a_file(provider: FakeProvider, veo: Veo, scratch: Path) -> None:
    provider.answer(with_video(FILM), with_video(FILM))
    for _ in range(2):
        assert contents(await veo.poll(a_film(), NAME)) == FILM
    assert files_in(scratch) == []


async def test_a_video_in_a_bucket_is_fetched_with_the_same_credentials(
    provider: FakeProvider, veo: Veo
) -> None:
    provider.answer(in_storage("gs://films/job 1/50%.mp4"), film(FILM))
    assert contents(await veo.poll(a_film(), NAME)) == FILM
    _, fetch = provider.calls
    assert fetch.method == "GET"
    assert fetch.path == "/storage/v1/b/films/o/job%201%2F50%25.mp4"
    assert fetch.query == {"alt": ["media"]}
    assert fetch.headers["authorization"] == "Bearer token-1"


async def test_a_fetch_that_breaks_off_is_done_again_by_the_next_poll(
    provider: FakeProvider, veo: Veo, scratch: Path
) -> None:
    provider.answer(taken(), in_storage(), Reply.text(FILM, type_="video/mp4", sent_bytes=3000))
    started = await veo.start(a_film())
    assert isinstance(started, Running)
    with pytest.raises(Down):
        await veo.poll(a_film(), started.reference)
    assert files_in(scratch) == []
    provider.answer(in_storage(), film(FILM))
    assert contents(await veo.poll(a_film(), started.reference)) == FILM
    assert [call.path for call in provider.calls].count(f"{MODEL_PATH}:predictLongRunning") == 1


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        (Reply.text("No such object", status=404), GenerationFailed),
        (error(403, "PERMISSION_DENIED"), Down),
        (error(429, "RESOURCE_EXHAUSTED"), Busy),
        (error(503, "UNAVAILABLE"), Down),
        (Reply.dropped(), Down),
        (Reply.never(), Down),
    ],
)
async def test_what_storage_says_is_not_mistaken_for_a_film(
    provider: FakeProvider, scratch: Path, reply: Reply, meaning: type[GeneratorError]
) -> None:
    provider.answer(in_storage(), reply)
    async with open_veo(provider, scratch, fetch_seconds=0.3) as veo:
        with pytest.raises(meaning):
            await veo.poll(a_film(), NAME)
        assert files_in(scratch) == []


async def test_a_token_is_not_carried_to_another_place(provider: FakeProvider, veo: Veo) -> None:
    async with FakeProvider() as stranger:
        moved = Reply(status=302, headers={"location": f"{stranger.url}/film.mp4"})
        provider.answer(in_storage(), moved)
        with pytest.raises(GenerationFailed):
            await veo.poll(a_film(), NAME)
        assert stranger.connections == 0


@pytest.mark.parametrize(
    "uri", ["gs://films", "gs:///x", "https://example.com/x.mp4", "gs://../x", "file:///x"]
)
async def test_a_video_is_fetched_from_buckets_only(provider: FakeProvider, veo: Veo, uri: str) -> None:
    provider.answer(in_storage(uri))
    with pytest.raises(GenerationFailed):
        await veo.poll(a_film(), NAME)
    assert len(provider.calls) == 1


@pytest.mark.parametrize(
    ("code", "retryable"),
    [
        (3, False),
        (5, False),
        (4, True),
        (8, True),
        (10, True),
        (13, True),
        (14, True),
        (None, False),
        ([], False),
    ],
)
async def test_an_operation_that_failed_says_whether_another_try_may_succeed(
    provider: FakeProvider, veo: Veo, code: Any, retryable: bool
) -> None:
    provider.answer(failed(code, "it went wrong"))
    with pytest.raises(GenerationFailed, match="it went wrong") as told:
        await veo.poll(a_film(), NAME)
    assert told.value.retryable is retryable


async def test_an_operation_that_ended_at_the_policy_was_rejected(provider: FakeProvider, veo: Veo) -> None:
    provider.answer(failed(3, POLICY))
    with pytest.raises(ContentRejected, match="usage guidelines") as rejected:
        await veo.poll(a_film(), NAME)
    assert rejected.value.stage == "prompt"


async def test_what_the_operators_account_may_not_do_is_not_told_to_the_user(
    provider: FakeProvider, veo: Veo
) -> None:
    provider.answer(failed(7, "service-9@gcp-sa.iam.gserviceaccount.com: blocked by organization policy"))
    with pytest.raises(GenerationFailed, match=r"^the provider could not finish the video$"):
        await veo.poll(a_film(), NAME)


@pytest.mark.parametrize("reasons", [(), ("Support codes: 64151117",), ("first", "second")])
async def test_a_video_that_was_held_back_was_rejected(
    provider: FakeProvider, veo: Veo, reasons: tuple[str, ...]
) -> None:
    provider.answer(filtered(*reasons))
    with pytest.raises(ContentRejected) as rejected:
        await veo.poll(a_film(), NAME)
    assert rejected.value.stage == "output"
    assert all(reason in rejected.value.message for reason in reasons)


@pytest.mark.parametrize("response", [None, {}, {"videos": []}, {"videos": [{"mimeType": "video/mp4"}]}])
async def test_an_operation_that_ends_without_a_video_has_failed(
    provider: FakeProvider, veo: Veo, response: Any
) -> None:
    provider.answer(ended(response))
    with pytest.raises(GenerationFailed) as told:
        await veo.poll(a_film(), NAME)
    assert told.value.retryable


@pytest.mark.parametrize(
    ("reply", "meaning"),
    [
        (error(429, "RESOURCE_EXHAUSTED", "full", retry_info("9s")), Busy),
        (error(401, "UNAUTHENTICATED"), Down),
        (error(403, "PERMISSION_DENIED"), Down),
        (error(500, "INTERNAL"), Down),
        (error(503, "UNAVAILABLE"), Down),
        (error(504, "DEADLINE_EXCEEDED"), Down),
        (Reply.text("<html>", status=502), Down),
        (Reply.text("<html>who are you looking for?</html>", status=404), Down),
        (Reply.text("{broken", type_="application/json"), Down),
        (ended({"videos": [3]}), Down),
        (ended({"videos": [{"bytesBase64Encoded": "!!!"}]}), Down),
        (Reply.json({"name": NAME, "done": "perhaps"}), Down),
        (Reply.dropped(), Down),
        (Reply.json({"name": NAME}, sent_bytes=5), Down),
        (Reply.never(), Down),
    ],
)
async def test_an_operation_goes_on_while_the_provider_cannot_answer(
    provider: FakeProvider, scratch: Path, reply: Reply, meaning: type[GeneratorError]
) -> None:
    provider.answer(reply, with_video(FILM))
    async with open_veo(provider, scratch, ask_seconds=0.3) as veo:
        with pytest.raises(meaning) as told:
            await veo.poll(a_film(), NAME)
        if isinstance(told.value, Busy):
            assert told.value.retry_after == timedelta(seconds=9)
        assert contents(await veo.poll(a_film(), NAME)) == FILM


async def test_an_operation_goes_on_while_the_provider_cannot_be_reached(
    provider: FakeProvider, veo: Veo
) -> None:
    await provider.close()
    with pytest.raises(Down):
        await veo.poll(a_film(), NAME)


async def test_an_operation_that_is_not_kept_any_more_has_failed(provider: FakeProvider, veo: Veo) -> None:
    """Results are kept for two days."""
    provider.answer(error(404, "NOT_FOUND", "Operation not found"))
    with pytest.raises(GenerationFailed) as told:
        await veo.poll(a_film(), NAME)
    assert not told.value.retryable
    assert "projects/" not in told.value.message


@pytest.mark.parametrize(
    "reference",
    [
        *("", "nonsense", "../../etc/passwd", "x" * 10_000, f"{NAME}?alt=media", f"{NAME}/..", f"{NAME}\n"),
        *(NAME.replace("/p/", "/../"), NAME.replace("google", "google/x"), f"/{NAME}", f"{NAME}é"),
    ],
)
async def test_a_reference_that_is_no_operations_name_has_failed_and_is_not_sent(
    provider: FakeProvider, veo: Veo, reference: str
) -> None:
    with pytest.raises(GenerationFailed) as told:
        await veo.poll(a_film(), reference)
    assert not told.value.retryable
    await veo.cancel(a_film(), reference)
    assert provider.calls == []


async def test_cancelling_asks_nothing_of_a_provider_that_cannot_cancel(
    provider: FakeProvider, veo: Veo
) -> None:
    for _ in range(2):
        await veo.cancel(a_film(), NAME)
    assert provider.connections == 0


async def test_a_video_larger_than_allowed_is_not_kept(provider: FakeProvider, scratch: Path) -> None:
    provider.answer(with_video(FILM), in_storage(), film(FILM))
    async with open_veo(provider, scratch, largest_video_bytes=4000) as veo:
        for _ in range(2):
            with pytest.raises(GenerationFailed) as told:
                await veo.poll(a_film(), NAME)
            assert not told.value.retryable
        assert files_in(scratch) == []


async def test_an_answer_larger_than_allowed_is_not_read(provider: FakeProvider, scratch: Path) -> None:
    provider.answer(with_video(FILM))
    async with open_veo(provider, scratch, largest_answer_bytes=4000) as veo:
        with pytest.raises(GenerationFailed):
            await veo.poll(a_film(), NAME)


async def test_a_cancelled_fetch_leaves_no_file(provider: FakeProvider, veo: Veo, scratch: Path) -> None:
    provider.answer(in_storage(), Reply.never())
    poll = asyncio.create_task(veo.poll(a_film(), NAME))
    await provider.until(lambda: len(provider.calls) == 2)
    assert len(files_in(scratch)) == 1
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    assert files_in(scratch) == []


async def test_a_full_disk_is_no_verdict_on_the_operation(
    provider: FakeProvider, veo: Veo, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    provider.answer(with_video(FILM), in_storage(), film(FILM))
    with monkeypatch.context() as patch:
        patch.setattr("shared.adapters.generators.google.fetched.os.write", full)
        for _ in range(2):
            with pytest.raises(Down, match="No space left"):
                await veo.poll(a_film(), NAME)
    assert files_in(scratch) == []


async def test_what_a_killed_process_left_behind_is_removed_after_a_day(
    provider: FakeProvider, scratch: Path
) -> None:
    days_old = {"fetched_old.mp4": 1.1, "fetched_young.mp4": 0.9, "film_x.mp4": 9}
    for name, days in days_old.items():
        put_there(scratch / name, age_seconds=days * 86_400)
    async with open_veo(provider, scratch):
        assert files_in(scratch) == ["fetched_young.mp4", "film_x.mp4"]


FETCHING: Final = """
import asyncio, sys, tracemalloc
from pathlib import Path
from tests.providers.films import a_film
from tests.providers.veo import Credentials, NAME
from shared.adapters.generators.google.veo import Veo

async def main():
    url, scratch = sys.argv[1:]
    async with Veo.open(project="p", location="us-central1", credentials=Credentials(), base_url=url,
                        storage_url=url, scratch=Path(scratch)) as veo:
        await veo.poll(a_film(), NAME)
        tracemalloc.start()
        made = await veo.poll(a_film(), NAME)
        _, peak = tracemalloc.get_traced_memory()
        print(made.items[0].content.stat().st_size, peak)

asyncio.run(main())
"""


async def test_a_large_video_in_a_bucket_passes_through_little_memory(
    provider: FakeProvider, scratch: Path
) -> None:
    """In a process of its own: the server here holds the whole of it."""
    size_bytes = 50 * 2**20
    provider.answer(in_storage(), film(FILM), in_storage(), film(bytes(size_bytes)))
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        FETCHING,
        provider.url,
        str(scratch),
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    told, _ = await child.communicate()
    kept_bytes, peak_bytes = map(int, told.split())
    assert kept_bytes == size_bytes
    assert peak_bytes < 10 * 2**20


# In the engine


async def test_a_worker_that_dies_in_the_middle_of_a_video_is_followed_by_another_which_buys_nothing(
    provider: FakeProvider, scratch: Path
) -> None:
    world = make_world()
    job = await world.submit(kind=Kind.VIDEO)
    provider.answer(Reply.json({"name": OTHER_NAME}), Reply.never())
    async with open_veo(provider, scratch) as veo:
        dying = asyncio.create_task(work_with(veo, world).process(job.id))
        await provider.until(lambda: len(provider.calls) == 2)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
    world.clock.advance(minutes=5)
    provider.answer(in_storage(), film(b"film " + FILM))
    async with open_veo(provider, scratch) as veo:
        await work_with(veo, world).process(job.id)
    start, *polls, _ = provider.calls
    assert start.path.endswith(":predictLongRunning")
    assert [poll.json for poll in polls] == [{"operationName": OTHER_NAME}] * 2
    done = await world.job(job)
    assert (done.status, [media.type for media in done.media]) == (Status.DRAFT, ["video/mp4"])
    assert files_in(scratch) == []


def work_with(veo: Veo, world: World) -> Work:
    """A worker of its own: nothing but the store is shared."""
    app = replace(world.app, generators={"local": veo})
    return Work(app, all_handlers(app))
