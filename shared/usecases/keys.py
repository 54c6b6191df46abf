"""API keys: made, listed, revoked."""

from collections.abc import Sequence
from dataclasses import replace

from shared.domain.changes import Create, Put, Records, Write, api_key_key
from shared.domain.ids import UserId
from shared.domain.keys import ApiKey, digest_of, secret_from
from shared.usecases.app import App

SECRET_BYTES = 32


async def create_key(app: App, *, user: UserId, name: str, scopes: frozenset[str]) -> tuple[ApiKey, str]:
    """A new key and its secret, which is not kept anywhere."""
    secret = secret_from(app.noise(SECRET_BYTES))
    key = ApiKey(digest=digest_of(secret), name=name, user_id=user, scopes=scopes, created_at=app.clock.now())

    def decide(records: Records) -> Sequence[Write]:
        return [] if records.find(api_key_key(key.digest)) else [Create(key)]

    await app.store.change([api_key_key(key.digest)], decide)
    return key, secret


async def revoke_key(app: App, digest: str) -> ApiKey:
    """The key opens nothing from now on; repeatable. Raises `NotFound`."""
    now = app.clock.now()

    def decide(records: Records) -> Sequence[Write]:
        key = records.need(api_key_key(digest))
        return [Put(replace(key, revoked_at=now))] if key.revoked_at is None else []

    return (await app.store.change([api_key_key(digest)], decide)).need(api_key_key(digest))
