"""The issuer's public keys: fetched once, kept while they count, and found again when they are rotated."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from shared.adapters.auth import signing_keys
from shared.adapters.auth.signing_keys import (
    FRESH_AT_LEAST,
    FRESH_AT_MOST,
    KEPT_LONGER,
    MAX_BYTES,
    REFETCH_AFTER,
    RETRY_AFTER,
    SigningKeys,
)
from shared.domain.errors import AuthUnavailable
from tests.properties.budgets import budget
from tests.support import ManualClock
from tests.tokens import DOWN, JWKS_URL, Issuer, jwk_of, rsa_key

SIX_HOURS = timedelta(hours=6)
"""What the issuer says in `max-age`."""
A_MOMENT = timedelta(seconds=1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer("one")


@pytest.fixture
async def keys(issuer: Issuer, clock: ManualClock) -> AsyncIterator[SigningKeys]:
    async with issuer.client() as client, SigningKeys.open(JWKS_URL, clock=clock, client=client) as keys:
        yield keys


def pass_time(clock: ManualClock, time: timedelta) -> None:
    clock.advance(seconds=time.total_seconds())


async def has(keys: SigningKeys, kid: str) -> bool:
    return await keys.find(kid) is not None


async def settle() -> None:
    """Let what runs in the background come to its end."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_nothing_is_fetched_before_somebody_asks(keys: SigningKeys, issuer: Issuer) -> None:
    await settle()
    assert issuer.fetches == 0


async def test_a_key_is_the_one_that_the_issuer_serves(keys: SigningKeys) -> None:
    key = await keys.find("one")
    assert key is not None
    assert key.key.public_numbers() == rsa_key("one").public_key().public_numbers()
    assert key.algorithm_name == "RS256"


async def test_keys_are_fetched_once_as_long_as_they_are_fresh(
    keys: SigningKeys, issuer: Issuer, clock: ManualClock
) -> None:
    for _ in range(10):
        assert await has(keys, "one")
        pass_time(clock, SIX_HOURS / 10 - A_MOMENT)
    assert issuer.fetches == 1
    pass_time(clock, 10 * A_MOMENT)
    assert await has(keys, "one")
    assert issuer.fetches == 2


@pytest.mark.parametrize(
    ("headers", "fresh"),
    [
        ({"Cache-Control": "public, max-age=21600, must-revalidate"}, SIX_HOURS),
        ({"Cache-Control": "max-age=21600", "Age": "3600"}, timedelta(hours=5)),
        ({"Cache-Control": 'MAX-AGE = "21600"'}, SIX_HOURS),
        ({"Cache-Control": "max-age=0"}, FRESH_AT_LEAST),
        ({"Cache-Control": "max-age=21600", "Age": "999999"}, FRESH_AT_LEAST),
        ({"Cache-Control": "max-age=999999999"}, FRESH_AT_MOST),
        ({"Cache-Control": "s-max-age=21600"}, FRESH_AT_LEAST),
        ({"Cache-Control": "max-age=-21600"}, FRESH_AT_LEAST),
        ({"Cache-Control": "max-age=21600", "Age": "-5"}, SIX_HOURS),
        ({"Cache-Control": "no-store"}, FRESH_AT_LEAST),
        ({}, FRESH_AT_LEAST),
    ],
)
async def test_the_issuer_says_how_long_within_bounds(
    keys: SigningKeys, issuer: Issuer, clock: ManualClock, headers: dict[str, str], fresh: timedelta
) -> None:
    issuer.headers = headers
    await keys.find("one")
    pass_time(clock, fresh - A_MOMENT)
    await keys.find("one")
    assert issuer.fetches == 1
    pass_time(clock, A_MOMENT)
    await keys.find("one")
    assert issuer.fetches == 2


async def test_a_rotated_key_is_fetched_once(keys: SigningKeys, issuer: Issuer, clock: ManualClock) -> None:
    await keys.find("one")
    issuer.kids = ["two", "one"]
    pass_time(clock, REFETCH_AFTER)
    for _ in range(5):
        assert await has(keys, "two")
        assert await has(keys, "one")
    assert issuer.fetches == 2


async def test_a_key_that_was_taken_away_no_longer_counts(
    keys: SigningKeys, issuer: Issuer, clock: ManualClock
) -> None:
    await keys.find("one")
    issuer.kids = ["two"]
    pass_time(clock, SIX_HOURS)
    assert not await has(keys, "one")
    assert await has(keys, "two")


async def test_a_flood_of_forged_key_names_is_no_flood_of_fetches(
    keys: SigningKeys, issuer: Issuer, clock: ManualClock
) -> None:
    for second in range(100):
        for name in range(20):
            assert not await has(keys, f"forged-{second}-{name}")
        pass_time(clock, A_MOMENT)
    assert issuer.fetches == 1 + 99 // 30


