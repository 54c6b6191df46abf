"""The worker lets in who Google says is our queue or our scheduler, and nobody else, whatever they send."""

import base64
import hashlib
import hmac
import json
import logging
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st
from jwt import PyJWS
from structlog.testing import capture_logs

from shared.adapters.auth.oidc import GOOGLE_KEYS, REMOVED_SIGNATURE, PushTokens
from shared.adapters.auth.signed import LEEWAY_SECONDS, MAX_CHARACTERS
from shared.adapters.auth.signing_keys import REFETCH_AFTER
from shared.domain.errors import AuthUnavailable, Unauthenticated
from tests.properties.budgets import budget
from tests.support import ManualClock
from tests.tokens import (
    AUDIENCE,
    DOWN,
    JWKS_URL,
    NOW,
    PUSH_CLAIMS,
    SERVICE_ACCOUNT,
    Issuer,
    json_part,
    rsa_key,
    signed,
    unsigned,
)

OTHER_AUDIENCE = "https://worker-2.test/process-video"
SCHEDULER = "scheduler@my-app.iam.gserviceaccount.com"
MISSING = "(missing)"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def issuer() -> Issuer:
    return Issuer("one")


@asynccontextmanager
async def a_worker(
    issuer: Issuer | None = None, clock: ManualClock | None = None, *, behind_iam: bool = False
) -> AsyncIterator[PushTokens]:
    async with (
        (issuer or Issuer("one")).client() as client,
        PushTokens.open(
            [AUDIENCE, OTHER_AUDIENCE],
            [SERVICE_ACCOUNT, SCHEDULER],
            clock=clock or ManualClock(),
            behind_iam=behind_iam,
            keys_url=JWKS_URL,
            client=client,
        ) as worker,
    ):
        yield worker


@pytest.fixture
async def worker(issuer: Issuer, clock: ManualClock) -> AsyncIterator[PushTokens]:
    async with a_worker(issuer, clock) as worker:
        yield worker


async def is_let_in(worker: PushTokens, token: str) -> bool:
    try:
        await worker.verify(token)
    except Unauthenticated as error:
        refused = error
    else:
        return True
    assert refused.message == "only the queue and the scheduler may call the worker"
    return False


def claims_with(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**PUSH_CLAIMS, **changes}.items() if value is not MISSING}


async def test_a_push_of_ours_is_let_in(worker: PushTokens, issuer: Issuer) -> None:
    for _ in range(3):
        await worker.verify(signed(PUSH_CLAIMS))
    assert issuer.fetches == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "accounts.google.com"},
        {"aud": OTHER_AUDIENCE},
        {"email": SCHEDULER},
        {"nbf": NOW},
        {"azp": MISSING, "sub": MISSING},
        {"something": {"new": [1, None]}},
    ],
    ids=str,
)
async def test_it_may_differ_in_what_does_not_matter(worker: PushTokens, changes: dict[str, Any]) -> None:
    assert await is_let_in(worker, signed(claims_with(**changes)))


WRONG_CLAIMS: list[dict[str, Any]] = [
    {"iss": "https://accounts.google.com.evil.test"},
    {"iss": "https://securetoken.google.com/my-app"},
    {"iss": ["https://accounts.google.com"]},
    {"aud": "https://elsewhere.test"},
    {"aud": f"{AUDIENCE}/"},
    {"aud": ""},
    {"aud": [AUDIENCE]},
    {"aud": {AUDIENCE: 1}},
    {"email": "stranger@other-app.iam.gserviceaccount.com"},
    {"email": SERVICE_ACCOUNT.upper()},
    {"email": [SERVICE_ACCOUNT]},
    {"email": 1},
    {"email_verified": False},
    {"email_verified": "true"},
    {"email_verified": 1},
    {"exp": NOW - LEEWAY_SECONDS},
    {"exp": f"{NOW + 60}"},
    {"exp": [NOW + 60]},
    {"exp": True},
    {"exp": -(10**30)},
    {"exp": -(10**400)},
    {"iat": NOW + LEEWAY_SECONDS + 1},
    {"iat": 10**400},
    {"iat": {}},
    {"nbf": NOW + LEEWAY_SECONDS + 1},
    {"nbf": "tomorrow"},
    {"nbf": None},
    *({name: MISSING} for name in ("iss", "aud", "email", "email_verified", "exp", "iat")),
    *({name: None} for name in ("iss", "aud", "email", "email_verified", "exp", "iat")),
]


