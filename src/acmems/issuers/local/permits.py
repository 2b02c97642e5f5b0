"""What a local CA may issue for, and the name constraints that say so (RFC 5280 section 4.2.1.10)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509

from acmems.net.address import IPNetwork, parse_network
from acmems.x509.identifiers import Glob, Identifier, IdentifierType

ANY = "any"
"""What stands for every name and every address."""

_ALL_ADDRESSES = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True, slots=True)
class Permits:
    """What a CA may issue for; nothing at all where both are empty.

    Args:
        domains: DNS names in normal form; each stands for itself and for all names below it.
        networks: whose addresses may be certified.
        is_any: whether every name and every address may be.
    """

    domains: tuple[str, ...] = ()
    networks: tuple[IPNetwork, ...] = ()
    is_any: bool = False

    def covers(self, identifier: Identifier) -> bool:
        """Tell whether a name may be certified."""
        if self.is_any:
            return True
        if identifier.type is IdentifierType.DNS:
            below = f".{identifier.base}"
            return any(below.endswith(f".{domain}") for domain in self.domains)
        address = ipaddress.ip_address(identifier.value)
        return any(address in network for network in self.networks)

    def refused(self, identifiers: Iterable[Identifier]) -> list[Identifier]:
        """Return those of some names that may not be certified."""
        return [each for each in identifiers if not self.covers(each)]

    def meets(self, glob: Glob) -> bool:
        """Tell whether a glob may match a permitted name, as far as its labels without stars tell."""
        labels = glob.text.split(".")
        stars = [place for place, label in enumerate(labels) if "*" in label or "?" in label]
        plain = labels[stars[-1] + 1 :] if stars else labels
        end = "".join(f".{label}" for label in plain)
        domains = [f".{domain}" for domain in self.domains]
        below = any(end.endswith(each) for each in domains)
        return self.is_any or below or (bool(stars) and any(each.endswith(end) for each in domains))

    def holds(self, other: Permits) -> bool:
        """Tell whether all that another one permits is permitted."""
        if self.is_any or other.is_any:
            return self.is_any
        domains = (Identifier(IdentifierType.DNS, each) for each in other.domains)
        return all(map(self.covers, domains)) and all(map(self._holds_network, other.networks))

    def _holds_network(self, network: IPNetwork) -> bool:
        same = (each for each in self.networks if each.version == network.version)
        return any(each.supernet_of(network) for each in same)  # type: ignore[arg-type]  # of one version

    def constraints(self) -> x509.NameConstraints | None:
        """Return the extension that says the same; None where everything is permitted.

        A kind of which nothing is permitted is excluded as a whole, since what no constraint is about is
        allowed.
        """
        if self.is_any:
            return None
        permitted: list[x509.GeneralName] = [*map(x509.DNSName, self.domains)]
        permitted += map(x509.IPAddress, self.networks)
        excluded: list[x509.GeneralName] = [] if self.domains else [x509.DNSName("")]
        if not self.networks:
            excluded += [x509.IPAddress(ipaddress.ip_network(each)) for each in _ALL_ADDRESSES]
        return x509.NameConstraints(permitted or None, excluded or None)

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Permits:
        """Return what a CA's certificate lets it issue for.

        Raises:
            ValueError: its name constraints are none that a local CA has.
        """
        try:
            found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        except x509.ExtensionNotFound:
            return cls(is_any=True)
        permitted = found.permitted_subtrees or []
        domains = tuple(each.value for each in permitted if isinstance(each, x509.DNSName))
        networks = tuple(
            each.value
            for each in permitted
            if isinstance(each, x509.IPAddress)
            and isinstance(each.value, ipaddress.IPv4Network | ipaddress.IPv6Network)
        )
        if len(domains) + len(networks) < len(permitted):
            raise ValueError("its name constraints are about more than DNS names and IP addresses")
        return cls(domains, networks)

    def __str__(self) -> str:
        return ANY if self.is_any else ", ".join([*self.domains, *map(str, self.networks)])


def parse_permit(value: str) -> Permits:
    """Parse one `permit`: a DNS name, which stands for all names below it as well, a network, or `any`.

    Raises:
        ValueError: it is none of these; the reason is safe to print.
    """
    if value == ANY:
        return Permits(is_any=True)
    try:
        return Permits(networks=(parse_network(value),))
    except ValueError:
        if "/" in value or ":" in value:
            raise
    try:
        identifier = Identifier.dns(value.removeprefix("."))
    except ValueError as error:
        raise ValueError(
            f"{error}: write a domain such as internal.example, which stands for all names below it as well, "
            f"a network such as 10.0.0.0/8, or {ANY}"
        ) from None
    if identifier.is_wildcard:
        raise ValueError(f"{value!r}: write {identifier.base}, which stands for all names below it as well")
    return Permits((identifier.value,))


def together(permits: Iterable[Permits]) -> Permits:
    """Return what any of some permits."""
    given = list(permits)
    return Permits(
        tuple(dict.fromkeys(domain for each in given for domain in each.domains)),
        tuple(dict.fromkeys(network for each in given for network in each.networks)),
        any(each.is_any for each in given),
    )
