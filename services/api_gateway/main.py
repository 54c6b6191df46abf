"""The gateway: authenticate, validate, call one use case, render."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from services.api_gateway.routes import admin, generate, health, jobs, ledger, public
from services.api_gateway.schemas import ErrorAnswer
from services.errors import render_errors_of
from services.middleware import BodyLimit, Capacity, RequestFrame
from services.serving import Service
from shared.settings import Settings
from shared.wiring import Gateway, open_gateway

CONSOLE: Final = Path(__file__).parent.parent / "console"

DESCRIPTION: Final = """
Turn prompts into images and videos, and never lose a token.

Post a job to `POST /v1/generate`: its cost is debited and the job queued in one step. Follow it at its
`Location`, or send `Prefer: wait=30`. When anything fails, the tokens come back in the very change that
says so. Send an `Idempotency-Key` with every POST, and repeat it without fear.
"""

_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": ErrorAnswer, "description": "`bad_request`: it cannot be read."},
    401: {"model": ErrorAnswer, "description": "`unauthenticated`."},
    413: {"model": ErrorAnswer, "description": "`too_large`."},
    422: {"model": ErrorAnswer, "description": "`invalid_request`: `param` says which field."},
    503: {"model": ErrorAnswer, "description": "`unavailable`: come back after `Retry-After` seconds."},
}

_HEADERS: Final = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


class _Console(StaticFiles):
    """What no route matches. Not a mount, which would take a route's path from it for other methods."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(404)
        return await super().get_response(path, scope)


def create_app(gateway: Gateway) -> FastAPI:
    """The ASGI app over parts that are already open."""
    settings = gateway.settings
    app = FastAPI(
        title="MediaForge",
        version=version("mediaforge"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=_ERRORS,
    )
    app.state.gateway = gateway
    app.state.readiness = health.Readiness(gateway.app)
    app.state.waits = asyncio.Semaphore(settings.max_waits)
    for module in (generate, jobs, public, ledger, admin, health):
        app.include_router(module.router)
    app.router.default = _Console(directory=CONSOLE, html=True)
    render_errors_of(app)

    # The last one added is the outermost.
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, max_seconds=settings.max_body_seconds)
    app.add_middleware(Capacity, at_once=settings.max_requests)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=[origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()],
        allow_methods=["GET", "POST", "PUT", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Prefer", "X-Request-Id"],
        expose_headers=["Location", "X-Request-Id", "Idempotent-Replayed", "Retry-After"],
        max_age=600,
    )
    app.add_middleware(RequestFrame, headers=_HEADERS)
    return app


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    async with open_gateway(settings) as gateway:
        yield Service(create_app(gateway), on_stop=gateway.app.stopping.set)
