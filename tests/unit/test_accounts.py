"""Accounts: opened once, granted once per key, shared by teams, and never below zero."""

from collections.abc import Sequence

import pytest

from shared.domain.changes import account_key
from shared.domain.errors import (
    Forbidden,
    IdempotencyConflict,
    InsufficientTokens,
    InvalidRequest,
    NotFound,
    WrongState,
)
from shared.domain.ids import AccountId
from shared.domain.ledger import Account, Entry, Reason
from shared.usecases.accounts import (
    create_team,
    get_account,
    grant,
    held_tokens,
    ledger,
    open_account,
    set_member,
)
from tests.support import ADA, BOB, UnsteadyStore, World, make_world

HERS, TEAM = AccountId(ADA), AccountId("team_1")


async def entries(world: World, account: AccountId = HERS) -> Sequence[Entry]:
    return (await world.store.entries(account, limit=100)).data


async def balance(world: World, account: AccountId = HERS) -> int:
    return (await get_account(world.app, account)).balance


async def is_open(world: World, account: AccountId = HERS) -> bool:
    return (await world.store.load([account_key(account)])).find(account_key(account)) is not None


async def test_ones_own_account_opens_at_first_use_with_its_signup_tokens() -> None:
    world = make_world(signup_tokens=7)
    account = await open_account(world.app, ADA, None)
    assert (account.id, account.balance, account.members) == (HERS, 7, frozenset({ADA}))
    world.clock.advance(minutes=1)
    assert await open_account(world.app, ADA, HERS) == account
    assert [(e.id, e.tokens, e.reason) for e in await entries(world)] == [("ada:signup", 7, Reason.SIGNUP)]


async def test_an_account_whose_opening_was_of_unknown_result_is_opened_once() -> None:
    store = UnsteadyStore()
    store.decides_again = True
    world = make_world(store=store, signup_tokens=7)
    assert (await open_account(world.app, ADA, None)).balance == 7
    assert len(await entries(world)) == 1


async def test_nobody_opens_or_sees_the_account_of_somebody_else() -> None:
    world = make_world()
    for account in (AccountId(BOB), AccountId("nobody")):
        with pytest.raises(Forbidden):
            await open_account(world.app, ADA, account)
        with pytest.raises(Forbidden):
            await ledger(world.app, ADA, account, limit=10, after=None)
        assert not await is_open(world, account)


async def test_an_account_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound):
        await get_account(make_world().app, HERS)


async def test_the_ledger_is_shown_to_members_page_by_page() -> None:
    world = make_world()
    for _ in range(3):
        world.clock.advance(seconds=1)
        await world.submit()
    first = await ledger(world.app, ADA, None, limit=2, after=None)
    rest = await ledger(world.app, ADA, None, limit=5, after=first.next)
    assert [e.tokens for e in [*first.data, *rest.data]] == [-1, -1, -1, 100]
    assert rest.next is None


async def test_what_unfinished_jobs_cost_is_held() -> None:
    world = make_world()
    done, _ = await world.submit(count=2), await world.submit(count=3)
    await world.submit(user=BOB)
    assert await held_tokens(world.app, HERS) == 5
    await world.deliver(done)
    assert await held_tokens(world.app, HERS) == 3


# --- grants


async def test_a_grant_opens_the_account_if_need_be_and_adds_to_it() -> None:
    world = make_world(signup_tokens=10)
    entry, is_replay = await grant(world.app, HERS, 5, note="welcome")
    assert (entry.tokens, entry.reason, entry.note, is_replay) == (5, Reason.GRANT, "welcome", False)
    assert await balance(world) == 15
    await grant(world.app, HERS, 5, note=None)
    assert await balance(world) == 20
    assert sorted(e.tokens for e in await entries(world)) == [5, 5, 10]


async def test_a_grant_with_a_key_counts_once() -> None:
    world = make_world(signup_tokens=0)
    first, was_replay = await grant(world.app, HERS, 5, note="n", idempotency_key="k")
    world.clock.advance(seconds=1)
    second, is_replay = await grant(world.app, HERS, 5, note="n", idempotency_key="k")
    assert (first, was_replay, is_replay) == (second, False, True)
    assert await balance(world) == 5


