"""An order of an ACME client, with its authorizations and their challenges, as a frozen value.

Each change is a pure function from one value to the next; what the tables of `statuses` do not allow changes
nothing. So a change can be made in a transaction, on whatever is there by then, and whoever made it sees by
the outcome whether it has counted.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from acmems.state.acme.statuses import (
    AUTHORIZATION_STEPS,
    CHALLENGE_STEPS,
    ORDER_STEPS,
    ClientAuthorizationStatus,
    ClientChallengeStatus,
    ClientOrderStatus,
)
from acmems.x509.identifiers import Identifier, IdentifierType


@dataclass(frozen=True, slots=True)
class OrderedName:
    """A name as a client has written it.

    Args:
        type: what kind of name it is.
        value: its text; clients compare what they get back with what they have sent.
    """

    type: IdentifierType
    value: str

    @property
    def identifier(self) -> Identifier:
        """The name in normal form."""
        if self.type is IdentifierType.DNS:
            return Identifier.dns(self.value)
        return Identifier.ip(self.value)


@dataclass(frozen=True, slots=True)
class ClientChallenge:
    """One way to prove an authorization's name (RFC 8555 section 7.1.5).

    Args:
        kind: its type, such as `http-01`.
        status: how far it is.
        validated: when it was found to be proved (seconds since 1970).
        error: why it was not, as a problem document in JSON.
        is_asked: whether a proof is looked for; False where the auth block wanted none.
    """

    kind: str
    status: ClientChallengeStatus = ClientChallengeStatus.PENDING
    validated: int | None = None
    error: str | None = None
    is_asked: bool = True

    def become(
        self, status: ClientChallengeStatus, *, at: int | None = None, error: str | None = None
    ) -> ClientChallenge:
        """Return it in another status; unchanged where that may not be."""
        if status not in CHALLENGE_STEPS[self.status]:
            return self
        return replace(self, status=status, validated=at, error=error)


@dataclass(frozen=True, slots=True)
class ClientAuthorization:
    """That an account may order a name, or how it can show that (RFC 8555 section 7.1.4).

    Args:
        name: the name as it was ordered, with `*.` where it is a wildcard.
        token: what a proof must hold, in base64url.
        challenges: the ways to prove it.
        status: how far it is.
    """

    name: OrderedName
    token: str = field(repr=False)
    challenges: tuple[ClientChallenge, ...]
    status: ClientAuthorizationStatus = ClientAuthorizationStatus.PENDING

    def challenge(self, kind: str) -> ClientChallenge | None:
        """Return the challenge of a type, None where there is none."""
        return next((each for each in self.challenges if each.kind == kind), None)

    def with_challenge(self, challenge: ClientChallenge) -> ClientAuthorization:
        """Return it with a challenge in place of the one of the same type, and what follows from that."""
        challenges = tuple(challenge if each.kind == challenge.kind else each for each in self.challenges)
        changed = replace(self, challenges=challenges)
        if challenge.status is ClientChallengeStatus.VALID:
            return changed.become(ClientAuthorizationStatus.VALID)
        if challenge.status is ClientChallengeStatus.INVALID:
            return changed.become(ClientAuthorizationStatus.INVALID)
        return changed

    def is_proved_by(self, types: Collection[str]) -> bool:
        """Tell whether a proof of one of some types was found."""
        return any(
            each.is_asked and each.status is ClientChallengeStatus.VALID and each.kind in types
            for each in self.challenges
        )

    def become(self, status: ClientAuthorizationStatus) -> ClientAuthorization:
        """Return it in another status; unchanged where that may not be."""
        return replace(self, status=status) if status in AUTHORIZATION_STEPS[self.status] else self


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOrder:
    """An order of an ACME client (RFC 8555 section 7.1.3); all times are seconds since 1970.

    Args:
        id: what its URLs hold; nobody can guess it.
        account: the id of the account that has made it.
        names: the names as they were sent, in that order.
        authorizations: one for each different name.
        created: when it was made.
        expires: until when it may be finalized; once it is valid or invalid, until when it is kept.
        block: the auth block that grants its names.
        client: who has made it.
        profile: the profile that was asked for, None for none.
        replaces: what the certificate is called that it replaces (RFC 9773 section 5), None for none.
        status: how far it is.
        csr: the certificate request in PEM, None before it is finalized.
        finalized: when it was finalized.
        certificate: the fingerprint of the chain that was issued for it.
        error: why it is invalid, as a problem document in JSON.
    """

    id: str
    account: str
    names: tuple[OrderedName, ...]
    authorizations: tuple[ClientAuthorization, ...]
    created: int
    expires: int
    block: str
    client: str
    profile: str | None = None
    replaces: str | None = None
    status: ClientOrderStatus = ClientOrderStatus.PENDING
    csr: bytes | None = field(default=None, repr=False)
    finalized: int | None = None
    certificate: str | None = None
    error: str | None = None

    @property
    def identifiers(self) -> tuple[Identifier, ...]:
        """The names in normal form, sorted, each once."""
        return tuple(sorted({each.identifier for each in self.names}))

    def begun(self) -> ClientOrder:
        """Return it as it is to be kept first: ready where nothing is left to prove."""
        return _judged(self)

    def with_authorization(self, index: int, authorization: ClientAuthorization) -> ClientOrder:
        """Return it with an authorization in another's place, and what follows from that.

        Args:
            index: the place.
            authorization: the authorization.
        """
        others = list(self.authorizations)
        others[index] = authorization
        return _judged(replace(self, authorizations=tuple(others)))

    def finalize(self, csr: bytes, at: int, block: str) -> ClientOrder:
        """Return it as being processed for a certificate request; unchanged where it is not ready.

        Args:
            csr: the certificate request in PEM.
            at: when it came.
            block: the auth block that grants it by then.
        """
        if not self.may_become(ClientOrderStatus.PROCESSING):
            return self
        return replace(self, status=ClientOrderStatus.PROCESSING, csr=csr, finalized=at, block=block)

    def issue(self, fingerprint: str, kept_until: int) -> ClientOrder:
        """Return it with its certificate; unchanged where it is not being processed."""
        if not self.may_become(ClientOrderStatus.VALID):
            return self
        return replace(
            self,
            status=ClientOrderStatus.VALID,
            certificate=fingerprint,
            expires=max(self.expires, kept_until),
        )

    def fail(self, error: str) -> ClientOrder:
        """Return it as invalid for a reason; unchanged where it has ended already."""
        if not self.may_become(ClientOrderStatus.INVALID):
            return self
        return replace(self, status=ClientOrderStatus.INVALID, error=error)

    def may_become(self, status: ClientOrderStatus) -> bool:
        """Tell whether it may change to a status."""
        return status in ORDER_STEPS[self.status]

    def is_expired(self, now: int) -> bool:
        """Tell whether it can be used no more."""
        return self.expires <= now

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Self:
        """Return the order that a row holds, whose columns are `COLUMNS`."""
        fields = dict(zip(COLUMNS, row, strict=True))
        names = tuple(OrderedName(IdentifierType(kind), value) for kind, value in json.loads(fields["names"]))
        authorizations = tuple(map(_authorization, json.loads(fields["authorizations"])))
        csr = fields["csr"]
        return cls(
            **fields
            | {
                "names": names,
                "authorizations": authorizations,
                "status": ClientOrderStatus(fields["status"]),
                "csr": None if csr is None else bytes(csr),
            }
        )

    @property
    def row(self) -> tuple[int | str | bytes | None, ...]:
        """The values of `COLUMNS`, in their order."""
        values = {column: getattr(self, column) for column in COLUMNS}
        return tuple(
            (
                values
                | {
                    "names": json.dumps([[each.type, each.value] for each in self.names]),
                    "authorizations": json.dumps([_members(each) for each in self.authorizations]),
                    "status": str(self.status),
                }
            ).values()
        )


COLUMNS = (
    "id",
    "account",
    "status",
    "created",
    "expires",
    "block",
    "client",
    "profile",
    "replaces",
    "finalized",
    "certificate",
    "error",
    "names",
    "authorizations",
    "csr",
)


def _members(authorization: ClientAuthorization) -> list[Any]:
    challenges = [
        [each.kind, each.status, each.validated, each.error, each.is_asked]
        for each in authorization.challenges
    ]
    name = authorization.name
    return [name.type, name.value, authorization.token, authorization.status, challenges]


def _authorization(members: Sequence[Any]) -> ClientAuthorization:
    kind, value, token, status, challenges = members
    return ClientAuthorization(
        OrderedName(IdentifierType(kind), value),
        token,
        tuple(ClientChallenge(kind, ClientChallengeStatus(how), *rest) for kind, how, *rest in challenges),
        ClientAuthorizationStatus(status),
    )


def _judged(order: ClientOrder) -> ClientOrder:
    """Return an order in the status that its authorizations imply, as long as it was not finalized."""
    if order.status not in (ClientOrderStatus.PENDING, ClientOrderStatus.READY):
        return order
    statuses = {each.status for each in order.authorizations}
    if not statuses <= {ClientAuthorizationStatus.PENDING, ClientAuthorizationStatus.VALID}:
        return replace(order, status=ClientOrderStatus.INVALID, error=_first_error(order))
    if statuses == {ClientAuthorizationStatus.VALID}:
        return replace(order, status=ClientOrderStatus.READY)
    return order


def _first_error(order: ClientOrder) -> str | None:
    errors = (each.error for authorization in order.authorizations for each in authorization.challenges)
    return next((each for each in errors if each is not None), None)
