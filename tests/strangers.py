"""Machines that strangers run, as validations meet them: servers and a DNS that do as a test says."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import dns.message
import dns.rcode
import dns.rrset
from dns.name import Name

from acmems.frontends.acme.problems import AcmeProblem
from acmems.frontends.acme.proving.lookups import Lookups
from acmems.net.address import IPAddress
from acmems.system.clock import Deadline

HERE = "127.0.0.2"
"""Where strangers' machines are in tests: loopback, but not where this server is."""

Behaviour = Callable[[socket.socket, bytes], None]


def says(text: str | bytes) -> Behaviour:
    """Return what answers each request with the same bytes."""
    data = text if isinstance(text, bytes) else text.encode("latin-1")
    return lambda sock, _: sock.sendall(data)


def answer(body: str, *, status: str = "200 OK", **headers: str) -> str:
    """Return a whole answer."""
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{fields}\r\n{body}"


class Stranger:
    """A context manager: a TCP server that reads one head of a request, and then does as it is told.

    Args:
        behaviour: is given each connection and the head.
        secured: makes TLS of a connection.
        host: where it listens.

    Attributes:
        port: where it listens.
        heads: what was asked.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        secured: Callable[[socket.socket], socket.socket] = lambda sock: sock,
        host: str = HERE,
    ) -> None:
        self.behaviour = behaviour
        self.heads: list[str] = []
        self._secured = secured
        self._socket = socket.create_server((host, 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                accepted, _ = self._socket.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), accepted, self._secured(accepted) as sock:
                head = b""
                while b"\r\n\r\n" not in head and (data := sock.recv(4096)):
                    head += data
                self.heads.append(head.decode("latin-1"))
                self.behaviour(sock, head)


@dataclass
class Names(Lookups):
    """In the place of the DNS: the addresses of names.

    Args:
        table: addresses by name; those of a list are given out one after the other, one at each look.
        default: of all other names.
    """

    table: Mapping[str, Sequence[str]] = field(default_factory=dict)
    default: Sequence[str] = (HERE,)
    asked: list[str] = field(default_factory=list)

    def addresses(self, host: str, deadline: Deadline) -> tuple[IPAddress, ...]:
        self.asked.append(host)
        found = self.table.get(host, self.default)
        if not found:
            raise AcmeProblem("dns", f"{host} has no A or AAAA records")
        return tuple(map(ipaddress.ip_address, found))


class ChangingDns:
    """A context manager: a DNS server over UDP whose answers a function makes.

    Args:
        records: returns the records for a name and a type, as lines of a zone file without the name.

    Attributes:
        port: where it listens, on 127.0.0.1.
        asked: what was asked, as name and type.
    """

    def __init__(self, records: Callable[[Name, str], Sequence[str]]) -> None:
        self.records = records
        self.asked: list[tuple[str, str]] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        for data, client in self._received():
            query = dns.message.from_wire(data)
            question = query.question[0]
            kind = question.rdtype.name
            self.asked.append((question.name.to_text(omit_final_dot=True), kind))
            reply = dns.message.make_response(query, recursion_available=True)
            for line in self.records(question.name, kind):
                owner, ttl, rdtype, text = line.split(" ", 3)
                reply.answer.append(dns.rrset.from_text(f"{owner}.", int(ttl), "IN", rdtype, text))
            self._socket.sendto(reply.to_wire(max_size=65535), client)

    def _received(self) -> Iterator[tuple[bytes, tuple[str, int]]]:
        while True:
            data, client = self._socket.recvfrom(4096)
            if not data:
                return
            yield data, client
