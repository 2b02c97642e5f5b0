"""One question to one name server, without recursion."""

from __future__ import annotations

import socket
import struct

import dns.exception
import dns.message
import dns.name
import dns.query
from dns.rdatatype import RdataType

from acmems.net.address import Address

UNREADABLE = (dns.exception.DNSException, ValueError, LookupError, struct.error, EOFError)
"""What dnspython raises for bytes that are no message, or not the answer."""


def ask(server: Address, name: dns.name.Name, kind: RdataType, seconds: float) -> dns.message.Message:
    """Return the answer of a server, asked by UDP, and by TCP where it is too long for that.

    Args:
        server: its numeric address.
        name: the name that is asked for.
        kind: the type of records.
        seconds: how long the answer may take.

    Raises:
        OSError: it cannot be reached; unlike a socket without a peer, a connected one hears at once of a
            port where nobody listens.
        dns.exception.Timeout: it did not answer in time.
        DNSException, ValueError, LookupError, struct.error, EOFError: its answer cannot be read.
    """
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.setblocking(False)
        udp.connect((server.host, server.port))
        answer, _tcp = dns.query.udp_with_fallback(
            dns.message.make_query(name, kind, flags=0),
            server.host,
            timeout=seconds,
            port=server.port,
            udp_sock=udp,
            ignore_unexpected=True,
            ignore_errors=True,
        )
        return answer
