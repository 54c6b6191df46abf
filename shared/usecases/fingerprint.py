"""Recognising a repeated request."""

import hashlib
from typing import Any

import msgspec


def fingerprint(*parts: Any) -> str:
    """The same for the same values, whatever the order of their fields."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()
