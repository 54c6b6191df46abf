"""The caller's jobs: list, look, cancel, publish, delete."""

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Response

from services.api_gateway.dependencies import After, JobIdInPath, Limit, Parts, User
from services.api_gateway.render import job_body, json_response, page_body
from services.api_gateway.schemas import ErrorAnswer, JobAnswer, JobPage
from shared.domain.errors import InvalidRequest
from shared.domain.job import PUBLISHABLE_KINDS, VISIBLE_KINDS, Status
from shared.ports.store import JobFilter
from shared.usecases import publication
from shared.usecases.reading import get_job
from shared.usecases.settle import cancel

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_JOB: Final[dict[int | str, dict[str, Any]]] = {200: {"model": JobAnswer}, 404: {"model": ErrorAnswer}}
_MOVED: Final = _JOB | {409: {"model": ErrorAnswer, "description": "`wrong_state`."}}

Kinds = Annotated[str | None, Query(max_length=200, description="One or several, with commas between.")]
Statuses = Annotated[str | None, Query(max_length=200, description="One or several, with commas between.")]


@router.get("", responses={200: {"model": JobPage}}, summary="My jobs, newest first")
async def list_jobs(
    gateway: Parts,
    caller: User,
    kind: Kinds = None,
    status: Statuses = None,
    view: Annotated[
        Literal["drafts"] | None,
        Query(description="`drafts`: images and videos that are not published, failures included."),
    ] = None,
    batch_id: Annotated[str | None, Query(max_length=128)] = None,
    limit: Limit = 20,
    after: After = None,
) -> Response:
    if batch_id is not None:
        return json_response({"data": [], "has_more": False, "next": None})
    kinds, statuses = chosen("kind", kind, VISIBLE_KINDS), chosen("status", status, frozenset(Status))
    if view == "drafts":
        kinds = (kinds or PUBLISHABLE_KINDS) & PUBLISHABLE_KINDS
        statuses = (statuses or frozenset(Status)) - {Status.PUBLISHED}
        if not kinds or not statuses:
            return json_response({"data": [], "has_more": False, "next": None})
    wanted = JobFilter(
        user_id=caller.user_id, kinds=kinds, statuses=frozenset(Status(name) for name in statuses)
    )
    page = await gateway.app.store.jobs(wanted, limit=limit, after=after)
    return json_response(page_body(page, lambda job: job_body(gateway, job)))


@router.get("/{job_id}", responses=_JOB, summary="One job")
async def show_job(gateway: Parts, caller: User, job_id: JobIdInPath) -> Response:
    return json_response(job_body(gateway, await get_job(gateway.app, job_id, caller.user_id)))


@router.post(
    "/{job_id}/cancel",
    responses=_MOVED | {202: {"model": JobAnswer, "description": "Noted; it may come too late."}},
    summary="Cancel it",
)
async def cancel_job(gateway: Parts, caller: User, job_id: JobIdInPath) -> Response:
    """200: cancelled and refunded. 202: work has begun; it is cancelled if nothing was bought or it fails."""
    job = await cancel(gateway.app, job_id, caller.user_id)
    return json_response(job_body(gateway, job), 200 if job.is_finished else 202)


@router.post("/{job_id}/publish", responses=_MOVED, summary="Show it in the feed")
async def publish_job(gateway: Parts, caller: User, job_id: JobIdInPath) -> Response:
    return json_response(job_body(gateway, await publication.publish(gateway.app, job_id, caller.user_id)))


@router.post("/{job_id}/unpublish", responses=_MOVED, summary="Take it out of the feed")
async def unpublish_job(gateway: Parts, caller: User, job_id: JobIdInPath) -> Response:
    """Links to its media go on working."""
    return json_response(job_body(gateway, await publication.unpublish(gateway.app, job_id, caller.user_id)))


@router.delete(
    "/{job_id}",
    status_code=204,
    response_class=Response,
    responses={404: {"model": ErrorAnswer}, 409: {"model": ErrorAnswer, "description": "`wrong_state`."}},
    summary="Delete a finished job and its media",
)
async def delete_job(gateway: Parts, caller: User, job_id: JobIdInPath) -> Response:
    """Gone at once; its media are erased soon after. Its ledger entries stay."""
    await publication.delete(gateway.app, job_id, caller.user_id)
    return Response(status_code=204)


def chosen(param: str, text: str | None, known: frozenset[str]) -> frozenset[str]:
    if text is None:
        return frozenset()
    names = frozenset(text.split(","))
    if not names <= known:
        raise InvalidRequest(f"{param} must be of {', '.join(sorted(known))}", param=param)
    return names
