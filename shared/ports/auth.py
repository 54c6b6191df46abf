"""The auth ports: who is calling the gateway, and whether a push really comes from our queue."""

from dataclasses import dataclass
from typing import Protocol

from shared.domain.ids import UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    user_id: UserId
    scopes: frozenset[str] = frozenset({"user"})

    @property
    def is_admin(self) -> bool:
        return "admin" in self.scopes


class Authenticator(Protocol):
    async def authenticate(self, token: str) -> Caller:
        """Who holds this bearer token.

        Raises `Unauthenticated` for every other text, whatever it is, with a message fit for whoever sent
        it; and `StoreUnavailable` or `AuthUnavailable` when it cannot be known now.
        """


class PushVerifier(Protocol):
    async def verify(self, token: str) -> None:
        """Raise `Unauthenticated` unless the bearer of this token may push to the worker.

        Raises `AuthUnavailable` when that cannot be known now: the push must then come again.
        """
