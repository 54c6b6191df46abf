"""The whole system on the cloud's parts: real gateway and worker processes, and fake makers of media."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from services.local.pubsub_setup import set_up
from tests.acceptance.machine import free_ports
from tests.emulators import a_project
from tests.providers import gemini, openai, veo
from tests.providers.films import a_real_film
from tests.providers.server import Call, FakeProvider, Reply

SECRET: Final = "the-workers-secret"
BUCKET: Final = "media"
SECONDS: Final = 60
LEASE_SECONDS: Final = 5

CATALOGUE: Final = """
[kinds.image]
models = ["gemini-image", "openai-image"]
deadline_seconds = 600
[kinds.video]
models = ["veo"]
deadline_seconds = 600
[kinds.erasure]
deadline_seconds = 600
[models.gemini-image]
generator = "gemini"
tokens = 2
per = "image"
repeatable = true
start_timeout_seconds = 60
max_count = 4
sizes = { "1:1" = "1024x1024" }
[models.openai-image]
generator = "openai"
tokens = 2
per = "image"
repeatable = true
start_timeout_seconds = 60
max_count = 4
sizes = { "1:1" = "1024x1024" }
[models.veo]
generator = "veo"
tokens = 20
per = "job"
start_timeout_seconds = 75
seconds = [8]
sizes = { "16:9" = "1280x720" }
"""


@dataclass
class Makers:
    """Gemini, OpenAI and Veo at one address, which do what a prompt says."""

    provider: FakeProvider
    films_may_end: asyncio.Event = field(default_factory=asyncio.Event)
    pictures_may_end: asyncio.Event = field(default_factory=asyncio.Event)
    long_films_asked_about: int = 0
    _veo: veo.AModel = field(default_factory=veo.AModel)
    _long: set[str] = field(default_factory=set)

    def __call__(self, call: Call) -> Reply:
        if call.path == "/token":
            return Reply.json({"access_token": "t", "expires_in": 3600, "token_type": "Bearer"})
        if call.path.endswith(":generateContent"):
            return self._gemini(call)
        if call.path.startswith("/v1/images"):
            is_down = "everybody is down" in call.json["prompt"]
            return openai.error(503, None, "server_error") if is_down else openai.a_model(call)
        return self._film(call)

    def _gemini(self, call: Call) -> Reply:
        prompt = gemini.asked_parts(call)[0]["text"]
        if "is down" in prompt:
            return gemini.error(503, "UNAVAILABLE")
        reply = gemini.a_model(call)
        if "slow" in prompt:
            reply = Reply(
                status=reply.status, body=reply.body, headers=reply.headers, after=self.pictures_may_end
            )
        return reply

    def _film(self, call: Call) -> Reply:
        if call.path.endswith(":predictLongRunning"):
            reply = self._veo(call)
            if "long" in call.json["instances"][0]["prompt"]:
                self._long.add(json.loads(reply.body)["name"])
            return reply
        if call.json["operationName"] in self._long:
            self.long_films_asked_about += 1
            return veo.with_video(a_real_film()) if self.films_may_end.is_set() else veo.running()
        return self._veo(call)

    def starts_of(self, words: str) -> int:
        """How often anybody was asked to make what the words say."""
        return sum(words.encode() in call.body for call in self.provider.calls)


@dataclass
class Service:
    """One process of ours."""

    name: str
    module: str
    url: str
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Return once it answers."""
        self.process = self._spawned()
        async with httpx.AsyncClient(trust_env=False) as client:
            end = time.monotonic() + SECONDS
            while True:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < end, self.log.read_text()
                with suppress(httpx.HTTPError):
                    if (await client.get(f"{self.url}/health")).is_success:
                        return
                await asyncio.sleep(0.1)

    def _spawned(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                (sys.executable, "-m", self.module), env=self.environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """`kill -9`"""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(20)


@dataclass
class Cloud:
    project: str
    makers: Makers
    gateway: Service
    worker: Service
    client: httpx.AsyncClient
    environment: dict[str, str]

    async def submit(self, prompt: str, *, kind: str = "image", **more: Any) -> dict[str, Any]:
        answer = await self.client.post("/v1/generate", json={"kind": kind, "prompt": prompt, **more})
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    async def job(self, job: dict[str, Any]) -> dict[str, Any]:
        now: dict[str, Any] = (await self.client.get(f"/v1/jobs/{job['id']}")).json()
        return now

    async def until(
        self, job: dict[str, Any], fits: Callable[[dict[str, Any]], bool], *, seconds: float = SECONDS
    ) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while not fits(now := await self.job(job)):
            assert time.monotonic() < end, f"{now}\n{self.worker.log.read_text()[-4000:]}"
            await asyncio.sleep(0.05)
        return now

    async def made(self, prompt: str, **more: Any) -> dict[str, Any]:
        """Submit it, and the job as it ended."""
        return await self.until(await self.submit(prompt, **more), is_finished)

    async def balance(self) -> int:
        balance: int = (await self.client.get("/v1/balance")).json()["balance"]
        return balance

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (sys.executable, "-m", "services.cli", *words),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )


