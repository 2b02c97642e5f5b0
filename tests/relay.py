"""A relay before a TCP server whose connections can be slow, stalled or cut."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Self

from tests.peers import free_port

LOOPBACK = "127.0.0.1"
READY_SECONDS = 30.0


class Relay:
    """A context manager: what goes to a server, and what comes from it, takes this way.

    Args:
        upstream: the port of the server.
        seconds: how long a round trip takes beside what the server needs.

    Attributes:
        port: where to connect to.
        connections: how many were made so far.
        turns: how often a client spoke after the server had, which is how many round trips there were.
        asked: all that clients have sent.
    """

    def __init__(self, upstream: int, seconds: float = 0.0) -> None:
        self.upstream = upstream
        self.port = free_port()
        self.connections = 0
        self.turns = 0
        self.asked = bytearray()
        self._is_answered = True
        self._half = seconds / 2
        self._open: set[asyncio.StreamWriter] = set()
        self._refuses = False
        self._deadly: bytes | None = None
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(READY_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def stall(self) -> None:
        """Hold whatever comes from now on, as a network does that loses everything."""
        self._call(self._flows.clear)

    def cut(self) -> None:
        """End all connections, and every one that is made from now on."""
        self._call(self._cut)

    def heal(self) -> None:
        """Let everything pass again."""
        self._call(self._heal)

    def lose_answer_to(self, request: bytes) -> None:
        """End the next connection on which these bytes are sent, once the server has answered to them."""
        self._deadly = request

    def _call(self, act: Callable[[], None]) -> None:
        done = threading.Event()

        def run() -> None:
            act()
            done.set()

        self._loop.call_soon_threadsafe(run)
        assert done.wait(READY_SECONDS)

    def _cut(self) -> None:
        self._refuses = True
        for writer in self._open:
            writer.transport.abort()

    def _heal(self) -> None:
        self._refuses = False
        self._flows.set()

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        self._flows.set()
        server = loop.run_until_complete(asyncio.start_server(self._connect, LOOPBACK, self.port))
        self._ready.set()
        loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        ways = {writer}
        self._open.add(writer)
        try:
            await self._flows.wait()
            if self._refuses:
                return
            answers, requests = await asyncio.open_connection(LOOPBACK, self.upstream)
            ways.add(requests)
            self._open.add(requests)
            is_over = asyncio.Event()  # the server hears this client for the last time
            both = (self._ask(reader, requests, is_over), self._answer(answers, writer, is_over))
            await asyncio.wait([asyncio.ensure_future(each) for each in both], return_when="FIRST_COMPLETED")
        except (OSError, asyncio.CancelledError):
            pass  # one of the two has gone, or the relay ends
        finally:
            self._open -= ways
            for each in ways:
                each.transport.abort()

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_over: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                self.turns += self._is_answered
                self._is_answered = False
                self.asked += data
                if self._deadly is not None and self._deadly in data:
                    self._deadly = None
                    is_over.set()
                await self._pass_on(data, writer)

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_over: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                self._is_answered = True
                if is_over.is_set():
                    return
                await self._pass_on(data, writer)

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self._half:
            await asyncio.sleep(self._half)
        await self._flows.wait()
        writer.write(data)
        await writer.drain()
