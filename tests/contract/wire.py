"""What passes between a store and PostgreSQL, and a line that a test can cut."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from tests.contract.postgres_server import PostgresServer

SOCKET: Final = ".s.PGSQL.5432"


@dataclass
class Wire:
    """Stands where clients look for the server."""

    server: PostgresServer
    folder: Path
    lines: list[bytearray] = field(default_factory=list)
    """What each connection has said to the server."""
    cuts: list[Literal["before", "after"]] = field(default_factory=list)
    """The next commits that are not answered: the line breaks before they reach the server, or after."""
    a_cut_deafens: bool = False
    """Whether with a cut all other connections go deaf, as when the machine behind them is gone."""
    deaf: int = 0
    """So many of the first connections reach nobody any more."""

    @property
    def url(self) -> str:
        return self.server.url("mediaforge", through=self.folder)

    def statements(self) -> list[str]:
        """What was asked of the server, but for the migration; nothing may have been prepared for it."""
        asked = list[str]()
        for line in self.lines:
            if b"pg_advisory_xact_lock" in line:
                continue
            for kind, content in messages(bytes(line)):
                assert kind in b"QX", f"a message {kind!r} that a pooler may give to another session"
                if kind == b"Q":
                    asked.append(content.rstrip(b"\0").decode())
        return asked

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, number = bytearray(), len(self.lines)
        self.lines.append(line)
        up_reader, up_writer = await asyncio.open_unix_connection(self.server.folder / SOCKET)
        answered = asyncio.create_task(self._answer(up_reader, writer))
        try:
            while said := await reader.read(65536):
                line += said
                if number < self.deaf:
                    continue
                cut = self.cuts.pop(0) if b"COMMIT" in said and self.cuts else None
                if cut and self.a_cut_deafens:
                    self.deaf = len(self.lines)
                if cut == "before":
                    break
                if cut == "after":
                    answered.cancel()
                    up_writer.write(said)
                    assert await up_reader.read(65536)
                    break
                up_writer.write(said)
        finally:
            answered.cancel()
            for end in (writer, up_writer):
                end.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while heard := await reader.read(65536):
            writer.write(heard)
        writer.close()


def messages(said: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The messages of PostgreSQL's protocol; the one that opens the connection has no kind."""
    at = int.from_bytes(said[:4])
    while at < len(said):
        end = at + 1 + int.from_bytes(said[at + 1 : at + 5])
        yield said[at : at + 1], said[at + 5 : end]
        at = end


@asynccontextmanager
async def a_wire(server: PostgresServer) -> AsyncIterator[Wire]:
    folder = server.folder / "wire"
    folder.mkdir(exist_ok=True)
    wire = Wire(server, folder)
    listening = await asyncio.start_unix_server(wire._connected, folder / SOCKET)
    try:
        yield wire
    finally:
        listening.close()
        (folder / SOCKET).unlink(missing_ok=True)
