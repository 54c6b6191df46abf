"""Money: what an account has, and every line of how it came to that."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response

from services.api_gateway.dependencies import After, Limit, Parts, User
from services.api_gateway.render import entry_body, json_response, page_body
from services.api_gateway.schemas import AccountIdText, BalanceAnswer, EntryPage, ErrorAnswer
from shared.domain.ids import AccountId
from shared.usecases.accounts import held_tokens, ledger, open_account

router = APIRouter(prefix="/v1", tags=["ledger"])

Account = Annotated[AccountIdText | None, Query(description="An account of yours; your own by default.")]
_REFUSED: Final[dict[int | str, dict[str, Any]]] = {403: {"model": ErrorAnswer}}


@router.get("/balance", responses=_REFUSED | {200: {"model": BalanceAnswer}}, summary="What can be spent")
async def show_balance(gateway: Parts, caller: User, account: Account = None) -> Response:
    paying = await open_account(gateway.app, caller.user_id, AccountId(account) if account else None)
    held = await held_tokens(gateway.app, paying.id)
    return json_response({"account": paying.id, "balance": paying.balance, "held": held})


@router.get("/ledger", responses=_REFUSED | {200: {"model": EntryPage}}, summary="Every entry, newest first")
async def show_ledger(
    gateway: Parts, caller: User, account: Account = None, limit: Limit = 20, after: After = None
) -> Response:
    account_id = AccountId(account) if account else None
    page = await ledger(gateway.app, caller.user_id, account_id, limit=limit, after=after)
    return json_response(page_body(page, entry_body))
