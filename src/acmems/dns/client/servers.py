"""DNS servers that are asked in turn, by UDP or TCP, signed with a TSIG key where there is a key."""

from __future__ import annotations

import contextlib
import copy
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import dns.exception
import dns.message
import dns.opcode
import dns.query
import dns.tsig

from acmems.dns.client.tsig import TsigKey
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.system.clock import SYSTEM, Clock, Deadline
from acmems.text import one_line

T = TypeVar("T")

# Seconds. A datagram may get lost; asking again is harmless, a repeated update included.
_FIRST_WAIT = 1.5
_DATAGRAM = 512  # octets that every server takes by UDP (RFC 1035 section 2.3.4)
# What dnspython raises for bytes that are no message, or not the answer.
_UNREADABLE = (dns.exception.DNSException, ValueError, LookupError, struct.error, EOFError)
_ANSWERS = "look at the log of that server, and correct `dns-server`"


class ServerFailed(ValidatorUnavailable):
    """One server did not do what it was asked; the message begins with its name.

    Args:
        server: the server.
        reason: what it did, or did not, as the rest of a sentence.
        advice: what the operator should do.
        not_its_zone: whether it only has no authority for the name.
    """

    def __init__(self, server: Address, reason: str, *, advice: str = "", not_its_zone: bool = False) -> None:
        super().__init__(f"DNS server {server} {reason}", advice=advice)
        self.not_its_zone = not_its_zone


class _KeyUnknown(ServerFailed):
    """A server does not know the TSIG key, or no TSIG at all."""


class NobodyInCharge(ValidatorUnavailable):
    """All servers answered, and none has authority for the name."""


@dataclass(frozen=True, slots=True)
class _Endpoint:
    server: Address
    host: str


class Servers:
    """DNS servers, of which the first that does what it is asked is as good as the others.

    Args:
        addresses: the servers, in the order of preference.
        key: signs what they are asked, and answers must be signed by it; None: nothing is signed. A server
            that does not know it, such as a secondary that forwards updates to its primary, is asked
            questions without it, by TCP; updates are always signed.
        clock: where time comes from.
    """

    def __init__(
        self, addresses: Sequence[Address], key: TsigKey | None = None, *, clock: Clock = SYSTEM
    ) -> None:
        self.addresses = tuple(addresses)
        self.key = key
        self.clock = clock
        self._last = self.addresses[0]  # the one that did its part last: a dead one costs time only once
        self._keyless: set[Address] = set()  # do not know the key, and answer questions without it

    def ask(
        self,
        message: dns.message.Message,
        about: str,
        deadline: Deadline,
        judge: Callable[[Address, dns.message.Message], T],
    ) -> T:
        """Send a message to one server after the other until an answer will do.

        Args:
            message: the question or update, not signed.
            about: the record that it is about, for errors.
            deadline: when to give up; each server gets a fair share of the time.
            judge: returns what is wanted from a server's answer, or raises ServerFailed.

        Raises:
            NobodyInCharge: all of them answered that it is not their zone.
            ValidatorUnavailable: none did what it was asked; says what each did instead.
        """
        key = self._load_key(about)
        failures: list[ServerFailed] = []
        endpoints = self._endpoints(failures)
        for number, endpoint in enumerate(endpoints):
            share = deadline.remaining / (len(endpoints) - number)
            try:
                answer = self._exchange(message, endpoint, deadline.within(share), share, key)
                found = judge(endpoint.server, answer)
            except ServerFailed as error:
                failures.append(error)
            else:
                self._last = endpoint.server
                return found
        kind = NobodyInCharge if all(error.not_its_zone for error in failures) else ValidatorUnavailable
        reasons = "; ".join(dict.fromkeys(map(str, failures)))
        advice = "; ".join(dict.fromkeys(error.advice for error in failures if error.advice))
        raise kind(f"TXT record {about}: {reasons}", advice=advice)

    def _load_key(self, about: str) -> dns.tsig.Key | None:
        if self.key is None:
            return None
        try:
            return self.key.load()
        except ValidatorUnavailable as error:
            raise ValidatorUnavailable(
                f"TXT record {about}: DNS server {self.addresses[0]} is not asked: {error}",
                advice=error.advice,
            ) from None

    def _endpoints(self, failures: list[ServerFailed]) -> list[_Endpoint]:
        found = []
        for server in sorted(self.addresses, key=lambda address: address != self._last):
            try:
                hosts = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM)
            except OSError as error:
                failures.append(_unreachable(server, error))
            else:
                found += [_Endpoint(server, str(host[4][0])) for host in hosts]
        return list(dict.fromkeys(found))

    def _exchange(
        self,
        message: dns.message.Message,
        endpoint: _Endpoint,
        deadline: Deadline,
        share: float,
        key: dns.tsig.Key | None,
    ) -> dns.message.Message:
        """Send a message, signed if there is a key; a question goes without it to a server without it."""
        server = endpoint.server
        is_update = message.opcode() == dns.opcode.UPDATE
        if key is None:
            return _send(message, endpoint, deadline, share)
        if server in self._keyless and not is_update:
            try:
                return _send(message, endpoint, deadline, share, stream=True)
            except ServerFailed:
                self._keyless.discard(server)
                raise
        try:
            return _send(message, endpoint, deadline, share, key)
        except _KeyUnknown as error:
            if is_update:
                raise
            try:
                answer = _send(message, endpoint, deadline, share, stream=True)
            except ServerFailed:
                raise error from None
            self._keyless.add(server)
            return answer


