"""Keeping what a generator made: looked at, stored under the claim's own keys, counted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from shared.domain.errors import MediaUnavailable
from shared.domain.job import JobError, Media
from shared.domain.outcomes import Done, Failed, Outcome, Retry
from shared.ports.generator import Artifact, Made, Withheld
from shared.ports.media import UnreadableMedia, media_key
from shared.usecases.app import WorkerApp
from shared.usecases.turn import Turn

INSIST_SECONDS: Final = (1, 2, 4, 8, 15)
"""Pauses before what was made is offered again to a media store that does not answer: it is paid for."""
AGAIN_NUMBERS: Final = 10_000
"""Between the keys of two tries: one that failed may have stored its object all the same."""

_log = structlog.get_logger(__name__)


async def keep(app: WorkerApp, turn: Turn, made: Made) -> Outcome:
    """Store every artifact under this claim's own keys; the outcome says how much was delivered."""
    media: list[Media] = []
    thumbnail: Media | None = None
    async with _owned(made):
        for number, item in enumerate(made.items):
            if isinstance(item, Withheld):
                continue
            try:
                stored, small = await _insist(app, turn, number, item, with_thumbnail=thumbnail is None)
            except UnreadableMedia as error:
                _log.warning("generator.unreadable", job_id=turn.job.id, number=number, error=str(error))
                continue
            except MediaUnavailable as error:
                _log.warning("media.save_failed", job_id=turn.job.id, error=error.message)
                failed = JobError(
                    code="storage_failed", message="the result could not be stored", retryable=True
                )
                # What is neither to be asked for again nor to be bought again is lost.
                return Retry(failed, resumes=True) if _can_be_had_again(turn) else Failed(failed)
            media.append(stored)
            thumbnail = thumbnail or small
    if not media:
        failed = _nothing_usable(made)
        # An operation that has ended is asked for its result again: it may have come damaged.
        is_kept = turn.job.purchase is not None and turn.job.purchase.reference is not None
        return Retry(failed, resumes=True) if failed.retryable and is_kept else Failed(failed)
    # What was asked for counts, not what the provider chose to answer for.
    requested = max(turn.job.request.get("count", 1), len(made.items))
    return Done(media=tuple(media), thumbnail=thumbnail, delivered=len(media), requested=requested)


def _can_be_had_again(turn: Turn) -> bool:
    purchase = turn.job.purchase
    return purchase is not None and (purchase.reference is not None or purchase.repeatable)


async def _insist(
    app: WorkerApp, turn: Turn, number: int, artifact: Artifact, *, with_thumbnail: bool
) -> tuple[Media, Media | None]:
    """Store it, as often as it takes and this step may last; raises `MediaUnavailable` in the end."""
    until = min(app.clock.now() + timedelta(seconds=sum(INSIST_SECONDS)), turn.ends_at)
    for pause in INSIST_SECONDS:
        try:
            return await _store(app, turn, number, artifact, with_thumbnail=with_thumbnail)
        except MediaUnavailable as error:
            if turn.is_stopping or app.clock.now() + timedelta(seconds=pause) > until:
                raise
            _log.warning("media.save_failed", job_id=turn.job.id, error=error.message, again_in_seconds=pause)
        await turn.pause(pause)
        number += AGAIN_NUMBERS
    return await _store(app, turn, number, artifact, with_thumbnail=with_thumbnail)


async def _store(
    app: WorkerApp, turn: Turn, number: int, artifact: Artifact, *, with_thumbnail: bool
) -> tuple[Media, Media | None]:
    """Store one artifact, and its thumbnail if wanted, numbered after all artifacts."""
    job = turn.job
    turn.has_stored = True
    seen = await app.inspector.inspect(artifact.content)
    media = seen.as_media(media_key(job.id, turn.token, number, seen.type))
    await app.media.save(media.key, artifact.content, type_=media.type)
    if not with_thumbnail or seen.thumbnail is None:
        return media, None
    small = await app.inspector.inspect(seen.thumbnail)
    thumbnail = small.as_media(media_key(job.id, turn.token, 1000 + number, small.type))
    await app.media.save(thumbnail.key, seen.thumbnail, type_=thumbnail.type)
    return media, thumbnail


def _nothing_usable(made: Made) -> JobError:
    withheld = [item.reason for item in made.items if isinstance(item, Withheld)]
    if withheld and len(withheld) == len(made.items):
        return JobError(code="content_rejected", message=withheld[0], stage="output")
    return JobError(code="provider_failed", message="the provider delivered nothing usable", retryable=True)


@asynccontextmanager
async def _owned(made: Made) -> AsyncIterator[None]:
    """Temporary files belong to whoever receives them: remove them, whatever happens."""
    try:
        yield
    finally:
        for item in made.items:
            if isinstance(item, Artifact) and isinstance(item.content, Path):
                item.content.unlink(missing_ok=True)
