"""The Pub/Sub push envelope: what every queue sends and the worker reads.

https://cloud.google.com/pubsub/docs/push#receive_push
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from shared.domain.ids import JobId, RequestId, is_job_id
from shared.domain.job import Kind
from shared.ports.queue import Hint

ROUTES: Final[Mapping[str, str]] = {
    Kind.IMAGE: "/process-generation",
    Kind.VIDEO: "/process-video",
    Kind.BRAND: "/process-training",
}
OTHER_ROUTE: Final = "/process-batch"
"""Batches and internal kinds."""


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


_read_envelope = msgspec.json.Decoder(_Envelope).decode
_read_data = msgspec.json.Decoder(_Data).decode


def route_for(kind: str) -> str:
    return ROUTES.get(kind, OTHER_ROUTE)


def enveloped(hint: Hint, *, message_id: str, subscription: str, attempt: int) -> bytes:
    data = msgspec.json.encode({"job_id": hint.job_id, "kind": hint.kind})
    message: dict[str, Any] = {
        "data": base64.b64encode(data).decode(),
        "messageId": message_id,
        "attributes": {"request_id": hint.request_id} if hint.request_id else {},
    }
    return msgspec.json.encode({"message": message, "subscription": subscription, "deliveryAttempt": attempt})


def read_hint(body: bytes) -> Hint:
    """The hint in an envelope; raises `UnreadableMessage`. The kind is only a hint too."""
    try:
        message = _read_envelope(body).message
        data = _read_data(base64.b64decode(message.data, validate=True))
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError) as error:
        raise UnreadableMessage(str(error)) from error
    if not is_job_id(data.job_id):
        raise UnreadableMessage("data.job_id is not a job's id")
    request_id = message.attributes.get("request_id")
    return Hint(
        job_id=JobId(data.job_id), kind=data.kind, request_id=RequestId(request_id) if request_id else None
    )
