"""The gateway, as the command line calls it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from services.cli.failing import CannotLook


class GatewayClient:
    """One connection to a gateway; every refusal comes out as a line for people."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    @classmethod
    @contextmanager
    def open(cls, url: str, token: str) -> Iterator["GatewayClient"]:
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=url, headers=headers, timeout=30) as http:
            yield cls(http)

    def submit(self, body: Mapping[str, Any], *, key: str) -> dict[str, Any]:
        return self._json("POST", "/v1/generate", json=body, headers={"Idempotency-Key": key})

    def job(self, job_id: str) -> dict[str, Any]:
        return self._json("GET", f"/v1/jobs/{job_id}")

    def jobs(self, **wanted: str | int | None) -> list[dict[str, Any]]:
        chosen = {name: value for name, value in wanted.items() if value is not None}
        data: list[dict[str, Any]] = self._json("GET", "/v1/jobs", params=chosen)["data"]
        return data

    def balance(self) -> dict[str, Any]:
        return self._json("GET", "/v1/balance")

    def download(self, url: str) -> Iterator[bytes]:
        with _told_apart(), self._http.stream("GET", url) as answer:
            answer.raise_for_status()
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
        raise CannotLook(f"no gateway answers at {_origin(error.request.url)}; is it running?") from error
    except httpx.HTTPError as error:
        raise CannotLook(f"the gateway did not answer: {error}") from error


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}"


def _reason(answer: httpx.Response) -> str:
    try:
        error = answer.json()["error"]
        return f"{error['message']} ({error['code']})"
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code} from {answer.request.url}"
