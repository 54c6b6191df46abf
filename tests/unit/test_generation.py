"""Images and videos: bought once, followed to the end, stored, and honest about what became of them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.catalogue import load_catalogue
from shared.domain.catalogue import Catalogue
from shared.domain.changes import AnyKey, Decide, Records
from shared.domain.errors import MediaUnavailable, StoreUnavailable
from shared.domain.job import UNFINISHED, Job, Kind, Purchase, Status
from shared.ports.generator import (
    Artifact,
    Busy,
    ContentRejected,
    Down,
    GenerationFailed,
    GeneratorError,
    Made,
    Order,
    OutcomeUnknown,
    RequestRefused,
    Retired,
    Running,
    Withheld,
)
from shared.ports.media import Inspection, UnreadableMedia
from shared.ports.store import Interest
from shared.usecases.handlers import all_handlers, generation
from shared.usecases.limits import PATIENCE
from shared.usecases.settle import cancel, settle_if_forced
from tests.support import (
    ADA,
    NOON,
    PNG,
    ManualClock,
    MemoryMedia,
    Script,
    ScriptedGenerator,
    TrustingInspector,
    UnsteadyStore,
    World,
    another_worker,
    down,
    film,
    make_world,
    picture,
    until,
    while_time_passes,
)

RUNNING = Running(reference="op-1", progress=30, poll_after=timedelta(seconds=5))


def running(order: Order) -> Running:
    return RUNNING


def raising(error: Exception) -> Script:
    return lambda order: error


def error_of(job: Job) -> str | None:
    return job.error.code if job.error else None


def keys_of(job: Job) -> set[str]:
    return {media.key for media in job.media} | ({job.thumbnail.key} if job.thumbnail else set())


async def made(world: World, *, step: float = 1, **wanted: Any) -> Job:
    """Submit it and let one worker take one step."""
    job = await world.submit(**wanted)
    await while_time_passes(world.clock, world.work.process(job.id), step=step)
    return await world.job(job)


async def crash(world: World, job: Job, when: Callable[[], bool]) -> None:
    """Let a worker begin and die, so that nobody can say anything more."""
    working = asyncio.create_task(world.work.process(job.id))
    await until(when)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    world.clock.advance(seconds=61)


# --- images


async def test_an_image_is_a_draft_whose_media_stand_under_the_claims_own_key() -> None:
    world = make_world()
    job = await made(world, count=2)
    assert (job.status, job.progress, job.error, job.lease) == (Status.DRAFT, 100, None, None)
    assert keys_of(job) == set(world.media.objects)
    prefix, numbers = {key.rsplit("/", 1)[0] for key in keys_of(job)}, [m.key[-5:] for m in job.media]
    assert (len(prefix), numbers) == (1, ["0.png", "1.png"])
    assert prefix.pop().startswith(f"{job.id}/")
    assert [(m.type, m.size, m.width, m.seconds) for m in job.media] == [
        ("image/png", len(PNG) + 1, 64, None)
    ] * 2
    assert job.thumbnail is not None
    assert job.thumbnail.key.endswith("/1000.webp")
    assert await world.balance() == 98


async def test_the_claim_of_an_image_saves_the_intent_and_that_of_a_video_does_not() -> None:
    world = make_world()
    seen: dict[str, Purchase | None] = {}
    for kind in (Kind.IMAGE, Kind.VIDEO):
        store = UnsteadyStore()
        world = make_world(store=store)
        job = await world.submit(kind=kind)

        async def look(world: World = world, job: Job = job) -> None:
            seen[job.kind] = (await world.job(job)).purchase

        store.interludes = [None, look]  # after the claim
        world.generator.starts = [lambda order: Made(items=[Artifact(type="video/mp4", content=b"film")])]
        await world.deliver(job)
    assert seen == {
        Kind.IMAGE: Purchase(
            model="local-image",
            repeatable=True,
            intended_at=NOON,
            generator="local",
            provider_model="local-image",
        ),
        Kind.VIDEO: None,
    }


async def test_media_that_are_small_have_no_thumbnail_of_their_own() -> None:
    world = make_world()
    world.generator.starts = [lambda order: Made(items=[Artifact(type="image/webp", content=b"small one")])]
    job = await made(world)
    assert (job.status, job.thumbnail) == (Status.DRAFT, None)


async def test_some_withheld_images_are_refunded_by_their_share() -> None:
    world = make_world()
    world.generator.starts = [
        lambda order: Made(
            items=[Withheld(reason="policy"), *picture(order).items[:2], Withheld(reason="broke")]
        )
    ]
    job = await made(world, count=4)
    assert (job.status, job.refunded, len(job.media)) == (Status.DRAFT, 2, 2)
    assert [media.key[-5:] for media in job.media] == ["1.png", "2.png"]
    assert keys_of(job) == set(world.media.objects)
    assert await world.balance() == 98


NOISE = b"noise"


class HalfBlind(TrustingInspector):
    """Cannot read noise."""

    async def inspect(self, content: bytes | Path) -> Inspection:
        if content == NOISE:
            raise UnreadableMedia("that is no picture")
        return await super().inspect(content)


async def test_an_unreadable_image_counts_as_one_that_was_not_delivered() -> None:
    world = another_worker(make_world(), inspector=HalfBlind())
    noise = Artifact(type="image/png", content=NOISE)
    world.generator.starts = [lambda order: Made(items=[noise, *picture(order).items[:1]])]
    job = await made(world, count=2)
    assert (job.status, job.refunded, len(job.media)) == (Status.DRAFT, 1, 1)


@pytest.mark.parametrize(
    ("item", "code"),
    [
        (Withheld(reason="policy"), "content_rejected"),
        (Artifact(type="image/png", content=NOISE), "provider_failed"),
    ],
)
async def test_when_nothing_usable_was_delivered_the_job_fails_and_is_refunded(
    item: Artifact | Withheld, code: str
) -> None:
    world = another_worker(make_world(), inspector=HalfBlind())
    world.generator.starts = [lambda order: Made(items=[item])]
    job = await made(world)
    assert (job.status, error_of(job), job.refunded) == (Status.FAILED, code, 1)
    assert world.media.objects == {}


def files_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def test_temporary_files_are_stored_and_removed_whatever_happens(tmp_path: Path) -> None:
    world = make_world()

    def in_files(order: Order) -> Made:
        paths = [tmp_path / f"{number}.png" for number in range(2)]
        for path in paths:
            path.write_bytes(PNG)
        return Made(items=[Artifact(type="image/png", content=path) for path in paths])

    world.generator.starts = [in_files, in_files]
    job = await made(world, count=2)
    assert (job.status, [world.media.objects[media.key] for media in job.media]) == (Status.DRAFT, [PNG, PNG])
    world.media.fails = True
    assert (await made(world, count=2)).status is Status.QUEUED
    assert files_in(tmp_path) == []


# --- what a generator says, and what becomes of the job

VERDICTS: dict[str, tuple[GeneratorError, Status, str | None]] = {
    "a prompt refused": (ContentRejected("no", stage="prompt"), Status.FAILED, "content_rejected"),
    "an output held back": (ContentRejected("no", stage="output"), Status.FAILED, "content_rejected"),
    "a request refused": (RequestRefused("no"), Status.FAILED, "invalid_request"),
    "a failure for good": (GenerationFailed("no", retryable=False), Status.FAILED, "provider_failed"),
    "a failure that may pass": (GenerationFailed("no", retryable=True), Status.QUEUED, None),
    "a full provider": (Busy("no"), Status.QUEUED, None),
    "a provider that is down": (Down("no"), Status.QUEUED, None),
    "a model that is gone": (Retired("no"), Status.FAILED, "model_retired"),
}


@pytest.mark.parametrize("kind", [Kind.IMAGE, Kind.VIDEO])
@pytest.mark.parametrize("what", VERDICTS)
async def test_what_the_provider_says_decides_what_becomes_of_the_job(what: str, kind: str) -> None:
    error, status, code = VERDICTS[what]
    world = make_world()
    world.generator.starts = [raising(error)]
    job = await made(world, kind=kind)
    assert (job.status, error_of(job), job.purchase) == (
        status,
        code,
        None if status is Status.QUEUED else job.purchase,
    )
    assert await world.balance() == (100 if status is Status.FAILED else 100 - job.cost)
    if isinstance(error, ContentRejected):
        assert job.error is not None
        assert (job.error.stage, job.error.message) == (error.stage, "no")


async def test_the_last_attempt_keeps_the_providers_own_error() -> None:
    world = make_world()
    world.generator.starts = [raising(GenerationFailed("broke", retryable=True))] * 5
    job = await world.submit()
    for _ in range(5):
        job = await world.deliver(job)
        world.clock.advance(minutes=1)
    assert (job.status, error_of(job), job.refunded) == (Status.FAILED, "provider_failed", 1)
    assert len(world.generator.started) == 5


async def test_a_full_provider_is_asked_again_when_it_said_so_and_that_is_no_attempt() -> None:
    world = make_world()
    world.generator.starts = [raising(Busy("full", retry_after=timedelta(seconds=90))), raising(Busy("full"))]
    job = await made(world)
    assert (job.not_before, job.attempts) == (NOON + timedelta(seconds=90), 0)
    world.clock.advance(seconds=88)
    await world.deliver(job)
    assert len(world.generator.started) == 1, "a message that comes early is ignored"
    world.clock.advance(seconds=2)
    job = await world.deliver(job)
    assert job.not_before == world.clock.now() + generation.DEFAULT_BUSY
    world.clock.advance(minutes=1)
    assert (await world.deliver(job)).status is Status.DRAFT


async def test_an_unknown_outcome_of_a_cheap_call_is_tried_again() -> None:
    world = make_world()
    world.generator.starts = [raising(OutcomeUnknown("broke off"))]
    job = await made(world)
    assert (job.status, job.attempts) == (Status.QUEUED, 1)
    world.clock.advance(minutes=1)
    assert (await world.deliver(job)).status is Status.DRAFT
    assert len(world.generator.started) == 2


async def test_an_unknown_outcome_of_a_dear_call_is_refunded_and_not_bought_again() -> None:
    world = make_world()
    world.generator.starts = [raising(OutcomeUnknown("broke off"))]
    job = await made(world, kind=Kind.VIDEO)
    assert (job.status, error_of(job), job.refunded) == (Status.FAILED, "outcome_unknown", 10)
    await world.deliver(job)
    assert len(world.generator.started) == 1


@pytest.mark.parametrize(("kind", "status"), [(Kind.IMAGE, Status.QUEUED), (Kind.VIDEO, Status.FAILED)])
async def test_a_start_that_does_not_answer_in_time_is_an_unknown_outcome(kind: str, status: Status) -> None:
    catalogue = load_catalogue(None)
    models = {name: replace(model, start_timeout_seconds=0) for name, model in catalogue.models.items()}
    world = another_worker(make_world(), catalogue=replace(catalogue, models=models))
    world.generator.gate = asyncio.Event()
    job = await world.deliver(await world.submit(kind=kind))
    assert (job.status, job.attempts) == (status, 1 if status is Status.QUEUED else 0)
    assert error_of(job) == (None if status is Status.QUEUED else "outcome_unknown")


# --- falling back


def with_a_spare(
    *starts: Script, spare: Script | None = None, **model_fields: Any
) -> tuple[World, ScriptedGenerator]:
    """A world whose images have a second model, made by a generator of its own."""
    catalogue = load_catalogue(None)
    model = replace(catalogue.models["local-image"], generator="spare", provider_model="spare-7")
    model = replace(model, **model_fields)
    rules = replace(catalogue.kinds[Kind.IMAGE], models=("local-image", "spare-image"))
    wider = Catalogue(
        kinds={**catalogue.kinds, Kind.IMAGE: rules},
        models={**catalogue.models, "spare-image": model},
        styles=catalogue.styles,
    )
    second = ScriptedGenerator(starts=[spare] if spare else [])
    first = ScriptedGenerator(starts=list(starts))
    world = another_worker(
        make_world(store=UnsteadyStore()), catalogue=wider, generators={"local": first, "spare": second}
    )
    return world, second


@pytest.mark.parametrize("error", [Busy("full"), Down("down"), Retired("gone")])
async def test_the_next_model_is_tried_when_the_first_certainly_took_nothing(error: GeneratorError) -> None:
    asked: list[Order] = []

    def noting(order: Order) -> Made:
        asked.append(order)
        return picture(order)

    world, spare = with_a_spare(raising(error), spare=noting)
    job = await made(world)
    assert (job.status, job.cost) == (Status.DRAFT, 1)
    assert job.purchase is not None
    assert job.purchase.model == "spare-image"
    assert [order.model for order in asked] == ["spare-7"]
    assert len(spare.started) == 1


@pytest.mark.parametrize(
    "error",
    [
        ContentRejected("no", stage="prompt"),
        RequestRefused("no"),
        GenerationFailed("no", retryable=True),
        OutcomeUnknown("broke off"),
        ValueError("a bug"),
    ],
)
async def test_no_other_model_is_tried_when_the_first_may_have_taken_the_order(error: Exception) -> None:
    world, spare = with_a_spare(raising(error))
    await made(world)
    assert spare.started == []


@pytest.mark.parametrize(
    ("first", "last", "status", "code", "attempts"),
    [
        (Busy("full"), Busy("full"), Status.QUEUED, None, 0),
        (Busy("full"), Down("x"), Status.QUEUED, None, 0),
        (Down("x"), Busy("full"), Status.QUEUED, None, 0),
        (Busy("full"), Retired("x"), Status.QUEUED, None, 0),
        (Retired("x"), Down("x"), Status.QUEUED, None, 1),
        (Down("x"), Retired("x"), Status.QUEUED, None, 1),
        (Retired("x"), Retired("x"), Status.FAILED, "model_retired", 0),
    ],
)
async def test_when_nobody_took_it_the_most_hopeful_refusal_decides(
    first: GeneratorError, last: GeneratorError, status: Status, code: str | None, attempts: int
) -> None:
    world, _ = with_a_spare(raising(first), spare=raising(last))
    job = await made(world)
    assert (job.status, error_of(job), job.attempts) == (status, code, attempts)


async def test_a_process_that_wants_to_end_buys_nothing_any_more() -> None:
    world = make_world()
    world.app.stopping.set()
    for kind in (Kind.IMAGE, Kind.VIDEO):
        job = await world.deliver(await world.submit(kind=kind))
        assert (job.status in UNFINISHED, job.attempts, job.lease) == (True, 0, None)
    assert world.generator.started == []


async def test_a_reference_is_saved_even_if_the_store_blinks_or_the_step_is_cancelled() -> None:
    """What a provider took is paid for; without its reference nobody would ever fetch the result."""
    store = UnsteadyStore()
    world = make_world(store=store)
    world.generator.starts = [lambda order: Running(reference="op", poll_after=timedelta(hours=1))]
    job = await world.submit(kind=Kind.VIDEO)
    store.interludes = [None, None, down, down, down]  # after the claim and the intent
    working = asyncio.create_task(world.work.process(job.id))
    await until(lambda: not store.interludes[3:])
    world.app.stopping.set()
    await while_time_passes(world.clock, asyncio.wait_for(working, None), step=0.5)
    parked = await world.job(job)
    assert parked.purchase is not None
    assert (parked.purchase.reference, parked.lease) == ("op", None)


async def test_an_operation_whose_job_was_taken_away_meanwhile_is_cancelled_at_the_provider() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    world.generator.starts = [lambda order: Running(reference="op")]
    job = await world.submit(kind=Kind.VIDEO)

    async def settle() -> None:
        world.clock.advance(hours=2)
        await settle_if_forced(world.app, job)

    store.interludes = [None, None, settle]  # between the start and its reference
    ended = await world.deliver(job)
    assert (ended.status, error_of(ended)) == (Status.FAILED, "timed_out")
    assert world.generator.cancelled == ["op"]


async def test_a_provider_that_cannot_cancel_what_nobody_wants_is_left_alone() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    world.app.generators["local"].cancel = refuses_to_cancel  # type: ignore[method-assign]
    world.generator.starts = [lambda order: Running(reference="op")]
    job = await world.submit(kind=Kind.VIDEO)

    async def settle() -> None:
        world.clock.advance(hours=2)
        await settle_if_forced(world.app, job)

    store.interludes = [None, None, settle]
    assert (await world.deliver(job)).status is Status.FAILED


async def refuses_to_cancel(order: Order, reference: str) -> None:
    raise Down("cannot be cancelled")


async def test_a_reference_that_cannot_be_saved_before_the_lease_ends_refuses_the_message() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    world.generator.starts = [lambda order: Running(reference="op")]
    job = await world.submit(kind=Kind.VIDEO)
    store.interludes = [None, None, *[down] * 200]
    with pytest.raises(StoreUnavailable):
        await while_time_passes(world.clock, world.work.process(job.id), step=0.5)
    store.interludes = []
    world.clock.advance(minutes=2)
    ended = await world.deliver(job)
    assert (error_of(ended), ended.refunded) == ("outcome_unknown", 10)


async def test_progress_that_cannot_be_told_costs_nothing() -> None:
    store = UnsteadyStore()
    world = make_world(store=store)
    world.generator.starts = [lambda order: Running(reference="op", poll_after=timedelta(seconds=2))]
    world.generator.polls = [
        lambda order: Running(reference="op", poll_after=timedelta(seconds=2)),
        lambda order: Running(reference="op", progress=50, poll_after=timedelta(seconds=2)),
    ]
    job = await world.submit(kind=Kind.VIDEO)
    store.interludes = [None, None, None, down]
    await while_time_passes(world.clock, world.work.process(job.id))
    assert ((await world.job(job)).status, (await world.job(job)).attempts) == (Status.DRAFT, 0)


async def test_who_gets_fewer_images_than_asked_for_pays_for_fewer() -> None:
    world = make_world()
    world.generator.starts = [lambda order: Made(items=[Artifact(type="image/png", content=PNG)])]
    job = await world.deliver(await world.submit(count=4))
    assert (job.status, job.cost - job.refunded) == (Status.DRAFT, 1)


async def test_when_everything_is_withheld_the_content_was_rejected() -> None:
    world = make_world()
    world.generator.starts = [lambda order: Made(items=[Withheld(reason="not that"), Withheld(reason="nor")])]
    job = await world.deliver(await world.submit(count=2))
    assert job.error is not None
    assert (job.error.code, job.error.stage, job.error.message) == ("content_rejected", "output", "not that")


async def test_a_cancel_that_came_while_the_first_refused_is_honoured_before_the_second_is_asked() -> None:
    world, spare = with_a_spare(raising(Down("down")))
    assert isinstance(world.store, UnsteadyStore)
    job = await world.submit()

    async def her_cancel() -> None:
        await cancel(world.app, job.id, ADA)

    world.store.interludes = [None, her_cancel]  # the claim with its intent, then the refusal
    job = await world.deliver(job)
    assert (job.status, spare.started) == (Status.CANCELLED, [])
    assert await world.balance() == 100


async def test_the_model_that_the_user_chose_is_tried_first() -> None:
    world, spare = with_a_spare()
    await made(world, model="spare-image")
    assert (len(spare.started), world.generator.started) == (1, [])


async def test_a_model_whose_generator_is_not_there_is_passed_over() -> None:
    world, spare = with_a_spare()
    world = another_worker(world, generators={"local": world.generator})
    job = await made(world, model="spare-image")
    assert (job.status, len(world.generator.started), spare.started) == (Status.DRAFT, 1, [])


async def test_when_no_generator_is_there_the_model_counts_as_retired() -> None:
    world = make_world()
    job = await world.submit()
    catalogue = world.app.catalogue
    models = {name: replace(model, generator="elsewhere") for name, model in catalogue.models.items()}
    world = another_worker(world, catalogue=replace(catalogue, models=models))
    job = await world.deliver(job)
    assert (job.status, error_of(job), job.refunded) == (Status.FAILED, "model_retired", 1)


async def test_a_model_that_could_not_make_it_is_no_fallback() -> None:
    world, spare = with_a_spare(raising(Retired("gone")), max_count=1)
    assert error_of(await made(world, count=2)) == "model_retired"
    assert spare.started == []


@pytest.mark.parametrize(("tokens", "is_asked"), [(1, True), (2, True), (0, False)])
async def test_nobody_gets_a_cheaper_model_for_the_price_of_a_dearer_one(tokens: int, is_asked: bool) -> None:
    world, spare = with_a_spare(raising(Down("down")), tokens=tokens)
    job = await made(world, count=2)
    assert (bool(spare.started), job.cost) == (is_asked, 2)


async def test_a_fallback_is_asked_for_its_own_size_of_the_same_shape() -> None:
    asked: list[Order] = []

    def noting(order: Order) -> Made:
        asked.append(order)
        return picture(order)

    world, _ = with_a_spare(raising(Down("down")), spare=noting, sizes={"1:1": "64x64", "16:9": "160x90"})
    await made(world, aspect_ratio="16:9")
    [request] = [order.request for order in asked]
    assert (request.aspect_ratio, request.width, request.height) == ("16:9", 160, 90)


async def test_a_fallback_that_could_outlast_the_delivery_is_left_to_the_next_one() -> None:
    world, spare = with_a_spare(start_timeout_seconds=300)

    def slowly(order: Order) -> Down:
        world.clock.advance(seconds=200)
        return Down("down at last")

    assert isinstance(world.generator, ScriptedGenerator)
    world.generator.starts = [slowly]
    job = await world.deliver(await world.submit())
    assert (job.status, job.attempts, job.not_before) == (Status.QUEUED, 0, world.clock.now())
    assert spare.started == []
    job = await world.deliver(job)
    assert (job.status, len(world.generator.started), len(spare.started)) == (Status.DRAFT, 1, 1)


async def test_a_model_that_was_slow_to_refuse_is_asked_first_again_after_a_while() -> None:
    world, spare = with_a_spare(start_timeout_seconds=300)

    def slowly(order: Order) -> Down:
        world.clock.advance(seconds=200)
        return Down("down at last")

    assert isinstance(world.generator, ScriptedGenerator)
    world.generator.starts = [slowly]
    await world.deliver(await world.submit())
    world.clock.advance(seconds=generation.AVOIDED_FOR.total_seconds())
    await made(world)
    assert (len(world.generator.started), spare.started) == (2, [])


# --- limits


def limited(kind: str = Kind.IMAGE, **limits: int) -> World:
    """A world whose model takes only so many."""
    catalogue = load_catalogue(None)
    model = replace(catalogue.models[f"local-{kind}"], **limits)  # type: ignore[arg-type]
    models = {**catalogue.models, f"local-{kind}": model}
    return another_worker(make_world(store=UnsteadyStore()), catalogue=replace(catalogue, models=models))


@pytest.mark.parametrize("kind", [Kind.IMAGE, Kind.VIDEO])
async def test_a_job_that_finds_its_model_full_is_parked_unbought_and_that_is_no_attempt(kind: str) -> None:
    world = limited(kind, max_per_minute=1)
    await made(world, kind=kind)
    began = list(world.generator.started)
    job = await made(world, kind=kind)
    assert (job.status, job.purchase, job.attempts, job.lease) == (Status.QUEUED, None, 0, None)
    assert job.not_before is not None
    assert job.not_before > world.clock.now()
    assert world.generator.started == began
    world.clock.advance(seconds=(job.not_before - world.clock.now()).total_seconds())
    await while_time_passes(world.clock, world.work.process(job.id))
    assert (await world.job(job)).status is Status.DRAFT


class SlowToAnswer(UnsteadyStore):
    """What it wrote stands before whoever wrote it hears of it."""

    async def change(self, keys: Sequence[AnyKey], decide: Decide) -> Records:
        after = await super().change(keys, decide)
        await asyncio.sleep(0)
        return after


async def test_of_two_claimed_at_the_same_time_one_is_let_go_unbought() -> None:
    world = another_worker(limited(max_at_once=1), store=SlowToAnswer())
    world.generator.gate = asyncio.Event()
    first, second = await world.submit(), await world.submit()
    both = [asyncio.create_task(world.work.process(job.id)) for job in (first, second)]
    await both[1]
    world.generator.gate.set()
    await both[0]
    first, second = await world.job(first), await world.job(second)
    assert world.generator.started == [first.id]
    assert first.status is Status.DRAFT
    assert (second.status, second.purchase, second.attempts) == (Status.QUEUED, None, 0)


async def test_an_operation_counts_as_a_use_of_its_model_while_its_job_is_parked() -> None:
    world = limited(Kind.VIDEO, max_at_once=1)
    world.generator.starts, world.generator.polls = [running], [running] * 40
    first = await made(world, kind=Kind.VIDEO, step=5)
    assert (first.lease, first.not_before is not None) == (None, True), "parked, and its operation goes on"
    second = await made(world, kind=Kind.VIDEO)
    assert (second.purchase, len(world.generator.started)) == (None, 1)

    world.generator.polls = [raising(Busy("later"))]
    world.clock.advance(seconds=5)
    first = await world.deliver(first)
    assert first.not_before is not None
    third = await made(world, kind=Kind.VIDEO)
    assert (third.purchase, len(world.generator.started)) == (None, 1), "resumed, and parked again"

    world.generator.polls = [film]
    world.clock.advance(seconds=(first.not_before - world.clock.now()).total_seconds())
    assert (await world.deliver(first)).status is Status.DRAFT
    world.generator.starts = [running]
    world.clock.advance(minutes=1)
    assert (await world.deliver(second)).status is Status.DRAFT


async def test_an_operation_that_another_worker_took_up_is_counted_here_no_longer() -> None:
    world = limited(Kind.VIDEO, max_at_once=1)
    world.generator.starts, world.generator.polls = [running, running], [running] * 40
    first = await made(world, kind=Kind.VIDEO, step=5)
    assert first.not_before is not None
    world.clock.advance(seconds=(first.not_before + PATIENCE - world.clock.now()).total_seconds())
    await made(world, kind=Kind.VIDEO, step=5)
    assert len(world.generator.started) == 2


# --- videos


async def test_a_video_is_followed_to_its_end_and_tells_its_progress() -> None:
    world = make_world()
    world.generator.starts = [running]
    world.generator.polls = [replace_progress(percent) for percent in (20, 40, 60)] + [film]
    job = await world.submit(kind=Kind.VIDEO)
    seen: list[int] = []

    async def watch_it() -> None:
        async with world.store.watch(Interest(jobs=frozenset({job.id}))) as changes:
            working = asyncio.create_task(world.work.process(job.id))
            latest = job
            while not latest.is_finished:
                latest = await anext(changes)
                seen.append(latest.progress)
            await working

    await while_time_passes(world.clock, watch_it())
    after = await world.job(job)
    assert (after.status, after.refunded) == (Status.DRAFT, 0)
    assert [(media.type, media.seconds) for media in after.media] == [("video/mp4", 4.0)]
    assert sorted(set(seen)) == [0, 40, 60, 100], "the first was told too soon after the reference was saved"
    assert seen == sorted(seen)
    assert world.generator.polled == ["op-1"] * 4


def replace_progress(progress: int) -> Script:
    return lambda order: replace(RUNNING, progress=progress)


async def test_the_reference_is_saved_before_the_operation_is_asked_about() -> None:
    world = make_world()
    world.generator.starts = [running]
    job = await world.submit(kind=Kind.VIDEO)
    references: list[str | None] = []

    class Nosy(ScriptedGenerator):
        async def poll(self, order: Order, reference: str) -> Running | Made:
            purchase = (await world.job(job)).purchase
            references.append(purchase.reference if purchase else None)
            return film(order)

    world = another_worker(world, generators={"local": Nosy(starts=[running])})
    assert (await world.deliver(job)).status is Status.DRAFT
    assert references == ["op-1"]


async def test_an_operation_that_takes_long_is_parked_and_resumed_without_an_attempt() -> None:
    world = make_world()
    world.generator.starts = [running]
    world.generator.polls = [running] * 20
    job = await made(world, kind=Kind.VIDEO, step=5)
    assert (job.status, job.lease, job.attempts) == (Status.PROCESSING, None, 0)
    assert job.purchase is not None
    assert job.purchase.reference == "op-1"
    assert job.not_before is not None
    assert 60 <= (job.not_before - NOON).total_seconds() <= 80

    world.generator.polls = [film]
    world.clock.advance(minutes=1)
    assert (await world.deliver(job)).status is Status.DRAFT
    assert len(world.generator.started) == 1


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(Busy("x", retry_after=timedelta(seconds=40)), 40), (Busy("x"), 15), (Down("x"), 15)],
)
async def test_a_provider_that_cannot_say_now_is_asked_later_about_the_same_operation(
    error: GeneratorError, seconds: int
) -> None:
    world = make_world()
    world.generator.starts, world.generator.polls = [running], [raising(error), film]
    job = await made(world, kind=Kind.VIDEO)
    assert (job.status, job.attempts) == (Status.PROCESSING, 0)
    assert job.not_before is not None
    assert (job.not_before - NOON).total_seconds() == seconds
    world.clock.advance(minutes=1)
    assert (await world.deliver(job)).status is Status.DRAFT
    assert (len(world.generator.started), world.generator.polled) == (1, ["op-1", "op-1"])


async def test_a_poll_that_does_not_answer_is_given_up_and_the_job_parked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Mute(ScriptedGenerator):
        async def poll(self, order: Order, reference: str) -> Running | Made:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(generation, "POLL_TIMEOUT_SECONDS", 0)
    world = another_worker(make_world(), generators={"local": Mute(starts=[running])})
    job = await world.deliver(await world.submit(kind=Kind.VIDEO))
    assert (job.status, job.attempts, job.not_before) == (
        Status.PROCESSING,
        0,
        NOON + generation.DEFAULT_BUSY,
    )


POLLED: dict[str, tuple[GeneratorError, Status, str | None]] = {
    "held back": (ContentRejected("no", stage="output"), Status.FAILED, "content_rejected"),
    "failed for good": (GenerationFailed("no", retryable=False), Status.FAILED, "provider_failed"),
    "failed and may be ordered again": (GenerationFailed("no", retryable=True), Status.QUEUED, None),
}


@pytest.mark.parametrize("what", POLLED)
async def test_an_operation_that_ended_without_a_result_ends_or_is_ordered_again(what: str) -> None:
    error, status, code = POLLED[what]
    world = make_world()
    world.generator.starts, world.generator.polls = [running], [raising(error)]
    job = await made(world, kind=Kind.VIDEO)
    assert (job.status, error_of(job)) == (status, code)
    assert await world.balance() == (100 if status is Status.FAILED else 90)
    assert (job.purchase is None) == (status is Status.QUEUED)


@pytest.mark.parametrize("is_gone_too", [False, True])
async def test_an_operation_outlives_its_model_in_the_catalogue_but_not_its_generator(
    is_gone_too: bool,
) -> None:
    world = make_world()
    world.generator.starts, world.generator.polls = [running], [raising(Busy("later"))]
    job = await made(world, kind=Kind.VIDEO)
    catalogue = world.app.catalogue
    models = {name: model for name, model in catalogue.models.items() if name != "local-video"}
    changes: dict[str, Any] = {"generators": {}} if is_gone_too else {}
    world = another_worker(world, catalogue=replace(catalogue, models=models), **changes)
    world.clock.advance(minutes=1)
    job = await world.deliver(job)
    if is_gone_too:
        assert (job.status, error_of(job), job.refunded) == (Status.FAILED, "model_retired", 10)
    else:
        assert (job.status, job.refunded) == (Status.DRAFT, 0)


# --- crashes


async def test_a_crash_between_intent_and_reference_is_refunded_and_a_video_not_bought_again() -> None:
    world = make_world()
    world.generator.gate = asyncio.Event()
    job = await world.submit(kind=Kind.VIDEO)
    await crash(world, job, lambda: bool(world.generator.started))
    bought = await world.job(job)
    assert bought.purchase is not None
    assert bought.purchase.reference is None

    after = await world.deliver(job)
    assert (after.status, error_of(after), after.refunded) == (Status.FAILED, "outcome_unknown", 10)
    await world.deliver(job)
    assert len(world.generator.started) == 1
    assert await world.balance() == 100


async def test_a_crash_after_the_reference_is_resumed_and_the_operation_not_started_again() -> None:
    world = make_world()
    world.generator.starts, world.generator.polls = [running], [running]
    job = await world.submit(kind=Kind.VIDEO)
    await crash(world, job, lambda: bool(world.generator.polled))
    after = await world.deliver(job)
    assert (after.status, after.attempts, after.refunded) == (Status.DRAFT, 1, 0)
    assert len(world.generator.started) == 1
    assert world.generator.polled == ["op-1", "op-1"]


async def test_a_crash_over_an_image_buys_it_again() -> None:
    world = make_world()
    world.generator.gate = asyncio.Event()
    job = await world.submit()
    await crash(world, job, lambda: bool(world.generator.started))
    world.generator.gate = None
    after = await world.deliver(job)
    assert (after.status, after.attempts) == (Status.DRAFT, 1)
    assert len(world.generator.started) == 2
    assert await world.balance() == 99


async def test_an_error_that_nobody_foresaw_never_buys_a_video_twice() -> None:
    """While it was started nobody knows what became of it; once there is a reference, that is asked again."""
    world = make_world()
    world.generator.starts = [raising(ValueError("a bug"))]
    job = await made(world, kind=Kind.VIDEO)
    world.clock.advance(minutes=1)
    job = await world.deliver(job)
    assert (job.status, error_of(job), len(world.generator.started)) == (Status.FAILED, "outcome_unknown", 1)

    world = make_world()
    world.generator.starts, world.generator.polls = [running], [raising(ValueError("a bug")), film]
    job = await made(world, kind=Kind.VIDEO)
    world.clock.advance(minutes=1)
    job = await world.deliver(job)
    assert (job.status, job.attempts, len(world.generator.started)) == (Status.DRAFT, 1, 1)


# --- storing


async def test_media_that_cannot_be_stored_are_asked_for_again_and_not_bought_again() -> None:
    world = make_world()
    world.media.fails = True
    world.generator.starts = [running]
    job = await made(world, kind=Kind.VIDEO)
    assert (job.status, job.attempts) == (Status.QUEUED, 1)
    assert job.purchase is not None
    assert job.purchase.reference == "op-1"

    world.media.fails = False
    world.clock.advance(minutes=1)
    after = await world.deliver(job)
    assert (after.status, after.refunded) == (Status.DRAFT, 0)
    assert (len(world.generator.started), world.generator.polled) == (1, ["op-1", "op-1"])


class HalfFull(MemoryMedia):
    """Takes the first object of every attempt and none after it."""

    async def save(self, key: str, content: bytes | Path, *, type_: str) -> None:
        self.fails = not key.endswith("/0.png")
        try:
            await super().save(key, content, type_=type_)
        finally:
            self.fails = False


async def test_what_an_attempt_stored_before_it_failed_is_removed() -> None:
    media = HalfFull()
    world = another_worker(make_world(), media=media)
    job = await made(world, count=2)
    assert (job.status, job.attempts) == (Status.QUEUED, 1)
    assert media.objects == {}


async def test_media_that_can_never_be_stored_fail_the_job_and_refund_it() -> None:
    world = make_world()
    world.media.fails = True
    job = await world.submit()
    for _ in range(5):
        await while_time_passes(world.clock, world.work.process(job.id))
        world.clock.advance(minutes=1)
    job = await world.job(job)
    assert (job.status, error_of(job), job.refunded) == (Status.FAILED, "storage_failed", 1)


class NearSighted(TrustingInspector):
    """Makes small pictures that it cannot read itself."""

    async def inspect(self, content: bytes | Path) -> Inspection:
        if isinstance(content, bytes) and content[:5] == b"small":
            raise UnreadableMedia("too small")
        return await super().inspect(content)


async def test_a_thumbnail_that_cannot_be_read_does_not_cost_the_picture() -> None:
    world = another_worker(make_world(), inspector=NearSighted())
    job = await made(world, count=2)
    assert (job.status, len(job.media), job.thumbnail, job.attempts) == (Status.DRAFT, 2, None, 0)


class Broken(MemoryMedia):
    """Stores the first object, and has a bug that the second one meets."""

    async def save(self, key: str, content: bytes | Path, *, type_: str) -> None:
        await super().save(key, content, type_=type_)
        if len(self.objects) == 2:
            raise ValueError("a bug")


async def test_an_unforeseen_error_of_the_media_store_is_an_attempt_that_leaves_nothing_behind() -> None:
    world = another_worker(make_world(), media=Broken())
    job = await made(world, count=2)
    assert (job.status, job.attempts, error_of(job)) == (Status.QUEUED, 1, None)
    assert isinstance(world.app.media, Broken)
    assert world.app.media.objects == {}


class Blinking(MemoryMedia):
    """Refuses the first objects, after it has stored them."""

    refusals = 3

    async def save(self, key: str, content: bytes | Path, *, type_: str) -> None:
        await super().save(key, content, type_=type_)
        if self.refusals:
            self.refusals -= 1
            raise MediaUnavailable("who knows")


@pytest.mark.parametrize("kind", [Kind.IMAGE, Kind.VIDEO])
async def test_what_was_made_is_offered_to_the_media_store_again_before_it_is_given_up(kind: str) -> None:
    world = another_worker(make_world(), media=Blinking())
    world.generator.starts = [picture if kind == Kind.IMAGE else running]
    job = await made(world, kind=kind)
    assert (job.status, job.attempts, len(world.generator.started)) == (Status.DRAFT, 0, 1)


async def test_nothing_is_offered_again_when_the_step_has_no_time_left() -> None:
    world = another_worker(make_world(), media=Blinking())

    def slowly(order: Order) -> Made:
        world.clock.advance(seconds=480)
        return picture(order)

    world.generator.starts = [slowly]
    job = await made(world)
    assert (job.status, job.attempts) == (Status.QUEUED, 1)


async def test_what_is_too_dear_to_be_made_again_and_cannot_be_stored_has_failed_for_that_reason() -> None:
    catalogue = load_catalogue(None)
    dear = replace(catalogue.models["local-image"], repeatable=False)
    catalogue = replace(catalogue, models={**catalogue.models, "local-image": dear})
    world = another_worker(make_world(), catalogue=catalogue)
    world.media.fails = True
    job = await made(world)
    assert (job.status, error_of(job), job.refunded) == (Status.FAILED, "storage_failed", 1)


async def test_each_attempt_stores_under_keys_of_its_own() -> None:
    world = make_world()
    world.generator.gate = asyncio.Event()
    job = await world.submit()
    stalled = asyncio.create_task(world.work.process(job.id))
    await until(lambda: bool(world.generator.started))
    rival = another_worker(
        world, clock=ManualClock(NOON + timedelta(minutes=2)), generators={"local": ScriptedGenerator()}
    )
    await rival.work.process(job.id)
    first = await world.job(job)
    world.generator.gate.set()
    await stalled
    assert await world.job(job) == first
    assert set(world.media.objects) == keys_of(first)


# --- letting go


async def test_a_process_that_wants_to_end_parks_an_operation_and_publishes_it_for_another() -> None:
    world = make_world()
    world.generator.starts, world.generator.polls = [running], [running] * 9
    job = await world.submit(kind=Kind.VIDEO)
    working = asyncio.create_task(world.work.process(job.id))
    await until(lambda: bool(world.generator.polled))
    world.queue.hints.clear()
    world.app.stopping.set()
    await working

    parked = await world.job(job)
    assert (parked.status, parked.lease, parked.attempts) == (Status.PROCESSING, None, 0)
    assert [hint.job_id for hint in world.queue.hints] == [job.id]
    rival = another_worker(world)
    assert (await while_time_passes(rival.clock, rival.deliver(job))).status is Status.DRAFT
    assert len(world.generator.started) == 1


async def test_only_what_runs_elsewhere_is_cancelled_when_a_job_is_abandoned() -> None:
    world = make_world()
    handler = all_handlers(world.app)[Kind.VIDEO]
    job = await world.submit(kind=Kind.VIDEO)
    await handler.abandon(job)
    intent = Purchase(model="local-video", repeatable=False, intended_at=NOON)
    await handler.abandon(replace(job, purchase=intent))
    assert world.generator.cancelled == []
    await handler.abandon(replace(job, purchase=replace(intent, reference="op-1")))
    assert world.generator.cancelled == ["op-1"]
    with pytest.raises(Retired):
        await handler.abandon(replace(job, purchase=replace(intent, model="gone", reference="op-1")))


async def test_the_lease_outlives_every_call_whose_outcome_must_not_become_unknown() -> None:
    world = make_world()
    catalogue = world.app.catalogue
    slow = replace(catalogue.models["local-video"], start_timeout_seconds=200)
    models = {**catalogue.models, "local-video": slow}
    world = another_worker(world, catalogue=replace(catalogue, models=models))
    world.generator.gate = asyncio.Event()
    job = await world.submit(kind=Kind.VIDEO)
    working = asyncio.create_task(world.work.process(job.id))
    await until(lambda: bool(world.generator.started))
    lease = (await world.job(job)).lease
    assert lease is not None
    assert lease.until == NOON + timedelta(seconds=200) + world.app.policy.lease_margin
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_once_the_reference_is_saved_a_dead_worker_is_not_waited_for_any_longer_than_usual() -> None:
    world = make_world()
    catalogue = world.app.catalogue
    slow = replace(catalogue.models["local-video"], start_timeout_seconds=400)
    models = {**catalogue.models, "local-video": slow}
    world = another_worker(world, catalogue=replace(catalogue, models=models))
    world.generator.starts = [running]
    usual = world.app.policy.lease
    leases: list[timedelta] = []

    def look(order: Order) -> Running:
        job = asyncio.get_running_loop().create_task(world.job(standing))
        job.add_done_callback(lambda done: leases.append(remaining(done.result())))
        return RUNNING

    def remaining(job: Job) -> timedelta:
        assert job.lease is not None
        return job.lease.until - world.clock.now()

    world.generator.polls = [look] * 20
    standing = await world.submit(kind=Kind.VIDEO)
    await while_time_passes(world.clock, world.work.process(standing.id), step=5)
    assert (await world.job(standing)).attempts == 0, "the lease was renewed all the while"
    world.clock.advance(seconds=5)
    await while_time_passes(world.clock, world.work.process(standing.id), step=5)
    assert len(leases) > 10
    assert timedelta() < min(leases) <= max(leases) <= usual


async def test_a_renewal_that_fails_once_does_not_cost_the_lease() -> None:
    """Or another worker would buy the same image beside this one."""
    store = UnsteadyStore()
    world = make_world(store=store)
    world.generator.gate = asyncio.Event()
    job = await world.submit()
    store.interludes = [None, down]  # the claim, then the first renewal
    working = asyncio.create_task(world.work.process(job.id))
    await until(lambda: bool(world.generator.started))

    async def a_lease_passes() -> None:
        await world.clock.sleep(world.app.policy.lease.total_seconds())

    await while_time_passes(world.clock, a_lease_passes())
    assert (await world.job(job)).has_live_lease(world.clock.now())
    world.generator.gate.set()
    await working


async def test_a_refusal_is_noted_even_if_the_store_blinks() -> None:
    """Or a job of which nothing was taken would end as one of which nobody knows."""
    store = UnsteadyStore()
    world = make_world(store=store)
    world.generator.starts = [raising(Busy("full")), running]
    job = await world.submit(kind=Kind.VIDEO)
    store.interludes = [None, None, down, down]  # the claim, the intent, the refusal
    await while_time_passes(world.clock, world.work.process(job.id))
    job = await world.job(job)
    assert (job.status, job.purchase, job.attempts) == (Status.QUEUED, None, 0)
    world.clock.advance(minutes=1)
    assert (await world.deliver(job)).status is Status.DRAFT


@pytest.mark.parametrize("kind", [Kind.IMAGE, Kind.VIDEO])
async def test_a_provider_that_says_to_come_back_tomorrow_does_not_cost_the_job_its_result(kind: str) -> None:
    world = make_world()
    tomorrow = raising(Busy("full", retry_after=timedelta(days=1)))
    world.generator.starts = [tomorrow] if kind == Kind.IMAGE else [running]
    world.generator.polls = [tomorrow, film]
    job = await made(world, kind=kind)
    assert job.not_before == NOON + generation.LONGEST_BUSY
    world.clock.advance(seconds=generation.LONGEST_BUSY.total_seconds())
    assert (await world.deliver(job)).status is Status.DRAFT


async def test_an_operation_that_was_long_to_start_is_asked_about_in_the_next_step() -> None:
    """A start, a minute of asking and a last question would together outlast the push delivery."""
    world = make_world()

    def slowly(order: Order) -> Running:
        world.clock.advance(seconds=400)
        return RUNNING

    world.generator.starts = [slowly]
    job = await made(world, kind=Kind.VIDEO)
    assert (job.status, job.attempts, job.lease, world.generator.polled) == (Status.PROCESSING, 0, None, [])
    assert (await world.deliver(job)).status is Status.DRAFT
    assert len(world.generator.started) == 1


async def test_a_fallback_that_is_full_does_not_hide_the_one_behind_it() -> None:
    world, _ = with_a_spare(raising(Down("down")), raising(Down("down")), max_per_minute=1)
    catalogue = world.app.catalogue
    third = replace(catalogue.models["local-image"], generator="third")
    rules = replace(catalogue.kinds[Kind.IMAGE], models=("local-image", "spare-image", "third-image"))
    catalogue = Catalogue(
        kinds={**catalogue.kinds, Kind.IMAGE: rules},
        models={**catalogue.models, "third-image": third},
        styles=catalogue.styles,
    )
    generators = {**world.app.generators, "third": ScriptedGenerator()}
    world = another_worker(world, catalogue=catalogue, generators=generators)
    first, second = await made(world), await made(world)
    assert [job.purchase.model for job in (first, second) if job.purchase] == ["spare-image", "third-image"]


async def test_a_film_that_came_damaged_is_fetched_again_and_not_given_up() -> None:
    world = another_worker(make_world(), inspector=HalfBlind())
    damaged = Made(items=[Artifact(type="video/mp4", content=NOISE)])
    world.generator.starts, world.generator.polls = [running], [lambda order: damaged, film]
    job = await made(world, kind=Kind.VIDEO)
    assert (job.status, job.attempts) == (Status.QUEUED, 1)
    world.clock.advance(minutes=1)
    assert (await world.deliver(job)).status is Status.DRAFT
    assert (len(world.generator.started), world.generator.polled) == (1, ["op-1", "op-1"])


async def test_a_process_that_wants_to_end_leaves_a_media_store_that_does_not_answer_to_the_next_one() -> (
    None
):
    world = make_world()
    world.media.fails = True

    def and_stop(order: Order) -> Made:
        world.app.stopping.set()
        return picture(order)

    world.generator.starts = [and_stop]
    job = await world.deliver(await world.submit())
    assert (job.status, job.attempts, world.clock.now()) == (Status.QUEUED, 1, NOON)
