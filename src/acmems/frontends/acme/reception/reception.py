"""From the body of a request to who has signed it: envelope, URL, nonce, account, signature, in this order.

What needs no state comes first, so that strangers cost little; the nonce is used up when the signature is
right, so that nobody can use up those of others. Nothing here waits: what is to be looked for is a future.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from acmems.auth import Caller
from acmems.frontends.acme.envelope.envelope import Envelope
from acmems.frontends.acme.envelope.jwk import PublicJwk
from acmems.frontends.acme.linker import Linker
from acmems.frontends.acme.problems import AcmeProblem, malformed
from acmems.frontends.acme.reception.known import KnownAccounts
from acmems.frontends.acme.reception.nonces import Nonces, bad_nonce
from acmems.frontends.acme.requests import SignedRequest
from acmems.frontends.acme.routes import Signer
from acmems.state.acme.accounts import AcmeAccount, Admission
from acmems.state.acme.nonces import NonceUse

T = TypeVar("T")

Then = Callable[[SignedRequest], None]
Refuse = Callable[[BaseException], None]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as it has come.

    Args:
        target: its target, exactly as sent.
        body: its body.
        parameters: what the template of its path leaves open.
        signer: who may sign requests of this kind.
        caller: what is known of the client.
        client: what the log calls the client.
    """

    target: str
    body: bytes
    parameters: tuple[str, ...]
    signer: Signer
    caller: Caller
    client: str


class Reception:
    """Finds out who has signed a request.

    Args:
        linker: makes and reads URLs.
        nonces: takes nonces.
        accounts: finds accounts.
    """

    def __init__(self, linker: Callable[[], Linker], nonces: Nonces, accounts: KnownAccounts) -> None:
        self._linker = linker
        self._nonces = nonces
        self._accounts = accounts

    def receive(self, arrival: Arrival, then: Then, refuse: Refuse) -> None:
        """Read and check a request, and hand it on.

        Args:
            arrival: the request.
            then: called with it, at once or from another thread.
            refuse: called instead with what is wrong with it, where that is found out later.

        Raises:
            AcmeProblem: that is found out at once.
        """
        linker = self._linker()
        envelope = Envelope.from_body(arrival.body)
        envelope.require_url(linker.requested(arrival.target))
        use = self._nonces.examine(envelope.nonce)
        if envelope.jwk is not None:
            if arrival.signer == "account":
                raise malformed("sign this request as an account, with 'kid' and without 'jwk'")
            self._by_key(_Reading(arrival, envelope, use), envelope.jwk, then, refuse)
            return
        if arrival.signer == "key":
            raise malformed("sign this request with 'jwk' and without 'kid'")
        reading = _Reading(arrival, envelope, use)
        [account] = linker.parameters("account", envelope.kid or "") or (None,)
        if account is None:
            raise AcmeProblem(
                "accountDoesNotExist", "'kid' is not the URL of an account here: register with this server"
            )
        self._by_account(reading, account, then, refuse)

    def _by_key(self, reading: _Reading, key: PublicJwk, then: Then, refuse: Refuse) -> None:
        reading.envelope.verify(key)
        self._nonces.take(reading.use)
        request = reading.request(key, None)
        if self._nonces.is_shared:
            used = self._nonces.use(reading.use)
            _when(used, lambda fresh: then(_fresh(request, is_fresh=fresh)), refuse)
        else:
            self._nonces.note(reading.use)
            then(request)

    def _by_account(self, reading: _Reading, name: str, then: Then, refuse: Refuse) -> None:
        known = self._accounts.get(name)
        if known is not None:
            try:
                key = _verified(reading, known)
            except AcmeProblem:
                if not self._nonces.is_shared:
                    raise
            else:
                self._accept(reading, key, known, then, refuse)
                return

        def go_on(found: AcmeAccount | None) -> None:
            account = _existing(found)
            self._accept(reading, _verified(reading, account), account, then, refuse)

        # It may have been made, or may have got another key, at another server.
        _when(self._accounts.find(name), go_on, refuse)

    def _accept(
        self, reading: _Reading, key: PublicJwk, account: AcmeAccount, then: Then, refuse: Refuse
    ) -> None:
        """Use up the nonce of a request that an account has signed, and hand it on."""
        _require_valid(account)
        self._nonces.take(reading.use)
        request = reading.request(key, account)
        if self._nonces.is_shared and not request.is_get:
            admitted = self._accounts.admit(account.id, reading.use)
            _when(admitted, lambda admission: then(_admitted(request, admission)), refuse)
        else:
            self._nonces.note(reading.use)
            then(request)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A request whose form is right."""

    arrival: Arrival
    envelope: Envelope
    use: NonceUse

    def request(self, key: PublicJwk, account: AcmeAccount | None) -> SignedRequest:
        """Return the request, once its signature is known to be right."""
        arrival = self.arrival
        return SignedRequest(
            url=self.envelope.url,
            parameters=arrival.parameters,
            payload=self.envelope.payload,
            key=key,
            account=account,
            caller=arrival.caller.of_account(None if account is None else account.external_account),
            client=arrival.client,
            query=arrival.target.partition("?")[2],
        )


def _verified(reading: _Reading, account: AcmeAccount) -> PublicJwk:
    """Return the key of an account, which has signed a request.

    Raises:
        AcmeProblem: it has not.
    """
    key = PublicJwk.from_text(account.key)
    reading.envelope.verify(key)
    return key


def _existing(account: AcmeAccount | None) -> AcmeAccount:
    if account is None:
        raise AcmeProblem("accountDoesNotExist", "there is no such account: register with this server")
    return account


def _require_valid(account: AcmeAccount) -> None:
    """Refuse what an account asks that was ended (RFC 8555 section 7.3.6).

    Raises:
        AcmeProblem: it was.
    """
    if account.status != "valid":
        raise AcmeProblem(
            "unauthorized", f"the account is {account.status}: register with another key", status=401
        )


def _fresh(request: SignedRequest, *, is_fresh: bool) -> SignedRequest:
    if not is_fresh:
        raise bad_nonce()
    return request


def _admitted(request: SignedRequest, admission: Admission) -> SignedRequest:
    """Return a request of an account that is still what it was when the signature was checked.

    Raises:
        AcmeProblem: it is not, or the nonce was used.
    """
    _fresh(request, is_fresh=admission.is_fresh)
    account = _existing(admission.account)
    _require_valid(account)
    if account.thumbprint != request.key.thumbprint:
        raise malformed("the signature is not that of this request by the key of the account")
    return request


def _when(future: Future[T], then: Callable[[T], None], refuse: Refuse) -> None:
    """Go on with what a future brings, or with what it or the next step fails with."""

    def go_on(done: Future[T]) -> None:
        try:
            then(done.result())
        except BaseException as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            refuse(error)

    future.add_done_callback(go_on)
