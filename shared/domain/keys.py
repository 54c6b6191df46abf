"""API keys: stored as digests, so that a copy of the store opens nothing."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.domain.ids import UserId

PREFIX: Final = "mf_"
SCOPES: Final = frozenset({"user", "admin"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    digest: str
    name: str
    user_id: UserId
    scopes: frozenset[str]
    created_at: datetime
    revoked_at: datetime | None = None


def secret_from(noise: bytes) -> str:
    """What the key's owner keeps: shown once, never stored."""
    return f"{PREFIX}{noise.hex()}"


def digest_of(secret: str) -> str:
    """The secret has 256 random bits, so a plain hash is as good as a slow one."""
    return hashlib.sha256(secret.encode()).hexdigest()
