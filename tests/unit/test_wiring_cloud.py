"""Wiring of the cloud's parts: what opens without a cloud, and one line about the setting that is wrong."""

import json
import os
import subprocess
import sys
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from shared.adapters.clock import SystemClock
from shared.adapters.generators.openai.images import OpenAIImages
from shared.catalogue import load_catalogue
from shared.domain.errors import Unauthenticated
from shared.ports.media import media_key
from shared.settings import BadSettings, Settings
from shared.wiring import open_gateway, open_worker
from shared.wiring.generators import open_generators
from shared.wiring.media import open_media, presigner_of
from shared.wiring.queues import open_queue
from tests.contract.media_adapters import JOB, TOKEN
from tests.emulators import a_project

PUSHES = {"push_service_account": "push@p.iam.gserviceaccount.com", "push_audience": "https://worker"}
KEYS = {"s3_access_key_id": "id", "s3_secret_access_key": "xyzzy"}


@pytest.fixture(autouse=True)
def no_cloud_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.startswith(("MEDIAFORGE_", "AWS_", "GOOGLE_")) or name.endswith("_EMULATOR_HOST"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))  # where gcloud and AWS keep credentials
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def settings(home: Path, **fields: Any) -> Settings:
    return Settings(**{"home": home, "store": "memory://", **fields})


async def refusal(opening: AbstractAsyncContextManager[Any]) -> str:
    """The one line that a process would print instead of starting."""
    with pytest.raises(BadSettings) as refused:
        async with opening:
            pytest.fail("it opened")
    message = str(refused.value)
    assert "\n" not in message
    assert "xyzzy" not in message
    return message


# Queues


@pytest.mark.parametrize(
    "queue",
    ["pubsub://", "pubsub://Project X", "pubsub://project/topic", "cloudtasks://project-x", "embedded://x"],
)
async def test_a_queue_that_cannot_be_is_named(tmp_path: Path, queue: str) -> None:
    opening = open_queue(settings(tmp_path, queue=queue), SystemClock())
    assert (await refusal(opening)).startswith("MEDIAFORGE_QUEUE")


@pytest.mark.parametrize("queue", ["pubsub://project-x", "cloudtasks://project-x/europe-west1"])
async def test_a_queue_of_google_without_credentials_is_named(tmp_path: Path, queue: str) -> None:
    fields = PUSHES | {"worker_url": "https://worker"}
    message = await refusal(open_queue(settings(tmp_path, queue=queue, **fields), SystemClock()))
    assert message.startswith("MEDIAFORGE_QUEUE: ")
    assert "credentials" in message


@pytest.mark.external
async def test_topics_that_are_missing_are_named_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pubsub_emulator: str
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub_emulator)
    message = await refusal(open_queue(settings(tmp_path, queue="pubsub://demo-nobody"), SystemClock()))
    assert message.startswith("MEDIAFORGE_QUEUE: topic projects/demo-nobody/topics/")
    assert message.endswith("does not exist")


# Stores


@pytest.mark.parametrize("store", ["firestore://", "firestore://Not A Project", "firestore://project-x/a/b"])
async def test_a_firestore_that_cannot_be_is_named(tmp_path: Path, store: str) -> None:
    assert (await refusal(open_gateway(settings(tmp_path, store=store)))).startswith("MEDIAFORGE_STORE")


async def test_firestore_without_credentials_is_named(tmp_path: Path) -> None:
    message = await refusal(open_gateway(settings(tmp_path, store="firestore://project-x")))
    assert message.startswith("MEDIAFORGE_STORE: there are no credentials for Firestore")


@pytest.mark.external
async def test_a_store_on_firestore_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, firestore_emulator: str
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator)
    async with open_gateway(settings(tmp_path, store=f"firestore://{a_project()}")) as gateway:
        await gateway.app.store.check()


# Who may call


async def test_a_worker_that_service_accounts_push_to_takes_no_secret(tmp_path: Path) -> None:
    async with open_worker(settings(tmp_path, **PUSHES, worker_secret="the-secret")) as worker:
        with pytest.raises(Unauthenticated):
            await worker.verifier.verify("the-secret")


async def test_pushes_of_google_to_nobodys_name_are_refused_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"environment": "production", "auth": "keys", "queue": "cloudtasks://project-x/europe-west1"}
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:9")
    message = await refusal(open_worker(settings(tmp_path, **fields)))
    assert message.startswith("MEDIAFORGE_PUSH_SERVICE_ACCOUNT: ")


@pytest.mark.parametrize(
    ("fields", "variable"),
    [
        ({"push_service_account": "nobody"}, "MEDIAFORGE_PUSH_SERVICE_ACCOUNT: "),
        (PUSHES | {"push_audience": "two words"}, "MEDIAFORGE_PUSH_AUDIENCE: "),
    ],
)
async def test_who_pushes_for_whom_is_checked_at_start(
    tmp_path: Path, fields: dict[str, str], variable: str
) -> None:
    assert (await refusal(open_worker(settings(tmp_path, **fields)))).startswith(variable)


