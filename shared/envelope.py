"""The Pub/Sub push envelope: what every queue sends and the worker reads.

https://cloud.google.com/pubsub/docs/push#receive_push
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Final

import msgspec

from shared.domain.ids import JobId, RequestId, is_job_id
from shared.domain.job import Kind
from shared.ports.queue import Hint
from shared.ports.tracing import read_trace

ROUTES: Final[Mapping[str, str]] = {
    Kind.IMAGE: "/process-generation",
    Kind.VIDEO: "/process-video",
    Kind.BRAND: "/process-training",
}
OTHER_ROUTE: Final = "/process-batch"
"""Batches and internal kinds."""

TOPICS: Final[Mapping[str, str]] = {
    Kind.IMAGE: "image-generation-jobs",
    Kind.VIDEO: "video-generation-jobs",
    Kind.BRAND: "brand-training-jobs",
}
"""Topics of Pub/Sub and queues of Cloud Tasks have the same names."""
OTHER_TOPIC: Final = "batch-jobs"
TOPIC_ROUTES: Final[Mapping[str, str]] = {
    **{topic: ROUTES[kind] for kind, topic in TOPICS.items()},
    OTHER_TOPIC: OTHER_ROUTE,
}
"""Every topic, and where its messages are pushed."""

DEAD_LETTER_TOPIC: Final = "job-dlq"
"""Takes what the worker has refused too often."""


class UnreadableMessage(ValueError):
    """Not an envelope of ours; it would be no better the next time."""


class _Data(msgspec.Struct):
    job_id: str
    kind: str


class _Message(msgspec.Struct):
    data: str
    attributes: dict[str, str] = {}


class _Envelope(msgspec.Struct):
    message: _Message


class _Pushed(msgspec.Struct, rename="camel"):
    data: str
    message_id: str
    attributes: Mapping[str, str]


class _Push(msgspec.Struct, rename="camel", omit_defaults=True):
    message: _Pushed
    subscription: str
    delivery_attempt: int | None = None


_read_envelope = msgspec.json.Decoder(_Envelope).decode
_read_data = msgspec.json.Decoder(_Data).decode


def route_for(kind: str) -> str:
    return ROUTES.get(kind, OTHER_ROUTE)


def topic_for(kind: str) -> str:
    return TOPICS.get(kind, OTHER_TOPIC)


def data_of(hint: Hint) -> bytes:
    """A message's data."""
    return msgspec.json.encode(_Data(job_id=hint.job_id, kind=hint.kind))


def attributes_of(hint: Hint) -> dict[str, str]:
    """A message's attributes: what its work is to be logged and traced under."""
    attributes = {
        "request_id": hint.request_id,
        "traceparent": hint.trace.parent if hint.trace else None,
        "tracestate": hint.trace.state if hint.trace else None,
    }
    return {name: value for name, value in attributes.items() if value}


def enveloped(hint: Hint, *, message_id: str, subscription: str, attempt: int | None = None) -> bytes:
    """The push; `attempt` counts deliveries, for a queue that knows when it writes the push."""
    message = _Pushed(
        data=base64.b64encode(data_of(hint)).decode(), message_id=message_id, attributes=attributes_of(hint)
    )
    return msgspec.json.encode(_Push(message=message, subscription=subscription, delivery_attempt=attempt))


def read_hint(body: bytes) -> Hint:
    """The hint in an envelope; raises `UnreadableMessage`. The kind is only a hint too.

    A trace that cannot be read is left out: it is no reason to refuse the work.
    """
    try:
        message = _read_envelope(body).message
        data = _read_data(base64.b64decode(message.data, validate=True))
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError) as error:
        raise UnreadableMessage(str(error)) from error
    if not is_job_id(data.job_id):
        raise UnreadableMessage("data.job_id is not a job's id")
    request_id = message.attributes.get("request_id")
    return Hint(
        job_id=JobId(data.job_id),
        kind=data.kind,
        request_id=RequestId(request_id) if request_id else None,
        trace=read_trace(message.attributes.get("traceparent"), message.attributes.get("tracestate")),
    )
