"""The trace that the present work belongs to: it travels with hints to the worker.

As W3C writes it: https://www.w3.org/TR/trace-context/.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

_PARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_STATE: Final = re.compile(r"[\x20-\x7e]{1,512}")


@dataclass(frozen=True, slots=True)
class Trace:
    parent: str
    """The span that caused the work: `00-{trace id}-{span id}-{flags}`."""
    state: str | None = None
    """What tracing systems add to it."""

    @property
    def id(self) -> str:
        return self.parent[3:35]


def read_trace(parent: str | None, state: str | None) -> Trace | None:
    """The trace that somebody names, from untrusted `traceparent` and `tracestate`; unreadable is none."""
    if parent is None or not _PARENT.fullmatch(parent):
        return None
    return Trace(parent, state if state is not None and _STATE.fullmatch(state) else None)


_current: Final[ContextVar[Trace | None]] = ContextVar("trace", default=None)


def current_trace() -> Trace | None:
    return _current.get()


@contextmanager
def tracing(trace: Trace | None) -> Iterator[None]:
    """What is done inside belongs to this trace."""
    token = _current.set(trace)
    try:
        yield
    finally:
        _current.reset(token)
