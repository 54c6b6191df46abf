"""Client libraries that are installed only where they are used."""

from collections.abc import Iterator
from contextlib import contextmanager

from shared.settings import BadSettings


@contextmanager
def needs_extra(variable: str, extra: str) -> Iterator[None]:
    """Around an import: a library that is not installed is one line that says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise BadSettings(
            f"{variable}: there is no {error.name} here; pip install 'mediaforge[{extra}]'"
        ) from error
