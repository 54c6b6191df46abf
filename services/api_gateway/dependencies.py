"""What routes ask for: the gateway's parts, who is calling, and the headers that change an answer.

All of them are coroutines: FastAPI sends plain functions to a thread, at a cost of 0.1 ms each.
"""

import asyncio
import re
from dataclasses import dataclass
from typing import Annotated, Final, cast

from fastapi import Depends, Header, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from shared.domain.errors import BadRequest, Forbidden, NotFound, Unauthenticated
from shared.domain.ids import JobId, RequestId, is_job_id
from shared.ports.auth import Caller
from shared.wiring import Gateway

MAX_WAIT_SECONDS: Final = 60
_WAIT: Final = re.compile(r"(?:^|[,;\s])wait\s*=\s*(\d{1,6})(?:$|[,;\s])")
_KEY: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,253}[\x21-\x7e])?")

_bearer = HTTPBearer(auto_error=False, description="An API key; locally also `dev-<user>`.")


async def the_gateway(request: Request) -> Gateway:
    return cast("Gateway", request.app.state.gateway)


Parts = Annotated[Gateway, Depends(the_gateway)]


async def the_caller(
    gateway: Parts, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    if credentials is None:
        raise Unauthenticated("send `Authorization: Bearer` and a token")
    return await gateway.authenticator.authenticate(credentials.credentials)


User = Annotated[Caller, Depends(the_caller)]


async def the_admin(caller: User) -> Caller:
    if not caller.is_admin:
        raise Forbidden("this needs the scope admin")
    return caller


Admin = Annotated[Caller, Depends(the_admin)]


async def the_job_id(job_id: str) -> JobId:
    if not is_job_id(job_id):
        raise NotFound(f"there is no job {job_id[:64]}")
    return JobId(job_id)


JobIdInPath = Annotated[JobId, Depends(the_job_id)]


async def idempotency_key(
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            description="1 to 255 visible characters. Sending the same request with the same key again "
            "returns what the first one made; with another body it is refused with 409.",
        ),
    ] = None,
) -> str | None:
    if key is not None and not _KEY.fullmatch(key):
        raise BadRequest("Idempotency-Key must be 1 to 255 visible ASCII characters", param="Idempotency-Key")
    return key


IdempotencyKey = Annotated[str | None, Depends(idempotency_key)]


async def wait_seconds(
    prefer: Annotated[
        str | None,
        Header(
            description="`wait=N`: answer when the job has finished, after N seconds (at most 60) anyway."
        ),
    ] = None,
) -> int:
    """Zero for anything that is not understood, as RFC 7240 wants it."""
    match = _WAIT.search(prefer or "")
    return min(int(match[1]), MAX_WAIT_SECONDS) if match else 0


@dataclass(frozen=True)
class Patience:
    """How long the client wants to wait, and the places that there are for those who do."""

    seconds: int
    places: asyncio.Semaphore


async def patience(request: Request, seconds: Annotated[int, Depends(wait_seconds)]) -> Patience:
    return Patience(seconds, cast("asyncio.Semaphore", request.app.state.waits))


Wait = Annotated[Patience, Depends(patience)]


async def request_id(request: Request) -> RequestId:
    return RequestId(request.state.request_id)


TheRequestId = Annotated[RequestId, Depends(request_id)]

Limit = Annotated[int, Query(ge=1, le=100, description="How many at most.")]
After = Annotated[str | None, Query(max_length=512, description="Where to go on: `next` of the part before.")]
