"""API keys: the secret is shown once, the store holds nothing that opens anything."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.changes import api_key_key
from shared.domain.errors import NotFound
from shared.domain.keys import PREFIX, ApiKey, digest_of, secret_from
from shared.usecases.keys import create_key, revoke_key
from tests.support import ADA, NOON, UnsteadyStore, World, make_world


async def a_key(world: World) -> tuple[ApiKey, str]:
    return await create_key(world.app, user=ADA, name="ci", scopes=frozenset({"user"}))


@given(st.binary(min_size=32, max_size=32))
def test_a_secret_holds_all_its_noise_and_its_digest_none_of_it(noise: bytes) -> None:
    secret = secret_from(noise)
    assert bytes.fromhex(secret.removeprefix(PREFIX)) == noise
    assert len(digest_of(secret)) == 64
    assert noise.hex() not in digest_of(secret)


async def test_a_key_is_found_by_the_digest_of_its_secret() -> None:
    world = make_world()
    key, secret = await a_key(world)
    assert secret.startswith("mf_")
    assert key == ApiKey(
        digest=digest_of(secret), name="ci", user_id=ADA, scopes=frozenset({"user"}), created_at=NOON
    )
    kept = (await world.store.load([api_key_key(key.digest)])).need(api_key_key(digest_of(secret)))
    assert kept == key
    assert secret.encode() not in msgspec.json.encode(kept)


async def test_every_key_is_another() -> None:
    world = make_world()
    secrets = {(await a_key(world))[1] for _ in range(3)}
    assert len(secrets) == 3
    assert len(await world.store.api_keys()) == 3


async def test_a_revoked_key_stays_on_the_list_and_revoking_it_again_changes_nothing() -> None:
    world = make_world()
    key, _ = await a_key(world)
    revoked = await revoke_key(world.app, key.digest)
    assert revoked.revoked_at == NOON
    world.clock.advance(minutes=1)
    assert await revoke_key(world.app, key.digest) == revoked
    assert list(await world.store.api_keys()) == [revoked]


async def test_a_key_that_is_not_there_cannot_be_revoked() -> None:
    with pytest.raises(NotFound):
        await revoke_key(make_world().app, "0" * 64)


async def test_a_key_whose_making_was_of_unknown_result_is_made_once() -> None:
    store = UnsteadyStore()
    store.decides_again = True
    world = make_world(store=store)
    key, _ = await a_key(world)
    assert (await revoke_key(world.app, key.digest)).revoked_at == NOON
    assert len(await world.store.api_keys()) == 1
