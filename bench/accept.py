"""How many jobs a second does the gateway accept, beside FastAPI that does nothing with the same body?

`make bench`. The systems take turns in one run; medians and their ratio are what counts. The gateway
writes debit, balance and job with SQLite's synchronous=FULL; no worker runs, so that only accepting is
measured.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import httpx

from bench.load import Load, post, post_many

ROUNDS: Final = 5
REQUESTS: Final = 3_000
CONNECTIONS: Final = 32
BARE_PORT: Final = 18_080
GATEWAY_PORT: Final = 18_081
NO_WORKER_PORT: Final = 18_082
BODY: Final = json.dumps({"kind": "image", "prompt": "a fox in the snow", "count": 1}).encode()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="mediaforge-bench-") as home, ExitStack() as stack:
        stack.enter_context(_process("bench.bare", str(BARE_PORT), port=BARE_PORT, path="/openapi.json"))
        stack.enter_context(
            _process("services.api_gateway", port=GATEWAY_PORT, path="/health", environment=_settings(home))
        )
        rounds: dict[str, list[Load]] = {"bare FastAPI": [], "MediaForge": []}
        for round_ in range(ROUNDS):
            rounds["bare FastAPI"].append(_measure(BARE_PORT, round_))
            rounds["MediaForge"].append(_measure(GATEWAY_PORT, round_))
    _show(rounds)


def _measure(port: int, round_: int) -> Load:
    def request(number: int) -> bytes:
        key = f"{round_}-{number}"
        return post("/v1/generate", BODY, Authorization="Bearer dev-ada", Idempotency_Key=key)

    load = asyncio.run(post_many(port, request, connections=CONNECTIONS, total=REQUESTS))
    assert set(load.statuses) == {202}, load.statuses
    return load


def _show(rounds: dict[str, list[Load]]) -> None:
    print(
        f"{REQUESTS} submits over {CONNECTIONS} connections, "
        f"{ROUNDS} rounds in turn, on {os.cpu_count()} cores"
    )
    medians = {}
    for name, loads in rounds.items():
        rates = [load.per_second for load in loads]
        medians[name] = statistics.median(rates)
        p50, p99 = (statistics.median(load.percentile_ms(share) for load in loads) for share in (0.5, 0.99))
        print(
            f"{name:14} {medians[name]:6.0f}/s (from {min(rates):.0f} to {max(rates):.0f})"
            f"   p50 {p50:5.1f} ms   p99 {p99:6.1f} ms"
        )
    print(f"ratio of the medians: {medians['MediaForge'] / medians['bare FastAPI']:.2f}")


def _settings(home: str) -> dict[str, str]:
    return {
        "MEDIAFORGE_HOME": str(Path(home)),
        "MEDIAFORGE_GATEWAY_PORT": str(GATEWAY_PORT),
        "MEDIAFORGE_WORKER_PORT": str(NO_WORKER_PORT),
        "MEDIAFORGE_SIGNUP_TOKENS": "1000000",
        "MEDIAFORGE_QUEUE_IN_FLIGHT": "1",
        "MEDIAFORGE_LOG_LEVEL": "error",
    }


@contextmanager
def _process(
    module: str, *arguments: str, port: int, path: str, environment: dict[str, str] | None = None
) -> Iterator[None]:
    process = subprocess.Popen(  # noqa: S603
        (sys.executable, "-m", module, *arguments), env=os.environ | (environment or {})
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}{path}", process)
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if process.poll() is not None:
            raise SystemExit(f"{url} did not start")
        try:
            if httpx.get(url, timeout=1, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise SystemExit(f"{url} did not answer in time")


if __name__ == "__main__":
    main()