@pytest.mark.parametrize("changes", WRONG_CLAIMS, ids=lambda changes: str(changes)[:60])
async def test_google_signs_for_others_too(worker: PushTokens, changes: dict[str, Any]) -> None:
    assert not await is_let_in(worker, signed(claims_with(**changes)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "1",
        '"exp"',
        "{",
        "\0",
        json.dumps(PUSH_CLAIMS) + "x",
        json.dumps(claims_with(exp=0)).replace('"exp": 0', '"exp": NaN'),
        json.dumps(claims_with(exp=0)).replace('"exp": 0', '"exp": Infinity'),
        json.dumps(claims_with(exp=0)).replace('"exp": 0', f'"exp": {"9" * 6_000}'),
        json.dumps(claims_with(exp=0)).replace('"exp": 0', '"exp": 1e999'),
        '{"deep": ' + "[" * 2_500,
        '{"deep": ' + '{"a":' * 1_000,
    ],
    ids=lambda text: text[:20],
)
async def test_a_good_signature_does_not_make_sense_of_nonsense(worker: PushTokens, text: str) -> None:
    assert not await is_let_in(worker, signed(text))


async def test_a_token_lives_until_it_expires(worker: PushTokens, clock: ManualClock) -> None:
    token = signed(PUSH_CLAIMS)
    clock.advance(seconds=3_600 + LEEWAY_SECONDS - 1)
    assert await is_let_in(worker, token)
    clock.advance(seconds=1)
    assert not await is_let_in(worker, token)


async def test_googles_clock_may_be_a_little_ahead(worker: PushTokens, clock: ManualClock) -> None:
    token = signed(claims_with(nbf=NOW))
    clock.advance(seconds=-LEEWAY_SECONDS)
    assert await is_let_in(worker, token)
    clock.advance(seconds=-1)
    assert not await is_let_in(worker, token)


async def test_a_token_signed_with_a_new_key_makes_it_fetch_that_key_once(
    worker: PushTokens, issuer: Issuer, clock: ManualClock
) -> None:
    assert await is_let_in(worker, signed(PUSH_CLAIMS, kid="one"))
    issuer.kids = ["two", "one"]
    clock.advance(seconds=REFETCH_AFTER.total_seconds())
    for kid in ("two", "two", "one", "two"):
        assert await is_let_in(worker, signed(PUSH_CLAIMS, kid=kid))
    assert issuer.fetches == 2


async def test_a_key_of_ones_own_opens_nothing(worker: PushTokens) -> None:
    """Neither under its own name nor under that of a good one."""
    assert not await is_let_in(worker, signed(PUSH_CLAIMS, kid="mine"))
    assert not await is_let_in(worker, signed(PUSH_CLAIMS, kid="one", key=rsa_key("mine")))


def with_the_public_key_as_a_secret() -> str:
    """The classic: whoever lets the token choose checks an HMAC with what everybody knows."""
    pem = rsa_key("one").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    content = f"{json_part({'alg': 'HS256', 'kid': 'one'})}.{json_part(PUSH_CLAIMS)}"
    mac = hmac.new(pem, content.encode(), hashlib.sha256).digest()
    return f"{content}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def under_other_headers(**changes: Any) -> str:
    """A good signature over a header that should not be."""
    header = {"alg": "RS256", "kid": "one", **changes}
    return over({name: value for name, value in header.items() if value is not MISSING})


