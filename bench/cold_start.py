"""How long a new process takes until it answers: `python -m bench.cold_start`.

On this machine, on the laptop's parts and on the cloud's (emulators and an S3 double), gateway and worker in
turn; a bare FastAPI beside them. Prints medians and spread of the process start to the first answered
request, and the memory that the process holds then.
"""

import argparse
import asyncio
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from services.local.emulated import PROJECT, emulators
from services.local.emulators import NoEmulators
from services.local.pubsub_setup import set_up

RUNS: Final = 7
DEADLINE_SECONDS: Final = 60
BARE: Final = """
import sys, uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.get("/health")
async def health(): return {"status": "ok"}
uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False)
"""

CATALOGUE: Final = """
[kinds.image]
models = ["gemini"]
deadline_seconds = 600
[kinds.erasure]
deadline_seconds = 600
[models.gemini]
generator = "gemini"
tokens = 1
per = "image"
start_timeout_seconds = 60
sizes = { "1:1" = "1024x1024" }
"""


@dataclass(frozen=True)
class Program:
    name: str
    words: tuple[str, ...]
    variables: Mapping[str, str]


@dataclass(frozen=True)
class Start:
    seconds: float
    megabytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder, programs(Path(folder)) as found:
        starts: dict[str, list[Start]] = {program.name: [] for program in found}
        for _ in range(runs):  # in turn, so that a busy moment hits all of them
            for program in found:
                starts[program.name].append(started(program))
    print(f"| process | start to first answer, median of {runs} | least - most | memory |")
    print("|---|---|---|---|")
    for name, of_it in starts.items():
        seconds = [start.seconds for start in of_it]
        print(
            f"| {name} | {statistics.median(seconds):.2f} s | {min(seconds):.2f} - {max(seconds):.2f} s "
            f"| {statistics.median(start.megabytes for start in of_it):.0f} MB |"
        )


@contextmanager
def programs(home: Path) -> Iterator[list[Program]]:
    gateway, worker = (
        (sys.executable, "-m", "services.api_gateway"),
        (sys.executable, "-m", "services.worker"),
    )
    (home / "catalogue.toml").write_text(CATALOGUE)
    local = {"MEDIAFORGE_HOME": str(home / "local")}
    found = [
        Program("bare FastAPI", (sys.executable, "-c", BARE), {}),
        Program("gateway, laptop", gateway, local),
        Program("worker, laptop", worker, local),
    ]
    try:
        with emulators(home / "emulators") as variables:
            cloud = {
                **variables,
                "MEDIAFORGE_HOME": str(home / "cloud"),
                "MEDIAFORGE_CATALOGUE": str(home / "catalogue.toml"),
                "MEDIAFORGE_GEMINI_API_KEY": "key",
            }
            os.environ["PUBSUB_EMULATOR_HOST"] = variables["PUBSUB_EMULATOR_HOST"]
            asyncio.run(set_up(PROJECT, worker_url="http://127.0.0.1:9"))
            found += [
                Program("gateway on Firestore and Pub/Sub", gateway, cloud),
                Program("worker on Firestore, Pub/Sub, S3 and Gemini", worker, cloud),
            ]
            yield found
    except NoEmulators as error:
        print(f"without the cloud's parts: {error}", file=sys.stderr)
        yield found


def started(program: Program) -> Start:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MEDIAFORGE_")}
    environment |= {**program.variables, "PORT": str(port)}
    words = (*program.words, str(port)) if program.name.startswith("bare") else program.words
    began = time.perf_counter()
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        while not answers(f"http://127.0.0.1:{port}/health"):
            if process.poll() is not None or time.perf_counter() - began > DEADLINE_SECONDS:
                raise SystemExit(f"{program.name} did not start")
            time.sleep(0.005)
        seconds = time.perf_counter() - began
        status = Path(f"/proc/{process.pid}/status").read_text()
        held = re.search(r"VmRSS:\s+(\d+) kB", status)
        return Start(seconds, int(held[1]) / 1024 if held else float("nan"))
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    main()
