"""The TLS of a front end, read from the files that its section names."""

from __future__ import annotations

import ssl
from pathlib import Path

from acmems.frontends.tls.options import TlsOptions
from acmems.net.tls import TlsMaterial, server_context
from acmems.system.files import signature
from acmems.system.permissions import reason

_LARGEST = 1024 * 1024

Signature = tuple[tuple[int, int, int] | None, ...]
"""What changes when one of some files does."""


class UnusableTls(Exception):
    """A file cannot be used for TLS.

    Args:
        key: the key that names it.
        words: what is wrong, and what to do.
    """

    def __init__(self, key: str, words: str) -> None:
        super().__init__(f"{key}: {words}")
        self.key = key


def signature_of(options: TlsOptions) -> Signature:
    """Return what changes when one of the files does; to be looked at before they are read."""
    return tuple(signature(named.path) for named in options.named_files())


def read_material(options: TlsOptions) -> TlsMaterial:
    """Return the certificate that the files hold.

    Raises:
        UnusableTls: one of them cannot be read, or they do not belong together.
    """
    chain = _read("tls-certificate", options.certificate)
    key = _read("tls-key", options.key)
    try:
        return TlsMaterial.parse(chain, key)
    except ValueError as error:
        raise UnusableTls("tls-certificate", f"{options.certificate}: {error}") from None


def context_of(options: TlsOptions, material: TlsMaterial) -> ssl.SSLContext:
    """Return what encrypts connections with a certificate.

    Args:
        options: say whose client certificates are asked for.
        material: the certificate.

    Raises:
        UnusableTls: the file of client CAs cannot be read, or OpenSSL does not take something.
    """
    client_ca = None if options.client_ca is None else _read("tls-client-ca", options.client_ca)
    try:
        return server_context(material, client_ca)
    except ValueError as error:
        key = "tls-certificate" if client_ca is None else "tls-client-ca"
        raise UnusableTls(key, f"{error}") from None


def _read(key: str, path: Path | None) -> bytes:
    if path is None:
        raise UnusableTls(key, "is not given")
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST)
    except OSError as error:
        raise UnusableTls(key, f"{path} cannot be read: {reason(error, path)}") from None
