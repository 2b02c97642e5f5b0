"""Authorities that are configured: for a CA that sees the inner view of a site (split horizon)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence

import dns.flags
import dns.message
import dns.name
import dns.rcode
from dns.rdatatype import RdataType

from acmems.dns.authority.silence import Silences
from acmems.dns.authority.statement import AuthoritativeAnswer
from acmems.dns.client.answers import zone_in
from acmems.dns.client.cnames import plain
from acmems.dns.client.question import UNREADABLE, ask
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.text import one_line

_PATIENCE = 1.5  # seconds for one answer
_TELLING = frozenset({dns.rcode.NOERROR, dns.rcode.NXDOMAIN})

AskServer = Callable[[Address, dns.name.Name, RdataType, float], dns.message.Message]


class NamedServers:
    """Asks the same name servers for every name, for what they have authority for.

    Args:
        servers: the servers, in the order of preference.
        clock: for how long those that did not answer are left alone.
        ask_server: asks one of them.
    """

    def __init__(
        self, servers: Sequence[Address], *, clock: Clock = SYSTEM, ask_server: AskServer = ask
    ) -> None:
        self._servers = tuple(servers)
        self._silences = Silences(clock)
        self._ask_server = ask_server

    @property
    def is_suspended(self) -> bool:
        """Whether none of them answered lately."""
        return all(map(self._silences.lasts, self._servers))

    def ask(self, name: dns.name.Name, kind: RdataType, deadline: Deadline) -> AuthoritativeAnswer:
        """Return what the first of them says of a name that has authority for it.

        Raises:
            ValidatorUnavailable: none of them says anything definite, or not in time.
        """
        reasons = []
        for server in self._servers:
            if self._silences.lasts(server):
                reasons.append(f"{server}: did not answer lately")
                continue
            for address in _numeric(server):
                if deadline.passed:
                    raise ValidatorUnavailable(f"no answer for {plain(name)} in time")
                try:
                    answer = self._ask_server(address, name, kind, _PATIENCE)
                except (OSError, *UNREADABLE) as error:
                    self._silences.note(server)
                    reasons.append(f"{address}: {type(error).__name__}")
                    continue
                self._silences.end(server)
                if answer.rcode() in _TELLING and answer.flags & dns.flags.AA:
                    return AuthoritativeAnswer(answer, zone_in(name, answer) or name)
                reasons.append(f"{address}: {dns.rcode.to_text(answer.rcode())}")
        raise ValidatorUnavailable(f"no `pre-check-nameserver` tells {plain(name)}: {'; '.join(reasons)}")


def _numeric(server: Address) -> Iterator[Address]:
    """Yield the addresses of a server that the configuration may name by its host.

    Raises:
        ValidatorUnavailable: there is none.
    """
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise ValidatorUnavailable(
            f"name server {server} is not found: {one_line(error.strerror or error)}"
        ) from None
    for each in found:
        yield Address(str(each[4][0]), server.port)
