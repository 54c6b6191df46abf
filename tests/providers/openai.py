"""The wire format of OpenAI's images."""

import base64
from typing import Any

from tests.providers.pictures import a_png, is_refused
from tests.providers.server import Call, Reply


def images(*contents: bytes, **more: Any) -> Reply:
    return Reply.json(
        {
            "created": 1,
            "data": [{"b64_json": base64.b64encode(content).decode()} for content in contents],
            "usage": {
                "total_tokens": 10,
                "input_tokens": 5,
                "output_tokens": 5,
                "input_tokens_details": {"text_tokens": 5, "image_tokens": 0},
            },
            **more,
        }
    )


def error_body(
    code: str | None, type_: str = "invalid_request_error", message: str = "it says why", **more: Any
) -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "param": None, "code": code, **more}}


def error(
    status: int,
    code: str | None,
    type_: str = "invalid_request_error",
    message: str = "it says why",
    *,
    headers: dict[str, str] | None = None,
    **more: Any,
) -> Reply:
    return Reply.json(error_body(code, type_, message, **more), status=status, headers=headers or {})


def moderated(**more: Any) -> Reply:
    return error(
        400,
        "moderation_blocked",
        "image_generation_user_error",
        "Your request was rejected by the safety system.",
        **more,
    )


def a_model(call: Call) -> Reply:
    """Draws what it is asked for, if its policy lets it."""
    asked = call.json
    return moderated() if is_refused(asked["prompt"]) else images(*[a_png()] * asked["n"])
