"""What must fit together for ACME clients: the front end, its certificate, and the external accounts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from acmems.auth import Block
from acmems.auth.methods import ExternalAccountMethod
from acmems.frontends.acme.options import AcmeOptions
from acmems.settings.findings import Finding, Location

Where = Callable[[str, str | None, str], Location]
"""Returns where a key stands, by the kind and the name of its section."""


def check_acme_clients(
    acme: AcmeOptions, blocks: Iterable[Block], where: Where, *, has_certificate: bool
) -> Iterator[Finding]:
    """Yield what does not fit together.

    Args:
        acme: the front end.
        blocks: the auth blocks.
        where: returns where a key stands.
        has_certificate: whether there is a certificate to show to ACME clients.
    """
    blocks = tuple(blocks)
    bound = [
        (block, method)
        for block in blocks
        for method in block.methods
        if isinstance(method, ExternalAccountMethod)
    ]
    if acme.listeners and not has_certificate:
        yield Finding(
            where("acme", None, "listener"),
            "ACME clients speak TLS only: add 'tls-certificate = …' and 'tls-key = …' here or to [mgmt]",
        )
    if acme.listeners and acme.external_account == "required" and not bound:
        yield Finding(
            where("acme", None, "external-account"),
            "no auth block has an 'eab-kid', so that no ACME client can register: add one, or write "
            "'external-account = optional'",
        )
    if not acme.listeners:
        for block, _ in bound:
            yield Finding(
                where("auth", block.name, "eab-kid"),
                "there is no [acme] with a listener, so that nobody can use this block",
                warning=True,
            )
        for block in (each for each in blocks if each.proof.is_required):
            yield Finding(
                where("auth", block.name, "prove"),
                "there is no [acme] with a listener, so that nobody can use this block",
                warning=True,
            )
    first: dict[str, tuple[Block, ExternalAccountMethod]] = {}
    for block, method in bound:
        other, same = first.setdefault(method.kid, (block, method))
        if (same.secret, same.file, same.is_for_one) != (method.secret, method.file, method.is_for_one):
            yield Finding(
                where("auth", block.name, "eab-kid"),
                f"[auth \"{other.name}\"] has the same eab-kid with another key or 'eab-once': give each "
                f"external account one key",
            )