def over(header: object) -> str:
    content = f"{json_part(header)}.{json_part(dict(PUSH_CLAIMS))}"
    signature = rsa_key("one").sign(content.encode(), PKCS1v15(), SHA256())
    return f"{content}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


async def test_these_forgeries_are_good_but_for_what_is_forged(worker: PushTokens) -> None:
    PyJWS().decode(under_other_headers(), rsa_key("one").public_key(), algorithms=["RS256"])
    for header in ({}, {"typ": MISSING}, {"typ": "at+jwt"}, {"typ": 1, "x5t": [None]}):
        assert await is_let_in(worker, under_other_headers(**header))


GOOD = signed(PUSH_CLAIMS)
FORGED = {
    "unsigned": unsigned(PUSH_CLAIMS),
    "unsigned, with a key": unsigned(PUSH_CLAIMS, header={"alg": "none", "kid": "one"}),
    "unsigned, said to be signed": unsigned(PUSH_CLAIMS, header={"alg": "RS256", "kid": "one"}),
    "HMAC with the public key": with_the_public_key_as_a_secret(),
    "another RSA": signed(PUSH_CLAIMS, alg="RS512"),
    "PSS": signed(PUSH_CLAIMS, alg="PS256"),
    "algorithm in small letters": under_other_headers(alg="rs256"),
    "algorithm none": under_other_headers(alg="none"),
    "algorithm null": under_other_headers(alg=None),
    "algorithms": under_other_headers(alg=["RS256"]),
    "no algorithm": under_other_headers(alg=MISSING),
    "two algorithms": over('{"alg": "RS256", "kid": "one", "alg": "none"}'),
    "no key": under_other_headers(kid=MISSING),
    "key of no name": under_other_headers(kid=""),
    "key null": under_other_headers(kid=None),
    "key a number": under_other_headers(kid=1),
    "key a list": under_other_headers(kid=["one"]),
    "two keys": over('{"alg": "RS256", "kid": "one", "kid": "two"}'),
    "key of a long name": under_other_headers(kid="x" * 5_000),
    "key somewhere else": under_other_headers(kid="two", jku="https://evil.test/keys"),
    "critical extensions null": under_other_headers(crit=None),
    "critical extension": under_other_headers(crit=["exp"]),
    "content not encoded": under_other_headers(b64=False, crit=["b64"]),
    "header a list": over([]),
    "header a text": over('"RS256"'),
    "header deep": over('{"alg": "RS256", "kid": "one", "x": ' + "[" * 3_000),
    "header broken": over("{"),
    "nothing": "",
    "dots": "..",
    "two parts": GOOD.rpartition(".")[0],
    "four parts": f"{GOOD}.{GOOD.rpartition('.')[2]}",
    "padded": f"{GOOD}==",
    "a line more": f"{GOOD}\n",
    "a space before": f" {GOOD}",
    "other alphabet": GOOD.replace("-", "+").replace("_", "/") + "+",
    "wide letters": GOOD.replace("e", "\uff45"),
    "not text": "\udcff.\udcff.\udcff",
    "signature cut": GOOD[:-2],
    "signature of one letter": f"{GOOD.rpartition('.')[0]}.A",
    "signature of zeros": f"{GOOD.rpartition('.')[0]}.{'A' * 342}",
    "signature of another": f"{GOOD.rpartition('.')[0]}.{signed({}).rpartition('.')[2]}",
    "signature removed": f"{GOOD.rpartition('.')[0]}.{REMOVED_SIGNATURE}",
    "too long": signed({**PUSH_CLAIMS, "more": "x" * MAX_CHARACTERS}),
    "huge": "x" * 10_000_000,
    "huge dots": "." * 1_000_000,
}


@pytest.mark.parametrize("forgery", FORGED)
async def test_no_forgery_opens_the_worker(worker: PushTokens, forgery: str) -> None:
    assert not await is_let_in(worker, FORGED[forgery])


