"""Is it alive, and do the parts it stands on answer?"""

import asyncio
from collections.abc import Coroutine, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, cast

import structlog
from fastapi import APIRouter, Depends, Request, Response

from services.api_gateway.render import json_response
from shared.domain.errors import Unavailable
from shared.usecases.app import App

router = APIRouter(tags=["health"])

CHECK_SECONDS: Final = 3.0
FRESH: Final = timedelta(seconds=1)
"""Checks cost money on some stores, and anybody may ask: one a second serves everybody."""

_log = structlog.get_logger(__name__)


class Readiness:
    """Which parts answer, looked at no more often than it can have changed much."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._looking = asyncio.Lock()
        self._parts: Mapping[str, str] = {}
        self._looked_at: datetime | None = None

    async def parts(self) -> Mapping[str, str]:
        async with self._looking:
            if self._looked_at is None or abs(self._app.clock.now() - self._looked_at) >= FRESH:
                self._parts = await self._look()
                # After the look: whoever waited for a slow one is served by it.
                self._looked_at = self._app.clock.now()
            return self._parts

    async def _look(self) -> Mapping[str, str]:
        checks = {"store": self._app.store.check(), "queue": self._app.queue.check()}
        answers = await asyncio.gather(*(_checked(part, check) for part, check in checks.items()))
        return dict(zip(checks, answers, strict=True))


async def the_readiness(request: Request) -> Readiness:
    return cast("Readiness", request.app.state.readiness)


@router.get("/health", summary="The process is alive")
async def health() -> Response:
    return json_response({"status": "ok"})


@router.get("/ready", summary="The store and the queue answer")
async def ready(readiness: Annotated[Readiness, Depends(the_readiness)]) -> Response:
    """503 names the part that does not answer."""
    parts = await readiness.parts()
    is_ready = all(answer == "ok" for answer in parts.values())
    return json_response(
        {"status": "ok" if is_ready else "unavailable", "parts": parts},
        200 if is_ready else 503,
        None if is_ready else {"Retry-After": "1"},
    )


async def _checked(part: str, check: Coroutine[Any, Any, None]) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check
    except (Unavailable, TimeoutError) as error:
        _log.warning("ready.failed", part=part, error=str(error))
        return "unavailable"
    return "ok"
