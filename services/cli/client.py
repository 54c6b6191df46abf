"""The gateway, as the command line calls it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import httpx

from services.cli.failing import CannotLook, NoAnswer

RESTART_SECONDS: Final = 30


class GatewayClient:
    """One connection to a gateway; every refusal comes out as a line for people."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    @classmethod
    @contextmanager
    def open(cls, url: str, token: str) -> Iterator["GatewayClient"]:
        headers = {"Authorization": f"Bearer {token}"}
        # No proxy stands between this machine and itself, whatever the environment says.
        is_remote = httpx.URL(url).host not in ("127.0.0.1", "localhost", "::1")
        with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=is_remote) as http:
            yield cls(http)

    def submit(self, body: Mapping[str, Any], *, key: str) -> dict[str, Any]:
        return self._json("POST", "/v1/generate", json=body, headers={"Idempotency-Key": key})

    def job(self, job_id: str) -> dict[str, Any]:
        return self._json("GET", f"/v1/jobs/{job_id}")

    def job_in_the_end(self, job_id: str) -> dict[str, Any]:
        """As `job`, but a gateway that is being restarted is asked again for a while."""
        for _ in range(RESTART_SECONDS):
            try:
                return self.job(job_id)
            except NoAnswer:
                time.sleep(1)
        return self.job(job_id)

    def jobs(self, **wanted: str | int | None) -> list[dict[str, Any]]:
        chosen = {name: value for name, value in wanted.items() if value is not None}
        data: list[dict[str, Any]] = self._json("GET", "/v1/jobs", params=chosen)["data"]
        return data

    def balance(self) -> dict[str, Any]:
        return self._json("GET", "/v1/balance")

    def download(self, url: str) -> Iterator[bytes]:
        """Without our token: media may be kept by somebody else, to whom the gateway leads."""
        get = httpx.stream("GET", url, timeout=60, follow_redirects=True, trust_env=self._http.trust_env)
        with _told_apart(), get as answer:
            if answer.is_error:
                raise CannotLook(f"HTTP {answer.status_code} for {url}")  # not where it led: that is signed
            yield from answer.iter_bytes()

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        with _told_apart():
            answer = self._http.request(method, path, **options)
            if answer.is_error:
                raise CannotLook(_reason(answer))
            content: dict[str, Any] = answer.json()
            return content


@contextmanager
def _told_apart() -> Iterator[None]:
    try:
        yield
    except httpx.ConnectError as error:
        raise NoAnswer(f"no gateway answers at {_origin(error.request.url)}; is it running?") from error
    except httpx.HTTPError as error:
        raise NoAnswer(f"the gateway did not answer: {error}") from error


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}"


def _reason(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
        return f"{error['message']} ({error['code']})"
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code} from {answer.request.url}"
