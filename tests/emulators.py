"""The emulators for tests: one of each per test process, and a new project for every test."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.local.emulators import NoEmulators, firestore_emulator, pubsub_emulator


def a_project() -> str:
    """A project that nobody used before: nothing has to be cleared between tests."""
    return f"demo-{uuid.uuid4().hex[:12]}"


@contextmanager
def a_firestore_emulator(folder: Path) -> Iterator[str]:
    """Its `host:port`. Where there is none to start, tests are skipped, but never in CI."""
    with _or_skip(), firestore_emulator(folder / "firestore.log") as address:
        yield address


@contextmanager
def a_pubsub_emulator(folder: Path) -> Iterator[str]:
    """Its `host:port`. Where there is none to start, tests are skipped, but never in CI."""
    with _or_skip(), pubsub_emulator(folder / "pubsub.log") as address:
        yield address


@contextmanager
def _or_skip() -> Iterator[None]:
    try:
        yield
    except NoEmulators as missing:
        pytest.fail(str(missing)) if os.environ.get("CI") == "true" else pytest.skip(str(missing))
