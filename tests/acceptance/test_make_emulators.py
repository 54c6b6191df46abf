"""`make emulators`: what a developer gets from one command, and what is left when it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.acceptance.machine import free_ports, wait_a_moment

START_SECONDS = 90
PROGRAM = (sys.executable, "-m", "services.local.emulated")


@pytest.mark.external
@pytest.mark.usefixtures("pubsub_emulator", "firestore_emulator")  # skips where there are none
def test_one_command_makes_an_image_on_the_emulators_and_leaves_nothing_behind(tmp_path: Path) -> None:
    gateway, worker = free_ports()
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_EMULATOR_HOST")}
    environment |= {
        "MEDIAFORGE_HOME": str(tmp_path),
        "MEDIAFORGE_GATEWAY_PORT": str(gateway),
        "MEDIAFORGE_WORKER_PORT": str(worker),
    }
    output = tmp_path / "output"
    with output.open("wb") as file:
        up = subprocess.Popen(PROGRAM, env=environment, stdout=file, stderr=file)
    try:
        end = time.monotonic() + START_SECONDS
        while "MediaForge is running" not in output.read_text():
            assert up.poll() is None, output.read_text()
            assert time.monotonic() < end, output.read_text()
            wait_a_moment()
        with httpx.Client(
            base_url=f"http://127.0.0.1:{gateway}", trust_env=False, follow_redirects=True, timeout=60
        ) as client:
            job = client.post(
                "/v1/generate",
                json={"kind": "image", "prompt": "a fox"},
                headers={"Authorization": "Bearer dev-ada", "Prefer": "wait=50"},
            ).json()
            assert job["status"] == "draft"
            assert client.get(job["media"][0]["url"]).headers["Content-Type"] == "image/png"
        saved = subprocess.run(
            (sys.executable, "-m", "services.cli", "generate", "a lighthouse"),
            env=environment | {"PYTHONPATH": str(Path.cwd())},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert saved.returncode == 0, saved.stderr
        [picture] = tmp_path.glob("a-lighthouse-*.png")
        with Image.open(picture) as image:
            image.load()
        audit = subprocess.run(
            [
                "/bin/sh",
                "-c",
                f". {tmp_path}/emulators/environment; exec {sys.executable} -m services.cli audit",
            ],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert audit.returncode == 0, audit.stderr
        children = descendants(up.pid)
        assert len(children) >= 5, "gateway, worker, two emulators and the S3 double"
    finally:
        up.send_signal(signal.SIGTERM)
        code = up.wait(60)
    assert code == 0, output.read_text()
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


def test_where_there_is_no_sdk_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    done = subprocess.run(
        PROGRAM,
        env={"PATH": str(tmp_path), "MEDIAFORGE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    [line] = done.stderr.strip().splitlines()
    assert done.returncode == 2
    assert line.startswith("mediaforge: there is no ")
    assert "gcloud components install" in line


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [found for child in map(int, children) for found in (child, *descendants(child))]