def test_the_longest_token_that_is_read_is_longer_than_any_of_googles() -> None:
    assert 4 * len(GOOD) < MAX_CHARACTERS


@given(cut=st.integers(0, len(GOOD) - 1))
@budget(examples=100)
async def test_no_part_of_a_good_token_opens_anything(cut: int) -> None:
    async with a_worker() as worker:
        assert not await is_let_in(worker, GOOD[:cut])


@given(place=st.integers(0, len(GOOD) - 1), letter=st.sampled_from("AQgwZz09-_.=+ \0é"))
@budget(examples=300)
async def test_no_letter_of_a_good_token_may_be_another(place: int, letter: str) -> None:
    """But for the last of the signature, whose lowest bits say nothing."""
    changed = GOOD[:place] + letter + GOOD[place + 1 :]
    async with a_worker() as worker:
        assert await is_let_in(worker, changed) == (same_bytes(changed) and changed.count(".") == 2)


def same_bytes(token: str) -> bool:
    """Whether it is the good one, or the same written with other bits that nobody reads."""
    if token[:-1] != GOOD[:-1] or not (token[-1].isalnum() or token[-1] in "-_") or not token.isascii():
        return False
    signature, good = (base64.urlsafe_b64decode(text.rpartition(".")[2] + "==") for text in (token, GOOD))
    return signature == good


@given(token=st.text() | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*"))
@example(token="a.a.a")
@budget(examples=200)
async def test_no_text_does_anything_but_be_refused(token: str) -> None:
    async with a_worker() as worker:
        assert not await is_let_in(worker, token)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers().map(lambda n: n * 10**40)
    | st.floats()
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(changes=st.dictionaries(st.sampled_from(sorted(PUSH_CLAIMS)) | st.text(), json_values, max_size=4))
@budget(examples=150)
async def test_whatever_stands_in_signed_claims_is_let_in_or_refused(changes: dict[str, Any]) -> None:
    matters = {"iss", "aud", "email", "email_verified"}
    async with a_worker() as worker:
        let_in = await is_let_in(worker, signed({**PUSH_CLAIMS, **changes}))
    if let_in:
        assert all(changes.get(name, PUSH_CLAIMS[name]) == PUSH_CLAIMS[name] for name in matters)


@given(
    changes=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64"]), json_values, max_size=3)
)
@budget(examples=150)
async def test_whatever_stands_in_a_header_is_let_in_or_refused(changes: dict[str, Any]) -> None:
    async with a_worker() as worker:
        let_in = await is_let_in(worker, over({"alg": "RS256", "kid": "one", **changes}))
    assert not (let_in and changes.keys() & {"alg", "kid", "crit"})


async def test_without_googles_keys_the_push_must_come_again(
    worker: PushTokens, issuer: Issuer, clock: ManualClock
) -> None:
    issuer.answer = DOWN
    with pytest.raises(AuthUnavailable):
        await worker.verify(signed(PUSH_CLAIMS))
    with pytest.raises(AuthUnavailable):
        await worker.check()
    issuer.answer = None
    clock.advance(seconds=60)
    await worker.check()
    assert await is_let_in(worker, signed(PUSH_CLAIMS))


@pytest.mark.parametrize(
    "forgery",
    [
        "nothing",
        "unsigned",
        "unsigned, said to be signed",
        "HMAC with the public key",
        "no key",
        "key of no name",
        "signature of one letter",
        "too long",
    ],
)
async def test_what_cannot_be_a_token_of_googles_costs_no_fetch(
    worker: PushTokens, issuer: Issuer, forgery: str
) -> None:
    assert not await is_let_in(worker, FORGED[forgery])
    assert issuer.fetches == 0


@pytest.fixture
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    try:
        with capture_logs() as lines:
            yield lines
    finally:
        structlog.configure(wrapper_class=before)


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (signed(claims_with(aud="https://elsewhere.test")), "its audience is 'https://elsewhere.test'"),
        (signed(claims_with(email="stranger@x")), "its service account is 'stranger@x'"),
        (signed(claims_with(exp=NOW - 60)), "it has expired"),
        (FORGED["signature removed"], "Cloud Run's IAM check removed its signature"),
        (FORGED["unsigned"], "its algorithm is not RS256"),
    ],
    ids=["audience", "service account", "expired", "removed", "unsigned"],
)
async def test_operators_read_in_the_log_what_callers_are_not_told(
    worker: PushTokens, logs: list[MutableMapping[str, Any]], token: str, reason: str
) -> None:
    assert not await is_let_in(worker, token)
    [refused] = [line for line in logs if line["event"] == "push.refused"]
    assert refused["reason"].startswith(reason)
    assert token.split(".")[1] not in repr(logs)


