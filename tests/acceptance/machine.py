"""A whole MediaForge on this machine, as processes that a test starts, kills and asks."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 60
MEDIAFORGE = (sys.executable, "-m", "services.cli")

QUICK_CATALOGUE = """
[kinds.image]
models = ["local-image"]
deadline_seconds = 600
[kinds.video]
models = ["local-video"]
deadline_seconds = 600
[kinds.erasure]
deadline_seconds = 600
[models.local-image]
generator = "local"
tokens = 1
per = "image"
repeatable = true
start_timeout_seconds = 60
max_count = 4
sizes = { "1:1" = "256x256" }
[models.local-video]
generator = "local"
tokens = 10
per = "job"
start_timeout_seconds = 1
seconds = [1]
sizes = { "16:9" = "320x180" }
"""
"""Small pictures and short films: these tests are about processes."""


@dataclass
class Machine:
    home: Path
    gateway_port: int
    worker_port: int
    more: dict[str, str] = field(default_factory=dict)
    _up: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def operations(self) -> Path:
        return self.home / "operations.txt"

    @property
    def log(self) -> Path:
        return self.home / "up.log"

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MEDIAFORGE_")}
        return kept | {
            "MEDIAFORGE_HOME": str(self.home / "state"),
            "MEDIAFORGE_GATEWAY_PORT": str(self.gateway_port),
            "MEDIAFORGE_WORKER_PORT": str(self.worker_port),
            "MEDIAFORGE_LOCAL_OPERATIONS": str(self.operations),
            **self.more,
        }

    def start(self) -> None:
        """Return once both services answer."""
        with self.log.open("ab") as log:
            self._up = subprocess.Popen(
                (*MEDIAFORGE, "up"),
                env=self.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + START_SECONDS
        while not (
            _answers(f"{self.url}/health") and _answers(f"http://127.0.0.1:{self.worker_port}/health")
        ):
            assert self._up.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            wait_a_moment()

    def kill(self) -> None:
        """`kill -9` of everything at once."""
        assert self._up is not None
        os.killpg(self._up.pid, signal.SIGKILL)
        self._up.wait()

    def stop(self) -> int:
        """SIGTERM, as a person or a system would; the exit code."""
        assert self._up is not None
        if self._up.poll() is None:
            self._up.send_signal(signal.SIGTERM)
        return self._up.wait(timeout=30)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (*MEDIAFORGE, *words),
            env=self.environment(),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def client(self, user: str = "ada") -> httpx.Client:
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer dev-{user}"}, timeout=70, trust_env=False
        )

    def started_operations(self, kind: str) -> list[str]:
        """The job of every operation of that kind that the renderer was asked to start."""
        if not self.operations.exists():
            return []
        lines = [line.split() for line in self.operations.read_text().splitlines()]
        return [job for job, _, its_kind in lines if its_kind == kind]


def wait_a_moment() -> None:
    """Between looks at a process that has a clock of its own, which no test can move."""
    time.sleep(0.05)


def everything_ended(client: httpx.Client, count: int, *, within_seconds: float) -> list[dict[str, Any]]:
    """All of a user's jobs once none is unfinished; fails when that takes too long."""
    end = time.monotonic() + within_seconds
    while True:
        jobs, after = [], None
        while True:
            page = client.get("/v1/jobs", params={"limit": 100} | ({"after": after} if after else {})).json()
            jobs += page["data"]
            after = page["next"]
            if after is None:
                break
        open_ = [job for job in jobs if job["status"] in ("queued", "processing")]
        if not open_ and len(jobs) == count:
            return jobs
        assert time.monotonic() < end, f"{len(open_)} of {len(jobs)} jobs have not ended: {open_[:2]}"
        wait_a_moment()


@contextmanager
def a_machine(home: Path, **more: str) -> Iterator[Machine]:
    """A machine whose processes are gone afterwards, however the test ended."""
    home.mkdir(parents=True, exist_ok=True)
    machine = Machine(home, *free_ports(), more=more)
    try:
        yield machine
    finally:
        if machine._up is not None and machine._up.poll() is None:
            machine.kill()


def free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False
