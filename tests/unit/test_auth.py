"""Tokens: whose they are, and that nothing else opens anything."""

from collections.abc import Sequence

import pytest

from shared.adapters.auth.shared_secret import SharedSecret
from shared.adapters.auth.tokens import ApiKeys, DevTokens, NoTokens
from shared.adapters.memory import MemoryStore
from shared.domain.changes import AnyKey, Records
from shared.domain.errors import NotFound, StoreUnavailable, Unauthenticated
from shared.domain.ids import UserId
from shared.domain.keys import digest_of
from shared.ports.auth import Caller
from shared.usecases.keys import create_key, revoke_key
from tests.support import World, make_world

USER = frozenset({"user"})
BOTH = frozenset({"user", "admin"})


@pytest.mark.parametrize("user", ["ada", "a", "Ada.Lovelace@example.org", "team_1", "x" * 128])
async def test_a_dev_token_is_the_user_that_it_names(user: str) -> None:
    assert await DevTokens().authenticate(f"dev-{user}") == Caller(user_id=UserId(user), scopes=USER)


async def test_the_dev_token_of_the_admin_has_both_scopes() -> None:
    caller = await DevTokens().authenticate("dev-admin")
    assert (caller.user_id, caller.scopes, caller.is_admin) == ("admin", BOTH, True)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "dev-",
        "dev",
        "ada",
        "Dev-ada",
        "dev-ada bob",
        "dev-a/b",
        "dev-..",
        "dev-ada\n",
        "dev-\0",
        "dev-" + "x" * 129,
    ],
)
async def test_other_dev_tokens_are_nobodys(token: str) -> None:
    with pytest.raises(Unauthenticated):
        await DevTokens().authenticate(token)


async def test_a_user_whose_name_begins_like_the_admins_is_no_admin() -> None:
    for name in ("administrator", "admin2", "Admin", "dev-admin"):
        assert not (await DevTokens().authenticate(f"dev-{name}")).is_admin


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.mark.parametrize("scopes", [USER, BOTH])
async def test_an_api_key_is_its_user_with_its_scopes(world: World, scopes: frozenset[str]) -> None:
    _, secret = await create_key(world.app, user=UserId("ada"), name="phone", scopes=scopes)
    keys = ApiKeys(world.store, NoTokens())
    assert await keys.authenticate(secret) == Caller(user_id=UserId("ada"), scopes=scopes)


async def test_a_revoked_key_opens_nothing_however_often_it_is_revoked(world: World) -> None:
    key, secret = await create_key(world.app, user=UserId("ada"), name="phone", scopes=USER)
    first = await revoke_key(world.app, key.digest)
    world.clock.advance(days=1)
    assert await revoke_key(world.app, key.digest) == first
    with pytest.raises(Unauthenticated):
        await ApiKeys(world.store, DevTokens()).authenticate(secret)


async def test_a_key_that_is_not_there_cannot_be_revoked(world: World) -> None:
    with pytest.raises(NotFound):
        await revoke_key(world.app, digest_of("mf_nothing"))


async def test_the_store_holds_nothing_that_opens_anything(world: World) -> None:
    key, secret = await create_key(world.app, user=UserId("ada"), name="phone", scopes=USER)
    [stored] = await world.store.api_keys()
    assert secret not in repr(stored)
    with pytest.raises(Unauthenticated):
        await ApiKeys(world.store, NoTokens()).authenticate(key.digest)


@pytest.mark.parametrize("token", ["mf_", "mf_" + "0" * 64, "mf_\xff\0", "mf_dev-ada", "mf_" + "x" * 100_000])
async def test_a_key_that_nobody_made_opens_nothing(world: World, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await ApiKeys(world.store, DevTokens()).authenticate(token)


async def test_tokens_that_are_no_api_keys_are_left_to_the_others(world: World) -> None:
    assert (await ApiKeys(world.store, DevTokens()).authenticate("dev-ada")).user_id == "ada"
    for token in ("dev-ada", "", "nonsense"):
        with pytest.raises(Unauthenticated):
            await ApiKeys(world.store, NoTokens()).authenticate(token)


async def test_a_key_cannot_be_judged_without_the_store() -> None:
    """Unavailable, not unauthenticated: the caller must not throw a good key away."""

    class Down(MemoryStore):
        async def load(self, keys: Sequence[AnyKey]) -> Records:
            raise StoreUnavailable("down")

    with pytest.raises(StoreUnavailable):
        await ApiKeys(Down(), NoTokens()).authenticate("mf_" + "0" * 64)


async def test_the_worker_lets_in_who_has_its_secret() -> None:
    verifier = SharedSecret("a secret")
    await verifier.verify("a secret")
    for token in ("", "a secre", "a secret ", "A secret", "\xff", "a" * 100_000):
        with pytest.raises(Unauthenticated):
            await verifier.verify(token)
