"""The wire format of `generate_content`, and of the errors of all of Google's models."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

from google.auth.credentials import Credentials
from google.auth.exceptions import RefreshError

from tests.providers.pictures import a_png, is_refused
from tests.providers.server import Call, Reply

API_KEY_INVALID = {
    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
    "reason": "API_KEY_INVALID",
    "domain": "googleapis.com",
}


def image_part(content: bytes, type_: str = "image/png", **more: Any) -> dict[str, Any]:
    return {"inlineData": {"mimeType": type_, "data": base64.b64encode(content).decode()}, **more}


def text_part(text: str, **more: Any) -> dict[str, Any]:
    return {"text": text, **more}


def answer(*parts: dict[str, Any], finish: str | None = "STOP", message: str | None = None) -> Reply:
    candidate: dict[str, Any] = {
        "content": {"role": "model", "parts": list(parts)} if parts else {},
        "index": 0,
    }
    if finish is not None:
        candidate["finishReason"] = finish
    if message is not None:
        candidate["finishMessage"] = message
    return Reply.json(
        {
            "candidates": [candidate],
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1290, "totalTokenCount": 1293},
            "modelVersion": "some-model",
            "responseId": "r1",
        }
    )


def an_image(content: bytes, type_: str = "image/png") -> Reply:
    return answer(text_part("here"), image_part(content, type_))


def blocked_prompt(reason: str = "PROHIBITED_CONTENT", message: str | None = None) -> Reply:
    feedback = {"blockReason": reason} | ({"blockReasonMessage": message} if message else {})
    return Reply.json({"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 3}})


def error_body(code: int, status: str, message: str = "it says why", *details: Any) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    return {"error": error | ({"details": list(details)} if details else {})}


def error(code: int, status: str, message: str = "it says why", *details: Any, **more: Any) -> Reply:
    return Reply.json(error_body(code, status, message, *details), status=code, **more)


def retry_info(delay: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def asked_for(call: Call) -> dict[str, Any]:
    """The generation config that a call asked for."""
    config: dict[str, Any] = call.json["generationConfig"]
    return config


def asked_parts(call: Call) -> list[dict[str, Any]]:
    [content] = call.json["contents"]
    assert content["role"] == "user"
    parts: list[dict[str, Any]] = content["parts"]
    return parts


def blob_of(part: dict[str, Any]) -> tuple[str, bytes]:
    """Type and content; the name of the type's field depends on the client's version."""
    blob = part["inlineData"]
    return blob.get("mime_type") or blob["mimeType"], base64.urlsafe_b64decode(blob["data"])


def a_model(call: Call) -> Reply:
    """Draws what it is asked for, if its policy lets it."""
    prompt = asked_parts(call)[0]["text"]
    return blocked_prompt() if is_refused(prompt) else an_image(a_png())


class FakeCredentials(Credentials):
    """A new token each time; or none, as when the service account has been deleted."""

    def __init__(self, *, is_refused: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._is_refused = is_refused
        self.refreshed = 0

    def refresh(self, request: object) -> None:
        self.refreshed += 1
        if self._is_refused:
            raise RefreshError("invalid_grant: account not found")  # type: ignore[no-untyped-call]
        self.token = f"token-{self.refreshed}"
        self.expiry = (datetime.now(UTC) + timedelta(hours=1)).replace(tzinfo=None)
