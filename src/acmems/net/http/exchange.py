"""What a listener and the application above it agree on: one request, its answer, and the limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPMessage
from typing import Protocol

from acmems.net.http.framing import HeadLimits
from acmems.system.clock import Deadline


class Application(Protocol):
    """What answers the requests of a listener."""

    def begin(self, exchange: Exchange) -> Handling:
        """Look at a head and return how the request will be handled once its body is there.

        MUST NOT block: it runs on a thread that serves all connections. What it raises is answered
        through `refuse` before the body is read, and the connection closed.
        """

    def refuse(self, exchange: Exchange | None, error: Exception, client: str) -> bytes:
        """Return the whole raw answer for an error.

        Args:
            exchange: the request; None if there is none because its head is not acceptable.
            error: what went wrong. Anything but an `AcmeException` is a bug.
            client: the address of the peer.
        """


@dataclass(frozen=True, slots=True)
class Handling:
    """How an application handles one request.

    Args:
        body_limit: bytes of body that are wanted at most.
        run: answers the complete request through `Exchange.answer`, now, or later from any thread. It MUST
            NOT wait for a network; what takes long answers later. What it raises is answered through
            `Application.refuse`, and the connection closed.
    """

    body_limit: int
    run: Callable[[], None]


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and the way to answer it.

    Args:
        method: the method, such as `POST`.
        target: the request target exactly as sent.
        version: the HTTP version, (1, 0) or (1, 1).
        headers: the request headers.
        client_address: address and port of the peer; IPv4 in its own form.
        reference: eight random hex digits that name this request in logs and errors.
        deadline: when an answer comes too late.
        keeps: tells whether the connection could stay open after an answer now; from any thread.
        deliver: takes the answer to the client.
        hand_over: has a step taken in the listener's thread, when it is the turn of the client's address;
            what many clients wait for is to be sent so.
        is_chunked: whether the body comes in chunks, so that no length is announced.
        peer_certificate: the client's certificate, in DER, verified; None where it has shown none.
        body: the request body, once it is complete.
        is_refusal: whether the answer says that the request is not acceptable.
        gone: whether the client has hung up before its answer; one that only sends no more looks the same.
    """

    method: str
    target: str
    version: tuple[int, int]
    headers: HTTPMessage = field(repr=False)  # it may carry an HMAC
    client_address: tuple[str, int]
    reference: str
    deadline: Deadline
    keeps: Callable[[], bool] = field(repr=False)
    deliver: Callable[[Exchange, bytes, bool], None] = field(repr=False)
    hand_over: Callable[[Callable[[], None]], None] = field(default=lambda step: step(), repr=False)
    is_chunked: bool = False
    peer_certificate: bytes | None = field(default=None, repr=False)
    body: bytes = field(default=b"", repr=False)
    is_refusal: bool = False
    gone: bool = False
    _is_kept: bool | None = field(default=None, init=False)

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays open after the answer, as it is found when the answer is made.

        What was found stays so, because the answer says it. One that says otherwise is to be given with
        `close=True`.
        """
        if self._is_kept is None:
            self._is_kept = self.keeps()
        return self._is_kept

    def answer(self, data: bytes, *, close: bool = False) -> None:
        """Send the answer, from any thread; after the first one, or when the client is gone, do nothing.

        Args:
            data: the whole raw HTTP response.
            close: close the connection after it.
        """
        self.deliver(self, data, close)


UNFINISHED_BYTES = 16 * 1024 * 1024
"""What is kept of all requests together that are not whole yet, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """How long clients and the application may take, in seconds.

    Args:
        read_seconds: for a request to arrive, from its first byte (or the connection) to its last.
        request_seconds: from a request's first byte to its answer.
        write_seconds: for the client to take an answer.
        idle_seconds: how long a connection is kept without a further request.
        linger_seconds: how long a refused client may go on sending before it is cut off.
        unfinished_bytes: how much is kept of all requests that are not whole yet, together, in bytes.
        head: the limits of a request's head.
    """

    read_seconds: float = 10.0
    request_seconds: float = 120.0
    write_seconds: float = 10.0
    idle_seconds: float = 30.0
    linger_seconds: float = 2.0
    unfinished_bytes: int = UNFINISHED_BYTES
    head: HeadLimits = field(default_factory=HeadLimits)

    @property
    def arrival_seconds(self) -> float:
        """Seconds in which a request must have arrived."""
        return min(self.read_seconds, self.request_seconds)
