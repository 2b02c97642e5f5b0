"""Whether what sections say of TLS, and of what clients show, fits what listens."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence

from acmems.auth import Block
from acmems.auth.methods import ClientCertificateMethod, TokenAuthMethod
from acmems.frontends.options import MgmtOptions
from acmems.frontends.own.asking import granting_block
from acmems.frontends.tls.options import TlsOptions
from acmems.net.address import Address
from acmems.settings.findings import Finding, Location

Where = Callable[[str, str | None, str], Location]
"""Returns where a key stands, given the kind and the name of its section."""


def misfits(
    mgmt: MgmtOptions, blocks: Sequence[Block], where: Where, *, is_shown_elsewhere: bool = False
) -> Iterator[Finding]:
    """Yield certificates that nobody sees, and methods that no client can meet, or that strangers can watch.

    Args:
        mgmt: where clients ask.
        blocks: the auth blocks.
        where: returns where a key stands.
        is_shown_elsewhere: whether another section has listeners that show the certificate of `[mgmt]`.
    """
    if mgmt.tls.is_given and not mgmt.tls_listeners and not is_shown_elsewhere:
        key = "tls-certificate" if mgmt.tls.name is None else "tls-name"
        yield Finding(where("mgmt", None, key), f"{key} is given, but no tls-listener")
    open_to_others = [each for each in mgmt.listeners if not _is_loopback(each)]
    for block in blocks:
        for method in block.methods:
            if isinstance(method, ClientCertificateMethod) and mgmt.tls.client_ca is None:
                yield Finding(
                    where("auth", block.name, "client-certificate"),
                    "client-certificate: no client is asked for one: add 'tls-client-ca = …' to [mgmt]",
                )
            if isinstance(method, TokenAuthMethod) and open_to_others:
                key = "token" if method.file is None else "token-file"
                yield Finding(
                    where("auth", block.name, key),
                    f"{key}: whoever sees requests on their way to {open_to_others[0]}, which is plain HTTP, "
                    f"can use the token: let clients use a tls-listener, or listen on this machine only",
                    warning=True,
                )


def ungranted_names(
    tls: Mapping[str, TlsOptions], blocks: Sequence[Block], where: Where
) -> Iterator[Finding]:
    """Yield the names of this server that no auth block lets it have.

    Args:
        tls: how front ends encrypt, by the kinds of their sections.
        blocks: the auth blocks.
        where: returns where a key stands.
    """
    sections = {options.name: section for section, options in reversed(list(tls.items())) if options.name}
    for name, section in sections.items():
        if granting_block(blocks, name) is None:
            yield Finding(
                where(section, None, "tls-name"),
                f"tls-name: no auth block grants {name} to this server: add one with 'ip = 127.0.0.1' and "
                f"'domain = {name}'",
            )


def _is_loopback(address: Address) -> bool:
    if address.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False
