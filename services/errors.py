"""From errors to HTTP, once for both services: the status of each, and the one shape."""

from collections.abc import Mapping
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from services.middleware import App, Message, Receive, Scope, Send, error_body
from shared.domain import errors

STATUS: Final[Mapping[type[errors.MediaForgeError], int]] = {
    errors.InvalidRequest: 422,
    errors.BadRequest: 400,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.WrongState: 409,
    errors.IdempotencyConflict: 409,
    errors.InsufficientTokens: 402,
    errors.MaxCostExceeded: 402,
    errors.Unauthenticated: 401,
    errors.Overloaded: 503,
    errors.Unavailable: 503,
    errors.BrokenInvariant: 500,
}

_CODES: Final = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "bad_request",
    413: "too_large",
    415: "unsupported_media_type",
    416: "bad_request",
    503: "unavailable",
}

_LONGEST_ECHO: Final = 300
"""Characters of what the client sent that an answer may repeat."""

_log = structlog.get_logger(__name__)


def status_of(error: errors.MediaForgeError) -> int:
    return next(STATUS[type_] for type_ in type(error).__mro__ if type_ in STATUS)


def render_errors_of(app: FastAPI) -> None:
    """Answer every error of the app in the one shape."""

    @app.exception_handler(errors.MediaForgeError)
    async def _ours(request: Request, error: errors.MediaForgeError) -> Response:
        status = status_of(error)
        headers: dict[str, str] = {}
        if status == 503:
            headers["Retry-After"] = str(getattr(error, "retry_after_seconds", 1))
            _log.warning("request.unavailable", path=request.url.path, error=error.message)
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if status == 500:
            _log.error("request.broken_invariant", path=request.url.path, exc_info=error)
        return _response(request, status, error.code, _public_message(error), error=error, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        problem = error.errors()[0]
        if problem["type"] == "json_invalid":
            return _response(request, 400, "bad_request", "the body is not valid JSON")
        if problem["loc"] == ("body",) and isinstance(problem["input"], bytes):  # nobody tried to parse it
            return _response(
                request, 415, "unsupported_media_type", "send JSON, with Content-Type: application/json"
            )
        location = _location(problem)
        where = f"{location}: " if location else ""
        message = where + problem["msg"].removeprefix("Value error, ")
        return _response(request, 422, "invalid_request", message[:_LONGEST_ECHO], param=location)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "bad_request")
        return _response(
            request, error.status_code, code, str(error.detail), headers=dict(error.headers or {})
        )

    app.add_middleware(_LastResort)


class _LastResort:
    """Answers what nobody foresaw. Inside the other middleware, so that this answer has their headers too."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            request = Request(scope)
            _log.error("request.failed", path=request.url.path, exc_info=error)
            answer = _response(request, 500, "internal", "something went wrong on our side")
            await answer(scope, receive, send)


def _public_message(error: errors.MediaForgeError) -> str:
    """A part's own words about its failure are for the logs."""
    if isinstance(error, errors.Unavailable):
        return "a part of the service does not answer right now; try again"
    return "something went wrong on our side" if isinstance(error, errors.BrokenInvariant) else error.message


def _location(problem: Mapping[str, Any]) -> str | None:
    """The field's path as the client wrote it: without `body`, and without the tag of the union."""
    path = [str(part) for part in problem["loc"]]
    if path[:1] in (["body"], ["query"], ["path"], ["header"]):
        path = path[1:]
    if path[:1] in (["image"], ["video"]) and problem["loc"][0] == "body":
        path = path[1:]
    if not path and problem["type"].startswith("union_tag"):
        return "kind"
    return ".".join(path)[:_LONGEST_ECHO] or None


def _response(
    request: Request,
    status: int,
    code: str,
    message: str,
    *,
    param: str | None = None,
    error: errors.MediaForgeError | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    more = {}
    if isinstance(error, errors.InsufficientTokens):
        more = {"needed": error.needed_tokens, "available": error.available_tokens}
    body = error_body(
        code,
        message,
        param=param or (error.param if error else None),
        retryable=error.retryable if error else status == 503,
        request_id=getattr(request.state, "request_id", ""),
        **more,
    )
    return Response(body, status, dict(headers or {}), "application/json")
