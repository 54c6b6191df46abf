"""Accounts and their entries: an account's balance is the sum of its entries and never negative."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from shared.domain.errors import Forbidden, InsufficientTokens
from shared.domain.ids import AccountId, EntryId, JobId, UserId, signup_entry_id


class Reason(StrEnum):
    GRANT = "grant"
    SIGNUP = "signup"
    DEBIT = "debit"
    REFUND = "refund"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Who pays. `balance` can be spent now; tokens of unfinished jobs have already left it."""

    id: AccountId
    balance: int
    members: frozenset[UserId]
    created_at: datetime
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One immutable line of an account's ledger."""

    id: EntryId
    account_id: AccountId
    tokens: int
    """Signed: a debit is negative."""
    reason: Reason
    created_at: datetime
    job_id: JobId | None = None
    request_hash: str | None = None
    """Of the request that an idempotency key stands for."""
    note: str | None = None


def own_account(user: UserId) -> AccountId:
    """Every user has an account of the same name, opened at first use."""
    return AccountId(user)


def opened(user: UserId, *, signup_tokens: int, now: datetime) -> tuple[Account, Entry]:
    """A user's own account as it begins, and the entry that says so."""
    account = own_account(user)
    return (
        Account(id=account, balance=signup_tokens, members=frozenset({user}), created_at=now),
        Entry(
            id=signup_entry_id(account),
            account_id=account,
            tokens=signup_tokens,
            reason=Reason.SIGNUP,
            created_at=now,
        ),
    )


def posted(account: Account, entry: Entry) -> Account:
    """The account after the entry; `InsufficientTokens` rather than a balance below zero."""
    assert entry.account_id == account.id
    balance = account.balance + entry.tokens
    if balance < 0:
        raise InsufficientTokens(account.id, needed_tokens=-entry.tokens, available_tokens=account.balance)
    return replace(account, balance=balance)


def require_member(account: Account | None, account_id: AccountId, user: UserId) -> Account:
    """The account, if the user may spend from it; whether it exists is told to members only."""
    if account is None or user not in account.members:
        raise Forbidden(f"you are not a member of account {account_id}", param="account")
    return account
