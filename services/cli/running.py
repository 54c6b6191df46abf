"""`mediaforge up`"""

import sys

import typer

from services.cli.failing import one_line_errors, run
from services.local.supervisor import Supervisor
from shared.logs import configure_logs
from shared.settings import Settings, load_settings


def up() -> None:
    """Start everything on this machine, until Ctrl-C."""
    with one_line_errors():
        settings = load_settings()
    configure_logs(as_json=settings.logs_as_json, level=settings.log_level, service="up")
    raise typer.Exit(run(Supervisor(settings, announce).run()))


def announce(settings: Settings, *, kept: str = "") -> None:
    """What to do next; on standard output, so that it stands apart from the logs."""
    url = settings.gateway_url
    kept = kept or f"Everything is kept in {settings.home}."
    lines = f"""
  MediaForge is running.

  Console   {url}/
  API       {url}/openapi.json
  Token     dev-ada          (any dev-NAME is a user; dev-admin is the admin)

  Try it:

    curl {url}/v1/generate \\
      -H 'Authorization: Bearer dev-ada' -H 'Content-Type: application/json' \\
      -H 'Prefer: wait=30' -d '{{"kind": "image", "prompt": "a fox in the snow"}}'

  or, in another terminal:

    .venv/bin/mediaforge generate "a fox in the snow"

  {kept}
  Ctrl-C stops it.
"""
    print(lines, file=sys.stdout, flush=True)  # noqa: T201
