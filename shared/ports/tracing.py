"""The trace that the present work belongs to, as W3C writes it: it travels with hints to the worker.

https://www.w3.org/TR/trace-context/
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Trace:
    parent: str
    """The span that caused the work: `00-{trace id}-{span id}-{flags}`."""
    state: str | None = None
    """What tracing systems add to it."""

    @property
    def id(self) -> str:
        return self.parent[3:35]


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