@pytest.mark.parametrize(("tokens", "note"), [(6, "n"), (5, "another"), (5, None)])
async def test_a_key_for_another_grant_is_a_conflict(tokens: int, note: str | None) -> None:
    world = make_world(signup_tokens=0)
    await grant(world.app, HERS, 5, note="n", idempotency_key="k")
    with pytest.raises(IdempotencyConflict):
        await grant(world.app, HERS, tokens, note=note, idempotency_key="k")
    assert await balance(world) == 5


async def test_tokens_can_be_taken_away_but_never_below_zero() -> None:
    world = make_world(signup_tokens=10)
    await grant(world.app, HERS, -10, note=None)
    assert await balance(world) == 0
    with pytest.raises(InsufficientTokens):
        await grant(world.app, HERS, -1, note=None)
    assert len(await entries(world)) == 2


async def test_a_grant_that_would_open_an_account_in_debt_opens_none() -> None:
    world = make_world(signup_tokens=10)
    with pytest.raises(InsufficientTokens):
        await grant(world.app, HERS, -11, note=None)
    assert not await is_open(world)
    assert await entries(world) == []


@pytest.mark.parametrize("account", ["", "a b", "../x", "a/b", "x" * 129])
async def test_what_is_no_account_is_granted_nothing(account: str) -> None:
    world = make_world()
    with pytest.raises(InvalidRequest):
        await grant(world.app, AccountId(account), 5, note=None)
    assert await entries(world, AccountId(account)) == []


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_grant_of_unknown_result_counts_once(key: str | None) -> None:
    store = UnsteadyStore()
    store.decides_again = True
    world = make_world(store=store, signup_tokens=0)
    entry, is_replay = await grant(world.app, HERS, 5, note=None, idempotency_key=key)
    assert (entry.tokens, is_replay, await balance(world)) == (5, False, 5)


# --- teams


async def test_a_team_begins_empty_and_its_members_may_spend() -> None:
    world = make_world()
    team = await create_team(world.app, name="Foxes", members=frozenset({ADA}))
    assert (team.name, team.balance, team.members) == ("Foxes", 0, frozenset({ADA}))
    assert team.id.startswith("team_")
    assert await open_account(world.app, ADA, team.id) == team
    with pytest.raises(Forbidden):
        await open_account(world.app, BOB, team.id)


async def test_making_the_same_team_again_finds_it_and_another_of_its_name_is_a_conflict() -> None:
    world = make_world()

    async def make(name: str, *members: str) -> Account:
        users = frozenset(user for user in (ADA, BOB) if user in members)
        return await create_team(world.app, name=name, members=users, account_id=TEAM)

    team = await make("Foxes", ADA)
    world.clock.advance(seconds=1)
    assert await make("Foxes", ADA) == team
    for name, members in (("Hounds", [ADA]), ("Foxes", [ADA, BOB])):
        with pytest.raises(WrongState):
            await make(name, *members)


async def test_members_come_and_go_and_repeating_it_changes_nothing() -> None:
    world = make_world()
    await create_team(world.app, name=None, members=frozenset({ADA}), account_id=TEAM)
    for _ in range(2):
        assert (await set_member(world.app, TEAM, BOB, is_member=True)).members == {ADA, BOB}
    await open_account(world.app, BOB, TEAM)
    for _ in range(2):
        assert (await set_member(world.app, TEAM, BOB, is_member=False)).members == {ADA}
    with pytest.raises(Forbidden):
        await open_account(world.app, BOB, TEAM)


async def test_nobody_can_be_removed_from_their_own_account_or_added_to_none() -> None:
    world = make_world()
    await open_account(world.app, ADA, None)
    with pytest.raises(InvalidRequest):
        await set_member(world.app, HERS, ADA, is_member=False)
    assert (await set_member(world.app, HERS, BOB, is_member=True)).members == {ADA, BOB}
    with pytest.raises(NotFound):
        await set_member(world.app, TEAM, ADA, is_member=True)
