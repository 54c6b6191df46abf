"""What every authenticator promises: a good token is its user with their scopes, any other text is nobody."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import pytest

from shared.adapters.auth.firebase import FirebaseTokens
from shared.adapters.auth.tokens import ApiKeys, DevTokens, NoTokens
from shared.domain.errors import Unauthenticated
from shared.domain.ids import UserId
from shared.domain.keys import SCOPES
from shared.ports.auth import Authenticator, Caller
from shared.usecases.keys import create_key
from tests.support import ManualClock, make_world
from tests.tokens import FIREBASE_CLAIMS, JWKS_URL, PROJECT, Issuer, signed, unsigned

USER: Final = frozenset({"user"})
BOB: Final = Caller(user_id=UserId("bob"), scopes=USER)
ROOT: Final = Caller(user_id=UserId("admin"), scopes=SCOPES)


@dataclass(frozen=True)
class Door:
    authenticator: Authenticator
    bob: str
    admin: str


@asynccontextmanager
async def dev_tokens() -> AsyncIterator[Door]:
    yield Door(DevTokens(), bob="dev-bob", admin="dev-admin")


async def with_keys(others: Authenticator) -> Door:
    world = make_world()
    _, bob = await create_key(world.app, user=BOB.user_id, name="phone", scopes=USER)
    _, admin = await create_key(world.app, user=ROOT.user_id, name="ops", scopes=SCOPES)
    return Door(ApiKeys(world.store, others), bob, admin)


@asynccontextmanager
async def api_keys() -> AsyncIterator[Door]:
    yield await with_keys(NoTokens())


@asynccontextmanager
async def firebase(*, emulator: bool = False) -> AsyncIterator[Door]:
    token = unsigned if emulator else signed
    async with (
        Issuer("one").client() as client,
        FirebaseTokens.open(
            PROJECT, clock=ManualClock(), emulator=emulator, keys_url=JWKS_URL, client=client
        ) as authenticator,
    ):
        yield Door(
            authenticator,
            bob=token({**FIREBASE_CLAIMS, "sub": "bob"}),
            admin=token({**FIREBASE_CLAIMS, "sub": "admin", "admin": True}),
        )


@asynccontextmanager
async def api_keys_before_firebase() -> AsyncIterator[Door]:
    async with firebase() as door:
        yield await with_keys(door.authenticator)


@asynccontextmanager
async def firebase_behind_api_keys() -> AsyncIterator[Door]:
    async with firebase() as door:
        both = await with_keys(door.authenticator)
        yield Door(both.authenticator, door.bob, door.admin)


DOORS: Final[dict[str, Callable[[], AbstractAsyncContextManager[Door]]]] = {
    "dev tokens": dev_tokens,
    "API keys": api_keys,
    "Firebase": firebase,
    "Firebase's emulator": lambda: firebase(emulator=True),
    "API keys before Firebase": api_keys_before_firebase,
    "Firebase behind API keys": firebase_behind_api_keys,
}


@pytest.fixture(params=DOORS)
async def door(request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    async with DOORS[request.param]() as door:
        yield door


async def test_a_token_is_its_user_however_often(door: Door) -> None:
    for _ in range(3):
        assert await door.authenticator.authenticate(door.bob) == BOB
        assert await door.authenticator.authenticate(door.admin) == ROOT


def hostile(door: Door) -> tuple[str, ...]:
    odd = ("", " ", ".", "..", "\0", "\xff", "\u20ac", "null", "mf_", "dev-", "mf_\xff\0", "eyJ.eyJ.", "bob")
    long = ("x" * 1_000_000, "." * 100_000, "mf_" + "x" * 100_000, "dev-" + "x" * 100_000)
    near = (
        door.bob[1:],
        f"{door.bob} ",
        f" {door.bob}",
        f"{door.bob}\n",
        f"Bearer {door.bob}",
        door.bob * 200,
    )
    return (*odd, *long, *near)


async def test_any_other_text_is_nobody(door: Door) -> None:
    for token in hostile(door):
        with pytest.raises(Unauthenticated):
            await door.authenticator.authenticate(token)
    assert await door.authenticator.authenticate(door.bob) == BOB


async def test_what_nobodies_are_told_is_short_and_does_not_repeat_their_token(door: Door) -> None:
    for token in hostile(door):
        with pytest.raises(Unauthenticated) as refused:
            await door.authenticator.authenticate(token)
        assert 0 < len(refused.value.message) < 200
        assert "\n" not in refused.value.message
        assert len(token) < 5 or token not in refused.value.message
