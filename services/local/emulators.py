"""Google's Pub/Sub and Firestore emulators, started from the Google Cloud SDK's own jars; and an S3 double.

Not through `gcloud beta emulators`: that leaves Java running when it is stopped.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from shared.settings import BadSettings

SDK_VARIABLE: Final = "MEDIAFORGE_CLOUD_SDK"
"""Where the Google Cloud SDK is, if no `gcloud` on the PATH says so."""
START_SECONDS: Final = 60
STOP_SECONDS: Final = 5
JVM: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m", "-Duser.language=en")
HOW_TO_GET_THEM: Final = (
    "install Java 17 and the Google Cloud SDK with `gcloud components install pubsub-emulator "
    f"cloud-firestore-emulator`, or say with {SDK_VARIABLE} where the SDK is"
)


class NoEmulators(BadSettings):
    """The emulators are not on this machine; the message says how to get them."""


@contextmanager
def pubsub_emulator(log: Path) -> Iterator[str]:
    """A Pub/Sub emulator; yields its `host:port`, which goes into `PUBSUB_EMULATOR_HOST`."""
    jar = _in_sdk("platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar")
    with _running((_java(), *JVM, "-jar", str(jar)), log) as address:
        yield address


@contextmanager
def firestore_emulator(log: Path, *, rules: Path | None = None) -> Iterator[str]:
    """A Firestore emulator; yields its `host:port`, which goes into `FIRESTORE_EMULATOR_HOST`."""
    jar = _in_sdk("platform/cloud-firestore-emulator/cloud-firestore-emulator.jar")
    main = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"
    options = (f"--rules={rules}",) if rules is not None else ()
    with _running((_java(), *JVM, "-cp", str(jar), main, *options), log) as address:
        yield address


@contextmanager
def s3_double(log: Path) -> Iterator[str]:
    """moto's server; yields its `host:port`. It checks no signatures and forgets everything at its end."""
    if find_spec("moto") is None:
        raise NoEmulators("there is no moto here; pip install 'mediaforge[dev]'")
    with _running((sys.executable, "-m", "moto.server"), log) as address:
        yield address


@contextmanager
def _running(program: Sequence[str], log: Path) -> Iterator[str]:
    port = _free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - programs named in this module
            (*program, "--host=127.0.0.1", f"--port={port}"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for whoever started us
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
    try:
        _wait_until_it_listens(process, port, log)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise NoEmulators(f"an emulator ended with code {process.returncode}: {' '.join(last)}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise NoEmulators(f"an emulator did not listen on port {port} within {START_SECONDS} s; see {log}")


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _end_with_parent() -> None:
    """Ask Linux to end this process with its parent, even when that is killed."""
    _libc().prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _in_sdk(pattern: str) -> Path:
    _java()
    found = sorted(_sdk().glob(pattern))
    if not found:
        raise NoEmulators(f"there is no {pattern} in {_sdk()}; {HOW_TO_GET_THEM}")
    return found[-1]


def _sdk() -> Path:
    given = os.environ.get(SDK_VARIABLE)
    if given:
        return Path(given)
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        raise NoEmulators(f"there is no gcloud here; {HOW_TO_GET_THEM}")
    return Path(gcloud).resolve().parents[1]


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        raise NoEmulators(f"there is no Java here; {HOW_TO_GET_THEM}")
    return java


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