@pytest.mark.parametrize("project", ["", "Not A Project"])
async def test_firebase_without_a_project_is_named(tmp_path: Path, project: str) -> None:
    fields = {"auth": "firebase", "firebase_project": project}
    message = await refusal(open_gateway(settings(tmp_path, **fields)))
    assert message.startswith("MEDIAFORGE_FIREBASE_PROJECT: ")


async def test_firebase_tokens_count_beside_api_keys_and_dev_tokens_do_not(tmp_path: Path) -> None:
    fields = {"auth": "firebase", "firebase_project": "my-app-1a2b3"}
    async with open_gateway(settings(tmp_path, **fields)) as gateway:
        with pytest.raises(Unauthenticated):
            await gateway.authenticator.authenticate("dev-ada")


async def test_firebases_emulator_is_refused_in_production(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", "127.0.0.1:9099")
    fields = {"auth": "firebase", "firebase_project": "my-app-1a2b3"}
    async with open_gateway(settings(tmp_path, **fields)):
        pass
    message = await refusal(open_gateway(settings(tmp_path, environment="production", **fields)))
    assert message.startswith("FIREBASE_AUTH_EMULATOR_HOST ")


# Media


@pytest.mark.parametrize(
    "media", ["s3://", "s3://bucket/folder", "r2://bucket", "r2:///bucket", "r2://a/b/c"]
)
async def test_a_bucket_that_cannot_be_is_named(tmp_path: Path, media: str) -> None:
    assert (await refusal(open_media(settings(tmp_path, media=media)))).startswith("MEDIAFORGE_MEDIA")


async def test_a_bucket_without_keys_is_named(tmp_path: Path) -> None:
    fields = {"media": "s3://bucket", "s3_endpoint": "http://127.0.0.1:9", "s3_access_key_id": "id"}
    message = await refusal(open_media(settings(tmp_path, **fields)))
    assert message.startswith("MEDIAFORGE_MEDIA: the secret access key is missing")


KEY = media_key(JOB, TOKEN, 0, "image/png")


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"media": "r2://acc0unt/films"}, "https://acc0unt.r2.cloudflarestorage.com/films/"),
        ({"media": "s3://films", "s3_endpoint": "https://minio.example/"}, "https://minio.example/films/"),
        ({"media": "s3://films", "s3_region": "eu-west-1"}, "https://films.s3.eu-west-1.amazonaws.com/"),
    ],
)
def test_media_in_a_private_bucket_are_read_through_signed_links(
    tmp_path: Path, fields: dict[str, str], place: str
) -> None:
    presigner = presigner_of(settings(tmp_path, **fields, **KEYS), SystemClock())
    assert presigner is not None
    assert presigner.link(KEY).startswith(f"{place}{KEY}?X-Amz-")


def test_media_on_the_disk_or_in_a_public_bucket_need_no_signed_links(tmp_path: Path) -> None:
    public = {"media": "r2://acc0unt/films", "media_public_url": "https://films.example"}
    assert presigner_of(settings(tmp_path), SystemClock()) is None
    assert presigner_of(settings(tmp_path, **public), SystemClock()) is None


async def test_links_that_nobody_can_sign_are_refused_at_start(tmp_path: Path) -> None:
    message = await refusal(open_gateway(settings(tmp_path, media="s3://films")))
    assert message.startswith("MEDIAFORGE_S3_ACCESS_KEY_ID: ")
    assert "MEDIAFORGE_MEDIA_PUBLIC_URL" in message


# What is loaded

OPENED = """
import asyncio, sys
from shared.settings import load_settings
from shared.wiring import open_gateway

async def main():
    async with open_gateway(load_settings()) as gateway:
        await gateway.app.store.check()

asyncio.run(main())
print(*sorted(name for name in {names} if name in sys.modules))
"""
NOT_FOR_GATEWAYS = ("google.genai", "openai", "aioboto3", "botocore", "av", "PIL", "sqlalchemy", "psycopg")


@pytest.mark.external
def test_a_gateway_on_the_clouds_parts_loads_no_generator_no_bucket_and_no_database(
    tmp_path: Path, firestore_emulator: str
) -> None:
    variables = {
        "FIRESTORE_EMULATOR_HOST": firestore_emulator,
        "MEDIAFORGE_HOME": str(tmp_path),
        "MEDIAFORGE_STORE": f"firestore://{a_project()}",
        "MEDIAFORGE_MEDIA": "r2://acc0unt/films",
        "MEDIAFORGE_S3_ACCESS_KEY_ID": "id",
        "MEDIAFORGE_S3_SECRET_ACCESS_KEY": "key",
        "MEDIAFORGE_AUTH": "firebase",
        "MEDIAFORGE_FIREBASE_PROJECT": "my-app-1a2b3",
        "MEDIAFORGE_GEMINI_API_KEY": "key",
    }
    program = OPENED.replace("{names}", repr(NOT_FOR_GATEWAYS))
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr


