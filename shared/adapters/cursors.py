"""Cursors: where the next part of a list begins, opaque to clients and checked when they come back."""

import base64
import binascii

from shared.domain.errors import BadCursor

MAX_LENGTH = 512


def encode_cursor(*place: str | int) -> str:
    text = "\n".join(str(part) for part in place)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *, parts: int) -> list[str]:
    """The place that the cursor names, in as many parts as expected; raises `BadCursor`."""
    if not cursor or len(cursor) > MAX_LENGTH:
        raise BadCursor
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise BadCursor from error
    place = text.split("\n")
    if len(place) != parts or not all(part.isprintable() for part in place):
        raise BadCursor
    return place


def instant_in(part: str) -> int:
    """Microseconds since 1970, as some cursors hold; raises `BadCursor`."""
    if not part.isascii() or not part.isdecimal() or len(part) > 18:
        raise BadCursor
    return int(part)
