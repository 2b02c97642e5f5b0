"""What the CAA records of a domain say to a CA (RFC 8659 section 4), and to an account (RFC 8657)."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from acmems.dns.caa.issue_value import ACCOUNT, METHODS, IssueValue
from acmems.text import one_line

_CRITICAL = 128
_ISSUE, _ISSUE_WILD, _IODEF = "issue", "issuewild", "iodef"
# Those that IANA has registered: whether a CA knows one of them is its own matter.
_REGISTERED = frozenset(
    {_ISSUE, _ISSUE_WILD, _IODEF, "issuemail", "issuevmc", "contactemail", "contactphone"}
)
_LONGEST = 300  # characters of a record in a message
_MOST_LISTED = 20
_MOST_REPORTS = 3


@dataclass(frozen=True, slots=True)
class CaaRecord:
    """One CAA record.

    Args:
        flags: of which only the highest bit has a meaning.
        tag: in lower case.
        value: each octet a character.
    """

    flags: int
    tag: str
    value: str

    @property
    def is_critical(self) -> bool:
        """Whether a CA that does not know the tag must not issue."""
        return bool(self.flags & _CRITICAL)

    @property
    def presentation(self) -> str:
        """The record as a zone file has it."""
        quoted = self.value.replace("\\", "\\\\").replace('"', '\\"')
        return one_line(f'{self.flags} {self.tag} "{quoted}"', _LONGEST)


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who wants a certificate from a CA.

    Args:
        issuers: the names of the CA in CAA records.
        account_url: the account there; None where it is not known.
    """

    issuers: tuple[str, ...]
    account_url: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """The names of the CA in normal form."""
        return frozenset(filter(None, map(_normal, self.issuers)))


class Obstacle(enum.Enum):
    """What keeps the CA from issuing."""

    UNKNOWN_PROPERTY = enum.auto()
    """A property that no CA may ignore, and that none knows."""
    ISSUER = enum.auto()
    """No record names the CA."""
    ACCOUNT = enum.auto()
    """A record names the CA, for another account."""
    METHOD = enum.auto()
    """A record names the CA, for other types of challenge."""


@dataclass(frozen=True, slots=True)
class CaaVerdict:
    """What records say to an applicant.

    Args:
        methods: the types of challenge by which the name may be proved; none: by none.
        obstacle: why not by others; None where all are allowed.
        remedy: the data of a record that would allow it; empty where none would.
    """

    methods: frozenset[str]
    obstacle: Obstacle | None = None
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class CaaPolicy:
    """The records that are relevant for a name: those of the closest domain at or above it that has any.

    Args:
        domain: where they stand, without a dot at the end.
        records: all of them, in the order of the answer.
        seconds: how long this may be kept.
    """

    domain: str
    records: tuple[CaaRecord, ...]
    seconds: float = 0.0

    @property
    def reports(self) -> tuple[str, ...]:
        """Where the owner of the domain takes reports on requests that were refused (section 4.4)."""
        reports = (one_line(each.value, _LONGEST) for each in self.records if each.tag == _IODEF)
        return tuple(itertools.islice(reports, _MOST_REPORTS))

    def judge(self, applicant: Applicant, methods: Collection[str], *, wildcard: bool) -> CaaVerdict:
        """Tell by which types of challenge a name may be proved.

        Args:
            applicant: who wants a certificate.
            methods: the types of challenge that there are, best first.
            wildcard: whether it is for a wildcard name.
        """
        if any(each.is_critical and each.tag not in _REGISTERED for each in self.records):
            return CaaVerdict(frozenset(), Obstacle.UNKNOWN_PROPERTY)
        tag = self._tag(wildcard=wildcard)
        if tag is None:
            return CaaVerdict(frozenset(methods))
        values = [IssueValue.parse(each.value) for each in self.records if each.tag == tag]
        of_ca = [each for each in values if each.issuer in applicant.names and not each.is_contradictory]
        of_account = [each for each in of_ca if _is_for(each.account_url, applicant.account_url)]
        allowed = frozenset(
            method
            for method in methods
            if any(each.methods is None or method in each.methods for each in of_account)
        )
        if len(allowed) == len(set(methods)):
            return CaaVerdict(allowed)
        obstacle = Obstacle.METHOD
        if not of_account:
            obstacle = Obstacle.ACCOUNT if of_ca else Obstacle.ISSUER
        return CaaVerdict(allowed, obstacle, _remedy(tag, applicant, methods, of_ca))

    def _tag(self, *, wildcard: bool) -> str | None:
        """Return the tag of the properties that count for a name; None where there is no restriction."""
        tags = {each.tag for each in self.records}
        if wildcard and _ISSUE_WILD in tags:
            return _ISSUE_WILD
        return _ISSUE if _ISSUE in tags else None


def _normal(issuer: str) -> str:
    return issuer.strip().rstrip(".").lower()


def _is_for(wanted: str | None, account_url: str | None) -> bool:
    """Tell whether a record may be for an account.

    A CA may know an account by several URLs (RFC 8657 section 3), such as one of an earlier protocol: where
    only the end is the same, the CA decides, and so it does where the account is not known yet.
    """
    if wanted is None or account_url is None:
        return True
    return wanted.rpartition("/")[2] == account_url.rpartition("/")[2]


def _remedy(tag: str, applicant: Applicant, methods: Collection[str], of_ca: Iterable[IssueValue]) -> str:
    """Return the data of a record that would allow it, as narrow as those that there are."""
    parts = [next(filter(None, map(_normal, applicant.issuers)), "")]
    known = list(of_ca)
    if applicant.account_url is not None and any(each.account_url is not None for each in known):
        parts.append(f"{ACCOUNT}={applicant.account_url}")
    if any(each.methods is not None for each in known):
        parts.append(f"{METHODS}={','.join(dict.fromkeys(methods))}")
    return f'0 {tag} "{"; ".join(parts)}"'


def climb(name: str) -> Iterator[str]:
    """Yield a name and all domains above it but the root, in the order of RFC 8659 section 3."""
    labels = name.split(".")
    for number in range(len(labels)):
        yield ".".join(labels[number:])


def listed(records: Sequence[CaaRecord]) -> tuple[str, ...]:
    """Return records as a zone file has them, in the same order however a name server shuffles them.

    Of very many, as strangers may have them, the first ones stand for all.
    """
    ordered = sorted(records, key=lambda each: (each.tag == _IODEF, each.tag, each.value))
    return tuple(each.presentation for each in ordered[:_MOST_LISTED])
