"""What every verifier of pushes promises: its own callers come in, everybody else is refused in one way."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import pytest

from shared.adapters.auth.oidc import REMOVED_SIGNATURE, PushTokens
from shared.adapters.auth.shared_secret import SharedSecret
from shared.domain.errors import Unauthenticated
from shared.ports.auth import PushVerifier
from tests.support import ManualClock
from tests.tokens import AUDIENCE, JWKS_URL, PUSH_CLAIMS, SERVICE_ACCOUNT, Issuer, rsa_key, signed, unsigned

SECRET: Final = "the-workers-secret"
HEADER: Final = {"alg": "RS256", "kid": "one"}


@dataclass(frozen=True)
class Door:
    """A verifier, a token that opens it, and tokens that others might try it with."""

    verifier: PushVerifier
    good: str
    strangers: tuple[str, ...]


@asynccontextmanager
async def shared_secret() -> AsyncIterator[Door]:
    yield Door(SharedSecret(SECRET), SECRET, ("the-workers-secre", SECRET.upper(), SECRET * 2))


@asynccontextmanager
async def push_tokens(*, behind_iam: bool = False) -> AsyncIterator[Door]:
    async with (
        Issuer("one").client() as client,
        PushTokens.open(
            [AUDIENCE],
            [SERVICE_ACCOUNT],
            clock=ManualClock(),
            behind_iam=behind_iam,
            keys_url=JWKS_URL,
            client=client,
        ) as verifier,
    ):
        stripped = unsigned(PUSH_CLAIMS, header=HEADER, signature=REMOVED_SIGNATURE)
        stranger = {**PUSH_CLAIMS, "email": "stranger@other-app.iam.gserviceaccount.com"}
        yield Door(
            verifier,
            good=stripped if behind_iam else signed(PUSH_CLAIMS),
            strangers=(
                signed(PUSH_CLAIMS, key=rsa_key("mine")),
                signed(stranger),
                unsigned(stranger, header=HEADER, signature=REMOVED_SIGNATURE),
                unsigned(PUSH_CLAIMS),
            ),
        )


DOORS: Final[dict[str, Callable[[], AbstractAsyncContextManager[Door]]]] = {
    "shared secret": shared_secret,
    "push tokens": push_tokens,
    "push tokens behind IAM": lambda: push_tokens(behind_iam=True),
}


@pytest.fixture(params=DOORS)
async def door(request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    async with DOORS[request.param]() as door:
        yield door


async def test_its_own_callers_come_in_however_often(door: Door) -> None:
    for _ in range(3):
        await door.verifier.verify(door.good)


async def test_strangers_do_not(door: Door) -> None:
    for token in door.strangers:
        with pytest.raises(Unauthenticated):
            await door.verifier.verify(token)


HOSTILE: Final = (
    "",
    " ",
    ".",
    "..",
    "\0",
    "\xff",
    "\u20ac",
    "null",
    "Bearer x",
    "x" * 1_000_000,
    "." * 100_000,
)


async def test_any_text_is_refused_without_harm(door: Door) -> None:
    for token in (
        *HOSTILE,
        door.good[:-1],
        door.good[1:],
        f"{door.good} ",
        f" {door.good}",
        door.good + "\n",
    ):
        with pytest.raises(Unauthenticated):
            await door.verifier.verify(token)
    await door.verifier.verify(door.good)


async def test_all_are_refused_in_the_same_words(door: Door) -> None:
    """Whoever tries learns nothing about how near they came."""
    messages = set()
    for token in (*HOSTILE, *door.strangers):
        with pytest.raises(Unauthenticated) as refused:
            await door.verifier.verify(token)
        messages.add(refused.value.message)
    assert messages == {"only the queue and the scheduler may call the worker"}
