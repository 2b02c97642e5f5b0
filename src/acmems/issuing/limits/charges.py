"""What a request takes out of which buckets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from acmems.issuing.limits.domains import registered_domain
from acmems.issuing.limits.limit import Counted, Limit
from acmems.x509.identifiers import Identifier


@dataclass(frozen=True, slots=True)
class Charge:
    """What is counted once for a request.

    Args:
        bucket: names the bucket, in the state.
        subject: what is counted, for a person: a domain, a name, names; empty for the account.
        limit: the limit whose bucket that is.
    """

    bucket: str
    subject: str
    limit: Limit


@dataclass(frozen=True, slots=True)
class Renewal:
    """How far a request renews what there is, as CAs see it.

    Args:
        is_announced: the order names its predecessor (RFC 9773 section 5), inside the CA's window.
        is_known: there was a certificate for exactly these names lately.
        is_current: there is one that is valid, which may be older; no CA looks at that.
    """

    is_announced: bool = False
    is_known: bool = False
    is_current: bool = False

    @property
    def is_new(self) -> bool:
        """Whether it renews nothing, so that it has to leave room for what does."""
        return not (self.is_announced or self.is_known or self.is_current)

    def is_exempt(self, limit: Limit) -> bool:
        """Tell whether a CA does not count it for a limit."""
        return self.is_announced or (self.is_known and limit.exempts_renewals)


def charges(
    limits: Iterable[Limit], account: str, identifiers: Sequence[Identifier], renewal: Renewal
) -> tuple[Charge, ...]:
    """Return what an order and its certificate are counted for, in the order of the buckets' names.

    Args:
        limits: those of the CA.
        account: names the account among all.
        identifiers: what is asked for.
        renewal: how far it renews what there is.
    """
    counted = [limit for limit in limits if not renewal.is_exempt(limit)]
    found = [_charge(limit, account, each) for limit in counted for each in subjects(limit, identifiers)]
    return tuple(sorted(found, key=_bucket))


def failures(limits: Iterable[Limit], account: str, identifiers: Iterable[Identifier]) -> tuple[Charge, ...]:
    """Return what failed validations of these names are counted for.

    A bucket that is full stops every order for the name, renewals as well.

    Args:
        limits: those of the CA.
        account: names the account among all.
        identifiers: the names that could not be validated.
    """
    names = sorted({each.value.removeprefix("*.") for each in identifiers})
    counted = [limit for limit in limits if limit.counts is Counted.FAILURES]
    found = [_charge(limit, account, name) for limit in counted for name in names]
    return tuple(sorted(found, key=_bucket))


def subjects(limit: Limit, identifiers: Iterable[Identifier]) -> list[str]:
    """Return what a certificate is counted for by a limit, each once; nothing where it counts none.

    Args:
        limit: the limit.
        identifiers: the names of the certificate.
    """
    if limit.counts is Counted.ORDERS:
        return [""]
    if limit.counts is Counted.DOMAIN:
        return sorted({registered_domain(each) for each in identifiers})
    if limit.counts is Counted.NAMES:
        return [" ".join(sorted({each.value for each in identifiers}))]
    return []


def stated(
    limits: Iterable[Limit], account: str, identifiers: Sequence[Identifier], counts: Counted, subject: str
) -> tuple[Charge, ...]:
    """Return the buckets that a CA means that has refused an order; none where that is not clear.

    Args:
        limits: those that are counted.
        account: names the account among all.
        identifiers: what was ordered.
        counts: what the limit counts that it was refused for.
        subject: what that is counted for, as far as the CA says; else empty.
    """
    meant = [each for each in limits if each.counts is counts]
    found = charges(meant, account, identifiers, Renewal()) or failures(meant, account, identifiers)
    if subject:
        return tuple(each for each in found if each.subject == subject.removeprefix("*."))
    return found if len({each.subject for each in found}) == 1 else ()


def _charge(limit: Limit, account: str, subject: str) -> Charge:
    parts = f"{account}\n{limit.name}\n{subject}"
    return Charge(hashlib.sha256(parts.encode()).hexdigest(), subject, limit)


def _bucket(charge: Charge) -> str:
    return charge.bucket
