"""Is it alive, and do the parts it stands on answer?"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import structlog
from fastapi import APIRouter, Response

from services.api_gateway.dependencies import Parts
from services.api_gateway.render import json_response
from shared.domain.errors import Unavailable

router = APIRouter(tags=["health"])

CHECK_SECONDS: Final = 3.0
_log = structlog.get_logger(__name__)


@router.get("/health", summary="The process is alive")
async def health() -> Response:
    return json_response({"status": "ok"})


@router.get("/ready", summary="The store and the queue answer")
async def ready(gateway: Parts) -> Response:
    """503 names the part that does not answer."""
    store, queue = await asyncio.gather(
        _checked("store", gateway.app.store.check()), _checked("queue", gateway.app.queue.check())
    )
    is_ready = store == queue == "ok"
    return json_response(
        {"status": "ok" if is_ready else "unavailable", "parts": {"store": store, "queue": queue}},
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
