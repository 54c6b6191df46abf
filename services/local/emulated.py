"""The same system on this machine, but on the cloud's parts: `make emulators`.

Gateway and worker as two processes, on the Pub/Sub and Firestore emulators and an S3 double, with the local
renderer. What the emulators hold is gone when they end.
"""

import asyncio
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import httpx

from services.cli.running import announce
from services.local.emulators import firestore_emulator, pubsub_emulator, s3_double
from services.local.supervisor import Supervisor
from services.serving import EXIT_BAD_START
from shared.logs import configure_logs
from shared.settings import BadSettings, Settings, load_settings
from shared.wiring.secret import worker_secret

PROJECT: Final = "demo-mediaforge"
"""Emulators take any; Google's tools never reach a real project whose name begins with `demo-`."""
BUCKET: Final = "mediaforge"


@contextmanager
def emulators(folder: Path) -> Iterator[dict[str, str]]:
    """Start them; yields the variables of a MediaForge on them. Raises `NoEmulators`."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        bucket = stack.enter_context(s3_double(folder / "s3.log"))
        pubsub = stack.enter_context(pubsub_emulator(folder / "pubsub.log"))
        firestore = stack.enter_context(firestore_emulator(folder / "firestore.log"))
        httpx.put(f"http://{bucket}/{BUCKET}", trust_env=False).raise_for_status()
        yield {
            "PUBSUB_EMULATOR_HOST": pubsub,
            "FIRESTORE_EMULATOR_HOST": firestore,
            "MEDIAFORGE_STORE": f"firestore://{PROJECT}",
            "MEDIAFORGE_QUEUE": f"pubsub://{PROJECT}",
            "MEDIAFORGE_MEDIA": f"s3://{BUCKET}",
            "MEDIAFORGE_S3_ENDPOINT": f"http://{bucket}",
            "MEDIAFORGE_S3_ACCESS_KEY_ID": "nobody",
            "MEDIAFORGE_S3_SECRET_ACCESS_KEY": "nothing",
        }


async def prepare(settings: Settings) -> None:
    """Make the topics, and the subscriptions that push to the worker."""
    from services.local.pubsub_setup import set_up

    await set_up(PROJECT, worker_url=settings.push_url, backoff=None, token=worker_secret(settings))


def _announce(variables: Mapping[str, str], settings: Settings) -> None:
    """The usual words, and how commands in another terminal find the emulators."""
    file = settings.home / "emulators" / "environment"
    file.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()))
    announce(settings, kept=f"Nothing is kept. For mediaforge in another terminal: . {file}")


def main() -> int:
    try:
        home = load_settings().home
        configure_logs(as_json=False, service="up")
        with emulators(home / "emulators") as variables:
            os.environ.update(variables)
            settings = load_settings()
            asyncio.run(prepare(settings))
            return asyncio.run(Supervisor(settings, partial(_announce, variables)).run())
    except BadSettings as error:
        print(f"mediaforge: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_BAD_START


if __name__ == "__main__":
    sys.exit(main())
