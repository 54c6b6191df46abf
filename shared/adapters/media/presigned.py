"""Links to objects of a private bucket, good for a while.

Signature Version 4 in the query, as S3, R2, MinIO, Supabase Storage and Google Cloud Storage all take it.
It is a few hashes, so the gateway makes its links without loading a client library.
"""

import hashlib
import hmac
from typing import Final, Literal
from urllib.parse import quote, urlencode, urlsplit

from shared.ports.clock import Clock
from shared.ports.media import is_media_key

LONGEST_SECONDS: Final = 7 * 24 * 3600
"""The longest that the services accept."""

_ALGORITHM: Final = "AWS4-HMAC-SHA256"


class SignatureV4:
    """Signs with the keys it is given; nothing is asked of the service.

    Without an endpoint the bucket is one of AWS in that region; with one, it is a folder of the endpoint.
    """

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str | None,
        region: str,
        access_key_id: str,
        secret_access_key: str,
        expires_seconds: int,
        clock: Clock,
    ) -> None:
        if not 1 <= expires_seconds <= LONGEST_SECONDS:
            raise ValueError(f"links may last from 1 to {LONGEST_SECONDS} seconds")
        if not (access_key_id and secret_access_key):
            raise ValueError("links to a private bucket are signed with an access key id and its secret")
        base = urlsplit(_base_url(bucket, endpoint, region))
        self._origin = f"{base.scheme}://{base.netloc}"
        self._host = base.netloc
        self._folder = base.path.rstrip("/")
        self._region = region
        self._access_key_id = access_key_id
        self._secret = secret_access_key
        self._expires_seconds = expires_seconds
        self._clock = clock

    @property
    def expires_seconds(self) -> int:
        return self._expires_seconds

    def link(self, key: str, *, method: Literal["GET", "HEAD"] = "GET") -> str:
        """Where that method finds the object until the link expires, whether or not there is one."""
        if not is_media_key(key):
            raise ValueError(f"not a media key: {key}")
        at = self._clock.now().strftime("%Y%m%dT%H%M%SZ")
        scope = f"{at[:8]}/{self._region}/s3/aws4_request"
        path = quote(f"{self._folder}/{key}", safe="/-_.~")
        # In the order that the signature wants: by name.
        query = urlencode(
            {
                "X-Amz-Algorithm": _ALGORITHM,
                "X-Amz-Credential": f"{self._access_key_id}/{scope}",
                "X-Amz-Date": at,
                "X-Amz-Expires": str(self._expires_seconds),
                "X-Amz-SignedHeaders": "host",
            },
            quote_via=quote,
            safe="-_.~",
        )
        request = f"{method}\n{path}\n{query}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(request.encode()).hexdigest()
        signature = self._sign(scope, f"{_ALGORITHM}\n{at}\n{scope}\n{digest}")
        return f"{self._origin}{path}?{query}&X-Amz-Signature={signature}"

    def _sign(self, scope: str, text: str) -> str:
        key = f"AWS4{self._secret}".encode()
        for part in (*scope.split("/"), text):
            key = hmac.digest(key, part.encode(), "sha256")
        return key.hex()


def _base_url(bucket: str, endpoint: str | None, region: str) -> str:
    if endpoint:
        scheme, host, path, *_ = urlsplit(endpoint)
        default_port = {"http": ":80", "https": ":443"}.get(scheme)
        if default_port is None or not host:
            raise ValueError(f"not the address of a service: {endpoint}")
        # Clients leave the default port out of the Host header, which is signed.
        return f"{scheme}://{host.removesuffix(default_port)}{path.rstrip('/')}/{bucket}"
    if "." in bucket:  # no certificate fits such a host
        return f"https://s3.{region}.amazonaws.com/{bucket}"
    return f"https://{bucket}.s3.{region}.amazonaws.com"
