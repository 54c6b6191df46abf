"""Accounts and entries: the sum, never below zero, and only for members."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.errors import Forbidden, InsufficientTokens
from shared.domain.ids import AccountId, EntryId
from shared.domain.ledger import Account, Entry, Reason, opened, own_account, posted, require_member
from tests.support import ADA, BOB, NOON, an_account


def a_line(tokens: int, account: str = ADA) -> Entry:
    return Entry(
        id=EntryId("e"), account_id=AccountId(account), tokens=tokens, reason=Reason.GRANT, created_at=NOON
    )


def test_a_users_own_account_opens_with_its_signup_tokens_and_the_entry_that_says_so() -> None:
    account, entry = opened(ADA, signup_tokens=100, now=NOON)
    assert account == Account(id=own_account(ADA), balance=100, members=frozenset({ADA}), created_at=NOON)
    assert (entry.id, entry.account_id, entry.tokens, entry.reason) == (
        "ada:signup",
        "ada",
        100,
        Reason.SIGNUP,
    )


@given(start=st.integers(0, 1000), moves=st.lists(st.integers(-500, 500)))
def test_a_balance_is_the_sum_of_what_was_posted_and_never_negative(start: int, moves: list[int]) -> None:
    account, accepted = an_account(balance=start), [start]
    for tokens in moves:
        try:
            account = posted(account, a_line(tokens))
        except InsufficientTokens:
            assert sum(accepted) + tokens < 0
        else:
            accepted.append(tokens)
        assert account.balance == sum(accepted) >= 0


def test_who_cannot_pay_is_told_what_is_needed_and_what_is_there() -> None:
    with pytest.raises(InsufficientTokens) as caught:
        posted(an_account(balance=3), a_line(-4))
    assert (caught.value.needed_tokens, caught.value.available_tokens) == (4, 3)
    assert posted(an_account(balance=4), a_line(-4)).balance == 0


def test_an_entry_is_posted_to_its_own_account_only() -> None:
    with pytest.raises(AssertionError):
        posted(an_account(ADA), a_line(1, account=BOB))


def test_members_may_spend_and_nobody_else_learns_whether_the_account_exists() -> None:
    account = an_account(ADA)
    assert require_member(account, account.id, ADA) is account
    messages = set()
    for found in (account, None):
        with pytest.raises(Forbidden) as caught:
            require_member(found, account.id, BOB)
        messages.add((caught.value.message, caught.value.param))
    assert len(messages) == 1
