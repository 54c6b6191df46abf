"""Structured logs: one JSON object a line in production, readable lines on a terminal.

Prompts are never logged: no call passes one.
"""

import logging
import sys
from typing import Any

import structlog

# Without the variables of the frames, which hold prompts and tokens.
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure_logs(*, as_json: bool, level: str = "info", service: str = "") -> None:
    """Set up structlog for this process, and send the libraries' own logs the same way."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        # Cloud Logging reads `severity` and `message`.
        shared += [_TRACEBACKS, _for_cloud_logging]
        renderer: Any = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=18, exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    if service:
        structlog.contextvars.bind_contextvars(service=service)
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processor=renderer)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.WARNING))


def _for_cloud_logging(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    event["severity"] = event.pop("level", "info").upper()
    event["message"] = event.pop("event", "")
    return event
