"""An S3 of the tests' own: moto's, on a free port of this machine, which can be told to misbehave.

moto does not look at signatures, so what a service says about wrong keys is scripted, in its own words.
"""

import socket
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final
from urllib.parse import parse_qs

import boto3  # type: ignore[import-untyped]
import pytest
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

KEY_ID: Final = "AKIDEXAMPLE"
SECRET: Final = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
Behaviour = Callable[["S3Server", Environ, Callable[..., Any]], Iterable[bytes]]

_MISBEHAVIOUR_SECONDS: Final = 30
"""A stall ends with its test; this is for tests that fail."""


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]

    @property
    def is_part(self) -> bool:
        return "partNumber" in self.query

    @property
    def what(self) -> str:
        """The request by its name, as far as tests tell them apart."""
        if self.method == "PUT":
            return "part" if self.is_part else "put"
        if self.method == "POST":
            return "complete" if "uploadId" in self.query else "begin"
        if self.method == "DELETE":
            return "abort" if "uploadId" in self.query else "delete"
        return "list" if self.method == "GET" and "list-type" in self.query else self.method.lower()


@dataclass
class S3Server:
    address: str
    asked: list[Asked] = field(default_factory=list)
    page_size: int | None = None
    """How many keys a page of a listing has at most."""
    most_at_once: int = 0
    _scripted: dict[str, list[Behaviour]] = field(default_factory=dict)
    _now: int = 0
    _count: Any = field(default_factory=threading.Lock)
    _one: Any = field(default_factory=threading.Lock)
    reached: threading.Event = field(default_factory=threading.Event)
    """Set when somebody meets a stall."""
    released: threading.Event = field(default_factory=threading.Event)
    """Ends every stall."""

    def __post_init__(self) -> None:
        self._app: App = DomainDispatcherApplication(create_backend_app)
        self.client = boto3.client(
            "s3",
            endpoint_url=self.address,
            region_name="us-east-1",
            aws_access_key_id=KEY_ID,
            aws_secret_access_key=SECRET,
        )

    def a_bucket(self) -> str:
        name = f"media-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return name

    def script(self, what: str, *behaviours: Behaviour) -> None:
        """What the next requests of that name meet, one each; then all is well again."""
        self._scripted.setdefault(what, []).extend(behaviours)

    def clear(self, bucket: str) -> None:
        for upload in self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
            self.client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        for entry in self.client.list_objects_v2(Bucket=bucket).get("Contents", ()):
            self.client.delete_object(Bucket=bucket, Key=entry["Key"])

    def behave(self) -> None:
        """Forget what was scripted and what was asked."""
        self._scripted.clear()
        self.released.set()
        self.released, self.reached = threading.Event(), threading.Event()
        self.page_size = None
        self.asked.clear()
        self.most_at_once = 0

    def of(self, what: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.what == what]

    def keys(self, bucket: str) -> set[str]:
        """Of objects, and of uploads that are neither complete nor aborted."""
        objects = self.client.list_objects_v2(Bucket=bucket).get("Contents", ())
        return {entry["Key"] for entry in objects} | set(self.unfinished(bucket))

    def unfinished(self, bucket: str) -> list[str]:
        uploads = self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())
        return [entry["Key"] for entry in uploads]

    def read(self, bucket: str, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return content

    def __call__(self, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        asked = _asked(environ)
        with self._count:
            self.asked.append(asked)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            scripted = self._scripted.get(asked.what)
            behaviour = scripted.pop(0) if scripted else works
        try:
            return list(behaviour(self, environ, start))
        finally:
            with self._count:
                self._now -= 1

    def work(self, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        # One at a time, as the conditions of a real service hold; but none waits for another's bytes.
        environ["wsgi.input"] = BytesIO(_content(environ))
        if self.page_size is not None and "list-type=2" in environ["QUERY_STRING"]:
            environ["QUERY_STRING"] += f"&max-keys={self.page_size}"
        with self._one:
            return list(self._app(environ, start))


def works(server: S3Server, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
    return server.work(environ, start)


def says(status: str, body: str, *, type_: str = "application/xml") -> Behaviour:
    def behaviour(server: S3Server, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        _content(environ)
        start(status, [("Content-Type", type_), ("Content-Length", str(len(body)))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body.encode()]

    return behaviour


def refuses(status: str, code: str) -> Behaviour:
    return says(status, f"<Error><Code>{code}</Code><Message>In its own words.</Message></Error>")


def drops(server: S3Server, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
    """Hear some of the body, then break the connection."""
    _some_content(environ)
    _break(environ)
    return []


def loses_the_answer(server: S3Server, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
    """Do as asked, and break the connection before the answer."""
    server.work(environ, lambda *_: None)
    _break(environ)
    return []


def stalls(server: S3Server, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
    """Hear some of the body, then neither read nor answer."""
    released = server.released
    _some_content(environ)
    server.reached.set()
    released.wait(_MISBEHAVIOUR_SECONDS)
    _break(environ)
    return []


def stalls_the_answer(server: S3Server, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
    """Do as asked, and answer only when released."""
    released = server.released
    answer = server.work(environ, start)
    server.reached.set()
    released.wait(_MISBEHAVIOUR_SECONDS)
    return answer


def _asked(environ: Environ) -> Asked:
    query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    headers = {
        name.removeprefix("HTTP_").lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("HTTP_") or name in ("CONTENT_TYPE", "CONTENT_LENGTH")
    }
    return Asked(
        environ["REQUEST_METHOD"],
        environ["PATH_INFO"],
        {name: values[0] for name, values in query.items()},
        headers,
    )


def _content(environ: Environ) -> bytes:
    content: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return content


def _some_content(environ: Environ) -> None:
    environ["wsgi.input"].read(min(1000, int(environ.get("CONTENT_LENGTH") or 0)))


def _break(environ: Environ) -> None:
    try:
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # the other end was faster


@contextmanager
def an_s3_server() -> Iterator[S3Server]:
    """A server that is gone afterwards. Its parts may be small, so that tests are quick."""
    late: list[S3Server] = []
    listening = make_server(
        "127.0.0.1",
        0,
        lambda environ, start: late[0](environ, start),
        threaded=True,
        request_handler=MotoRequestHandler,
    )
    server = S3Server(f"http://127.0.0.1:{listening.server_port}")
    late.append(server)
    thread = threading.Thread(target=listening.serve_forever, name="s3", daemon=True)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as settings:
            settings.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)
            yield server
    finally:
        server.released.set()
        server.client.close()
        listening.shutdown()
        thread.join()
        listening.server_close()
