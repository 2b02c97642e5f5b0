"""`[acme]`: where ACME clients ask, and what they must show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, Self
from urllib.parse import urlsplit

from acmems.auth import Block
from acmems.auth.methods import AllAuthMethod, IPAuthMethod
from acmems.frontends.acme.proving.options import ProvingOptions
from acmems.frontends.tls.options import TlsOptions
from acmems.net.address import Address, parse_address
from acmems.settings import values
from acmems.settings.options import Options

ExternalAccount = Literal["required", "optional"]

_EXAMPLE = "https://acme.example.org"  # the directory stands below it


@dataclass(frozen=True, slots=True)
class AcmeOptions:
    """`[acme]`: where ACME clients ask, and what they must show.

    Args:
        listeners: where they do; none: they cannot.
        url: the base of all URLs that they are given, without a slash at the end.
        external_account: whether an account must be bound to an external one; None: by the auth blocks.
        proving: how names are proved to this server, where an auth block wants that.
        tls: which certificate is shown to clients; without one, that of `[mgmt]`.
    """

    listeners: tuple[Address, ...]
    url: str
    external_account: ExternalAccount | None = None
    proving: ProvingOptions = field(default_factory=ProvingOptions)
    tls: TlsOptions = field(default_factory=TlsOptions)

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """Read the section; what is wrong becomes findings."""
        listeners = options.many(
            "listener",
            parse_address,
            empty_is_none=True,
            meaning="`host:port` or `[v6]:port` on which ACME clients are served; without this key: none",
        )
        url = options.one(
            "url",
            base_url,
            None,
            meaning="https URL that all URLs for ACME clients begin with, as clients reach this server; the "
            "directory is at `<url>/directory`",
        )
        external_account = options.one(
            "external-account",
            values.choice("required", "optional"),
            None,
            meaning="`required`: clients must register with the `eab-kid` of an auth block; `optional`: they "
            "may. Default: `required`, unless some auth block needs nothing but `ip` or `all`",
        )
        if listeners and not options.has("url"):
            options.report("[acme] needs 'url = https://…': the URL by which clients reach this server")
        if options.has("url") and not listeners:
            options.report("url is given, but no listener", "url")
        known: ExternalAccount | None = None
        if external_account is not None:
            known = "required" if external_account == "required" else "optional"
        return cls(
            listeners,
            url or "",
            known,
            ProvingOptions.from_options(options),
            TlsOptions.from_options(options),
        )

    def requires_external_account(self, blocks: Iterable[Block]) -> bool:
        """Tell whether a client must register with an external account.

        Args:
            blocks: the auth blocks.
        """
        if self.external_account is not None:
            return self.external_account == "required"
        return not any(
            block.methods and all(isinstance(each, IPAuthMethod | AllAuthMethod) for each in block.methods)
            for block in blocks
        )


def base_url(text: str) -> str:
    """Parse the URL that all URLs begin with: https, a host, perhaps a path, and nothing else."""
    url = values.https_url(text, _EXAMPLE)
    parts = urlsplit(url)
    if parts.query or parts.fragment or "?" in url or "#" in url or "%" in url or "//" in parts.path:
        raise ValueError(f"must be an https URL without query, such as {_EXAMPLE}")
    return url.removesuffix("/")
