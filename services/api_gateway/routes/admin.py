"""What operators may do; every route needs the scope `admin`."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from services.api_gateway.dependencies import Admin, After, IdempotencyKey, Limit, Parts
from services.api_gateway.render import account_body, entry_body, job_body, json_response, page_body
from services.api_gateway.routes.jobs import Kinds, Statuses, chosen
from services.api_gateway.schemas import (
    AccountAnswer,
    AccountBody,
    AccountIdText,
    EntryAnswer,
    ErrorAnswer,
    GrantBody,
    JobPage,
)
from shared.domain.errors import IdempotencyConflict, WrongState
from shared.domain.ids import AccountId, UserId
from shared.domain.job import INTERNAL_KINDS, VISIBLE_KINDS, Status
from shared.ports.store import JobFilter
from shared.usecases.accounts import create_team, grant, set_member
from shared.usecases.audit import audit
from shared.usecases.fingerprint import fingerprint
from shared.usecases.stats import stats

router = APIRouter(
    prefix="/v1/admin", tags=["admin"], responses={403: {"model": ErrorAnswer, "description": "`forbidden`."}}
)

InPath = Annotated[AccountIdText, Path()]


@router.post(
    "/grants", status_code=201, responses={201: {"model": EntryAnswer}}, summary="Give or take tokens"
)
async def grant_tokens(gateway: Parts, _: Admin, body: GrantBody, key: IdempotencyKey) -> Response:
    entry, is_replay = await grant(
        gateway.app, AccountId(body.account), body.tokens, note=body.note, idempotency_key=key
    )
    return json_response(entry_body(entry), 201, {"Idempotent-Replayed": "true"} if is_replay else None)


@router.post(
    "/accounts", status_code=201, responses={201: {"model": AccountAnswer}}, summary="Make an account"
)
async def make_account(gateway: Parts, _: Admin, body: AccountBody, key: IdempotencyKey) -> Response:
    """An account that several users pay from."""
    is_keyed = body.id is None and key is not None
    account_id = AccountId(f"team_{fingerprint('account', key)[:26]}" if is_keyed else body.id or "")
    try:
        account = await create_team(
            gateway.app,
            name=body.name,
            members=frozenset(UserId(member) for member in body.members),
            account_id=account_id or None,
        )
    except WrongState as error:
        raise (IdempotencyConflict() if is_keyed else error) from error
    return json_response(account_body(account), 201)


@router.put(
    "/accounts/{account}/members/{user}", responses={200: {"model": AccountAnswer}}, summary="Add a member"
)
async def add_member(gateway: Parts, _: Admin, account: InPath, user: InPath) -> Response:
    return json_response(
        account_body(await set_member(gateway.app, AccountId(account), UserId(user), is_member=True))
    )


@router.delete(
    "/accounts/{account}/members/{user}", responses={200: {"model": AccountAnswer}}, summary="Remove a member"
)
async def remove_member(gateway: Parts, _: Admin, account: InPath, user: InPath) -> Response:
    return json_response(
        account_body(await set_member(gateway.app, AccountId(account), UserId(user), is_member=False))
    )


@router.get("/jobs", responses={200: {"model": JobPage}}, summary="Everybody's jobs, newest first")
async def list_all_jobs(
    gateway: Parts,
    _: Admin,
    user: Annotated[AccountIdText | None, Query()] = None,
    account: Annotated[AccountIdText | None, Query()] = None,
    kind: Kinds = None,
    status: Statuses = None,
    limit: Limit = 20,
    after: After = None,
) -> Response:
    """Without `user`, internal and deleted jobs are listed too."""
    wanted = JobFilter(
        user_id=UserId(user) if user else None,
        account_id=AccountId(account) if account else None,
        kinds=chosen("kind", kind, VISIBLE_KINDS | INTERNAL_KINDS),
        statuses=frozenset(Status(name) for name in chosen("status", status, frozenset(Status))),
    )
    page = await gateway.app.store.jobs(wanted, limit=limit, after=after)
    return json_response(page_body(page, lambda job: job_body(gateway, job)))


@router.get("/stats", summary="How many jobs of which kind are where")
async def show_stats(gateway: Parts, _: Admin) -> Response:
    return json_response(await stats(gateway.app))


@router.get("/audit", summary="Do the books balance?")
async def run_audit(gateway: Parts, _: Admin) -> Response:
    report = await audit(gateway.app)
    return json_response(
        {
            "balanced": report.is_clean,
            "accounts": report.accounts,
            "jobs": report.jobs,
            "statuses": report.statuses,
            "findings": [
                {"subject": finding.subject, "problem": finding.problem} for finding in report.findings
            ],
        }
    )
