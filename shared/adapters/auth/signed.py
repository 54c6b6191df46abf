"""Tokens as JSON Web Signatures: taken apart within bounds, and believed only once the signature was checked.

PyJWT's own parser looks at every character in Python, which makes it three times as slow as all of this.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec

from shared.adapters.auth.signing_keys import ALGORITHM, SigningKeys

MAX_CHARACTERS: Final = 8_192
LEEWAY_SECONDS: Final = 30
"""How far our clock and the issuer's may be apart."""

_SHAPE: Final = re.compile(r"([A-Za-z0-9_-]++)\.([A-Za-z0-9_-]++)\.([A-Za-z0-9_-]*+)")


class BadToken(Exception):
    """Why a token does not count: for the log. Its bearer is told less."""


class Expired(BadToken):
    pass


class _Header(msgspec.Struct):
    alg: str
    kid: str = ""
    crit: Any = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class Parts:
    """A token taken apart. Nothing in it is true before its signature was checked."""

    algorithm: str
    kid: str
    signed: str
    payload: bytes
    signature: str


class Instants(msgspec.Struct, kw_only=True):
    """When a token counts, in seconds since 1970: claims that every issuer makes."""

    iat: int
    exp: int
    nbf: int = 0


def take_apart(token: str) -> Parts:
    if len(token) > MAX_CHARACTERS:
        raise BadToken(f"it is longer than {MAX_CHARACTERS} characters")
    shape = _SHAPE.fullmatch(token)
    if shape is None:
        raise BadToken("it is not of the form header.payload.signature")
    header = decoded(_bytes_of(shape[1]), _Header)
    if header.crit is not msgspec.UNSET:
        raise BadToken("it has critical extensions")  # RFC 7515: refuse what one does not understand
    signed = token[: shape.end(2)]
    return Parts(header.alg, header.kid, signed, _bytes_of(shape[2]), signature=shape[3])


async def check_signature(parts: Parts, keys: SigningKeys) -> None:
    """Raises `BadToken`, and `AuthUnavailable` if the keys cannot be had."""
    # The token does not choose: with its `alg` anything could be signed, or nothing.
    if parts.algorithm != ALGORITHM:
        raise BadToken(f"its algorithm is not {ALGORITHM}")
    if not parts.kid or not parts.signature:
        raise BadToken("it is not signed")
    signature = _bytes_of(parts.signature)
    key = await keys.find(parts.kid)
    if key is None:
        raise BadToken("it is signed with a key that its issuer does not have")
    if not key.Algorithm.verify(parts.signed.encode(), key.key, signature):
        raise BadToken("its signature is wrong")


Claims = TypeVar("Claims", bound=msgspec.Struct)


def decoded(content: bytes, type_: type[Claims]) -> Claims:
    """The JSON object with the fields that `type_` wants, of just these types; raises `BadToken`."""
    try:
        return msgspec.json.decode(content, type=type_)
    except (ValueError, RecursionError) as error:
        raise BadToken("its header or its claims are not as they should be") from error


def check_instants(claims: Instants, now: datetime) -> None:
    seconds = now.timestamp()
    if seconds >= claims.exp + LEEWAY_SECONDS:
        raise Expired("it has expired")
    check_past(claims.iat, now)
    check_past(claims.nbf, now)


def check_past(instant: int, now: datetime) -> None:
    if instant - LEEWAY_SECONDS > now.timestamp():
        raise BadToken("it is from the future")


def _bytes_of(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error as error:
        raise BadToken("it is not base64url") from error
