"""Users of an app that signs them in with Firebase: who they are, and that nobody else is anybody."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.adapters.auth.firebase import FIREBASE_KEYS, FirebaseTokens
from shared.adapters.auth.signed import LEEWAY_SECONDS
from shared.adapters.auth.tokens import ApiKeys
from shared.domain.errors import AuthUnavailable, Unauthenticated
from shared.domain.ids import UserId, is_account_id
from shared.ports.auth import Caller
from shared.usecases.keys import create_key
from tests.properties.budgets import budget
from tests.support import ManualClock, make_world
from tests.tokens import (
    DOWN,
    FIREBASE_CLAIMS,
    JWKS_URL,
    NOW,
    PROJECT,
    PUSH_CLAIMS,
    Issuer,
    rsa_key,
    signed,
    unsigned,
)

MISSING = "(missing)"
UID = FIREBASE_CLAIMS["sub"]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer("one")


@asynccontextmanager
async def firebase_of(issuer: Issuer, clock: ManualClock) -> AsyncIterator[FirebaseTokens]:
    async with (
        issuer.client() as client,
        FirebaseTokens.open(PROJECT, clock=clock, keys_url=JWKS_URL, client=client) as firebase,
    ):
        yield firebase


@pytest.fixture
async def firebase(issuer: Issuer, clock: ManualClock) -> AsyncIterator[FirebaseTokens]:
    async with firebase_of(issuer, clock) as firebase:
        yield firebase


@pytest.fixture
async def emulated(clock: ManualClock) -> AsyncIterator[FirebaseTokens]:
    async with FirebaseTokens.open(PROJECT, clock=clock, emulator=True) as emulated:
        yield emulated


def claims_with(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**FIREBASE_CLAIMS, **changes}.items() if value is not MISSING}


async def test_a_user_is_who_firebase_says(firebase: FirebaseTokens, issuer: Issuer) -> None:
    for _ in range(3):
        caller = await firebase.authenticate(signed(FIREBASE_CLAIMS))
        assert caller == Caller(user_id=UserId(UID), scopes=frozenset({"user"}))
    assert issuer.fetches == 1


@pytest.mark.parametrize("uid", ["a", "Ada.Lovelace@example.org", "user_1", "x" * 128, "0" * 28])
async def test_an_app_may_name_its_users_itself(firebase: FirebaseTokens, uid: str) -> None:
    assert (await firebase.authenticate(signed(claims_with(sub=uid)))).user_id == uid


@pytest.mark.parametrize(
    "uid", ["", "x" * 129, "auth0|123", "a/b", "..", "line:U1", "zoë", "a b", "a\n", "\0"]
)
async def test_a_user_whose_id_we_cannot_hold_is_told_so(firebase: FirebaseTokens, uid: str) -> None:
    with pytest.raises(Unauthenticated, match="this user's id cannot be used here"):
        await firebase.authenticate(signed(claims_with(sub=uid)))


async def test_the_custom_claim_admin_makes_an_admin(firebase: FirebaseTokens) -> None:
    caller = await firebase.authenticate(signed(claims_with(admin=True)))
    assert caller.is_admin
    assert caller.scopes == {"user", "admin"}


@pytest.mark.parametrize("admin", [False, None, 1, "true", [True], {"admin": True}])
async def test_an_app_may_mean_something_else_by_admin(firebase: FirebaseTokens, admin: object) -> None:
    caller = await firebase.authenticate(signed(claims_with(admin=admin)))
    assert caller.scopes == {"user"}


@pytest.mark.parametrize(
    "claims",
    [{"sub": "admin"}, {"scopes": ["admin"]}, {"firebase": {"admin": True}}, {"claims": {"admin": True}}],
    ids=str,
)
async def test_nothing_else_makes_an_admin(firebase: FirebaseTokens, claims: dict[str, Any]) -> None:
    assert not (await firebase.authenticate(signed(claims_with(**claims)))).is_admin


async def test_a_user_may_have_signed_in_long_ago(firebase: FirebaseTokens) -> None:
    await firebase.authenticate(signed(claims_with(auth_time=NOW - 10**8)))


WRONG_CLAIMS: list[dict[str, Any]] = [
    {"aud": "my-other-app"},
    {"aud": [PROJECT]},
    {"aud": PROJECT.upper()},
    {"iss": "https://securetoken.google.com/my-other-app"},
    {"iss": f"https://securetoken.google.com/{PROJECT}/"},
    {"iss": f"https://session.firebase.google.com/{PROJECT}"},
    {"iss": "https://accounts.google.com"},
    {"aud": "my-other-app", "iss": "https://securetoken.google.com/my-other-app"},
    {"sub": 1},
    {"sub": [UID]},
    {"exp": f"{NOW + 60}"},
    {"exp": NOW + 0.5},
    {"iat": NOW + LEEWAY_SECONDS + 1},
    {"iat": 10**400},
    {"auth_time": NOW + LEEWAY_SECONDS + 1},
    {"auth_time": 10**30},
    {"auth_time": "yesterday"},
    {"nbf": NOW + LEEWAY_SECONDS + 1},
    *({name: MISSING} for name in ("iss", "aud", "sub", "exp", "iat", "auth_time")),
    *({name: None} for name in ("iss", "aud", "sub", "exp", "iat", "auth_time")),
]


@pytest.mark.parametrize("changes", WRONG_CLAIMS, ids=lambda changes: str(changes)[:60])
async def test_other_tokens_that_google_signs_are_nobodys(
    firebase: FirebaseTokens, emulated: FirebaseTokens, changes: dict[str, Any]
) -> None:
    for tokens, token in (
        (firebase, signed(claims_with(**changes))),
        (emulated, unsigned(claims_with(**changes))),
    ):
        with pytest.raises(Unauthenticated, match="not a good Firebase ID token of this app"):
            await tokens.authenticate(token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        "dev-ada",
        signed(PUSH_CLAIMS),
        signed(FIREBASE_CLAIMS, kid="mine"),
        signed(FIREBASE_CLAIMS, kid="one", key=rsa_key("mine")),
        signed("null"),
        unsigned(FIREBASE_CLAIMS),
        unsigned(FIREBASE_CLAIMS, header={"alg": "none", "kid": "one"}),
        unsigned(FIREBASE_CLAIMS, header={"alg": "RS256", "kid": "one"}),
        unsigned(
            FIREBASE_CLAIMS, header={"alg": "RS256", "kid": "one"}, signature="SIGNATURE_REMOVED_BY_GOOGLE"
        ),
        "x" * 10_000_000,
    ],
    ids=lambda token: "forged",  # not the token: it is another one in every process
)
async def test_forgers_are_nobody(firebase: FirebaseTokens, token: str) -> None:
    with pytest.raises(Unauthenticated, match="not a good Firebase ID token of this app"):
        await firebase.authenticate(token)


async def test_who_comes_with_an_old_token_is_told_to_get_a_new_one(
    firebase: FirebaseTokens, clock: ManualClock
) -> None:
    token = signed(FIREBASE_CLAIMS)
    clock.advance(seconds=3_600 + LEEWAY_SECONDS - 1)
    await firebase.authenticate(token)
    clock.advance(seconds=1)
    with pytest.raises(Unauthenticated, match="the token has expired"):
        await firebase.authenticate(token)


async def test_nobody_learns_when_a_token_that_is_not_ours_expires(firebase: FirebaseTokens) -> None:
    for token in (
        signed(claims_with(aud="my-other-app", exp=NOW - 100)),
        signed(claims_with(exp=NOW - 100), kid="one", key=rsa_key("mine")),
    ):
        with pytest.raises(Unauthenticated, match="not a good Firebase ID token"):
            await firebase.authenticate(token)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    changes=st.dictionaries(
        st.sampled_from([*sorted(FIREBASE_CLAIMS), "admin"]) | st.text(), json_values, max_size=4
    )
)
@budget(examples=150)
async def test_whatever_stands_in_signed_claims_is_a_user_or_nobody(changes: dict[str, Any]) -> None:
    claims = {**FIREBASE_CLAIMS, **changes}
    async with firebase_of(Issuer("one"), ManualClock()) as firebase:
        try:
            caller = await firebase.authenticate(signed(claims))
        except Unauthenticated:
            return
    assert caller.user_id == claims["sub"]
    assert is_account_id(caller.user_id)
    assert caller.is_admin == (claims.get("admin") is True)
    assert claims["aud"] == PROJECT


async def test_without_firebases_keys_nobody_can_be_judged(
    firebase: FirebaseTokens, issuer: Issuer, clock: ManualClock
) -> None:
    issuer.answer = DOWN
    with pytest.raises(AuthUnavailable):
        await firebase.authenticate(signed(FIREBASE_CLAIMS))
    with pytest.raises(AuthUnavailable):
        await firebase.check()
    issuer.answer = None
    clock.advance(seconds=60)
    await firebase.check()
    await firebase.authenticate(signed(FIREBASE_CLAIMS))


async def test_the_emulators_users_are_believed_where_that_was_asked_for(emulated: FirebaseTokens) -> None:
    await emulated.check()
    caller = await emulated.authenticate(unsigned(claims_with(sub="ada", admin=True)))
    assert caller == Caller(user_id=UserId("ada"), scopes=frozenset({"user", "admin"}))


@pytest.mark.parametrize(
    "token",
    [
        signed(FIREBASE_CLAIMS),
        unsigned(FIREBASE_CLAIMS, signature="AAAA"),
        unsigned(FIREBASE_CLAIMS, header={"alg": "RS256"}),
        unsigned(claims_with(exp=NOW - 100)),
        unsigned("{"),
        "nonsense",
    ],
    ids=["signed", "sealed", "algorithm", "old", "broken", "nonsense"],
)
async def test_the_emulator_gives_no_other_tokens(emulated: FirebaseTokens, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await emulated.authenticate(token)


async def test_api_keys_and_firebases_users_come_in_by_one_door(firebase: FirebaseTokens) -> None:
    world = make_world()
    _, secret = await create_key(world.app, user=UserId("carol"), name="x", scopes=frozenset({"user"}))
    door = ApiKeys(world.store, others=firebase)
    assert (await door.authenticate(secret)).user_id == "carol"
    assert (await door.authenticate(signed(FIREBASE_CLAIMS))).user_id == UID
    for token in ("dev-ada", secret[:-1], unsigned(FIREBASE_CLAIMS)):
        with pytest.raises(Unauthenticated):
            await door.authenticate(token)


@pytest.mark.parametrize(
    "project", ["", "My App", "123456789012", "https://my-app.web.app", "my-app\n", "x" * 200]
)
async def test_a_project_that_cannot_be_is_told_at_start(clock: ManualClock, project: str) -> None:
    for emulator in (False, True):
        with pytest.raises(AuthUnavailable, match="must be the id of a Firebase project") as raised:
            async with FirebaseTokens.open(project, clock=clock, emulator=emulator):
                pass
        assert "\n" not in raised.value.message
        assert raised.value.param == "project"


@pytest.mark.parametrize("project", ["my-app-1a2b3", "demo-mediaforge", "example.com:my-app"])
async def test_projects_are_named_in_more_than_one_way(clock: ManualClock, project: str) -> None:
    async with FirebaseTokens.open(project, clock=clock, emulator=True):
        pass


async def test_by_default_the_keys_are_firebases(clock: ManualClock) -> None:
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(404)

    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client,
        FirebaseTokens.open(PROJECT, clock=clock, client=client) as firebase,
    ):
        with pytest.raises(AuthUnavailable):
            await firebase.check()
    assert asked == [FIREBASE_KEYS]