# Generators


def a_catalogue(home: Path, *generators: str, are_offered: bool = True) -> Path:
    models = [
        f"""
        [models.{name}]
        generator = "{name}"
        tokens = 1
        per = "job"
        start_timeout_seconds = 75
        sizes = {{ "1:1" = "64x64" }}
        """
        for name in generators
    ]
    kinds = f"[kinds.image]\nmodels = {list(generators)}\ndeadline_seconds = 9\n" if are_offered else ""
    path = home / "catalogue.toml"
    path.write_text(f"{kinds}[kinds.erasure]\ndeadline_seconds = 9\n" + "".join(models))
    return path


def a_service_account(home: Path) -> Path:
    """The credentials of a service account that Google does not know."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = home / "account.json"
    path.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "p",
                "private_key": pem.decode(),
                "client_email": "a@p.iam.gserviceaccount.com",
                "token_uri": "http://127.0.0.1:9/token",
            }
        )
    )
    return path


async def test_the_generators_of_the_catalogue_open_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(a_service_account(tmp_path)))
    fields = {"gemini_api_key": "key", "openai_api_key": "key", "vertex_project": "p"}
    catalogue = a_catalogue(tmp_path, "gemini", "veo", "omni", "openai")
    async with open_worker(settings(tmp_path, catalogue=catalogue, **fields)) as worker:
        assert worker.app.generators.keys() == {"gemini", "veo", "omni", "openai"}


async def test_a_generator_whose_models_nobody_is_offered_need_not_open(tmp_path: Path) -> None:
    """It is there only for operations from the time when they were."""
    catalogue = a_catalogue(tmp_path, "omni", "local", are_offered=False)
    async with open_worker(settings(tmp_path, catalogue=catalogue)) as worker:
        assert worker.app.generators.keys() == {"local"}


async def test_gemini_without_a_key_is_asked_through_vertex_ai(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(a_service_account(tmp_path)))
    catalogue = a_catalogue(tmp_path, "gemini")
    async with open_worker(settings(tmp_path, catalogue=catalogue, vertex_project="p")) as worker:
        assert worker.app.generators.keys() == {"gemini"}


@pytest.mark.parametrize(
    ("generator", "fields", "said"),
    [
        ("gemini", {}, "MEDIAFORGE_GEMINI_API_KEY: the API key is missing"),
        ("gemini", {"gemini_api_key": "xyzzy xyzzy"}, "MEDIAFORGE_GEMINI_API_KEY: the API key has"),
        ("omni", {}, "MEDIAFORGE_GEMINI_API_KEY: the API key is missing"),
        ("openai", {}, "MEDIAFORGE_OPENAI_API_KEY: the API key is missing"),
        ("veo", {}, "MEDIAFORGE_VERTEX_PROJECT: a Google Cloud project is needed"),
        ("veo", {"vertex_project": "p"}, "MEDIAFORGE_VERTEX_PROJECT: no Google credentials were found"),
    ],
)
async def test_a_generator_that_cannot_work_is_named_by_its_setting(
    tmp_path: Path, generator: str, fields: dict[str, str], said: str
) -> None:
    catalogue = a_catalogue(tmp_path, generator)
    assert (await refusal(open_worker(settings(tmp_path, catalogue=catalogue, **fields)))).startswith(said)


async def test_a_model_has_its_whole_time_whatever_others_of_its_generator_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience: list[float] = []
    opened = OpenAIImages.open

    def noting(**fields: Any) -> AbstractAsyncContextManager[OpenAIImages]:
        patience.append(fields["timeout_seconds"])
        return opened(**fields)

    monkeypatch.setattr(OpenAIImages, "open", noting)
    shipped = load_catalogue(None)
    quick = replace(shipped.models["local-image"], generator="openai", start_timeout_seconds=20)
    slow = replace(quick, start_timeout_seconds=200)
    catalogue = replace(shipped, models={**shipped.models, "quick": quick, "slow": slow})
    async with open_generators(settings(tmp_path, openai_api_key="sk-x"), catalogue, SystemClock()):
        assert patience == [195]


@pytest.mark.parametrize("media", ["gs://bucket", "s3:/bucket", "bucket"])
async def test_the_gateway_too_refuses_media_that_it_could_never_lead_to(tmp_path: Path, media: str) -> None:
    assert "MEDIAFORGE_MEDIA must be" in await refusal(open_gateway(settings(tmp_path, media=media)))


async def test_pushes_whose_tokens_are_made_out_for_nobody_knows_whom_are_refused_at_start(
    tmp_path: Path,
) -> None:
    """Else every push is refused, and every job ends in the dead-letter topic."""
    production = {"environment": "production", "auth": "keys", **PUSHES, "push_audience": ""}
    assert "MEDIAFORGE_PUSH_AUDIENCE" in await refusal(open_worker(settings(tmp_path, **production)))
