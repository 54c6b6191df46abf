import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import av
import pytest
from PIL import Image

from shared.adapters.generators.local_renderer import LocalRenderer
from shared.adapters.generators.local_renderer.generator import BLOCKED_WORDS
from shared.domain.ids import JobId
from shared.domain.requests import ImageRequest, VideoRequest
from shared.ports.generator import (
    Artifact,
    ContentRejected,
    Down,
    GenerationFailed,
    Generator,
    Made,
    Order,
    RequestRefused,
    Running,
)
from tests.support import NOON, Dice, EagerClock

FOX = ImageRequest(prompt="a fox", width=64, height=64, seed=1)
FOX_FILM = VideoRequest(prompt="a fox", width=64, height=64, seconds=1, seed=1)
IMAGE = Order(job_id=JobId("job_image"), model="local", request=FOX)
VIDEO = Order(job_id=JobId("job_video"), model="local", request=FOX_FILM)


@dataclass
class Rig:
    """Renderers over one home, as several processes would open them."""

    home: Path
    clock: EagerClock
    opened: list[LocalRenderer] = field(default_factory=list)

    def renderer(self, *, latency_seconds: float = 0, failure_rate: float = 0) -> LocalRenderer:
        renderer = LocalRenderer(
            self.home,
            clock=self.clock,
            noise=Dice(f"process {len(self.opened)}"),
            latency_seconds=latency_seconds,
            failure_rate=failure_rate,
            operations_file=self.home / "counted",
        )
        self.opened.append(renderer)
        return renderer

    @property
    def counted(self) -> list[list[str]]:
        file = self.home / "counted"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def records(self) -> list[Path]:
        return list((self.home / "operations").glob("*"))


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "home", EagerClock())
    rig.home.mkdir()
    yield rig
    for renderer in rig.opened:
        await renderer.close()


async def reference_of(renderer: Generator, order: Order = VIDEO) -> str:
    running = await renderer.start(order)
    assert isinstance(running, Running)
    return running.reference


async def film_of(renderer: Generator, reference: str) -> Path:
    made = await renderer.poll(VIDEO, reference)
    assert isinstance(made, Made)
    [item] = made.items
    assert isinstance(item, Artifact)
    assert item.type == "video/mp4"
    assert isinstance(item.content, Path)
    return item.content


async def first_file_in(folder: Path) -> None:
    """Return once a thread has begun to write there."""

    def look() -> None:
        while not any(folder.glob("*")):
            time.sleep(0)

    await asyncio.wait_for(asyncio.to_thread(look), timeout=10)


async def test_an_image_order_is_answered_with_as_many_different_pngs_as_asked_for(rig: Rig) -> None:
    made = await rig.renderer().start(replace(IMAGE, request=replace(FOX, count=3)))
    assert isinstance(made, Made)
    pictures = [item.content for item in made.items if isinstance(item, Artifact)]
    assert len(set(pictures)) == 3
    for picture in pictures:
        assert isinstance(picture, bytes)
        with Image.open(io.BytesIO(picture)) as image:
            assert (image.format, image.size) == ("PNG", (64, 64))


async def test_an_image_takes_as_long_as_the_latency_says(rig: Rig) -> None:
    await rig.renderer(latency_seconds=7).start(IMAGE)
    assert rig.clock.now() == NOON + timedelta(seconds=7)


async def test_every_order_is_counted_with_its_job_and_kind(rig: Rig) -> None:
    renderer = rig.renderer()
    await renderer.start(IMAGE)
    reference = await reference_of(renderer)
    assert [(job, kind) for job, _, kind in rig.counted] == [("job_image", "image"), ("job_video", "video")]
    assert rig.counted[1][1] == reference


async def test_an_order_that_fails_later_is_counted_too(rig: Rig) -> None:
    with pytest.raises(GenerationFailed) as caught:
        await rig.renderer(failure_rate=1).start(IMAGE)
    assert caught.value.retryable
    assert len(rig.counted) == 1


@pytest.mark.parametrize("order", [IMAGE, VIDEO])
@pytest.mark.parametrize(
    "prompt", ["some NSFW art", "Gore!", "a gorily violent scene", *sorted(BLOCKED_WORDS)]
)
async def test_a_blocked_prompt_is_refused_before_the_order_is_taken(
    rig: Rig, order: Order, prompt: str
) -> None:
    blocked = replace(order, request=replace(order.request, prompt=prompt))
    with pytest.raises(ContentRejected) as caught:
        await rig.renderer().start(blocked)
    assert caught.value.stage == "prompt"
    assert not rig.counted
    assert not rig.records


async def test_a_blocked_word_inside_another_word_harms_nobody(rig: Rig) -> None:
    made = await rig.renderer().start(replace(IMAGE, request=replace(FOX, prompt="a gorean singer")))
    assert isinstance(made, Made)


async def test_absurd_sizes_are_refused(rig: Rig) -> None:
    with pytest.raises(RequestRefused):
        await rig.renderer().start(replace(IMAGE, request=replace(FOX, width=100_000)))
    assert rig.counted == []


