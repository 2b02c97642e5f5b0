"""The TXT records that prove names by dns-01 and dns-account-01: their names and their values."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import dns.exception
import dns.name

from acmems.challenges.contract import Proof
from acmems.exceptions import NoChallengeMethodsSupported

Label = Literal["plain", "account"]
TYPES = {"plain": "dns-01", "account": "dns-account-01"}
_DIGEST = 10  # octets of the account URL's SHA-256 that become a label (draft-ietf-acme-dns-account-label)


@dataclass(frozen=True, slots=True)
class TxtRecord:
    """One TXT record, with an absolute name."""

    name: dns.name.Name
    value: str

    def __str__(self) -> str:
        return plain(self.name)

    @property
    def pair(self) -> tuple[dns.name.Name, str]:
        """The name and the value."""
        return self.name, self.value


def txt_value(key_authorization: str) -> str:
    """Return the TXT value that proves a key authorization (RFC 8555 section 8.4)."""
    digest = hashlib.sha256(key_authorization.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def account_label(account_url: str) -> str:
    """Return the label of an account: base32 of ten octets of SHA-256 (draft-ietf-acme-dns-account-label)."""
    digest = hashlib.sha256(account_url.encode("ascii")).digest()[:_DIGEST]
    return "_" + base64.b32encode(digest).decode("ascii").lower()


def record_name(base: str, challenge_type: str = "dns-01", account_url: str = "") -> dns.name.Name:
    """Return the name of the TXT record that proves a name (RFC 8555 section 8.4).

    Args:
        base: the name, without `*.`.
        challenge_type: `dns-01` or `dns-account-01`.
        account_url: the account, for `dns-account-01`.

    Raises:
        NoChallengeMethodsSupported: the name is too long to have one.
    """
    front = "_acme-challenge"
    if challenge_type == "dns-account-01":
        front = f"{account_label(account_url)}.{front}"
    try:
        return dns.name.from_text(f"{front}.{base}")
    except dns.exception.DNSException:
        raise NoChallengeMethodsSupported(
            f"{base} is too long to be proved by {challenge_type}: with {front}. in front it is no DNS name"
        ) from None


def record_of(proof: Proof, challenge_type: str = "dns-01") -> TxtRecord:
    """Return the TXT record of a proof by `dns-01` or `dns-account-01`.

    Raises:
        NoChallengeMethodsSupported: the name is too long to have one.
    """
    name = record_name(proof.identifier.base, challenge_type, proof.account_url)
    return TxtRecord(name, txt_value(proof.key_authorization))


def possible_records(proofs: Iterable[Proof], challenge_type: str) -> list[tuple[TxtRecord, Proof]]:
    """Return the TXT records that proofs may have in DNS; those whose name is too long never had one."""
    found = []
    for proof in proofs:
        with contextlib.suppress(NoChallengeMethodsSupported):
            found.append((record_of(proof, challenge_type), proof))
    return found


def place_text(name: dns.name.Name, zone: dns.name.Name | None) -> str:
    """Return what is noted of where a record is put.

    Args:
        name: its name there.
        zone: the zone, None where it is not known.
    """
    return name.to_text() if zone is None else f"{name.to_text()} {zone.to_text()}"


def read_place(text: str) -> tuple[dns.name.Name, dns.name.Name | None] | None:
    """Return the name and the zone of what `place_text` has returned, None for anything else."""
    try:
        name, *zone = map(dns.name.from_text, text.split())
    except (ValueError, dns.exception.DNSException):
        return None
    return name, (zone[0] if zone else None)


def plain(name: dns.name.Name) -> str:
    """Return a DNS name as people write it."""
    return name.to_text(omit_final_dot=True)