def is_finished(job: dict[str, Any]) -> bool:
    return job["status"] not in ("queued", "processing")


@asynccontextmanager
async def a_cloud(home: Path, *, s3: str) -> AsyncIterator[Cloud]:
    """A system of its own; the emulators are found through the environment, as by every client."""
    project = a_project()
    gateway_port, worker_port = free_ports()
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(FakeProvider())
        makers = provider.handler = Makers(provider)
        (home / "catalogue.toml").write_text(CATALOGUE)
        environment = {n: v for n, v in os.environ.items() if not n.startswith(("MEDIAFORGE_", "AWS_"))}
        environment |= {
            "GOOGLE_APPLICATION_CREDENTIALS": str(a_service_account(home, f"{provider.url}/token")),
            "MEDIAFORGE_HOME": str(home / "state"),
            "MEDIAFORGE_GATEWAY_PORT": str(gateway_port),
            "MEDIAFORGE_WORKER_PORT": str(worker_port),
            "MEDIAFORGE_WORKER_SECRET": SECRET,
            "MEDIAFORGE_STORE": f"firestore://{project}",
            "MEDIAFORGE_QUEUE": f"pubsub://{project}",
            "MEDIAFORGE_MEDIA": f"s3://{BUCKET}",
            "MEDIAFORGE_S3_ENDPOINT": s3,
            "MEDIAFORGE_S3_ACCESS_KEY_ID": "nobody",
            "MEDIAFORGE_S3_SECRET_ACCESS_KEY": "nothing",
            "MEDIAFORGE_GEMINI_API_KEY": "key",
            "MEDIAFORGE_GEMINI_URL": provider.url,
            "MEDIAFORGE_OPENAI_API_KEY": "key",
            "MEDIAFORGE_OPENAI_URL": f"{provider.url}/v1",
            "MEDIAFORGE_VERTEX_PROJECT": "p",
            "MEDIAFORGE_VERTEX_URL": provider.url,
            "MEDIAFORGE_CATALOGUE": str(home / "catalogue.toml"),
            "MEDIAFORGE_LEASE_SECONDS": str(LEASE_SECONDS),
            "MEDIAFORGE_LEASE_MARGIN_SECONDS": "2",
            "MEDIAFORGE_PUBLISH_GRACE_SECONDS": "2",
            "MEDIAFORGE_MAX_ATTEMPTS": "2",
            "MEDIAFORGE_SIGNUP_TOKENS": "1000",
        }
        async with httpx.AsyncClient(trust_env=False) as client:
            (await client.put(f"{s3}/{BUCKET}")).raise_for_status()
        worker_url = f"http://127.0.0.1:{worker_port}"
        await set_up(project, worker_url=worker_url, backoff=None, token=SECRET)
        services = {
            name: Service(name, module, url, environment, home / f"{name}.log")
            for name, module, url in (
                ("gateway", "services.api_gateway", f"http://127.0.0.1:{gateway_port}"),
                ("worker", "services.worker", worker_url),
            )
        }
        for service in services.values():
            stack.callback(service.stop)
        await asyncio.gather(*(service.start() for service in services.values()))
        scheduler = asyncio.create_task(_sweep_again_and_again(worker_url))
        stack.callback(scheduler.cancel)
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                base_url=services["gateway"].url,
                headers={"Authorization": "Bearer dev-ada"},
                timeout=30,
                trust_env=False,
                follow_redirects=True,
            )
        )
        yield Cloud(project, makers, services["gateway"], services["worker"], client, environment)


async def _sweep_again_and_again(worker_url: str) -> None:
    """What Cloud Scheduler does, only more often."""
    async with httpx.AsyncClient(
        base_url=worker_url, headers={"Authorization": f"Bearer {SECRET}"}, timeout=90, trust_env=False
    ) as client:
        while True:
            with suppress(httpx.HTTPError):
                await client.post("/sweep", params={"seconds": 0})
            await asyncio.sleep(0.5)


def a_service_account(home: Path, token_url: str) -> Path:
    """Credentials, for which the fake makers give tokens."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = home / "account.json"
    account = {
        "type": "service_account",
        "project_id": "p",
        "private_key": pem.decode(),
        "client_email": "worker@p.iam.gserviceaccount.com",
        "token_uri": token_url,
    }
    path.write_text(json.dumps(account))
    return path
