"""What the DNS says of names, looked up as far as it is definite."""

from __future__ import annotations

from functools import lru_cache

import dns.name
import dns.rdatatype
from publicsuffixlist import PublicSuffixList

from acmems.dns.authority.statement import Statement
from acmems.dns.authority.statements import Statements
from acmems.dns.caa.climbing import relevant_policy
from acmems.dns.caa.policy import CaaPolicy, climb
from acmems.dns.client.cnames import plain
from acmems.issuers.acme.prechecks.judging import NameFacts
from acmems.system.clock import Deadline

_ADDRESSES = (dns.rdatatype.A, dns.rdatatype.AAAA)


class NotKnown(Exception):
    """Somebody has to be asked."""


class NameSurvey:
    """Finds out what the DNS says of names.

    Args:
        statements: what is said by those who have authority.
    """

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    @property
    def is_suspended(self) -> bool:
        """Whether nobody is asked at the moment, because nobody answers."""
        return self._statements.is_suspended

    def caa(self, base: str, deadline: Deadline | None) -> CaaPolicy | None:
        """Return the CAA records that are relevant for a name; None where there are none.

        Args:
            base: the name, without "*.".
            deadline: when to give up; None: to ask nobody.

        Raises:
            NotKnown: somebody has to be asked.
            ValidatorUnavailable: nobody says anything definite.
        """
        return relevant_policy(base, lambda name: self._say(name, dns.rdatatype.CAA, deadline))

    def addresses(self, base: str, deadline: Deadline | None) -> NameFacts:
        """Return whether a name has an address, and whether its domain is registered.

        Args:
            base: the name, without "*.".
            deadline: when to give up; None: to ask nobody.

        Raises:
            NotKnown: somebody has to be asked.
            ValidatorUnavailable: nobody says anything definite.
        """
        name, seconds = dns.name.from_text(base), 0.0
        for kind in _ADDRESSES:
            found = self._say(name, kind, deadline)
            if found.records:
                return NameFacts(is_addressed=True)
            if (domain := unregistered_domain(name, found)) is not None:
                return NameFacts(is_addressed=False, unregistered=domain, seconds=found.seconds)
            seconds = max(seconds, found.seconds)
        return NameFacts(is_addressed=False, seconds=seconds)

    def forget(self, base: str) -> None:
        """Ask anew next time: somebody is about to correct it."""
        for domain in climb(base):
            self._statements.forget(dns.name.from_text(domain), dns.rdatatype.CAA)
        for kind in _ADDRESSES:
            self._statements.forget(dns.name.from_text(base), kind)

    def _say(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType, deadline: Deadline | None
    ) -> Statement:
        if deadline is not None:
            return self._statements.look_up(name, kind, deadline)
        known = self._statements.known(name, kind)
        if known is None:
            raise NotKnown
        return known


def unregistered_domain(name: dns.name.Name, found: Statement) -> str | None:
    """Return the domain that would have to be registered for a name; None where it is, or may be.

    Args:
        name: the name.
        found: what was said of it: if it does not exist, and those of a public suffix say so, neither does
            the domain below that.
    """
    suffix = plain(found.zone)
    if found.exists or found.owner != name or suffix != _suffixes().publicsuffix(plain(name)):
        return None
    return plain(name.split(len(found.zone) + 1)[1])


@lru_cache(maxsize=1)
def _suffixes() -> PublicSuffixList:
    """Return the suffixes at which anybody can register a domain: below others, names come and go."""
    return PublicSuffixList(only_icann=True, accept_unknown=False)
