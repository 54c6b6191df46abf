"""The worker: private, called by the queue and the scheduler, answers what the store now knows.

204 acknowledges: whatever happened is recorded. 503 asks for the message again, because something could
not be recorded. 422 refuses what cannot be read; the queue's dead-letter topic takes it in the end.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final, cast

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from services.errors import render_errors_of
from services.middleware import BodyLimit, RequestFrame, in_logs
from services.serving import Service
from shared.domain.errors import InvalidRequest, Overloaded, Unauthenticated
from shared.envelope import OTHER_ROUTE, ROUTES, UnreadableMessage, read_hint
from shared.ports.tracing import current_trace, tracing
from shared.settings import Settings
from shared.usecases.sweep import sweep_for
from shared.wiring import Worker, open_worker

MAX_PUSH_BYTES: Final = 100_000
SWEEP_SECONDS: Final = 50
"""The scheduler calls once a minute."""


async def the_worker(request: Request) -> Worker:
    return cast("Worker", request.app.state.worker)


Parts = Annotated[Worker, Depends(the_worker)]


async def verified(request: Request, worker: Parts) -> None:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if not scheme and worker.settings.environment == "local":
        # The Pub/Sub emulator sends no header, but it keeps the address that it was given.
        scheme, token = "bearer", request.query_params.get("token", "")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("only the queue and the scheduler may call the worker")
    await worker.verifier.verify(token)


def create_app(worker: Worker) -> FastAPI:
    """The ASGI app over parts that are already open."""
    app = FastAPI(title="MediaForge worker", openapi_url=None)
    app.state.worker = worker
    free = asyncio.Semaphore(worker.settings.worker_concurrency)

    async def process(request: Request) -> Response:
        """Look at the job that the message names; the stored kind, not the route, decides what is done."""
        try:
            hint = read_hint(await request.body())
        except UnreadableMessage as error:
            raise InvalidRequest(f"not a push of ours: {error}") from error
        if worker.app.stopping.is_set() or free.locked():
            raise Overloaded("this worker is full or about to stop")
        request_id = hint.request_id or request.state.request_id
        trace = hint.trace or current_trace()
        async with free:
            with in_logs(request_id, trace, job_id=hint.job_id), tracing(trace):
                await worker.work.process(hint.job_id)
        return Response(status_code=204)

    for route in (*ROUTES.values(), OTHER_ROUTE):
        app.add_api_route(route, process, methods=["POST"], dependencies=[Depends(verified)])

    @app.post("/sweep", dependencies=[Depends(verified)])
    async def sweep(seconds: int = SWEEP_SECONDS) -> dict[str, Any]:
        """Look after what is due, for so long; `seconds=0` looks once."""
        return {"jobs": await sweep_for(worker.app, worker.work, min(max(seconds, 0), SWEEP_SECONDS))}

    @app.get("/health")
    async def health() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    render_errors_of(app)
    app.add_middleware(BodyLimit, max_bytes=MAX_PUSH_BYTES)
    app.add_middleware(RequestFrame)
    return app


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[Service]:
    async with open_worker(settings) as worker:
        yield Service(create_app(worker), on_stop=worker.app.stopping.set)