class TestBehindTheIamCheckOfCloudRun:
    """Cloud Run verified the signature and took it away: the claims are left to check."""

    @pytest.fixture
    async def worker(self, issuer: Issuer, clock: ManualClock) -> AsyncIterator[PushTokens]:
        async with a_worker(issuer, clock, behind_iam=True) as worker:
            yield worker

    async def test_a_push_of_ours_is_let_in(self, worker: PushTokens, issuer: Issuer) -> None:
        await worker.check()
        assert await is_let_in(worker, stripped(PUSH_CLAIMS))
        assert issuer.fetches == 0

    @pytest.mark.parametrize("changes", WRONG_CLAIMS, ids=lambda changes: str(changes)[:60])
    async def test_others_are_not(self, worker: PushTokens, changes: dict[str, Any]) -> None:
        assert not await is_let_in(worker, stripped(claims_with(**changes)))

    @pytest.mark.parametrize("forgery", [name for name in FORGED if name != "signature removed"])
    async def test_other_signatures_are_still_checked(self, worker: PushTokens, forgery: str) -> None:
        assert not await is_let_in(worker, FORGED[forgery])

    async def test_a_good_signature_is_still_good(self, worker: PushTokens) -> None:
        assert await is_let_in(worker, GOOD)


def stripped(claims: object) -> str:
    return unsigned(claims, header={"alg": "RS256", "kid": "one", "typ": "JWT"}, signature=REMOVED_SIGNATURE)


@pytest.mark.parametrize(
    ("audiences", "service_accounts", "param"),
    [
        ([], [SERVICE_ACCOUNT], "audiences"),
        ([""], [SERVICE_ACCOUNT], "audiences"),
        (["a b"], [SERVICE_ACCOUNT], "audiences"),
        (AUDIENCE, [SERVICE_ACCOUNT], "audiences"),
        ([AUDIENCE], [], "service_accounts"),
        ([AUDIENCE], [""], "service_accounts"),
        ([AUDIENCE], ["pusher"], "service_accounts"),
        ([AUDIENCE], [f"{SERVICE_ACCOUNT}\n"], "service_accounts"),
        ([AUDIENCE], [SERVICE_ACCOUNT, "*"], "service_accounts"),
    ],
)
async def test_who_may_push_has_to_be_said(
    clock: ManualClock, audiences: list[str], service_accounts: list[str], param: str
) -> None:
    with pytest.raises(AuthUnavailable) as raised:
        async with PushTokens.open(audiences, service_accounts, clock=clock):
            pass
    assert raised.value.param == param
    assert "\n" not in raised.value.message


async def test_by_default_the_keys_are_googles(clock: ManualClock) -> None:
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(404)

    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client,
        PushTokens.open([AUDIENCE], [SERVICE_ACCOUNT], clock=clock, client=client) as worker,
    ):
        with pytest.raises(AuthUnavailable):
            await worker.check()
    assert asked == [GOOGLE_KEYS] == ["https://www.googleapis.com/oauth2/v3/certs"]
