"""Accounts: opened at first use, granted tokens, shared by teams."""

from collections.abc import Sequence
from dataclasses import replace

from shared.domain.changes import AnyKey, Create, Put, Records, Write, account_key, entry_key
from shared.domain.errors import IdempotencyConflict, InvalidRequest, NotFound, WrongState
from shared.domain.ids import (
    NOISE_BYTES,
    AccountId,
    EntryId,
    UserId,
    is_account_id,
    keyed_entry_id,
    sortable_id,
)
from shared.domain.job import UNFINISHED
from shared.domain.ledger import Account, Entry, Reason, opened, own_account, posted, require_member
from shared.ports.store import JobFilter, Page
from shared.usecases.app import App
from shared.usecases.fingerprint import fingerprint


async def open_account(app: App, user: UserId, account_id: AccountId | None) -> Account:
    """The account that the user names, or their own, opened if this is its first use. Raises `Forbidden`."""
    wanted = account_id or own_account(user)
    key = account_key(wanted)
    account = (await app.store.load([key])).find(key)
    if account is None and wanted == own_account(user):
        account = await _opened(app, user)
    return require_member(account, wanted, user)


async def get_account(app: App, account_id: AccountId) -> Account:
    """Raises `NotFound`."""
    return (await app.store.load([account_key(account_id)])).need(account_key(account_id))


async def _opened(app: App, user: UserId) -> Account:
    key = account_key(own_account(user))
    account, signup = opened(user, signup_tokens=app.signup_tokens, now=app.clock.now())

    def decide(records: Records) -> Sequence[Write]:
        return [] if records.find(key) is not None else [Create(account), Create(signup)]

    return (await app.store.change([key], decide)).need(key)


async def held_tokens(app: App, account: AccountId) -> int:
    """What the account's unfinished jobs have debited and might give back."""
    return (await app.store.count(JobFilter(account_id=account, statuses=UNFINISHED))).tokens


async def ledger(
    app: App, user: UserId, account_id: AccountId | None, *, limit: int, after: str | None
) -> Page[Entry]:
    account = await open_account(app, user, account_id)
    return await app.store.entries(account.id, limit=limit, after=after)


async def grant(
    app: App, account_id: AccountId, tokens: int, *, note: str | None, idempotency_key: str | None = None
) -> tuple[Entry, bool]:
    """Give tokens to an account or take them away; the entry, and whether an earlier call made it.

    A user's own account is opened if need be. Raises `InsufficientTokens` rather than a balance below
    zero, `InvalidRequest` for no account's name, and `IdempotencyConflict`.
    """
    if not is_account_id(account_id):
        raise InvalidRequest("that is not an account's id", param="account")
    now = app.clock.now()
    entry = Entry(
        id=keyed_entry_id(account_id, idempotency_key)
        if idempotency_key is not None
        else EntryId(sortable_id("grant", now, app.noise(NOISE_BYTES))),
        account_id=account_id,
        tokens=tokens,
        reason=Reason.GRANT,
        created_at=now,
        request_hash=fingerprint("grant", account_id, tokens, note),
        note=note,
    )
    keys: list[AnyKey] = [account_key(account_id), entry_key(account_id, entry.id)]

    def decide(records: Records) -> Sequence[Write]:
        standing = records.find(entry_key(account_id, entry.id))
        if standing is not None:
            if standing.request_hash != entry.request_hash:
                raise IdempotencyConflict
            return []
        account = records.find(account_key(account_id))
        if account is not None:
            return [Put(posted(account, entry)), Create(entry)]
        account, signup = opened(UserId(account_id), signup_tokens=app.signup_tokens, now=now)
        return [Create(posted(account, entry)), Create(signup), Create(entry)]

    standing = (await app.store.change(keys, decide)).need(entry_key(account_id, entry.id))
    return standing, standing.created_at != now


async def create_team(
    app: App, *, name: str | None, members: frozenset[UserId], account_id: AccountId | None = None
) -> Account:
    """An account that several users pay from; the same call again finds it standing."""
    wanted = account_id or AccountId(sortable_id("team", app.clock.now(), app.noise(NOISE_BYTES)))
    team = Account(id=wanted, balance=0, members=members, created_at=app.clock.now(), name=name)

    def decide(records: Records) -> Sequence[Write]:
        return [] if records.find(account_key(wanted)) is not None else [Create(team)]

    standing = (await app.store.change([account_key(wanted)], decide)).need(account_key(wanted))
    if (standing.name, standing.members) != (name, members):
        raise WrongState(f"there is an account {wanted} already, with another name or other members")
    return standing


async def set_member(app: App, account_id: AccountId, user: UserId, *, is_member: bool) -> Account:
    """Add a user to an account or remove them; repeatable. A user's own account always keeps its user."""
    key = account_key(account_id)
    if not is_member and account_id == own_account(user):
        raise InvalidRequest("a user cannot be removed from their own account", param="user")

    def decide(records: Records) -> Sequence[Write]:
        account = records.find(key)
        if account is None:
            raise NotFound(f"there is no account {account_id}")
        members = account.members | {user} if is_member else account.members - {user}
        return [Put(replace(account, members=members))] if members != account.members else []

    return (await app.store.change([key], decide)).need(key)
