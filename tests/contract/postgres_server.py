"""A PostgreSQL of the tests' own: made from the machine's programs, in a temporary folder, on a socket."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, LiteralString

import psycopg
import pytest
from psycopg import sql

PROGRAMS: Final = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
UNPRIVILEGED: Final = "nobody"
"""The server refuses to run as root."""

SETTINGS: Final = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
}


@dataclass
class PostgresServer:
    programs: Path
    folder: Path
    _is_migrated: bool = field(default=False)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str, *, through: Path | None = None) -> str:
        return f"postgresql://postgres@/{database}?host={through or self.folder}"

    def make(self) -> None:
        # An order that is not that of the bytes, as most databases have one.
        order = ("--locale-provider=icu", "--icu-locale=en-US", "--locale=C", "--encoding=UTF8")
        self._run("initdb", "--auth=trust", "--username=postgres", "--no-sync", *order)

    def start(self) -> None:
        """Return once it answers."""
        settings = SETTINGS | {"unix_socket_directories": str(self.folder)}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self._run("pg_ctl", "start", "--wait", f"--log={self.folder / 'log'}", f"--options={options}")

    def stop(self) -> None:
        """Return once it is gone; whoever is connected is thrown out."""
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")

    @property
    def is_running(self) -> bool:
        return (self.data / "postmaster.pid").exists()

    def execute(self, command: LiteralString | sql.Composed, *, database: str = "postgres") -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(command)

    def new_database(self, name: str) -> str:
        """The URL of a database that holds nothing at all."""
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        self.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def empty_database(self) -> str:
        """The URL of a database that is migrated and holds no records."""
        from shared.adapters.sql.migrate import migrate_postgres

        if not self._is_migrated:
            url = self.new_database("mediaforge")
            migrate_postgres(lambda: psycopg.connect(url))
            self._is_migrated = True
        self.execute("TRUNCATE jobs, accounts, entries, api_keys", database="mediaforge")
        return self.url("mediaforge")

    def _run(self, program: str, *words: str) -> None:
        is_root = os.geteuid() == 0
        output = self.folder / "output"
        with output.open("w") as file:  # not a pipe: the server would keep it open
            done = subprocess.run(
                (self.programs / program, f"--pgdata={self.data}", *words),
                cwd=self.folder,
                env={"LC_ALL": "C", "PATH": os.environ.get("PATH", "")},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                user=UNPRIVILEGED if is_root else None,
                group="nogroup" if is_root else None,
                extra_groups=[] if is_root else None,
                check=False,
                timeout=60,
            )
        assert done.returncode == 0, output.read_text()


@contextmanager
def a_postgres_server() -> Iterator[PostgresServer]:
    """A server that is gone afterwards. Where there is none to start, tests are skipped, but never in CI."""
    if not PROGRAMS:
        missing = "there is no PostgreSQL in /usr/lib/postgresql (apt-get install postgresql)"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    # Not pytest's folder: that is closed to others, and its path too long for a socket's.
    folder = Path(tempfile.mkdtemp(prefix="mediaforge-pg-"))
    server = PostgresServer(PROGRAMS[-1].parent, folder)
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, UNPRIVILEGED)
        server.make()
        server.start()
        yield server
    finally:
        if server.is_running:
            server.stop()
        shutil.rmtree(folder)
