"""What ACME clients must prove to this server before a block grants them names: its `prove`."""

from __future__ import annotations

from dataclasses import dataclass

from acmems.settings.options import Options
from acmems.x509.identifiers import Identifier, IdentifierType

HTTP_01, DNS_01, TLS_ALPN_01 = "http-01", "dns-01", "tls-alpn-01"
CHALLENGE_TYPES = (HTTP_01, DNS_01, TLS_ALPN_01)
_NONE = "none"


@dataclass(frozen=True, slots=True)
class RequiredProof:
    """The types of challenges of which a client must meet one for each name, by its own choice.

    Args:
        types: in the order of the configuration; none: nothing has to be proved.
    """

    types: tuple[str, ...] = ()

    @classmethod
    def from_options(cls, options: Options) -> RequiredProof:
        """Read `prove` of a block."""
        return options.one(
            "prove",
            _parse,
            cls(),
            meaning="what an ACME client must itself prove to this server: `none` (default), or types of "
            "challenges, separated by commas, of which it meets one for each name: `http-01`, `dns-01`, "
            "`tls-alpn-01`. With a type, the block is for ACME clients only",
        )

    @property
    def is_required(self) -> bool:
        """Whether something has to be proved."""
        return bool(self.types)

    def types_for(self, identifier: Identifier) -> tuple[str, ...]:
        """Return the types that can prove a name; none where nothing has to be proved, or nothing can be."""
        return tuple(each for each in self.types if _proves(each, identifier))

    def refusal(self, identifier: Identifier) -> str | None:
        """Return why a name cannot be proved, None if it can or need not be."""
        if not self.types or self.types_for(identifier):
            return None
        wanted = f"{HTTP_01} or {TLS_ALPN_01}" if identifier.type is IdentifierType.IP else DNS_01
        return f"{identifier.value} cannot be proved by {' or '.join(self.types)}, but by {wanted}"


def _proves(challenge_type: str, identifier: Identifier) -> bool:
    if identifier.type is IdentifierType.IP:  # RFC 8738 section 7
        return challenge_type != DNS_01
    return challenge_type == DNS_01 or not identifier.is_wildcard


def _parse(text: str) -> RequiredProof:
    types = tuple(each.strip() for each in text.split(","))
    for each in types:
        if each not in {*CHALLENGE_TYPES, _NONE}:
            raise ValueError(f"{each!r} is none of {_NONE}, {', '.join(CHALLENGE_TYPES)}")
    if len(set(types)) < len(types):
        raise ValueError(f"{text!r} names one twice")
    if _NONE in types:
        if len(types) > 1:
            raise ValueError(f"{text!r}: '{_NONE}' cannot stand beside a type of challenge")
        return RequiredProof()
    return RequiredProof(types)
