"""The documented class that reads a subjectAltName."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509

from acmems.auth import SubjectAltName
from acmems.x509.identifiers import Identifier


class TestSubjectAltName:
    """The documented class reads the names of an extension."""

    def test_names_are_read_from_der(self) -> None:
        """The names of an extension value are read from its DER."""
        names = [x509.DNSName("A.example.org"), x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]
        der = x509.SubjectAlternativeName(names).public_bytes()
        assert SubjectAltName.read(der) == {Identifier.dns("a.example.org"), Identifier.ip("192.0.2.1")}

    @pytest.mark.parametrize("der", [b"", b"\x30", b"\x30\x00\x00", b"\x30\x80\x00\x00", b"\x31\x00"])
    def test_malformed_der_is_refused(self, der: bytes) -> None:
        """Truncated, trailing or indefinite encodings are refused."""
        with pytest.raises(ValueError, match=r".") if der != b"\x30\x00" else pytest.raises(ValueError):
            SubjectAltName.read(der)

    def test_the_documented_keywords_are_accepted(self) -> None:
        """The documented keywords are accepted."""
        assert SubjectAltName(componentType=None, tagSet=None, subtypeSpec=None, sizeSpec=None) is not None
