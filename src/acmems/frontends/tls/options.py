"""The keys of a section that say which certificate a front end shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from acmems.settings import values
from acmems.settings.options import Options
from acmems.system.permissions import NamedFile
from acmems.x509.identifiers import Identifier, named


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """Which certificate a front end shows, and whose client certificates it asks for.

    Args:
        certificate: the file of the chain, PEM, leaf first; None where there is none.
        key: the file of its private key, PEM.
        client_ca: the file of those who sign client certificates, PEM; None: clients are not asked.
        name: the name of this server for which it gets the certificate itself; None: somebody else puts it
            there.
    """

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    name: Identifier | None = None

    @classmethod
    def from_options(cls, options: Options, *, asks_clients: bool = False) -> Self:
        """Read the keys; what is wrong becomes findings.

        Args:
            options: the section.
            asks_clients: whether the section may ask for client certificates.
        """
        name = options.one(
            "tls-name",
            _parse_name,
            None,
            meaning="name of this server, for which it gets and renews a certificate itself, under an auth "
            "block that grants it to 127.0.0.1",
        )
        certificate = options.one(
            "tls-certificate",
            values.path,
            None,
            meaning="PEM file with the certificate of this server and its chain, leaf first; read anew when "
            "it changes",
        )
        key = options.one(
            "tls-key", values.path, None, meaning="PEM file with the private key of that certificate"
        )
        client_ca = None
        if asks_clients:
            client_ca = options.one(
                "tls-client-ca",
                values.path,
                None,
                meaning="PEM file with the CAs that sign client certificates; clients may show one, and need "
                "not",
            )
        for file in ("tls-certificate", "tls-key"):
            if options.has("tls-name") and options.has(file):
                options.report(f"tls-name and {file} are both given: remove one of them", file)
        for given, missing in (("tls-certificate", "tls-key"), ("tls-key", "tls-certificate")):
            if options.has(given) and not options.has(missing):
                options.report(f"{given} is given, but no {missing}", given)
        return cls(certificate, key, client_ca, name)

    @property
    def is_given(self) -> bool:
        """Whether there is a certificate to show."""
        return self.name is not None or (self.certificate is not None and self.key is not None)

    def within(self, folder: Path) -> Self:
        """Return these options with the files of the server's own name, where it has one.

        Args:
            folder: where they are kept.
        """
        if self.name is None:
            return self
        stem = f"tls-{self.name.value}"
        return replace(self, certificate=folder / f"{stem}.pem", key=folder / f"{stem}.key")

    @property
    def request(self) -> Path | None:
        """The file of the CSR by which the server asks for its own certificate."""
        return None if self.name is None or self.key is None else self.key.with_suffix(".csr")

    def named_files(self) -> Iterator[NamedFile]:
        """Yield the files."""
        if self.certificate is not None:
            yield NamedFile("tls-name" if self.name else "tls-certificate", self.certificate)
        if self.key is not None:
            yield NamedFile("tls-name" if self.name else "tls-key", self.key, is_secret=True)
        if self.client_ca is not None:
            yield NamedFile("tls-client-ca", self.client_ca)


def _parse_name(text: str) -> Identifier:
    identifier = named(text)
    if identifier.is_wildcard:
        raise ValueError("must be one name, without a star")
    return identifier
