"""Keys and signatures of signing requests."""

from __future__ import annotations

from unittest import mock

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)
from tests import der
from tests.der import Draft

from acmems.exceptions import PayloadInvalid
from acmems.x509 import csr, keys

GOOD = Draft()


def refusal(body: bytes, rules: csr.Rules = csr.PUBLIC) -> str:
    """Return the reason for which a body is refused."""
    with pytest.raises(PayloadInvalid) as caught:
        csr.parse(body, rules)
    return str(caught.value)


class TestKey:
    @pytest.mark.threat("csr", "weak keys")
    def test_weak_key(self) -> None:
        """A request for a key that the rules of `keys` refuse is refused with their reason."""
        assert "RSA keys of 1024 bits" in refusal(Draft(key=der.rsa_key(1024)).pem)

    @pytest.mark.threat("csr", "weak keys")
    def test_curves_by_option(self) -> None:
        """A curve besides P-256 and P-384 is accepted where the operator allows it."""
        body = Draft(key=der.ec_key(ec.SECP521R1)).pem
        assert "secp521r1" in refusal(body)
        assert csr.parse(body, csr.Rules(extra_curves=frozenset({"secp521r1"}))).names == ("a.example.org",)

    @pytest.mark.parametrize(
        "spki",
        [
            pytest.param(
                der.sequence(
                    der.sequence(der.oid("1.2.840.10045.2.1"), der.oid("1.2.840.10045.3.1.7")),
                    der.bits(
                        der.ec_key().public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
                    ),
                ),
                id="compressed point",
            ),
        ],
    )
    def test_unusual_encodings(self, spki: bytes) -> None:
        """One key has one encoding, so that keys can be compared by their bytes."""
        assert "encoded in an unusual way" in refusal(Draft(spki=spki).pem)

    @pytest.mark.parametrize(
        "spki",
        [
            pytest.param(der.sequence(), id="empty"),
            pytest.param(
                der.sequence(
                    der.sequence(der.oid("1.2.840.10045.2.1"), der.oid("1.2.840.10045.3.1.7")),
                    der.bits(b"\4" + b"\1" * 64),
                ),
                id="point off the curve",
            ),
            pytest.param(
                der.sequence(
                    der.sequence(der.oid("1.2.840.10045.2.1"), der.oid("1.2.3.4")),
                    der.bits(b"\4" + b"\1" * 64),
                ),
                id="unknown curve",
            ),
        ],
    )
    def test_broken_keys(self, spki: bytes) -> None:
        """A key that is none is refused."""
        assert "cannot be read" in refusal(Draft(spki=spki).pem)

    def test_unknown_key_types(self) -> None:
        """A key of a type that nobody knows is refused by its object identifier."""
        spki = der.sequence(der.sequence(der.oid("1.2.3.4")), der.bits(b"k"))
        assert "keys of this type, 1.2.3.4, are not accepted" in refusal(Draft(spki=spki).pem)

    def test_other_key_types(self) -> None:
        """Keys other than RSA and EC are refused."""
        spki = (
            Ed25519PrivateKey.generate()
            .public_key()
            .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )
        assert "keys of this type" in refusal(Draft(spki=spki).pem)


class TestSignature:
    @pytest.mark.threat("csr", "a wrong signature")
    def test_of_another_key(self) -> None:
        """A request for a key that its sender does not have is refused."""
        assert "signature" in refusal(Draft(spki=der.spki(ec.generate_private_key(ec.SECP256R1()))).pem)

    def test_of_another_type_of_key(self) -> None:
        """A signature that cannot even be one by this key is refused."""
        assert "signature" in refusal(Draft(spki=der.spki(der.rsa_key())).pem)

    @pytest.mark.threat("csr", "a wrong signature")
    def test_of_other_names(self) -> None:
        """A name changed after signing is refused."""
        assert "signature" in refusal(der.pem(GOOD.der.replace(b"a.example", b"b.example")))

    @pytest.mark.parametrize("key", [der.ec_key(), der.rsa_key()], ids=["EC", "RSA"])
    def test_sha1(self, key: der.Key) -> None:
        """SHA-1 is refused as public CAs do, with the option that helps."""
        reason = refusal(Draft(key=key, hash="sha1").pem)
        assert "with SHA-1)" in reason
        assert "make it with -sha256" in reason

    @pytest.mark.parametrize(
        ("algorithm", "reason"),
        [
            pytest.param(der.sequence(der.oid("1.2.840.113549.1.1.10")), "(RSASSA-PSS), which CAs", id="PSS"),
            pytest.param(
                der.sequence(der.oid("1.2.840.113549.1.1.10"), der.sequence()),
                "AlternateSignatureAlgorithm = FALSE",
                id="PSS with parameters",
            ),
            pytest.param(der.sequence(der.oid("1.2.840.113549.1.1.4")), "(RSA with MD5)", id="MD5"),
            pytest.param(der.sequence(der.oid("1.3.101.112")), "1.3.101.112 (Ed25519)", id="Ed25519"),
            pytest.param(der.sequence(der.oid("1.2.3.4"), der.NULL), "signed with 1.2.3.4: ", id="unknown"),
            pytest.param(
                der.sequence(der.oid("1.2.840.10045.4.3.2"), der.sequence()),
                "has parameters",
                id="parameters",
            ),
            pytest.param(
                der.sequence(der.oid("1.2.840.10045.4.3.2"), der.NULL, der.NULL), "has parameters", id="more"
            ),
            pytest.param(der.sequence(), "the signature algorithm cannot be read", id="nothing"),
            pytest.param(der.sequence(der.NULL), "the signature algorithm cannot be read", id="NULL"),
        ],
    )
    def test_other_algorithms(self, algorithm: bytes, reason: str) -> None:
        """What CAs do not take is refused before an order is spent, by its object identifier."""
        signed = der.sequence(GOOD.info, algorithm, der.bits(bytes(70)))
        assert reason in refusal(der.pem(signed))

    @pytest.mark.parametrize("parameters", [b"", der.NULL], ids=["none", "NULL"])
    @pytest.mark.parametrize("key", [der.ec_key(), der.rsa_key()], ids=["EC", "RSA"])
    @pytest.mark.parametrize("hash", ["sha256", "sha384", "sha512"])
    def test_parameters_that_say_nothing(self, key: der.Key, hash: str, parameters: bytes) -> None:  # noqa: A002 - the field's name
        """NULL parameters or none: encoders confuse which algorithm has which, and neither says anything."""
        draft = Draft(key=key, hash=hash, parameters=parameters)
        assert csr.parse(draft.pem).names == ("a.example.org",)


class Panic(BaseException):
    """As the Rust part of cryptography raises, beyond Exception."""


@pytest.mark.threat("csr", "a parser that fails")
class TestParserErrors:
    @pytest.mark.parametrize("error", [ValueError, TypeError, UnsupportedAlgorithm, RecursionError, Panic])
    def test_any_class_is_a_refusal(self, error: type[BaseException]) -> None:
        """Whatever the library raises, the client learns that its request is malformed, and no more."""
        with mock.patch.object(keys, "load_der_public_key", side_effect=error("secret")):
            assert "secret" not in refusal(GOOD.pem)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
    def test_what_is_not_a_parsers_passes(self, error: type[BaseException]) -> None:
        """A process that is told to stop, or is out of memory, is not held up by a refusal."""
        with mock.patch.object(keys, "load_der_public_key", side_effect=error), pytest.raises(error):
            csr.parse(GOOD.pem)
