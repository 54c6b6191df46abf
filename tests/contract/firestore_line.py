"""A line between a store and the emulator, which a test can take down."""

import asyncio
import socket


class Line:
    """Stands between a store and the emulator, and can be down."""

    def __init__(self, server: str) -> None:
        self._host, _, port = server.rpartition(":")
        self._server_port = int(port)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._listening: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def up(self) -> None:
        self._listening = await asyncio.start_server(self._connected, "127.0.0.1", self._port)

    async def down(self) -> None:
        assert self._listening is not None
        self._listening.close()
        for writer in self._open:
            writer.transport.abort()
        await asyncio.gather(*self._open.values(), return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = asyncio.create_task(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(self._host, self._server_port)
        await asyncio.gather(_pass(reader, up_writer), _pass(up_reader, writer))
        del self._open[writer]


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while said := await reader.read(65536):
            writer.write(said)
    except OSError:
        pass
    finally:
        writer.close()
