"""What every test gets: quiet logs, and the emulators where it asks for them."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from tests.emulators import a_firestore_emulator, a_pubsub_emulator

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@pytest.fixture(scope="session")
def firestore_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its `host:port`; clients find it by themselves."""
    with (
        a_firestore_emulator(tmp_path_factory.mktemp("firestore")) as address,
        pytest.MonkeyPatch.context() as env,
    ):
        env.setenv("FIRESTORE_EMULATOR_HOST", address)
        yield address


@pytest.fixture(scope="session")
def pubsub_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its `host:port`; clients find it by themselves."""
    with a_pubsub_emulator(tmp_path_factory.mktemp("pubsub")) as address, pytest.MonkeyPatch.context() as env:
        env.setenv("PUBSUB_EMULATOR_HOST", address)
        yield address
