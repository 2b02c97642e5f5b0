"""A relay before a DNS server, UDP and TCP, that puts it far away."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from typing import Self, cast

import dns.message
import dns.rdatatype
from tests.peers import free_port

LOOPBACK = "127.0.0.1"
READY_SECONDS = 30.0


class DistantDns:
    """A context manager: whatever goes to a DNS server, or comes from it, takes half a round trip longer.

    Args:
        upstream: the port of the server.
        seconds: how long a round trip takes.

    Attributes:
        port: where to ask.
        most: how many datagrams of each type of question were on their way at the same time, at most.
        streams: connections that were made.
    """

    def __init__(self, upstream: int, seconds: float) -> None:
        self.upstream = upstream
        self.half = seconds / 2
        self.port = free_port()
        self.address = f"{LOOPBACK}:{self.port}"
        self.most: Counter[str] = Counter()
        self.streams = 0
        self._under_way: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(READY_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        here = (LOOPBACK, self.port)
        transport, _ = loop.run_until_complete(
            loop.create_datagram_endpoint(lambda: _Client(self), local_addr=here)
        )
        server = loop.run_until_complete(asyncio.start_server(self._connect, *here))
        self._ready.set()
        loop.run_forever()
        transport.close()
        server.close()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()

    def begin(self, query: bytes) -> str:
        """Note that a question is on its way; return its type."""
        kind = dns.rdatatype.to_text(dns.message.from_wire(query, ignore_trailing=True).question[0].rdtype)
        self._under_way[kind] += 1
        self.most[kind] = max(self.most[kind], self._under_way[kind])
        return kind

    def end(self, kind: str) -> None:
        """Note that it has been answered."""
        self._under_way[kind] -= 1

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.streams += 1
        there_reader, there_writer = await asyncio.open_connection(LOOPBACK, self.upstream)
        # A connection costs a round trip before its first octets.
        await asyncio.gather(
            self._carry(reader, there_writer, 2 * self.half), self._carry(there_reader, writer, 0.0)
        )

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late: float) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await asyncio.sleep(self.half + late)
                late = 0.0
                writer.write(data)
            writer.close()


class _Client(asyncio.DatagramProtocol):
    """The relay's end towards those who ask."""

    def __init__(self, relay: DistantDns) -> None:
        self._relay = relay
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)  # not by its class, but it is one

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        asyncio.ensure_future(self._relay_one(data, addr))  # noqa: RUF006 - the loop is asked for all of its tasks

    async def _relay_one(self, query: bytes, client: tuple[str, int]) -> None:
        relay, loop = self._relay, asyncio.get_running_loop()
        kind = relay.begin(query)
        answered: asyncio.Future[bytes] = loop.create_future()
        try:
            await asyncio.sleep(relay.half)
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Server(answered), remote_addr=(LOOPBACK, relay.upstream)
            )
            with contextlib.closing(transport):
                transport.sendto(query)
                answer = await answered
            await asyncio.sleep(relay.half)
            if self._transport is not None:
                self._transport.sendto(answer, client)
        finally:
            relay.end(kind)


class _Server(asyncio.DatagramProtocol):
    """The relay's end towards the server, for one question."""

    def __init__(self, answered: asyncio.Future[bytes]) -> None:
        self._answered = answered

    def datagram_received(self, data: bytes, _: tuple[str, int]) -> None:
        if not self._answered.done():
            self._answered.set_result(data)
