"""Issuers of tokens made in the test: they sign with RSA keys, and serve the public ones as Google does."""

import asyncio
import base64
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import httpx
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt import PyJWS
from jwt.algorithms import RSAAlgorithm

from tests.support import NOON

JWKS_URL: Final = "https://issuer.test/keys"
AUDIENCE: Final = "https://worker.test"
SERVICE_ACCOUNT: Final = "pusher@my-app.iam.gserviceaccount.com"
PROJECT: Final = "my-app-1a2b3"

NOW: Final = int(NOON.timestamp())
PUSH_CLAIMS: Final[Mapping[str, Any]] = {
    "iss": "https://accounts.google.com",
    "aud": AUDIENCE,
    "azp": "113774264463038321964",
    "sub": "113774264463038321964",
    "email": SERVICE_ACCOUNT,
    "email_verified": True,
    "iat": NOW,
    "exp": NOW + 3_600,
}
"""As Pub/Sub's documentation shows them."""
FIREBASE_CLAIMS: Final[Mapping[str, Any]] = {
    "iss": f"https://securetoken.google.com/{PROJECT}",
    "aud": PROJECT,
    "auth_time": NOW - 600,
    "user_id": "JHU8Xmp0kGbXjYQ2lkGwCcmR5Ej1",
    "sub": "JHU8Xmp0kGbXjYQ2lkGwCcmR5Ej1",
    "iat": NOW,
    "exp": NOW + 3_600,
    "email": "ada@example.org",
    "email_verified": True,
    "firebase": {"identities": {"email": ["ada@example.org"]}, "sign_in_provider": "password"},
}


@cache
def rsa_key(name: str, *, bits: int = 2_048) -> RSAPrivateKey:
    """The same key for the same name, all through the tests."""
    del name
    return generate_private_key(public_exponent=65_537, key_size=bits)


def jwk_of(name: str, **changes: Any) -> dict[str, Any]:
    public = rsa_key(name).public_key()
    return {**RSAAlgorithm.to_jwk(public, as_dict=True), "kid": name, "alg": "RS256", "use": "sig", **changes}


def json_part(value: object) -> str:
    """A header or the claims, as they stand in a token; text is taken as it is."""
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def unsigned(claims: object, *, header: object = None, signature: str = "") -> str:
    """As the Firebase Auth emulator makes tokens; with another header, as forgers do."""
    header = {"alg": "none", "typ": "JWT"} if header is None else header
    return f"{json_part(header)}.{json_part(claims)}.{signature}"


def signed(claims: object, *, kid: str = "one", key: RSAPrivateKey | None = None, **header: Any) -> str:
    """A token with a good signature over any claims whatever, even over text that is no JSON."""
    content = claims if isinstance(claims, str) else json.dumps(claims)
    return PyJWS().encode(
        content.encode(), key or rsa_key(kid), algorithm="RS256", headers={"kid": kid, **header}
    )


class Issuer:
    """Serves its keys at `JWKS_URL`; counts who asks, and fails as it is told to."""

    def __init__(self, *kids: str) -> None:
        self.kids = list(kids) or ["one"]
        self.headers = {"Cache-Control": "public, max-age=21600, must-revalidate, no-transform"}
        self.fetches = 0
        self.answer: httpx.Response | Exception | None = None
        """What it says instead of its keys."""
        self.open = asyncio.Event()
        """Until it is set, nobody gets an answer."""
        self.open.set()

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self._serve))

    async def _serve(self, request: httpx.Request) -> httpx.Response:
        assert request.url == JWKS_URL
        self.fetches += 1
        await self.open.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        return httpx.Response(200, json={"keys": [jwk_of(kid) for kid in self.kids]}, headers=self.headers)


DOWN: Final = httpx.ConnectError("all connection attempts failed")
