"""The contract between issuances and what turns a request into a chain."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from acmems.challenges import Validator
from acmems.exceptions import PayloadInvalid
from acmems.issuers.acme.orders.placing import OrderTerms
from acmems.issuing.requests import AcceptedRequest
from acmems.state.chains import ChainRecord
from acmems.state.sharing.together import OrderClaim, OrderTaking
from acmems.system.clock import Deadline
from acmems.system.steps import StepLoop, Steps
from acmems.x509.chain import Chain, OfferedChain
from acmems.x509.csr import CertificateRequest
from acmems.x509.identifiers import Identifier


class OrderSharing(Protocol):
    """Has several servers order each thing once."""

    def claim(
        self,
        identity: str,
        subjects: Sequence[str],
        is_wanted: Callable[[ChainRecord], bool],
        taking: OrderTaking | None = None,
    ) -> Future[OrderClaim]:
        """Let no other server order the same until `IssuanceMemory.end`, unless one does already.

        Args:
            identity: what makes two requests the same.
            subjects: what may stop a request, as texts.
            is_wanted: tells whether a chain makes an order needless.
            taking: takes the order that was prepared for the same names, once no other server prepares it.
        """

    @property
    def is_certain(self) -> bool:
        """Whether no other server can have taken over what this one has claimed."""

    def issued(self, identity: str, record: ChainRecord, *, soon: bool = True) -> Future[None]:
        """Keep the chain that an order has brought, where every server finds it.

        Until that is done no other server orders the same.

        Args:
            identity: what makes two requests the same.
            record: the chain.
            soon: whether that has no time.
        """


class IssuanceMemory(Protocol):
    """Remembers over a restart what has begun."""

    @property
    def sharing(self) -> OrderSharing | None:
        """How it is shared with other servers, None where it is not."""

    def intend(
        self, identity: str, csr: bytes, block: str | None, now: datetime.datetime
    ) -> Future[None] | None:
        """Remember that an order is going to be placed, or an open one to be continued.

        Args:
            identity: what makes two requests the same.
            csr: the certificate request as the client sent it; empty where an order is prepared without one.
            block: the auth block that grants it.
            now: the time.

        Returns:
            a future to wait for, None where there is no need to.
        """

    def end(self, identity: str) -> None:
        """Take note that no order is going to be placed for now."""

    def forget(self, identity: str) -> None:
        """Forget what has begun: its chain is safe, or of no use."""


class ChainHistory(Protocol):
    """Keeps what is known of every chain that was issued, wherever it is delivered from."""

    def issued(self, identity: str, accepted: AcceptedRequest, chain: Chain) -> None:
        """Take note of a chain that was issued, without a wait.

        Args:
            identity: what makes two requests the same.
            accepted: the request that it was ordered for.
            chain: the chain.
        """

    def record(self, identity: str, accepted: AcceptedRequest, chain: Chain) -> ChainRecord:
        """Return what `issued` notes, for whoever writes it together with something else."""

    def is_older(self, identity: str, moment: datetime.datetime) -> bool:
        """Tell whether the chain of an identity was issued before a time; False where there is none.

        Raises:
            StateUnavailable: it cannot be told.
        """

    def is_revoked(self, chain: Chain) -> bool:
        """Tell whether a chain is revoked, or being revoked, so that it must not be delivered."""

    def is_compromised(self, key_digest: str) -> bool:
        """Tell whether a public key was reported as compromised, so that it gets no certificate."""


@dataclass(frozen=True, slots=True)
class Workload:
    """How much issuances have to do at a moment.

    Args:
        queued: those that wait for their turn.
        running: those that run and that somebody waits for.
        behind: those that go on though nobody waits for them any more.
        unsaved: chains that their storage did not take yet, so that they are in memory only.
        most: how many may run at once.
    """

    queued: int
    running: int
    behind: int
    unsaved: int
    most: int


class Preparing(Protocol):
    """Has names proved before there is a CSR."""

    def prepare(
        self,
        identifiers: Sequence[Identifier],
        validators: Sequence[Validator],
        deadline: Deadline,
        identity: str,
        terms: OrderTerms | None,
    ) -> Steps[None]:
        """Place an order for names and have them proved, and leave it to an `Issuer.obtain` for them.

        Args:
            identifiers: the names.
            validators: what can prove them, best first.
            deadline: when to give up.
            identity: what makes two preparations the same; what was begun for the same is continued.
            terms: those of an order that has to be placed, None for none.

        Raises:
            AcmeException: they are not proved; why.
        """

    def has_prepared(self, identity: str) -> bool:
        """Tell whether something was prepared that is not taken yet, as far as is known here."""


class AlternateSource(Protocol):
    """Gets further chains of certificates that were issued."""

    def fetch(self, url: str, deadline: Deadline) -> Steps[bytes]:
        """Return the chain at one of the URLs of `OfferedChain.alternates`, as it is sent.

        Args:
            url: where it is.
            deadline: when to give up.

        Raises:
            AcmeException: why it cannot be had.
        """


class Issuer(Protocol):
    """What turns a certificate request into a chain."""

    @property
    def loop(self) -> StepLoop:
        """Runs the steps of `obtain`, and those of the issuances around it."""

    @property
    def account_url(self) -> str | None:
        """The URL of its account, for events; None where there is none."""

    @property
    def key_digest(self) -> str | None:
        """The SHA-256 of the public key of its account, or its own, which nobody gets a certificate for."""

    @property
    def silence(self) -> float:
        """Seconds for which its CA has answered nothing that was asked; 0 while nothing is."""

    @property
    def preparing(self) -> Preparing | None:
        """Has names proved ahead; None where nothing has to be proved."""

    @property
    def alternates(self) -> AlternateSource | None:
        """Gets further chains of what it has issued; None where there are none."""

    def obtain(
        self,
        request: CertificateRequest,
        validators: Sequence[Validator],
        deadline: Deadline,
        identity: str,
        terms: OrderTerms | None,
        *,
        prepared: str | None = None,
    ) -> Steps[OfferedChain]:
        """Return a new chain in PEM, as it was issued.

        Args:
            request: what is asked for.
            validators: what can prove its names, best first.
            deadline: when to give up.
            identity: what makes two requests the same; what was begun for the same is continued.
            terms: those of an order that has to be placed, None for none.
            prepared: what was prepared for the same names is taken: the identity of that.

        Raises:
            AcmeException: why there is none.
        """


def refuse_key_of_account(request: CertificateRequest, account_key: str | None) -> None:
    """Refuse a CSR for the public key of what issues: of an account, or of a local CA.

    Args:
        request: the CSR.
        account_key: digest of that public key, None while it is not known.

    Raises:
        PayloadInvalid: it is that key.
    """
    if request.key_digest == account_key:
        raise PayloadInvalid(
            "this is the public key of the ACME account, or of a local CA: make a key of your own"
        )


def refuse_compromised_key(request: CertificateRequest, history: ChainHistory | None) -> None:
    """Refuse a CSR for a public key that was reported as compromised.

    Raises:
        PayloadInvalid: it is one.
    """
    if history is not None and history.is_compromised(request.key_digest):
        raise PayloadInvalid("this public key was reported as compromised: make a new key")
