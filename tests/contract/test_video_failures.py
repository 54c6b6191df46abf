"""What a user sees and pays when a video's provider blocks, limits, fails or falls silent.

The engine, the adapters, the official client and the wire are real; only the providers and the time are not.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from shared.domain.catalogue import Catalogue, KindRules, Model, Per
from shared.domain.job import UNFINISHED, Job, Kind, Status
from shared.usecases.handlers import all_handlers
from shared.usecases.work import Work
from tests.providers import omni, veo
from tests.providers.gemini import error, retry_info
from tests.providers.server import Call, FakeProvider, Reply
from tests.support import World, make_world, while_time_passes

GIFT = 100
POLICY = "The prompt violates our usage guidelines."
DEADLINE = timedelta(minutes=20)


@dataclass
class Maker:
    """A provider that answers every start, or every question about what it started, in one way."""

    to_starts: Reply
    to_polls: Reply
    starts: int = 0
    polls: int = 0

    def __call__(self, call: Call) -> Reply:
        if call.path.endswith((":predictLongRunning", "/interactions")):
            self.starts += 1
            return self.to_starts
        if not call.path.endswith("/cancel"):
            self.polls += 1
        return self.to_polls


@asynccontextmanager
async def a_world(generator: str, maker: Maker, scratch: Path) -> AsyncIterator[World]:
    """A world whose videos are made by that generator alone."""
    async with FakeProvider() as provider:
        provider.handler = maker
        opening = veo.open_veo(provider, scratch) if generator == "veo" else omni.open_omni(provider, scratch)
        async with opening as opened:
            world = make_world(signup_tokens=GIFT)
            model = Model(
                generator=generator,
                tokens=10,
                per=Per.JOB,
                start_timeout_seconds=75,
                seconds=(8,),
                sizes={"16:9": "1280x720"},
            )
            rules = KindRules(deadline_seconds=int(DEADLINE.total_seconds()), models=("m",))
            kinds = {**world.app.catalogue.kinds, Kind.VIDEO: rules}
            app = replace(
                world.app,
                catalogue=Catalogue(kinds=kinds, models={"m": model}),
                generators={generator: opened},
            )
            yield replace(world, app=app, work=Work(app, all_handlers(app)))


async def ended(world: World) -> Job:
    """A job that workers look at, whenever it is due, until it has ended."""
    job = await world.submit(kind=Kind.VIDEO)
    while job.status in UNFINISHED:
        await while_time_passes(world.clock, world.work.process(job.id))
        job = await world.job(job)
        if job.wake_at is not None and job.wake_at > world.clock.now():
            world.clock.advance(seconds=(job.wake_at - world.clock.now()).total_seconds())
    return job


ONCE, AGAIN = False, True

ANSWERS_TO_STARTS = {
    "a prompt against the policy": (error(400, "INVALID_ARGUMENT", POLICY), "content_rejected", ONCE),
    "an invalid argument": (error(400, "INVALID_ARGUMENT", "too long"), "invalid_request", ONCE),
    "a model that is gone": (error(404, "NOT_FOUND"), "model_retired", ONCE),
    "no permission": (error(403, "PERMISSION_DENIED"), "provider_failed", AGAIN),
    "an overload": (error(503, "UNAVAILABLE"), "provider_failed", AGAIN),
    "a limit that never ends": (
        error(429, "RESOURCE_EXHAUSTED", "m", retry_info("300s")),
        "timed_out",
        AGAIN,
    ),
    "an error of its servers": (error(500, "INTERNAL"), "outcome_unknown", ONCE),
    "a page of a proxy": (Reply.text("<html>", status=502), "outcome_unknown", ONCE),
    "a dropped connection": (Reply.dropped(), "outcome_unknown", ONCE),
    "an answer that is none": (Reply.text("<html>"), "outcome_unknown", ONCE),
}


@pytest.mark.parametrize("generator", ["veo", "omni"])
@pytest.mark.parametrize("answer", ANSWERS_TO_STARTS)
async def test_a_video_that_is_not_begun_ends_in_its_code_and_is_refunded(
    tmp_path: Path, generator: str, answer: str
) -> None:
    reply, code, is_tried_again = ANSWERS_TO_STARTS[answer]
    maker = Maker(reply, error(500, "INTERNAL"))
    async with a_world(generator, maker, tmp_path) as world:
        job = await ended(world)
        assert job.error is not None
        assert (job.status, job.error.code) == (Status.FAILED, code)
        assert await world.balance() == GIFT
        assert (maker.starts > 1) == is_tried_again
        assert maker.polls == 0


ANSWERS_TO_POLLS = {
    "veo: a failure at the policy": ("veo", veo.failed(3, POLICY), "content_rejected", ONCE),
    "veo: a film that is held back": ("veo", veo.filtered("Support codes: 1"), "content_rejected", ONCE),
    "veo: a failure that stays": ("veo", veo.failed(5, "it went wrong"), "provider_failed", ONCE),
    "veo: a failure that may pass": ("veo", veo.failed(13, "it went wrong"), "provider_failed", AGAIN),
    "veo: an end without a film": ("veo", veo.ended({}), "provider_failed", AGAIN),
    "veo: an operation that it forgot": ("veo", error(404, "NOT_FOUND"), "provider_failed", ONCE),
    "veo: silence to the end": ("veo", error(503, "UNAVAILABLE"), "timed_out", ONCE),
    "veo: work to the end": ("veo", veo.running(), "timed_out", ONCE),
    "omni: a failure at the policy": ("omni", omni.failed(("x", POLICY)), "content_rejected", ONCE),
    "omni: a failure that stays": (
        "omni",
        omni.failed(("invalid-argument", "too many references")),
        "provider_failed",
        ONCE,
    ),
    "omni: a failure that may pass": (
        "omni",
        omni.failed(("x", "please try again later")),
        "provider_failed",
        AGAIN,
    ),
    "omni: an end without a film": ("omni", omni.said(), "provider_failed", AGAIN),
    "omni: an interaction that it forgot": (
        "omni",
        omni.own_error(404, "not_found"),
        "provider_failed",
        ONCE,
    ),
    "omni: work to the end": ("omni", omni.interaction(), "timed_out", ONCE),
}


@pytest.mark.parametrize("answer", ANSWERS_TO_POLLS)
async def test_a_video_that_was_begun_and_fails_ends_in_its_code_and_is_refunded(
    tmp_path: Path, answer: str
) -> None:
    generator, reply, code, is_bought_again = ANSWERS_TO_POLLS[answer]
    maker = Maker(veo.taken() if generator == "veo" else omni.interaction(), reply)
    async with a_world(generator, maker, tmp_path) as world:
        job = await ended(world)
        assert job.error is not None
        assert (job.status, job.error.code) == (Status.FAILED, code)
        assert await world.balance() == GIFT
        assert (maker.starts > 1) == is_bought_again
        assert maker.starts <= world.app.policy.max_attempts
