"""Keeping what a generator made: looked at, stored under the claim's own keys, counted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog

from shared.domain.errors import MediaUnavailable
from shared.domain.job import JobError, Media
from shared.domain.outcomes import Done, Failed, Outcome, Retry
from shared.ports.generator import Artifact, Made, Withheld
from shared.ports.media import UnreadableMedia, media_key
from shared.usecases.app import WorkerApp
from shared.usecases.turn import Turn

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
                stored, small = await _store(app, turn, number, item, with_thumbnail=thumbnail is None)
            except UnreadableMedia as error:
                _log.warning("generator.unreadable", job_id=turn.job.id, number=number, error=str(error))
                continue
            except MediaUnavailable as error:
                _log.warning("media.save_failed", job_id=turn.job.id, error=error.message)
                return Retry(
                    JobError(code="storage_failed", message="the result could not be stored", retryable=True),
                    resumes=True,
                )
            media.append(stored)
            thumbnail = thumbnail or small
    if not media:
        return Failed(_nothing_usable(made))
    # What was asked for counts, not what the provider chose to answer for.
    requested = max(turn.job.request.get("count", 1), len(made.items))
    return Done(media=tuple(media), thumbnail=thumbnail, delivered=len(media), requested=requested)


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
