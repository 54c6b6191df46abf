"""The public keys that an issuer signs tokens with: fetched when needed, and kept as long as it says."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final, Self

import httpx
import msgspec
import structlog
from jwt import PyJWK, PyJWTError

from shared.domain.errors import AuthUnavailable
from shared.ports.clock import Clock

ALGORITHM: Final = "RS256"
"""The one that Google signs with, and so the only one that we ever check with."""

FRESH_AT_LEAST: Final = timedelta(minutes=5)
FRESH_AT_MOST: Final = timedelta(hours=24)
"""Bounds of what the issuer's `max-age` may say."""
KEPT_LONGER: Final = timedelta(hours=6)
"""How long after that keys still count while the issuer does not answer."""
REFETCH_AFTER: Final = timedelta(seconds=30)
"""How often at most a token that names an unknown key makes us look for new ones."""
RETRY_AFTER: Final = timedelta(seconds=2)
"""The pause after a fetch that failed."""
FETCH_SECONDS: Final = 5.0
"""How long a fetch may take, all in all."""
MAX_BYTES: Final = 100_000
MIN_KEY_BITS: Final = 2_048

_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE)

_log = structlog.get_logger(__name__)


class _Jwks(msgspec.Struct):
    keys: list[dict[str, Any]]


class _BadAnswer(Exception):
    """What is wrong with what the issuer answered."""


class SigningKeys:
    """The keys at one address.

    A rotated key is found by the first token that names it. One fetch runs at a time, whoever asks, and
    forged key names cannot make more than one every `REFETCH_AFTER`.
    """

    def __init__(self, client: httpx.AsyncClient, url: str, *, clock: Clock) -> None:
        self._client = client
        self._url = url
        self._clock = clock
        self._keys: Mapping[str, PyJWK] = {}
        self._fetched_at: datetime | None = None
        self._fresh_for = timedelta(0)
        self._tried_at: datetime | None = None
        self._problem = "nobody has asked yet"  # why the last fetch brought nothing; "" if it did
        self._fetching: asyncio.Task[None] | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, *, clock: Clock, client: httpx.AsyncClient | None = None
    ) -> AsyncIterator[Self]:
        """Fetches nothing yet. A given client stays open. Raises `AuthUnavailable`."""
        async with AsyncExitStack() as stack:
            if client is None:
                client = await stack.enter_async_context(_new_client())
            keys = cls(client, url, clock=clock)
            stack.push_async_callback(keys._stop)
            yield keys

    async def find(self, kid: str) -> PyJWK | None:
        """The key of that name, or None if there is none; raises `AuthUnavailable` if nobody knows."""
        if self._are_fresh():
            if kid not in self._keys:
                await self._refresh()
        elif self._problem and kid in self._usable():
            self._start_fetch()  # The issuer is in trouble: nobody waits for it who need not.
        else:
            await self._refresh()
        key = self._usable().get(kid)
        if key is None and self._problem:
            raise AuthUnavailable(f"no keys from {self._url}: {self._problem}")
        return key

    async def check(self) -> None:
        """Raise `AuthUnavailable` unless there are keys to check tokens with."""
        if not self._are_fresh():
            await self._refresh()
        if not self._usable():
            raise AuthUnavailable(f"no keys from {self._url}: {self._problem}")

    def _age(self) -> timedelta | None:
        return None if self._fetched_at is None else self._clock.now() - self._fetched_at

    def _are_fresh(self) -> bool:
        age = self._age()
        # Negative: the clock was set back, and nobody knows how old they are.
        return age is not None and timedelta(0) <= age < self._fresh_for

    def _usable(self) -> Mapping[str, PyJWK]:
        age = self._age()
        return self._keys if age is not None and age < self._fresh_for + KEPT_LONGER else {}

    async def _refresh(self) -> None:
        """Fetch the keys or join whoever is at it; do nothing if that was tried a moment ago."""
        fetch = self._start_fetch()
        if fetch is None:
            return
        # Not awaited itself: a caller who gives up must not end the fetch that others wait for.
        await asyncio.wait([fetch])
        if not fetch.cancelled():
            fetch.result()

    def _start_fetch(self) -> asyncio.Task[None] | None:
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        pause = RETRY_AFTER if self._problem else REFETCH_AFTER
        if self._tried_at is not None and timedelta(0) <= self._clock.now() - self._tried_at < pause:
            return None
        self._fetching = asyncio.create_task(self._fetch(), name="fetch signing keys")
        return self._fetching

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                body, headers = await self._get()
            keys = _keys_in(body)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, _BadAnswer) as error:
            self._problem = f"{error}" or type(error).__name__
            _log.warning("signing_keys.unavailable", url=self._url, error=self._problem)
        else:
            self._keys, self._fresh_for, self._problem = keys, _lifetime(headers), ""
            self._fetched_at = self._clock.now()
            _log.info("signing_keys.fetched", url=self._url, keys=len(keys))
        finally:
            self._tried_at = self._clock.now()

    async def _get(self) -> tuple[bytes, httpx.Headers]:
        async with self._client.stream("GET", self._url) as answer:
            if answer.status_code != httpx.codes.OK:
                raise _BadAnswer(f"it answered {answer.status_code}")
            body = b""
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MAX_BYTES:
                    raise _BadAnswer(f"it answered more than {MAX_BYTES} bytes")
            return body, answer.headers

    async def _stop(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])


def _new_client() -> httpx.AsyncClient:
    try:
        return httpx.AsyncClient(timeout=FETCH_SECONDS)
    except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
        # httpx reads the environment's proxies and certificates here.
        problem = f"{error}".partition("\n")[0]
        raise AuthUnavailable(f"no HTTP client with this environment: {problem}") from error


def _keys_in(body: bytes) -> dict[str, PyJWK]:
    """The keys by name; unusable ones are left out. Raises `_BadAnswer` if none is left."""
    try:
        found = msgspec.json.decode(body, type=_Jwks).keys
    except (ValueError, RecursionError) as error:
        raise _BadAnswer("it did not answer with a JSON Web Key Set") from error
    keys = {kid: key for jwk in found if (kid := jwk.get("kid")) and (key := _key_from(jwk))}
    if not keys:
        raise _BadAnswer(f"it answered without any {ALGORITHM} key")
    return keys


def _key_from(jwk: dict[str, Any]) -> PyJWK | None:
    meant_for = (jwk.get("alg", ALGORITHM), jwk.get("use", "sig"))
    if meant_for != (ALGORITHM, "sig") or not isinstance(jwk["kid"], str) or "d" in jwk:
        return None  # `d` would make it a private key
    try:
        key = PyJWK(jwk, ALGORITHM)
    except (PyJWTError, TypeError, ValueError):  # the last two from older releases of PyJWT
        return None
    return key if key.key.key_size >= MIN_KEY_BITS else None


def _lifetime(headers: httpx.Headers) -> timedelta:
    """`max-age`, less the time that the answer lay in caches on its way, within our bounds."""
    max_age = _MAX_AGE.search(headers.get("Cache-Control", ""))
    age = headers.get("Age", "")
    seconds = int(max_age[1]) if max_age else 0
    seconds -= int(age) if re.fullmatch("[0-9]{1,9}", age) else 0
    return min(max(timedelta(seconds=seconds), FRESH_AT_LEAST), FRESH_AT_MOST)
