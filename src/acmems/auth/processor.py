"""The processing of one request: whether whoever asks may have what is asked for.

The order of checks stands here and nowhere else: address and form of the header, then the body is read,
then the HMAC over its bytes. Only after that does a parser see the body, so that strangers reach none.
Whoever fetches an answer later sends no body: the HMAC is over the path, and the CSR is that of before.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol

from acmems.auth.block import Block
from acmems.auth.headers import Headers, header_values
from acmems.auth.methods import WRONG_HMAC, Caller, Claim, bearer_token
from acmems.exceptions import HttpRefusal, PayloadToLarge, PolicyRefusal
from acmems.net.address import IPAddress, IPNetwork
from acmems.net.http.forwarded import forwarded_for, is_among, parsed
from acmems.text import Secret
from acmems.x509 import csr, formats

ONLY_ACME = "it requires that names are proved (prove), which only ACME clients can"
"""Why a block refuses whoever posts a CSR."""
MAX_SIZE = 16 * 1024
"""Bytes of the largest body, unless told otherwise: enough for RSA-4096 and its text."""


@lru_cache(maxsize=1024)
def read_request(body: bytes, rules: csr.Rules) -> csr.CertificateRequest:
    """Read a CSR; results are kept, because machines send the same CSR again and again.

    Raises:
        PayloadInvalid: it is not one well-formed, acceptable CSR.
    """
    return csr.parse(body, rules)


@dataclass(frozen=True, slots=True)
class Authenticator:
    """All auth blocks, in order, and what is allowed of every request.

    Args:
        max_size: largest body, in bytes.
        trusted_proxies: peers whose `X-Forwarded-For` is believed.
        is_revoked: tells of a client certificate, by the SHA-256 of its DER in hex, whether it is known to be
            revoked; it waits for nothing.
    """

    blocks: tuple[Block, ...] = ()
    max_size: int = MAX_SIZE
    rules: csr.Rules = field(default_factory=csr.Rules)
    trusted_proxies: tuple[IPNetwork, ...] = ()
    is_revoked: Callable[[str], bool] = field(default=lambda _: False, compare=False)

    @property
    def has_files(self) -> bool:
        """Whether a block has a file with tokens."""
        return any(method.file is not None for block in self.blocks for method in block.token_methods)

    def caller(
        self, peer: str, headers: Headers, certificate: bytes | None, token: Secret | None = None
    ) -> Caller:
        """Return what is known of whoever a request comes from, but for an HMAC claim.

        Args:
            peer: the address of the TCP peer.
            headers: those of the request.
            certificate: the client certificate of its connection, verified, in DER.
            token: the bearer token that it has sent.
        """
        shown = client_certificate(peer, headers, self.trusted_proxies, certificate)
        is_revoked = shown is not None and self.is_revoked(hashlib.sha256(shown).hexdigest())
        address = client_ip(peer, headers, self.trusted_proxies)
        return Caller(address, None, token, shown, is_revoked=is_revoked)

    def refresh(self) -> None:
        """Read anew the files with tokens that have changed. It may wait for a disk."""
        for block in self.blocks:
            block.refresh()


@dataclass(frozen=True, slots=True)
class Grant:
    """An accepted request, and the block that grants it."""

    request: csr.CertificateRequest
    block: Block


class Readable(Protocol):
    """What a body can be read from."""

    def read(self, size: int, /) -> bytes:
        """Return so many bytes."""


class Processor:
    """Helper object to process a request, check authentication, reads and parse CSR.

    Args:
        auth: the auth blocks.
        client_address: host and port of the TCP peer.
        headers: the request's headers.
        rfile: where the body is read from.
        is_chunked: whether the body comes in chunks, which are put together up to `max-size` before it is
            read: then no length is announced.
        certificate: the client certificate of its connection, verified, in DER.
    """

    def __init__(
        self,
        auth: Authenticator,
        client_address: tuple[str, int],
        headers: Headers,
        rfile: Readable,
        *,
        is_chunked: bool = False,
        certificate: bytes | None = None,
    ) -> None:
        self.auth = auth
        self.headers = headers
        self.rfile = rfile
        found = auth.caller(client_address[0], headers, certificate, bearer_token(headers))
        self.caller = replace(found, claim=Claim.from_headers(headers))
        self.client = client_name(client_address[0], found.address)
        self.block: Block | None = None
        self.request: csr.CertificateRequest | None = None
        self.reason = "no auth block is configured"
        self._is_chunked = is_chunked
        self._length: int | None = None  # of the body, once the client is admitted

    def admit(self) -> int:
        """Check what is known before the body is read, once, and return the length of the body in bytes.

        Raises:
            PolicyRefusal: no block could accept the client; the message tells the operator why.
            HttpRefusal, PayloadToLarge: as `content_length`.
        """
        if self._length is None:
            if not self.may_be_acceptable():
                raise PolicyRefusal(self.reason)
            self._length = self.content_length()
        return self._length

    def may_be_acceptable(self) -> bool:
        """Tell, before the body is read, whether any block could accept the client."""
        if any(block.may_accept(self.caller) and not block.proof.is_required for block in self.auth.blocks):
            return True
        if self.auth.blocks:
            claim = "a well-formed HMAC claim" if self.caller.claim else "no well-formed HMAC claim"
            self.reason = f"no block takes this address with {claim}{_shown(self.caller)}"
        return False

    def content_length(self) -> int:
        """Return the announced length of the body, in bytes; the largest one where it comes in chunks.

        Raises:
            HttpRefusal: there is none, or it is no number.
            PayloadToLarge: it is over `max-size`.
        """
        if self._is_chunked:
            return self.auth.max_size
        announced = header_values(self.headers, "Content-Length")
        if not announced:
            raise HttpRefusal(411, "send the CSR with a Content-Length header")
        if len(announced) > 1 or not re.fullmatch(r"[0-9]{1,18}", announced[0], re.ASCII):
            raise HttpRefusal(400, "Content-Length is not a number")
        size = int(announced[0])
        if size > self.auth.max_size:
            raise PayloadToLarge(size, self.auth.max_size)
        return size

    def acceptable(self) -> bool:
        """Read the request and decide whether it is allowed.

        Afterwards `request` and `block` tell what was asked and which block grants it, or `reason`
        tells the operator why none does.

        Raises:
            HttpRefusal: the body's length is not announced.
            PayloadToLarge: the body is over `max-size`.
            PayloadInvalid: the body is not one well-formed, acceptable CSR.
        """
        try:
            self.grant()
        except PolicyRefusal as refusal:
            self.reason = str(refusal)
            return False
        return True

    def grant(self) -> Grant:
        """Read the request and return what is granted, and by which block.

        Raises:
            PolicyRefusal: no block accepts it; the message tells the operator why.
            HttpRefusal, PayloadToLarge, PayloadInvalid: as `acceptable`.
        """
        body = self.rfile.read(self.admit())
        return self.grant_body(body, self.accepting(body))

    def grant_body(self, body: bytes, blocks: Sequence[Block]) -> Grant:
        """Read a CSR and return what is granted, and by which block.

        Args:
            body: the CSR, of this request or of one before.
            blocks: those that accept the client.

        Raises:
            PolicyRefusal: none of them grants every name; the message tells the operator why.
            PayloadInvalid: it is not one well-formed, acceptable CSR.
        """
        request = self.request = read_request(body, self.auth.rules)
        refusals = []
        for block in blocks:
            refusal = block.refusal(request.identifiers, self.caller)
            if refusal is None:
                self.block = block
                return Grant(request, block)
            refusals.append(f"block {block.name}: {refusal}")
        raise PolicyRefusal("; ".join(refusals))

    def accepting(self, body: bytes, covered: str = "body") -> list[Block]:
        """Return the blocks that accept the client; each of them is asked.

        Args:
            body: what an HMAC covers.
            covered: what that is, for the operator.

        Raises:
            PolicyRefusal: none does.
        """
        accepting: list[Block] = []
        reasons: list[str] = []
        for block in self.auth.blocks:
            objections = block.objections(self.caller, body)
            if block.proof.is_required:
                objections.append(ONLY_ACME)
            if not objections:
                used = block.use(self.caller)
                if used is None:
                    accepting.append(block)
                    continue
                objections = [used]
            if block.may_accept(self.caller):
                reasons += [f"block {block.name}: {each}" for each in objections if each != WRONG_HMAC]
        if not accepting:
            raise PolicyRefusal("; ".join(reasons) or _wrong_hmac(body, covered))
        return accepting


def _shown(caller: Caller) -> str:
    """Say what else a client has shown, for the operator."""
    token = ", with a token" if caller.token is not None else ""
    return f"{token}, with a client certificate" if caller.certificate is not None else token


def _wrong_hmac(body: bytes, covered: str) -> str:
    """Say what is wrong for the operator: another secret, or a body that is not the file as it was signed."""
    reason = f"the HMAC is not that of this {covered} under a block's secret"
    form = formats.recognise(body) if covered == "body" else None
    return f"{reason}; the body is {form.name}: {form.remedy}" if form else reason


def client_ip(peer: str, headers: Headers, trusted_proxies: Sequence[IPNetwork]) -> IPAddress | None:
    """Return the address that a request comes from; None where it is not understood."""
    return forwarded_for(peer, header_values(headers, "X-Forwarded-For"), trusted_proxies)


def client_certificate(
    peer: str, headers: Headers, trusted_proxies: Sequence[IPNetwork], shown: bytes | None
) -> bytes | None:
    """Return the certificate of whoever a request comes from: a proxy shows its own, not its client's.

    Args:
        peer: the address of the TCP peer.
        headers: those of the request.
        trusted_proxies: who speaks for others.
        shown: what the peer has shown.
    """
    if shown is None or (
        header_values(headers, "X-Forwarded-For") and is_among(parsed(peer), trusted_proxies)
    ):
        return None
    return shown


def client_name(peer: str, address: IPAddress | None) -> str:
    """Return what the log calls a client: its address, or the proxy that does not tell it understandably."""
    return f"{peer} (its X-Forwarded-For is not understood)" if address is None else str(address)
