"""Who calls the gateway: API keys everywhere, dev tokens on a developer's machine."""

from shared.domain.changes import api_key_key
from shared.domain.errors import Unauthenticated
from shared.domain.ids import UserId, is_account_id
from shared.domain.keys import PREFIX, digest_of
from shared.ports.auth import Authenticator, Caller
from shared.ports.store import Store

DEV_PREFIX = "dev-"


class DevTokens:
    """`dev-<user>` is that user, and `dev-admin` an admin too. For machines that nobody else reaches."""

    async def authenticate(self, token: str) -> Caller:
        user = token.removeprefix(DEV_PREFIX)
        if user == token or not is_account_id(user):
            raise Unauthenticated("the token is not known; locally, use `Bearer dev-<user>`")
        scopes = frozenset({"user", "admin"}) if user == "admin" else frozenset({"user"})
        return Caller(user_id=UserId(user), scopes=scopes)


class NoTokens:
    """Knows nobody."""

    async def authenticate(self, token: str) -> Caller:
        raise Unauthenticated("the token is not known")


class ApiKeys:
    """Tokens that `mediaforge keys` made; all other tokens are for `others`."""

    def __init__(self, store: Store, others: Authenticator) -> None:
        self._store = store
        self._others = others

    async def authenticate(self, token: str) -> Caller:
        if not token.startswith(PREFIX):
            return await self._others.authenticate(token)
        record_key = api_key_key(digest_of(token))
        key = (await self._store.load([record_key])).find(record_key)
        if key is None or key.revoked_at is not None:
            raise Unauthenticated("the API key is not known or was revoked")
        return Caller(user_id=key.user_id, scopes=key.scopes)
