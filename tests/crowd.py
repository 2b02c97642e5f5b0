"""A listener with few places, and clients that come to it from wherever they like on loopback."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from tests.listening import Application, Client, Time

from acmems.net.address import Address, parse_network
from acmems.net.http import HttpLimits, HttpService
from acmems.net.listening import Listener, ListenerLimits

PLACES = 40
ALONE = 32
"""Places that one address may have: four fifths."""
GRACE = 1.0
CROWD_GRACE = 8.0
TICK = 0.25


class Crowd:
    """A listener for HTTP with forty places, and clients that come from wherever they like on loopback."""

    def __init__(self, *, waiting: int = 1000, addresses: int = 1, proxies: Sequence[str] = ()) -> None:
        trusted = [parse_network(proxy) for proxy in proxies]
        self.time = Time()
        self.application = Application()
        self.listener = Listener(
            "crowd",
            [Address("127.0.0.1", 0)] * addresses,
            HttpService(self.application, HttpLimits(read_seconds=1000, idle_seconds=1000), trusted),
            limits=ListenerLimits(PLACES, waiting, GRACE, CROWD_GRACE, TICK),
            trusted_proxies=trusted,
            clock=self.time.clock,
        )
        self.listener.bind()
        self.clients: list[Client] = []

    def connect(self, source: str = "127.0.0.1", address: int = 0) -> Client:
        place = self.listener.addresses[address]
        client = Client(socket.create_connection((place.host, place.port), 30, (source, 0)))
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is sent is there at once
        self.clients.append(client)
        return client

    def come(self, count: int = 1, *, data: bytes = b"", apart: float = 0.0) -> list[Client]:
        """Let so many clients come, each from an address of its own, one after the other."""
        clients = []
        for _ in range(count):
            number = len(self.clients)
            client = self.connect(f"127.1.{number // 250}.{number % 250 + 1}")
            client.send(data)
            clients.append(client)
            if apart:
                self.go()
                self.time.now += apart
        self.go()
        return clients

    def go(self) -> None:
        """Let the listener do all that it can do now."""
        while self.listener.turn():
            pass

    def pass_(self, seconds: float) -> None:
        """Let time pass, tick by tick."""
        end = self.time.now + seconds
        while self.time.now < end:
            self.time.now = min(end, self.time.now + TICK)
            self.go()

    def close(self) -> None:
        self.listener.close()
        for client in self.clients:
            client.socket.close()


def ended(clients: Sequence[Client]) -> list[int]:
    """Return which clients have seen the end of their connection."""
    return [number for number, client in enumerate(clients) if not client.silent and client.ended]
