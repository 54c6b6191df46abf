"""Every setting, typed and checked once, when a process starts.

Each is an environment variable with the prefix `MEDIAFORGE_`; a file `.env` is not read.
"""

import difflib
import os
import re
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX: Final = "MEDIAFORGE_"
CLIENT_VARIABLES: Final = frozenset({"URL", "TOKEN", "PARENT_PIPE", "CLOUD_SDK"})
"""Not settings: read by the command line and `make emulators`, or set by `mediaforge up` for its children."""


class BadSettings(Exception):
    """One line that names the variable and says what it must be."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    home: Path = Path(".mediaforge")
    """Where this machine keeps its store, media, secret and temporary files."""
    environment: Literal["local", "production"] = "local"
    """`production` refuses dev tokens and writes logs as JSON."""

    store: str = ""
    """`sqlite:///path`, `postgresql://user:password@host/database`, `firestore://project` (or
    `firestore://project/database`), or `memory://`; by default in home."""
    firestore_shards: int = Field(default=1, ge=1, le=64)
    """Ranges that Firestore's indexes are cut into, for more than 500 new jobs a second; may only grow."""
    queue: str = "embedded://"
    """`embedded://` (in the process, pushing to the worker over HTTP), `pubsub://project` or
    `cloudtasks://project/location`."""
    media: str = ""
    """`file:///absolute/folder`, `s3://bucket` or `r2://account/bucket`; by default a folder in home."""
    auth: Literal["dev", "keys", "firebase"] = "dev"
    """`dev`: dev tokens and API keys; `firebase`: Firebase ID tokens and API keys; `keys`: API keys only."""
    catalogue: Path | None = None
    """Your own catalogue of models, prices and styles, instead of the one that ships."""
    signup_tokens: int = Field(default=-1, ge=-1, le=10**12)
    """Tokens of a new account; by default 100 locally and none in production."""

    host: str = "127.0.0.1"
    """The address that gateway and worker listen on."""
    gateway_port: int = Field(default=8080, ge=1, le=65535)
    """`PORT`, as Cloud Run sets it, wins over both ports."""
    worker_port: int = Field(default=8081, ge=1, le=65535)
    """Nobody but the queue and the scheduler calls it."""
    public_url: str = ""
    """Where users reach the gateway; by default its own address."""
    media_public_url: str = ""
    """Where users fetch media: a public bucket's address. By default the gateway's `/media`, which sends them
    to signed links if media are in a bucket."""
    worker_url: str = ""
    """Where the embedded queue reaches the worker; by default its own address."""
    worker_secret: SecretStr = SecretStr("")
    """What the queue shows to the worker; by default made once and kept in home."""
    push_service_account: str = ""
    """Whose tokens the worker takes instead of the secret: emails of service accounts, commas between."""
    push_audience: str = ""
    """What these tokens must be made out for; by default the worker's URL. Several with commas between."""
    push_behind_iam: bool = False
    """Set it only where Cloud Run's own IAM check stands before the worker: it removes tokens' signatures."""
    firebase_project: str = ""
    """Whose ID tokens are taken; by default the project of the Firestore store."""
    cors_origins: str = "*"
    """Origins whose pages may call the gateway, with commas between."""

    s3_endpoint: str = ""
    """Of an S3 that is not Amazon's; `r2://` knows its own."""
    s3_region: str = ""
    """By default `auto` with an endpoint, and without one what Amazon's own settings say."""
    s3_access_key_id: str = ""
    """Without keys, those are used that Amazon gives a machine."""
    s3_secret_access_key: SecretStr = SecretStr("")
    """Belongs to the key id."""
    signed_link_seconds: int = Field(default=3_600, ge=60, le=604_800)
    """How long a signed link to media works; the URLs in documents work for ever."""

    gemini_api_key: SecretStr = SecretStr("")
    """For the generators `gemini` and `omni`."""
    gemini_url: str = ""
    """Another address of the Gemini API; by default Google's."""
    vertex_project: str = ""
    """For the generator `veo`, and for `gemini` without a key; the machine needs credentials for it."""
    vertex_location: str = "us-central1"
    """Where Vertex AI runs it."""
    vertex_output: str = ""
    """`gs://bucket/folder` that Veo writes films into, for the worker to stream; otherwise they come inside
    its answers, which takes five times their size in memory."""
    vertex_url: str = ""
    """Another address of Vertex AI; by default Google's."""
    openai_api_key: SecretStr = SecretStr("")
    """For the generator `openai`."""
    openai_url: str = ""
    """Another address of the OpenAI API, up to and with `/v1`; by default OpenAI's."""

    max_body_bytes: int = Field(default=10_000_000, ge=1_000)
    """The largest body of a request; more is refused with 413."""
    max_prompt_characters: int = Field(default=4_000, ge=1, le=100_000)
    """The longest prompt."""
    max_metadata_bytes: int = Field(default=4_096, ge=0, le=65_536)
    """The largest `metadata` of a job, as JSON."""
    max_requests: int = Field(default=1_000, ge=1)
    """Requests that the gateway answers at once; more get 503."""
    max_waits: int = Field(default=500, ge=0)
    """Requests with `Prefer: wait` that are kept waiting at once; more are answered without waiting."""
    max_body_seconds: float = Field(default=20, gt=0, le=600)
    """How long a request's body may take to arrive."""
    worker_concurrency: int = Field(default=128, ge=1)
    """Jobs in work at once in one worker process; more get 503."""
    queue_in_flight: int = Field(default=32, ge=1)
    """Deliveries of the embedded queue at once, per route to the worker."""
    queue_waiting: int = Field(default=100_000, ge=1)
    """Hints of the embedded queue that may wait, per route; more are left to the sweep."""

    lease_seconds: int = Field(default=45, ge=5, le=600)
    """How long a claim lasts unless it is renewed: what a job waits when its worker was killed."""
    lease_margin_seconds: int = Field(default=15, ge=1, le=120)
    """How much a lease outlives the start of something that must not be bought twice."""
    publish_grace_seconds: int = Field(default=10, ge=1, le=600)
    """When the sweep begins to doubt that a message arrived."""
    max_attempts: int = Field(default=5, ge=1, le=100)
    """After that many failures or dead workers a job fails."""
    shutdown_grace_seconds: int = Field(default=4, ge=0, le=6)
    """How long a step may go on after SIGTERM; Cloud Run kills the process after 10 s."""

    local_latency_seconds: float = Field(default=0, ge=0, le=240)
    """How slow the local renderer pretends to be."""
    local_failure_rate: float = Field(default=0, ge=0, le=1)
    """The share of its operations that fail."""
    local_operations: Path | None = None
    """A file that gets a line for every operation it was asked to start: `job_id operation_id kind`."""

    log_format: Literal["", "json", "console"] = ""
    """By default JSON in production and readable lines elsewhere."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged."""

    @field_validator(
        "public_url",
        "media_public_url",
        "worker_url",
        "s3_endpoint",
        "gemini_url",
        "vertex_url",
        "openai_url",
    )
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        try:
            parts = urlsplit(url)
            is_whole = parts.port != 0 and bool(parts.hostname)  # reading the port checks it
        except ValueError:
            is_whole = False
        if url and (not is_whole or " " in url):
            raise ValueError("must name a host, as in https://host or http://host:port")
        return url

    @field_validator("worker_secret")
    @classmethod
    def _fits_a_header(cls, secret: SecretStr) -> SecretStr:
        if not re.fullmatch("[!-~]*", secret.get_secret_value()):
            raise ValueError("must be ASCII characters without blanks: it travels in a header")
        return secret

    @model_validator(mode="after")
    def _dev_tokens_stay_local(self) -> Self:
        if self.auth == "dev" and self.environment != "local":
            raise ValueError(
                f"{PREFIX}AUTH=dev lets anybody be anyone and works only with {PREFIX}ENVIRONMENT=local"
            )
        return self

    @property
    def store_url(self) -> str:
        return self.store or f"sqlite:///{self.home / 'mediaforge.db'}"

    @property
    def media_url(self) -> str:
        return self.media or f"file://{(self.home / 'media').resolve()}"

    @property
    def gateway_url(self) -> str:
        return self.public_url.rstrip("/") or self.gateway_url_here

    @property
    def gateway_url_here(self) -> str:
        """Where this machine reaches the gateway, whatever stands in front of it for users."""
        return f"http://{_reachable(self.host)}:{self.gateway_port}"

    @property
    def media_base_url(self) -> str:
        return self.media_public_url.rstrip("/") or f"{self.gateway_url}/media"

    @property
    def push_url(self) -> str:
        return self.worker_url.rstrip("/") or f"http://{_reachable(self.host)}:{self.worker_port}"

    @property
    def push_service_accounts(self) -> list[str]:
        return _listed(self.push_service_account)

    @property
    def push_audiences(self) -> list[str]:
        return _listed(self.push_audience)

    @property
    def tokens_at_signup(self) -> int:
        if self.signup_tokens >= 0:
            return self.signup_tokens
        return 100 if self.environment == "local" else 0

    @property
    def logs_as_json(self) -> bool:
        return self.log_format == "json" or (self.log_format == "" and self.environment != "local")


