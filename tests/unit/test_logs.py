"""Logs: one JSON object a line where machines read, and never what a user wrote."""

import json
import subprocess
import sys
from typing import Any

import pytest

PREAMBLE = """
import logging, structlog
from shared.logs import configure_logs
configure_logs(as_json={as_json}, level={level!r}, service="worker")
log = structlog.get_logger("test")
"""


def run(code: str, *, as_json: bool = True, level: str = "info") -> list[str]:
    """The lines that a process with its logs set up writes to standard error."""
    program = PREAMBLE.format(as_json=as_json, level=level) + code
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def run_json(code: str, **options: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(code, **options)]


FAILING = """
def paint(prompt):
    try:
        raise ValueError("no paint")
    except ValueError as error:
        log.error("job.step_failed", job_id="job_1", exc_info=error)

paint("XYZZY is a secret prompt")
"""

OTHERS = """
logging.getLogger("uvicorn.error").warning("odd %s", "request")
logging.getLogger("uvicorn.error").info("chatter")
try:
    raise OSError("broken")
except OSError:
    logging.getLogger("asyncio").exception("unforeseen")
"""


def test_each_line_is_an_object_that_cloud_logging_understands() -> None:
    [line] = run_json("log.info('job.claimed', job_id='job_1', seconds=1.5, text='a\\nb \\ud800 é')")
    assert (line["severity"], line["message"], line["service"]) == ("INFO", "job.claimed", "worker")
    assert (line["job_id"], line["seconds"]) == ("job_1", 1.5)
    assert line["timestamp"].endswith("Z")
    assert not line.keys() & {"event", "level"}


def test_what_is_bound_to_a_request_stands_in_its_lines_only() -> None:
    first, second = run_json(
        "with structlog.contextvars.bound_contextvars(request_id='req-1'): log.info('one')\nlog.info('two')"
    )
    assert first["request_id"] == "req-1"
    assert "request_id" not in second


def test_severities_are_the_ones_of_cloud_logging_and_the_level_is_the_least() -> None:
    code = "for name in ('debug', 'info', 'warning', 'error', 'critical'): getattr(log, name)(name)"
    assert [line["severity"] for line in run_json(code)] == ["INFO", "WARNING", "ERROR", "CRITICAL"]
    assert [line["severity"] for line in run_json(code, level="error")] == ["ERROR", "CRITICAL"]


def test_an_error_has_its_traceback_in_the_same_line() -> None:
    [line] = run_json(FAILING)
    [trace] = line["exception"]
    assert (trace["exc_type"], trace["exc_value"]) == ("ValueError", "no paint")
    assert trace["frames"][-1]["name"] == "paint"


@pytest.mark.parametrize(
    "as_json",
    [True, False],
)
def test_a_traceback_does_not_hold_what_a_user_wrote(as_json: bool) -> None:
    """The variables of every frame would: prompts, tokens, secrets."""
    lines = run(FAILING, as_json=as_json)
    assert "no paint" in "\n".join(lines)
    assert "XYZZY" not in "\n".join(lines).replace('paint("XYZZY is a secret prompt")', "")


def test_what_libraries_log_comes_the_same_way_from_warnings_on() -> None:
    warned, failed = run_json(OTHERS)
    assert (warned["severity"], warned["message"], warned["service"]) == ("WARNING", "odd request", "worker")
    assert (failed["severity"], failed["message"]) == ("ERROR", "unforeseen")
    assert failed["exception"][0]["exc_type"] == "OSError"


def test_people_get_readable_lines() -> None:
    [line] = run("log.info('job.claimed', job_id='job_1')", as_json=False)
    assert "job.claimed" in line
    assert "job_id=job_1" in line
    assert not line.startswith("{")
