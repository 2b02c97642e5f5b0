"""A proxy that puts a CA far away: every byte takes half a round trip longer, each way.

usage: python -m scripts.benchmark.distance UPSTREAM_PORT MILLISECONDS   (prints its port)
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Self

from tests.peers import PeerFailed
from tests.peers.process import ROOT

LOOPBACK = "127.0.0.1"
CHUNK = 65536


class Distance:
    """The proxy, as a process of its own.

    Args:
        port: where the CA listens.
        milliseconds: how long a round trip takes.
    """

    def __init__(self, port: int, milliseconds: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scripts.benchmark.distance", str(port), str(milliseconds)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise PeerFailed("the proxy that puts the CA far away did not start")
        self.port = int(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class Line:
    """One direction of a connection: what goes in comes out after half a round trip."""

    def __init__(self, writer: asyncio.StreamWriter, seconds: float) -> None:
        self._writer = writer
        self._seconds = seconds

    async def carry(self, reader: asyncio.StreamReader, *, late: float = 0.0) -> None:
        """Carry bytes to the other side until there are no more.

        Args:
            reader: where they come from.
            late: seconds that the first of them take in addition, for the handshake of TCP.
        """
        loop = asyncio.get_running_loop()
        delay = self._seconds + late
        while data := await reader.read(CHUNK):
            loop.call_later(delay, self._write, data)
            delay = self._seconds
        loop.call_later(delay, self._close)

    def _write(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)

    def _close(self) -> None:
        if not self._writer.is_closing():
            self._writer.close()


async def run(upstream: int, seconds: float) -> None:
    """Serve for ever.

    Args:
        upstream: where the CA listens.
        seconds: of a round trip.
    """

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(LOOPBACK, upstream)
        await asyncio.gather(
            Line(there_writer, seconds / 2).carry(reader, late=seconds),
            Line(writer, seconds / 2).carry(there_reader),
            return_exceptions=True,
        )

    server = await asyncio.start_server(connect, LOOPBACK, 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), int(sys.argv[2]) / 1000))
