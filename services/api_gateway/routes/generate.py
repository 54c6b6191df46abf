"""Asking for things: submit, quote, retry."""

from contextlib import suppress
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Response

from services.api_gateway.dependencies import (
    IdempotencyKey,
    JobIdInPath,
    Parts,
    Patience,
    TheRequestId,
    User,
    Wait,
)
from services.api_gateway.ordering import drawn_seed, order_of
from services.api_gateway.render import job_body, job_path, json_response
from services.api_gateway.schemas import (
    GENERATE_EXAMPLES,
    ErrorAnswer,
    GenerateBody,
    JobAnswer,
    QuoteAnswer,
)
from shared.domain.errors import Unavailable
from shared.domain.ids import AccountId
from shared.usecases.fingerprint import fingerprint
from shared.usecases.reading import wait_for_end
from shared.usecases.submit import Submission, Submitted, afford, retry, submit
from shared.wiring import Gateway

router = APIRouter(prefix="/v1", tags=["generate"])

ACCEPTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": JobAnswer, "description": "Finished within the time of `Prefer: wait`."},
    202: {"model": JobAnswer, "description": "Queued; follow it at `Location`."},
    402: {"model": ErrorAnswer, "description": "`insufficient_tokens` or `max_cost_exceeded`."},
    409: {"model": ErrorAnswer, "description": "`idempotency_conflict`."},
}


@router.post("/generate", status_code=202, responses=ACCEPTED, summary="Make an image or a video")
async def generate(
    gateway: Parts,
    caller: User,
    body: Annotated[GenerateBody, Body(openapi_examples=GENERATE_EXAMPLES)],
    key: IdempotencyKey,
    wait: Wait,
    request_id: TheRequestId,
) -> Response:
    """Debits the account, queues a job and answers with it. If the job fails, the tokens come back."""
    seed = drawn_seed(gateway)
    submission = Submission(
        order=lambda: order_of(gateway, body, seed),
        user_id=caller.user_id,
        request_hash=fingerprint("generate", body.model_dump(exclude_unset=True)),
        account_id=AccountId(body.account) if body.account else None,
        idempotency_key=key,
        max_cost=body.max_cost,
        metadata=body.metadata,
        request_id=request_id,
    )
    return await _answer(gateway, await submit(gateway.app, submission), wait)


@router.post("/quote", responses={200: {"model": QuoteAnswer}}, summary="What would it cost?")
async def quote(
    gateway: Parts, caller: User, body: Annotated[GenerateBody, Body(openapi_examples=GENERATE_EXAMPLES)]
) -> Response:
    """Takes the same body as a submit and writes nothing."""
    cost = order_of(gateway, body, drawn_seed(gateway)).cost
    account_id = AccountId(body.account) if body.account else None
    account, affordable = await afford(gateway.app, caller.user_id, account_id, cost)
    return json_response({"cost": cost, "balance": account.balance, "affordable": affordable})


@router.post("/jobs/{job_id}/retry", status_code=202, responses=ACCEPTED, summary="The same once more")
async def retry_job(
    gateway: Parts,
    caller: User,
    job_id: JobIdInPath,
    key: IdempotencyKey,
    wait: Wait,
    request_id: TheRequestId,
) -> Response:
    """A new job with the request of a finished one, debited at today's price."""
    submitted = await retry(
        gateway.app,
        job_id,
        user=caller.user_id,
        request_hash=fingerprint("retry", job_id),
        idempotency_key=key,
        request_id=request_id,
    )
    return await _answer(gateway, submitted, wait)


async def _answer(gateway: Gateway, submitted: Submitted, wait: Patience) -> Response:
    job = submitted.job
    if wait.seconds > 0 and not wait.places.locked():
        # Whatever happens now, the job stands: a 503 would make its user submit, and pay, again.
        with suppress(Unavailable):
            async with wait.places:
                job = await wait_for_end(gateway.app, job, wait.seconds)
    headers = {"Location": job_path(gateway, job)}
    if submitted.is_replay:
        headers["Idempotent-Replayed"] = "true"
    finished_in_time = wait.seconds > 0 and job.is_finished
    return json_response(job_body(gateway, job), 200 if finished_in_time else 202, headers)