async def test_all_who_ask_at_once_share_one_fetch(keys: SigningKeys, issuer: Issuer) -> None:
    issuer.open.clear()
    asking = [asyncio.create_task(keys.find(kid)) for kid in ["one"] * 50 + ["forged"] * 50]
    await settle()
    issuer.open.set()
    found = await asyncio.gather(*asking)
    assert [key is not None for key in found] == [True] * 50 + [False] * 50
    assert issuer.fetches == 1


async def test_who_gives_up_does_not_end_the_fetch_of_the_others(keys: SigningKeys, issuer: Issuer) -> None:
    issuer.open.clear()
    first, second = (asyncio.create_task(keys.find("one")) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    issuer.open.set()
    assert await second is not None
    assert first.cancelled()
    assert issuer.fetches == 1


async def test_known_keys_wait_for_nobody_who_names_an_unknown_one(
    keys: SigningKeys, issuer: Issuer, clock: ManualClock
) -> None:
    await keys.find("one")
    pass_time(clock, REFETCH_AFTER)
    issuer.open.clear()
    forger = asyncio.create_task(keys.find("forged"))
    await settle()
    assert await has(keys, "one")
    assert not forger.done()
    issuer.open.set()
    assert await forger is None


FAILURES: list[httpx.Response | Exception] = [
    DOWN,
    httpx.ReadTimeout(""),
    httpx.RemoteProtocolError("peer closed connection"),
    httpx.Response(500, json={"keys": [jwk_of("one")]}),
    httpx.Response(301, headers={"Location": "https://elsewhere.test"}),
    httpx.Response(204),
    httpx.Response(200, text="<html>Sign in to the Wi-Fi</html>"),
    httpx.Response(200, json={"keys": []}),
    httpx.Response(200, json={"keys": "one"}),
    httpx.Response(200, json={"keys": [1]}),
    httpx.Response(200, json=[jwk_of("one")]),
    httpx.Response(200, json={"keys": [jwk_of("one")], "more": "x" * MAX_BYTES}),
    httpx.Response(200, text='{"keys": [], "deep": ' + "[" * 50_000),
    httpx.Response(200, content=b'{"keys": [{"kid": "\xff"}]}'),
    httpx.Response(200, stream=httpx.ByteStream(b"not gzip"), headers={"Content-Encoding": "gzip"}),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: f"{failure!r}"[:60])
async def test_without_any_key_nobody_can_be_judged(
    keys: SigningKeys, issuer: Issuer, clock: ManualClock, failure: httpx.Response | Exception
) -> None:
    """Unavailable, not unauthenticated: the token may be good."""
    issuer.answer = failure
    with pytest.raises(AuthUnavailable) as raised:
        await keys.find("one")
    assert JWKS_URL in raised.value.message
    assert "\n" not in raised.value.message
    with pytest.raises(AuthUnavailable):
        await keys.check()

    issuer.answer = None
    pass_time(clock, RETRY_AFTER)
    assert await has(keys, "one")
    await keys.check()


async def test_an_issuer_in_trouble_is_not_asked_all_the_time(
    keys: SigningKeys, issuer: Issuer, clock: ManualClock
) -> None:
    issuer.answer = DOWN
    for _ in range(10):
        for _ in range(20):
            with pytest.raises(AuthUnavailable):
                await keys.find("one")
        pass_time(clock, A_MOMENT)
    assert issuer.fetches == 10 / RETRY_AFTER.total_seconds()


async def test_an_issuer_that_never_answers_is_given_up(
    keys: SigningKeys, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_keys, "FETCH_SECONDS", 0.01)
    issuer.open.clear()
    with pytest.raises(AuthUnavailable, match="TimeoutError"):
        await keys.find("one")


async def test_known_keys_go_on_for_a_while_when_the_issuer_does_not_answer(
    keys: SigningKeys, issuer: Issuer, clock: ManualClock
) -> None:
    await keys.find("one")
    issuer.answer = DOWN
    pass_time(clock, SIX_HOURS)
    assert await has(keys, "one")
    pass_time(clock, KEPT_LONGER - A_MOMENT)
    assert await has(keys, "one")
    await keys.check()
    pass_time(clock, A_MOMENT)
    for ask in (keys.find("one"), keys.check()):
        with pytest.raises(AuthUnavailable):
            await ask


async def test_only_the_first_waits_for_an_issuer_that_hangs(
    keys: SigningKeys, issuer: Issuer, clock: ManualClock
) -> None:
    await keys.find("one")
    pass_time(clock, SIX_HOURS)
    issuer.answer = DOWN
    await keys.find("one")

    issuer.open.clear()
    for _ in range(5):
        pass_time(clock, RETRY_AFTER)
        assert await has(keys, "one")
    await settle()
    issuer.answer = None
    issuer.open.set()
    await settle()
    pass_time(clock, SIX_HOURS - A_MOMENT)
    fetches = issuer.fetches
    assert await has(keys, "one")
    assert issuer.fetches == fetches == 3


async def test_an_unknown_key_may_be_a_new_one_while_the_issuer_does_not_answer(
    keys: SigningKeys, issuer: Issuer, clock: ManualClock
) -> None:
    await keys.find("one")
    issuer.kids, issuer.answer = ["one", "two"], DOWN
    pass_time(clock, REFETCH_AFTER)
    with pytest.raises(AuthUnavailable):
        await keys.find("two")
    assert await has(keys, "one")
    issuer.answer = None
    pass_time(clock, RETRY_AFTER)
    assert await has(keys, "two")


async def test_a_clock_that_was_set_back_does_not_keep_keys_for_ever(
    keys: SigningKeys, issuer: Issuer, clock: ManualClock
) -> None:
    await keys.find("one")
    pass_time(clock, -timedelta(days=365))
    issuer.kids = ["two"]
    assert not await has(keys, "one")
    assert await has(keys, "two")
    assert issuer.fetches == 2


@pytest.mark.parametrize(
    "odd",
    [
        {"alg": "RS512"},
        {"alg": "none"},
        {"alg": 256},
        {"use": "enc"},
        {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"},
        {"kty": "EC"},
        {"kty": ["RSA"]},
        {"n": "AQAB"},
        {"n": "!"},
        {"n": 65537},
        {"n": None},
        {"e": "AA"},
        {"e": []},
        {"kid": 1},
        {"kid": ["one"]},
        {"kid": None},
        {"kid": ""},
        {"d": "AQAB"},
        pytest.param(RSAAlgorithm.to_jwk(rsa_key("one"), as_dict=True), id="a private key"),
        pytest.param({"n": jwk_of("one")["n"][:170]}, id="1,020 bits"),
    ],
    ids=str,
)
async def test_keys_that_we_would_not_trust_are_left_out(
    keys: SigningKeys, issuer: Issuer, odd: dict[str, Any]
) -> None:
    issuer.answer = httpx.Response(200, json={"keys": [jwk_of("one", **odd), jwk_of("two")]})
    assert await has(keys, "two")
    assert not await has(keys, "one")
    assert not await has(keys, "")


async def test_a_key_without_algorithm_and_use_is_taken(keys: SigningKeys, issuer: Issuer) -> None:
    jwk = jwk_of("one")
    del jwk["alg"], jwk["use"]
    issuer.answer = httpx.Response(200, json={"keys": [jwk]})
    assert await has(keys, "one")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
jwks = st.fixed_dictionaries(
    {},
    optional={
        "kid": st.just("one") | json_values,
        "kty": st.just("RSA") | json_values,
        "alg": st.just("RS256") | json_values,
        "use": st.just("sig") | json_values,
        "n": st.just(jwk_of("one")["n"]) | json_values,
        "e": st.just("AQAB") | json_values,
        "d": json_values,
        "p": json_values,
        "oth": json_values,
    },
)


@given(found=st.lists(jwks, max_size=3))
@budget(examples=100)
def test_whatever_stands_in_a_key_set_is_a_key_or_none(found: list[dict[str, Any]]) -> None:
    content = json.dumps({"keys": [*found, jwk_of("two")]}).encode()
    assert set(signing_keys._keys_in(content)) in ({"two"}, {"one", "two"})


async def test_a_fetch_ends_with_what_it_was_for(issuer: Issuer, clock: ManualClock) -> None:
    """At once, not when it has waited long enough."""
    issuer.open.clear()
    async with issuer.client() as client, asyncio.timeout(1):
        async with SigningKeys.open(JWKS_URL, clock=clock, client=client) as keys:
            asking = asyncio.create_task(keys.find("one"))
            await settle()
        with pytest.raises(AuthUnavailable):
            await asking
        assert not client.is_closed
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "fetch signing keys"]


async def test_with_a_client_of_its_own_it_fetches_over_the_network(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    content = json.dumps({"keys": [jwk_of("one")]}).encode()
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(content))
        writer.write(content)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        async with SigningKeys.open(f"http://{host}:{port}/keys", clock=clock) as keys:
            assert await has(keys, "one")
    assert [request.split(b"\r\n")[0] for request in requests] == [b"GET /keys HTTP/1.1"]


async def test_with_nobody_at_the_address_there_are_no_keys(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with SigningKeys.open("http://127.0.0.1:9/keys", clock=clock) as keys:
        with pytest.raises(AuthUnavailable, match="All connection attempts failed"):
            await keys.check()


@pytest.mark.parametrize(
    "proxy", ["ftp://proxy.test", "http://proxy.test:port", "nonsense://user:secret@proxy"]
)
async def test_a_proxy_that_cannot_be_is_told_at_start(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(AuthUnavailable) as raised:
        async with SigningKeys.open(JWKS_URL, clock=clock):
            pass
    assert "\n" not in raised.value.message
    assert "secret" not in raised.value.message
