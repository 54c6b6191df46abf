"""Who calls the gateway: users of an app that signs them in with Firebase.

The user's id is Firebase's `uid`. A user with the custom claim `admin: true` (set by the app's backend, with
`set_custom_user_claims`) has the scope `admin`. A user who was disabled or signed out elsewhere is let in
until the token ends, which is an hour at most: asking Firebase at every request would cost a round trip.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import httpx
import structlog

from shared.adapters.auth.signed import (
    BadToken,
    Expired,
    Instants,
    Parts,
    check_instants,
    check_past,
    check_signature,
    decoded,
    take_apart,
)
from shared.adapters.auth.signing_keys import SigningKeys
from shared.domain.errors import AuthUnavailable, Unauthenticated
from shared.domain.ids import UserId, is_account_id
from shared.ports.auth import Caller
from shared.ports.clock import Clock

FIREBASE_KEYS: Final = (
    "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com"
)
ISSUER: Final = "https://securetoken.google.com/"

_USER: Final = frozenset({"user"})
_ADMIN: Final = frozenset({"user", "admin"})
_PROJECT: Final = re.compile(r"[a-z][a-z0-9.:-]{1,98}[a-z0-9]")

_log = structlog.get_logger(__name__)


class _Claims(Instants, kw_only=True):
    iss: str
    aud: str
    sub: str
    auth_time: int
    admin: Any = False
    """Apps may mean something of their own by it: only the very `true` counts."""


class FirebaseTokens:
    """Knows the users of one Firebase project by their ID tokens.

    Without keys it takes what the Firebase Auth emulator gives: tokens that nobody signed and anybody can
    make. Only for a developer's machine.
    """

    def __init__(self, project: str, *, keys: SigningKeys | None, clock: Clock) -> None:
        if not _PROJECT.fullmatch(project):
            raise AuthUnavailable(
                f"must be the id of a Firebase project, like my-app-1a2b3 (it is {project[:100]!r})",
                param="project",
            )
        self._project = project
        self._keys = keys
        self._clock = clock

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        project: str,
        *,
        clock: Clock,
        emulator: bool = False,
        keys_url: str = FIREBASE_KEYS,
        client: httpx.AsyncClient | None = None,
    ) -> AsyncIterator[Self]:
        """Fetches nothing yet. `emulator` believes unsigned tokens. Raises `AuthUnavailable`."""
        if emulator:
            yield cls(project, keys=None, clock=clock)
            return
        async with SigningKeys.open(keys_url, clock=clock, client=client) as keys:
            yield cls(project, keys=keys, clock=clock)

    async def authenticate(self, token: str) -> Caller:
        try:
            parts = take_apart(token)
            await self._check_signature(parts)
            claims = decoded(parts.payload, _Claims)
            self._check_claims(claims)
        except Expired as error:
            raise Unauthenticated("the token has expired; get a new ID token from Firebase") from error
        except BadToken as error:
            _log.debug("token.refused", reason=f"{error}")
            raise Unauthenticated("the token is not a good Firebase ID token of this app") from error
        if not is_account_id(claims.sub):
            raise Unauthenticated(
                "this user's id cannot be used here: it must be up to 128 letters, digits, _ . @ or -, "
                "beginning with a letter or digit"
            )
        return Caller(user_id=UserId(claims.sub), scopes=_ADMIN if claims.admin is True else _USER)

    async def check(self) -> None:
        """Raise `AuthUnavailable` unless tokens can be checked."""
        if self._keys is not None:
            await self._keys.check()

    async def _check_signature(self, parts: Parts) -> None:
        if self._keys is not None:
            await check_signature(parts, self._keys)
        elif parts.algorithm != "none" or parts.signature:
            raise BadToken("it is not from the Auth emulator")

    def _check_claims(self, claims: _Claims) -> None:
        if claims.iss != ISSUER + self._project or claims.aud != self._project:
            raise BadToken("it is for another project")
        check_instants(claims, self._clock.now())
        check_past(claims.auth_time, self._clock.now())