def _send(
    message: dns.message.Message,
    endpoint: _Endpoint,
    deadline: Deadline,
    share: float,
    key: dns.tsig.Key | None = None,
    *,
    stream: bool = False,
) -> dns.message.Message:
    """Return the answer of one server.

    Args:
        message: not signed.
        endpoint: the server.
        deadline: when to give up.
        share: the seconds until then, for errors.
        key: signs the message and must have signed the answer.
        stream: whether to use TCP at once, where answers are hard to forge.

    Raises:
        ServerFailed: no answer, or none to believe.
    """
    server = endpoint.server
    if key is not None:
        message = copy.copy(message)
        message.use_tsig(key)
    try:
        answer = _by_udp_or_tcp(message, endpoint, deadline, stream=stream)
        if key is not None and not answer.had_tsig:  # not every dnspython refuses it itself
            raise _unsigned(server)
    except dns.exception.Timeout:
        raise ServerFailed(
            server,
            f"did not answer within {round(share, 1):g} s",
            advice="see that it runs and is reached by UDP and TCP; `timeout` is for all servers",
        ) from None
    except OSError as error:
        raise _unreachable(server, error) from None
    except _UNREADABLE as error:
        raise _unreadable(server, error, key) from None
    return answer


def _by_udp_or_tcp(
    message: dns.message.Message, endpoint: _Endpoint, deadline: Deadline, *, stream: bool
) -> dns.message.Message:
    """Return the answer; by TCP where the message or the answer is too long, or a datagram not trustworthy.

    Anyone can forge a datagram that says BADSIG, but hardly a TCP connection: so what is badly signed is
    asked again there, and believed then.
    """
    signed = message.keyring is not None
    forged: BaseException | None = None
    if not stream and len(message.to_wire()) <= _DATAGRAM:
        try:
            answer = _by_udp(message, endpoint, deadline, ignore_errors=not signed)
        except dns.message.Truncated:
            pass
        except dns.exception.Timeout:
            raise
        except _UNREADABLE as error:
            forged = error
        else:
            if answer.had_tsig or not signed:
                return answer
            forged = ValueError("the answer has no TSIG")
    try:
        return dns.query.tcp(message, endpoint.host, timeout=deadline.remaining, port=endpoint.server.port)
    except (OSError, dns.exception.Timeout):
        if forged is not None:
            raise forged from None
        raise


def _by_udp(
    message: dns.message.Message, endpoint: _Endpoint, deadline: Deadline, *, ignore_errors: bool
) -> dns.message.Message:
    wait = _FIRST_WAIT
    while True:
        with contextlib.suppress(dns.exception.Timeout):
            return dns.query.udp(
                message,
                endpoint.host,
                timeout=min(wait, deadline.remaining),
                port=endpoint.server.port,
                ignore_unexpected=True,
                ignore_errors=ignore_errors,
                raise_on_truncation=True,
            )
        if deadline.passed:
            raise dns.exception.Timeout
        wait *= 2


def _unreachable(server: Address, error: OSError) -> ServerFailed:
    return ServerFailed(
        server,
        f"cannot be reached: {one_line(error.strerror or error)}",
        advice="correct `dns-server`, or see that it is reached by UDP and TCP",
    )


def _unsigned(server: Address) -> ServerFailed:
    return _KeyUnknown(
        server,
        "did not sign its answer with the TSIG key",
        advice="see that it knows the key that `tsig-name` names; somebody else may have answered",
    )


def _unreadable(server: Address, error: BaseException, key: dns.tsig.Key | None) -> ServerFailed:
    name = "" if key is None else one_line(key.name.to_text(omit_final_dot=True))
    if isinstance(error, dns.tsig.PeerBadKey):
        return _KeyUnknown(
            server,
            f"does not know the TSIG key {name} (BADKEY)",
            advice="`tsig-name` and `tsig-algorithm` must be those of a key that the server has",
        )
    if isinstance(error, dns.tsig.PeerBadSignature):
        return ServerFailed(
            server,
            f"has another secret for the TSIG key {name} (BADSIG)",
            advice="`tsig-key` or `tsig-key-file` must hold the secret that the server has for that key",
        )
    if isinstance(error, (dns.tsig.PeerBadTime, dns.tsig.BadTime)):
        return ServerFailed(
            server,
            f"has another time of day, so that signatures by the TSIG key {name} do not count (BADTIME)",
            advice="set the clocks of both machines",
        )
    if isinstance(error, (dns.tsig.BadSignature, dns.tsig.BadKey, dns.tsig.BadAlgorithm, dns.tsig.PeerError)):
        return ServerFailed(
            server,
            f"signed its answer wrongly for the TSIG key {name}",
            advice="somebody else may have answered, or a firewall changes answers: it was not believed",
        )
    if isinstance(error, dns.message.UnknownTSIGKey) or "TSIG" in str(error):  # dnspython has no class for it
        return _unsigned(server)
    return ServerFailed(
        server, f"gave an answer that cannot be read: {type(error).__name__}", advice=_ANSWERS
    )