def load_settings(**overrides: Any) -> Settings:
    """The settings of this process; raises `BadSettings` for a wrong, unknown or misspelt variable."""
    for name in os.environ:
        _refuse_unknown(name)
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise BadSettings(_explained(error)) from error


def settings_page() -> str:
    """The documentation of every setting, as Markdown: what `docs/settings.md` holds."""
    lines = [
        "# Settings",
        "",
        "Environment variables, read once when a process starts. A wrong or unknown one is named in one",
        "line, and the process ends with exit code 2. This page is written by `make docs`.",
        "",
        "| variable | default | |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = "" if str(field.default) in ("", "None", "-1") else f"`{field.default}`"
        description = " ".join((field.description or "").split())
        lines.append(f"| `{PREFIX}{name.upper()}` | {default} | {description} |")
    return "\n".join(lines) + "\n"


def port_to_listen_on(configured: int) -> int:
    """Cloud Run says in `PORT` where a service must listen; that wins over the settings."""
    port = os.environ.get("PORT", "")
    if port and not (port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise BadSettings(f"PORT must be a port's number (it is {port[:20]!r})")
    return int(port) if port else configured


def _refuse_unknown(name: str) -> None:
    known = {field.upper() for field in Settings.model_fields} | CLIENT_VARIABLES
    short = name.removeprefix(PREFIX)
    if short == name or short in known:
        return
    close = difflib.get_close_matches(short, known, n=1)
    raise BadSettings(f"{name} is not a setting" + (f"; did you mean {PREFIX}{close[0]}?" if close else ""))


def _explained(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    name = f"{PREFIX}{str(problem['loc'][0]).upper()}"
    field = Settings.model_fields.get(str(problem["loc"][0]))
    is_secret = field is not None and isinstance(field.default, SecretStr)
    value = "" if is_secret else f" (it is {problem['input']!r})"
    return f"{name}: {message[0].lower()}{message[1:]}{value}"


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
