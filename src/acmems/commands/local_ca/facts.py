"""What is shown of a local CA."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from acmems.commands.terminal import tell
from acmems.issuers.local.authority import IssuingAuthority
from acmems.issuers.local.options import LocalCaOptions
from acmems.text import one_line


def described(local_ca: LocalCaOptions, authority: IssuingAuthority) -> dict[str, Any]:
    """Return what is shown of a CA, as members of a JSON document."""
    root, intermediate = authority.root, authority.certificate
    return {
        "name": local_ca.name,
        "dir": str(local_ca.dir),
        "root": _common_name(root),
        "root_not_after": root.not_valid_after_utc.isoformat(),
        "root_fingerprint": _fingerprint(root),
        "intermediate": _common_name(intermediate),
        "intermediate_not_after": intermediate.not_valid_after_utc.isoformat(),
        "permits": str(authority.permits).split(", "),
        "lifetime_seconds": int(local_ca.lifetime.total_seconds()),
        "crl_url": local_ca.crl_url,
    }


def print_ca(document: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a CA: `described`."""
    if as_json:
        tell(json.dumps(document))
        return
    width = max(map(len, document))
    for name, value in document.items():
        words = ", ".join(value) if isinstance(value, list) else "none" if value is None else str(value)
        tell(f"{name.replace('_', ' '):<{width}}  {one_line(words)}")


def print_root(pem: bytes, *, as_json: bool) -> None:
    """Print a root's certificate."""
    if not as_json:
        tell(pem.decode().rstrip("\n"))
        return
    root = x509.load_pem_x509_certificate(pem)
    tell(json.dumps({"pem": pem.decode(), "fingerprint": _fingerprint(root)}))


def _fingerprint(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def _common_name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string().removeprefix("CN=")
