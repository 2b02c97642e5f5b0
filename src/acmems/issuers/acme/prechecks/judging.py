"""What the DNS says of a name, judged: what can prove it to the CA, or why nothing can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from acmems.dns.caa.policy import Applicant, CaaPolicy, CaaVerdict, Obstacle, listed
from acmems.exceptions import CaaRefusal, PreCheckFailed
from acmems.text import one_line
from acmems.x509.identifiers import Identifier

BY_ADDRESS = frozenset({"http-01", "tls-alpn-01"})
"""The types of challenge for which the CA connects to the name."""
_SECONDS = (1.0, 60.0)  # after which the DNS is asked again, at least and at most


@dataclass(frozen=True, slots=True)
class NameFacts:
    """What the DNS says of a name, as far as it is definite and was asked for.

    Args:
        caa: the CAA records that are relevant; None where there are none, or they are not known.
        is_addressed: whether it has an address; None: not known.
        unregistered: the registered domain that it would be in, which does not exist; None where it exists,
            or that is not known.
        seconds: how long what is said of addresses holds.
    """

    caa: CaaPolicy | None = None
    is_addressed: bool | None = None
    unregistered: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Prospect:
    """What can become of a name.

    Args:
        excluded: the types of challenge that must fail, where others need not.
        error: why all must; None where that is not so.
    """

    excluded: frozenset[str] = frozenset()
    error: PreCheckFailed | None = None


def prospect(
    identifier: Identifier, facts: NameFacts, methods: Sequence[str], applicant: Applicant
) -> Prospect:
    """Return what can become of a name.

    Args:
        identifier: the name.
        facts: what the DNS says.
        methods: the types of challenge by which it could be proved, best first.
        applicant: who wants a certificate from which CA.
    """
    if not methods:
        return Prospect()  # no verification can prove it, which the CA is not needed to tell
    if facts.unregistered is not None:
        return Prospect(error=_unregistered(identifier, facts.unregistered, facts.seconds))
    allowed = set(methods)
    if facts.caa is not None and applicant.names:
        verdict = facts.caa.judge(applicant, methods, wildcard=identifier.is_wildcard)
        if not verdict.methods:
            return Prospect(error=_refusal(identifier, facts.caa, verdict, methods, applicant))
        allowed &= verdict.methods
    if facts.is_addressed is False:
        by_others = allowed - BY_ADDRESS
        if not by_others:
            return Prospect(error=_unreachable(identifier, sorted(allowed), facts.seconds))
        allowed = by_others
    return Prospect(frozenset(methods) - allowed)


def _refusal(
    identifier: Identifier,
    caa: CaaPolicy,
    verdict: CaaVerdict,
    methods: Sequence[str],
    applicant: Applicant,
) -> CaaRefusal:
    records = listed(caa.records)
    line = f"{caa.domain}. CAA {verdict.remedy}" if verdict.remedy else ""
    ca = " or ".join(sorted(applicant.names))
    why = {
        Obstacle.UNKNOWN_PROPERTY: "contain a critical property that no CA knows, so that none may issue",
        Obstacle.ISSUER: f"do not name the CA ({ca})",
        Obstacle.ACCOUNT: f"name the CA ({ca}) for another account only",
        Obstacle.METHOD: f"do not let the CA ({ca}) validate by {' or '.join(dict.fromkeys(methods))}",
        None: "do not allow it",
    }[verdict.obstacle]
    todo = f"add the record {line}" if line else "correct or remove that record"
    reports = f"; the owner of the domain wants reports at {', '.join(caa.reports)}" if caa.reports else ""
    return CaaRefusal(
        identifier.value,
        f"the CAA records of {caa.domain} {why}: {', '.join(records)}; {todo}{reports}",
        found_at=caa.domain,
        records=records,
        remedy=line,
        retry_after=_again(caa.seconds),
        is_for_all=verdict.obstacle in {Obstacle.UNKNOWN_PROPERTY, Obstacle.ISSUER},
    )


def _unregistered(identifier: Identifier, domain: str, seconds: float) -> PreCheckFailed:
    return PreCheckFailed(
        identifier.value,
        f"the name servers above {one_line(domain)} say that there is no such domain: register it, or "
        f"correct the name",
        retry_after=_again(seconds),
        is_for_all=True,
    )


def _unreachable(identifier: Identifier, methods: Sequence[str], seconds: float) -> PreCheckFailed:
    return PreCheckFailed(
        identifier.value,
        f"its name servers say that it has no address (neither A nor AAAA), and the CA needs one to validate "
        f"it by {' or '.join(methods)}: add its address to the DNS, or use a verification by DNS",
        retry_after=_again(seconds),
        is_for_all=False,
    )


def _again(seconds: float) -> float:
    least, most = _SECONDS
    return min(max(seconds, least), most)
