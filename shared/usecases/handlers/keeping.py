"""Keeping what a generator made: looked at, stored under the claim's own keys, counted."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from shared.domain.errors import MediaUnavailable
from shared.domain.job import JobError, Media
from shared.domain.outcomes import Done, Failed, Outcome, Retry
from shared.ports.generator import Artifact, Made, Withheld
from shared.ports.media import Inspection, UnreadableMedia, media_key
from shared.usecases.app import WorkerApp
from shared.usecases.turn import Turn

INSIST_SECONDS: Final = (1, 2, 4, 8, 15)
"""Pauses before what was made is offered again to a media store that does not answer: it is paid for."""
THUMBNAIL_NUMBERS: Final = 1_000
AGAIN_NUMBERS: Final = 10_000
"""Between the keys of two tries: one that failed may have stored its object all the same."""

_log = structlog.get_logger(__name__)


async def keep(app: WorkerApp, turn: Turn, made: Made) -> Outcome:
    """Store every artifact under this claim's own keys; the outcome says how much was delivered."""
    async with _owned(made):
        found = await asyncio.gather(*(_looked_at(app, turn, *item) for item in enumerate(made.items)))
        pieces = [piece for piece in found if piece is not None]
        if not pieces:
            failed = _nothing_usable(made)
            # An operation that has ended is asked for its result again: it may have come damaged.
            is_kept = turn.job.purchase is not None and turn.job.purchase.reference is not None
            return Retry(failed, resumes=True) if failed.retryable and is_kept else Failed(failed)
        small = await _thumbnail_of(app, turn, pieces)
        turn.has_stored = True
        stored = await asyncio.gather(
            *(_insist(app, turn, piece) for piece in [*pieces, *small]), return_exceptions=True
        )
    media: list[Media] = []
    for one in stored:
        if isinstance(one, MediaUnavailable):
            return _not_stored(turn, one)
        if isinstance(one, BaseException):
            raise one
        media.append(one)
    thumbnail = media.pop() if small else None
    # What was asked for counts, not what the provider chose to answer for.
    requested = max(turn.job.request.get("count", 1), len(made.items))
    return Done(media=tuple(media), thumbnail=thumbnail, delivered=len(media), requested=requested)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Something to be stored, and what it really is."""

    number: int
    content: bytes | Path = field(repr=False)
    seen: Inspection


async def _looked_at(app: WorkerApp, turn: Turn, number: int, item: Artifact | Withheld) -> _Piece | None:
    if isinstance(item, Withheld):
        return None
    try:
        return _Piece(number, item.content, await app.inspector.inspect(item.content))
    except UnreadableMedia as error:
        _log.warning("generator.unreadable", job_id=turn.job.id, number=number, error=str(error))
        return None


async def _thumbnail_of(app: WorkerApp, turn: Turn, pieces: Sequence[_Piece]) -> list[_Piece]:
    """The small picture of the first that has one, numbered after all artifacts; or none."""
    for piece in pieces:
        if piece.seen.thumbnail is not None:
            small = await _looked_at(
                app, turn, THUMBNAIL_NUMBERS + piece.number, Artifact(type="", content=piece.seen.thumbnail)
            )
            return [small] if small is not None else []
    return []


def _not_stored(turn: Turn, error: MediaUnavailable) -> Outcome:
    _log.warning("media.save_failed", job_id=turn.job.id, error=error.message)
    failed = JobError(code="storage_failed", message="the result could not be stored", retryable=True)
    purchase = turn.job.purchase
    can_be_had_again = purchase is not None and (purchase.reference is not None or purchase.repeatable)
    # What is neither to be asked for again nor to be bought again is lost.
    return Retry(failed, resumes=True) if can_be_had_again else Failed(failed)


async def _insist(app: WorkerApp, turn: Turn, piece: _Piece) -> Media:
    """Store it, as often as it takes and this step may last; raises `MediaUnavailable` in the end."""
    until = min(app.clock.now() + timedelta(seconds=sum(INSIST_SECONDS)), turn.ends_at)
    number = piece.number
    for pause in INSIST_SECONDS:
        try:
            return await _store(app, turn, number, piece)
        except MediaUnavailable as error:
            if turn.is_stopping or app.clock.now() + timedelta(seconds=pause) > until:
                raise
            _log.warning("media.save_failed", job_id=turn.job.id, error=error.message, again_in_seconds=pause)
        await turn.pause(pause)
        number += AGAIN_NUMBERS
    return await _store(app, turn, number, piece)


async def _store(app: WorkerApp, turn: Turn, number: int, piece: _Piece) -> Media:
    media = piece.seen.as_media(media_key(turn.job.id, turn.token, number, piece.seen.type))
    await app.media.save(media.key, piece.content, type_=media.type)
    return media


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
