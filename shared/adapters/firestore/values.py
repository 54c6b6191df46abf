"""Python's values as Firestore's, and back."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from google.cloud.firestore_v1 import types

from shared.adapters.instants import instant, microseconds

MAX_DEPTH: Final = 18
"""Firestore takes 20, counted from the document."""
MAX_NAME_BYTES: Final = 1_500
_INT64: Final = range(-(2**63), 2**63)

# The plain classes of protobuf: the wrappers around them are several times slower.
Value: Final[Any] = types.Value.pb()
Timestamp: Final[Any] = type(Value().timestamp_value)


class Unholdable(ValueError):
    """Firestore has no such value."""


def to_value(value: Any, *, depth: int = 0) -> Any:
    """The value itself; raises `Unholdable` rather than change anything about it."""
    match value:
        case None:
            return Value(null_value=0)
        case bool():
            return Value(boolean_value=value)
        case int():
            return Value(integer_value=_integer(value))
        case float():
            return Value(double_value=value)
        case str():
            return Value(string_value=_text(value))
        case datetime():
            return Value(timestamp_value=to_timestamp(value))
        case dict():
            return _map(value, depth)
        case list() | tuple():
            return _array(value, depth)
        case _:
            raise TypeError(f"{type(value).__name__} is nothing that a document holds")


def _map(value: Mapping[str, Any], depth: int) -> Any:
    result = Value()
    result.map_value.SetInParent()
    _require_flat_enough(depth)
    for name, item in value.items():
        if not is_name(name):
            raise Unholdable("a name that Firestore refuses")
        result.map_value.fields[name].CopyFrom(to_value(item, depth=depth + 1))
    return result


def _array(value: Sequence[Any], depth: int) -> Any:
    result = Value()
    result.array_value.SetInParent()
    _require_flat_enough(depth)
    for item in value:
        if isinstance(item, list | tuple):
            raise Unholdable("a list in a list")
        result.array_value.values.append(to_value(item, depth=depth + 1))
    return result


def _integer(value: int) -> int:
    if value not in _INT64:
        raise Unholdable("an integer of more than 64 bits")
    return value


def to_nearest(value: Any, *, depth: int = 0) -> Any:
    """The value as far as Firestore holds it: the rest is shown as JSON, and refused names not at all."""
    if isinstance(value, dict) and depth < MAX_DEPTH:
        return {name: to_nearest(item, depth=depth + 1) for name, item in value.items() if is_name(name)}
    if isinstance(value, list | tuple) and depth < MAX_DEPTH:
        return [
            to_json(item) if isinstance(item, list | tuple) else to_nearest(item, depth=depth + 1)
            for item in value
        ]
    try:
        to_value(value, depth=depth)
    except Unholdable:
        return to_json(value)
    return value


def from_value(value: Any) -> Any:
    kind = value.WhichOneof("value_type")
    match kind:
        case None | "null_value":
            return None
        case "timestamp_value":
            return from_timestamp(value.timestamp_value)
        case "map_value":
            return from_fields(value.map_value.fields)
        case "array_value":
            return [from_value(item) for item in value.array_value.values]
        case _:
            return getattr(value, kind)


def from_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: from_value(value) for name, value in fields.items()}


def to_json(value: Any) -> str:
    """Exactly the value, in ASCII: numbers of any size, halves of characters, and numbers that are none."""
    return json.dumps(value, separators=(",", ":"))


def from_json(text: str) -> Any:
    return json.loads(text)


def to_timestamp(at: datetime) -> Any:
    seconds, fraction = divmod(microseconds(at), 1_000_000)
    return Timestamp(seconds=seconds, nanos=fraction * 1_000)


def from_timestamp(timestamp: Any) -> datetime:
    return instant(timestamp.seconds * 1_000_000 + timestamp.nanos // 1_000)


def is_name(name: str) -> bool:
    """Whether a field or a document may have that name (a document's has more conditions)."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return False
    return 0 < length <= MAX_NAME_BYTES and not (name.startswith("__") and name.endswith("__"))


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Unholdable("half a character") from error
    return text


def _require_flat_enough(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise Unholdable("a value nested too deeply")