async def test_a_film_makes_progress_as_the_clock_moves(rig: Rig) -> None:
    renderer = rig.renderer(latency_seconds=10)
    reference = await reference_of(renderer)
    seen = []
    for _ in range(4):
        answer = await renderer.poll(VIDEO, reference)
        assert isinstance(answer, Running)
        assert answer.reference == reference
        assert answer.poll_after <= timedelta(seconds=0.5)
        seen.append(answer.progress)
        rig.clock.advance(seconds=2.5)
    assert seen == [0, 25, 50, 75]
    assert isinstance(await renderer.poll(VIDEO, reference), Made)


async def test_a_clock_that_jumps_back_is_at_the_start(rig: Rig) -> None:
    renderer = rig.renderer(latency_seconds=10)
    reference = await reference_of(renderer)
    rig.clock.advance(seconds=-3600)
    answer = await renderer.poll(VIDEO, reference)
    assert isinstance(answer, Running)
    assert answer.progress == 0


async def test_another_process_finishes_the_film_with_the_latency_it_was_started_with(rig: Rig) -> None:
    reference = await reference_of(rig.renderer(latency_seconds=10))
    successor = rig.renderer(latency_seconds=99)
    rig.clock.advance(seconds=10)
    film = await film_of(successor, reference)
    with av.open(str(film)) as file:
        assert (file.streams.video[0].width, file.streams.video[0].height) == (64, 64)


async def test_a_film_can_be_fetched_again_into_another_file(rig: Rig) -> None:
    renderer = rig.renderer()
    reference = await reference_of(renderer)
    rig.clock.advance(seconds=1)
    first, second = await film_of(renderer, reference), await film_of(renderer, reference)
    assert first != second
    assert first.read_bytes() == second.read_bytes()
    assert len(rig.counted) == 1


async def test_a_failing_film_fails_at_its_end(rig: Rig) -> None:
    reference = await reference_of(rig.renderer(latency_seconds=10, failure_rate=1))
    successor = rig.renderer()
    rig.clock.advance(seconds=9)
    assert isinstance(await successor.poll(VIDEO, reference), Running)
    rig.clock.advance(seconds=1)
    with pytest.raises(GenerationFailed) as caught:
        await successor.poll(VIDEO, reference)
    assert caught.value.retryable


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "local_0",
        "../../etc/passwd",
        "local_" + "0" * 32,
        "local_" + "0" * 32 + "\n",
        "local_/" + "0" * 31,
    ],
)
async def test_a_reference_that_is_not_ours_has_failed_for_good(rig: Rig, reference: str) -> None:
    with pytest.raises(GenerationFailed) as caught:
        await rig.renderer().poll(VIDEO, reference)
    assert not caught.value.retryable


async def test_a_reference_never_leads_out_of_the_operations(rig: Rig) -> None:
    outside = rig.home / "precious.json"
    outside.write_text("{}")
    await rig.renderer().cancel(VIDEO, "../precious")
    assert outside.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"id": "local_" + "1" * 32})])
async def test_a_record_that_cannot_be_read_has_failed_for_good(rig: Rig, content: str) -> None:
    renderer = rig.renderer()
    reference = await reference_of(renderer)
    [record] = rig.records
    record.write_text(content)
    with pytest.raises(GenerationFailed) as caught:
        await renderer.poll(VIDEO, reference)
    assert not caught.value.retryable


async def test_a_cancelled_film_is_forgotten_and_may_be_cancelled_again(rig: Rig) -> None:
    renderer = rig.renderer()
    reference = await reference_of(renderer)
    await renderer.cancel(VIDEO, reference)
    await renderer.cancel(VIDEO, reference)
    assert rig.records == []


async def test_records_are_kept_for_two_days(rig: Rig) -> None:
    old = await reference_of(rig.renderer())
    rig.clock.advance(seconds=47 * 3600)
    recent = await reference_of(rig.renderer())
    assert {record.stem for record in rig.records} == {old, recent}
    rig.clock.advance(seconds=2 * 3600)
    newest = await reference_of(rig.renderer())
    assert {record.stem for record in rig.records} == {recent, newest}


async def test_closing_breaks_off_a_film_and_leaves_no_file(rig: Rig) -> None:
    renderer = rig.renderer()
    long = replace(VIDEO, request=replace(FOX_FILM, width=512, height=512, seconds=60))
    reference = await reference_of(renderer, long)
    rig.clock.advance(seconds=1)
    poll = asyncio.create_task(renderer.poll(long, reference))
    await first_file_in(rig.home / "tmp")
    await renderer.close()
    with pytest.raises(Down):
        await poll
    assert list((rig.home / "tmp").iterdir()) == []


async def test_a_cancelled_poll_leaves_no_file(rig: Rig) -> None:
    renderer = rig.renderer()
    reference = await reference_of(renderer)
    rig.clock.advance(seconds=1)
    poll = asyncio.create_task(renderer.poll(VIDEO, reference))
    await first_file_in(rig.home / "tmp")
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    await renderer.close()
    assert list((rig.home / "tmp").iterdir()) == []
