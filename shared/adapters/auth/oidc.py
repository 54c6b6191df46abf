"""Who pushes to the worker in the cloud: Pub/Sub, Cloud Tasks and Cloud Scheduler, with a token from Google.

Google signs an OIDC token for the service account that the subscription, queue or scheduler job names, and
for the audience that it names.
"""

import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Final, Self

import httpx
import structlog

from shared.adapters.auth.signed import (
    BadToken,
    Instants,
    Parts,
    check_instants,
    check_signature,
    decoded,
    take_apart,
)
from shared.adapters.auth.signing_keys import SigningKeys
from shared.domain.errors import AuthUnavailable, Unauthenticated
from shared.ports.clock import Clock

GOOGLE_KEYS: Final = "https://www.googleapis.com/oauth2/v3/certs"
ISSUERS: Final = frozenset({"https://accounts.google.com", "accounts.google.com"})
REMOVED_SIGNATURE: Final = "SIGNATURE_REMOVED_BY_GOOGLE"
"""What Cloud Run puts in a signature's place once its own IAM check has verified it."""

_AUDIENCE: Final = re.compile(r"\S{1,1000}")
_EMAIL: Final = re.compile(r"[^@\s]{1,200}@[^@\s]{1,200}")
_LONGEST_ECHO: Final = 200

_log = structlog.get_logger(__name__)


class _Claims(Instants, kw_only=True):
    iss: str
    aud: str
    email: str
    email_verified: bool


class PushTokens:
    """Lets in tokens for one of the audiences, of one of the service accounts, that Google signed.

    `behind_iam` is for a worker that Cloud Run lets nobody call without the role `run.invoker`. Cloud Run
    then verifies the signature itself and passes the token on without it, so nothing is left to check but
    the claims; anybody who can go around Cloud Run's check could forge them.
    """

    def __init__(
        self,
        audiences: Collection[str],
        service_accounts: Collection[str],
        *,
        keys: SigningKeys,
        clock: Clock,
        behind_iam: bool = False,
    ) -> None:
        _check_each("audience", audiences, _AUDIENCE, "the worker's address")
        _check_each("service account", service_accounts, _EMAIL, "an email address")
        self._audiences = frozenset(audiences)
        self._service_accounts = frozenset(service_accounts)
        self._keys = keys
        self._clock = clock
        self._behind_iam = behind_iam

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        audiences: Collection[str],
        service_accounts: Collection[str],
        *,
        clock: Clock,
        behind_iam: bool = False,
        keys_url: str = GOOGLE_KEYS,
        client: httpx.AsyncClient | None = None,
    ) -> AsyncIterator[Self]:
        """Fetches nothing yet. Raises `AuthUnavailable`, whose `param` says which argument is wrong."""
        async with SigningKeys.open(keys_url, clock=clock, client=client) as keys:
            yield cls(audiences, service_accounts, keys=keys, clock=clock, behind_iam=behind_iam)

    async def verify(self, token: str) -> None:
        try:
            parts = take_apart(token)
            await self._check_signature(parts)
            self._check_claims(decoded(parts.payload, _Claims))
        except BadToken as error:
            _log.warning("push.refused", reason=f"{error}")
            raise Unauthenticated("only the queue and the scheduler may call the worker") from error

    async def check(self) -> None:
        """Raise `AuthUnavailable` unless tokens can be checked."""
        if not self._behind_iam:
            await self._keys.check()

    async def _check_signature(self, parts: Parts) -> None:
        if parts.signature != REMOVED_SIGNATURE:
            await check_signature(parts, self._keys)
        elif not self._behind_iam:
            raise BadToken("Cloud Run's IAM check removed its signature, and we were not told to rely on it")

    def _check_claims(self, claims: _Claims) -> None:
        if claims.iss not in ISSUERS:
            raise BadToken(f"its issuer is {claims.iss[:_LONGEST_ECHO]!r}")
        if claims.aud not in self._audiences:
            raise BadToken(f"its audience is {claims.aud[:_LONGEST_ECHO]!r}")
        if claims.email not in self._service_accounts:
            raise BadToken(f"its service account is {claims.email[:_LONGEST_ECHO]!r}")
        if not claims.email_verified:
            raise BadToken("its email address is not verified")
        check_instants(claims, self._clock.now())


def _check_each(what: str, values: Collection[str], shape: re.Pattern[str], wanted: str) -> None:
    param = what.replace(" ", "_") + "s"
    if not values or isinstance(values, str):
        raise AuthUnavailable(f"there must be at least one {what}", param=param)
    for value in values:
        if not shape.fullmatch(value):
            raise AuthUnavailable(f"must be {wanted} (it is {value[:_LONGEST_ECHO]!r})", param=param)
