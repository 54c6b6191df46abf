"""How commands end badly: one line, exit code 2; the traceback only for those who ask."""

import asyncio
import os
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import typer

from shared.domain.errors import MediaForgeError
from shared.settings import BadSettings

EXIT_FAILED: Final = 1
EXIT_COULD_NOT: Final = 2

T = TypeVar("T")


class CannotLook(Exception):
    """The command could not be carried out; the message says why."""


class NoAnswer(CannotLook):
    """Nobody answered; that may change."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    try:
        yield
    except (BadSettings, CannotLook, MediaForgeError) as error:
        if os.environ.get("MEDIAFORGE_LOG_LEVEL") == "debug":
            raise
        print(f"mediaforge: {error}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(EXIT_COULD_NOT) from error


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; its foreseen errors are one line."""
    with one_line_errors():
        return asyncio.run(work)
