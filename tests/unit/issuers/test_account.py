"""The account on disk: key files in every form, and `registration.json` as python-acme has it."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from acme import messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from josepy.jwk import JWK, JWKEC, JWKRSA
from tests.peers import run

from acmems.exceptions import AccountError
from acmems.issuers.acme.account import (
    KEY_TYPES,
    AccountDirectory,
    describe_key,
    generate_key,
    key_digest,
    thumbprint,
)

PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
PKCS8 = serialization.PrivateFormat.PKCS8
# What PKCS#1 (RSA) and SEC1 (EC) are called there.
TRADITIONAL = serialization.PrivateFormat.TraditionalOpenSSL
PLAIN = serialization.NoEncryption()
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ACCOUNT = "https://ca.example.org/account/1"
REGISTRATION = messages.RegistrationResource(
    body=messages.Registration(contact=("mailto:hostmaster@example.org",), status="valid"),
    uri=ACCOUNT,
    terms_of_service="https://ca.example.org/terms",
)


@pytest.fixture
def directory(tmp_path: Path) -> AccountDirectory:
    """An empty account directory."""
    return AccountDirectory(tmp_path)


def write(directory: AccountDirectory, content: bytes, mode: int = 0o600) -> None:
    directory.key_file.write_bytes(content)
    directory.key_file.chmod(mode)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestLoadKey:
    @pytest.mark.parametrize(
        ("key", "form", "kind"),
        [
            (RSA_KEY, PKCS8, JWKRSA),
            (RSA_KEY, TRADITIONAL, JWKRSA),
            (EC_KEY, PKCS8, JWKEC),
            (EC_KEY, TRADITIONAL, JWKEC),
            (ec.generate_private_key(ec.SECP384R1()), PKCS8, JWKEC),
        ],
    )
    def test_every_form_of_pem(
        self,
        directory: AccountDirectory,
        key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
        form: serialization.PrivateFormat,
        kind: type,
    ) -> None:
        """RSA, P-256 and P-384 keys are read from PKCS#8, PKCS#1 and SEC1."""
        write(directory, key.private_bytes(PEM, form, PLAIN))
        loaded = directory.load_key()
        assert isinstance(loaded, kind)
        assert loaded.key.private_numbers() == key.private_numbers()

    def test_a_key_of_0_3(self, directory: AccountDirectory) -> None:
        """What 0.3 wrote, an RSA key of 4096 bits as PKCS#8 or PKCS#1, is read."""
        key = generate_key("rsa4096")
        for form in (PKCS8, TRADITIONAL):
            write(directory, key.private_bytes(PEM, form, PLAIN))
            assert describe_key(directory.load_key()) == "RSA 4096"

    def test_what_openssl_writes(self, directory: AccountDirectory) -> None:
        """`openssl ecparam -genkey` puts the curve before the key, which does not matter."""
        write(directory, run("openssl", "ecparam", "-name", "prime256v1", "-genkey"))
        assert describe_key(directory.load_key()) == "P-256"

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"garbage",
            b"\0" * 100,
            "ä".encode(),
            EC_KEY.private_bytes(DER, PKCS8, PLAIN),
            EC_KEY.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"secret")),
            RSA_KEY.private_bytes(PEM, TRADITIONAL, serialization.BestAvailableEncryption(b"secret")),
            EC_KEY.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
            EC_KEY.private_bytes(PEM, PKCS8, PLAIN)[:-40],
        ],
        ids=["empty", "garbage", "NUL", "UTF-8", "DER", "encrypted", "encrypted PKCS#1", "public", "cut"],
    )
    def test_what_is_no_key(self, directory: AccountDirectory, content: bytes) -> None:
        """Anything but a private key in PEM without a password is an error that names the file."""
        write(directory, content)
        with pytest.raises(AccountError, match=r"account\.pem holds no private key in PEM"):
            directory.load_key()

    @pytest.mark.parametrize(
        "key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP521R1())]
    )
    def test_a_key_that_acme_does_not_use(
        self, directory: AccountDirectory, key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
    ) -> None:
        """Keys of other types are refused with the list of those that are not."""
        write(directory, key.private_bytes(PEM, PKCS8, PLAIN))
        with pytest.raises(AccountError, match=r"RSA, P-256 and P-384"):
            directory.load_key()

    @pytest.mark.parametrize(
        ("size", "exponent", "weakness"),
        [
            (1024, 65537, "1024 bits, and 2048 are"),
            (2040, 65537, "2040 bits, and 2048 are"),
            (2048, 3, "exponent is below 65537"),
        ],
    )
    def test_a_weak_key(self, directory: AccountDirectory, size: int, exponent: int, weakness: str) -> None:
        """RSA keys that CAs refuse are refused here, with the way to a better one."""
        key = rsa.generate_private_key(public_exponent=exponent, key_size=size)
        write(directory, key.private_bytes(PEM, PKCS8, PLAIN))
        with pytest.raises(
            AccountError, match=rf"{weakness}.*registration\.json .*'acmems account register'"
        ):
            directory.load_key()

    @pytest.mark.threat("disk", "a key file open to others, or a link")
    @pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o700 | 0o010])
    def test_a_key_that_others_can_read(self, directory: AccountDirectory, mode: int) -> None:
        """A key file that is open to others is refused with the command that closes it."""
        write(directory, EC_KEY.private_bytes(PEM, PKCS8, PLAIN), mode)
        with pytest.raises(AccountError, match="chmod 600"):
            directory.load_key()

    @pytest.mark.threat("disk", "a key file open to others, or a link")
    def test_a_link(self, directory: AccountDirectory, tmp_path: Path) -> None:
        """A key file that is a link is refused, whatever it leads to."""
        real = tmp_path / "real.pem"
        real.write_bytes(EC_KEY.private_bytes(PEM, PKCS8, PLAIN))
        real.chmod(0o600)
        directory.key_file.symlink_to(real)
        with pytest.raises(AccountError, match="is a link"):
            directory.load_key()

    def test_a_directory_in_its_place(self, directory: AccountDirectory) -> None:
        """A directory under the name of the key is no key."""
        directory.key_file.mkdir()
        with pytest.raises(AccountError, match="not a regular file"):
            directory.load_key()

    def test_no_key(self, directory: AccountDirectory) -> None:
        """Without a key the error names the command that makes one."""
        with pytest.raises(AccountError, match="acmems account register"):
            directory.load_key()

    def test_a_lost_key(self, directory: AccountDirectory) -> None:
        """Without a key beside a registration the error asks for the backup, and offers no new key."""
        directory.save_registration(REGISTRATION)
        with pytest.raises(AccountError, match="restore it from your backup"):
            directory.load_key()

    def test_no_directory(self, tmp_path: Path) -> None:
        """A directory that does not exist is an error that says so."""
        with pytest.raises(AccountError, match="does not exist: create it, mode 0700"):
            AccountDirectory(tmp_path / "missing").load_key()


class TestSaveKey:
    @pytest.mark.parametrize("key_type", [kind for kind in KEY_TYPES if kind.startswith("ec")])
    def test_it_is_pkcs8_for_its_owner(self, directory: AccountDirectory, key_type: str) -> None:
        """A new key is written as PKCS#8 with mode 0600, and read again."""
        key = generate_key(key_type)
        directory.save_key(key)
        assert directory.key_file.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
        assert mode_of(directory.key_file) == 0o600
        assert directory.load_key().key.private_numbers() == key.private_numbers()

    @pytest.mark.parametrize(
        ("key_type", "text"),
        [("ec256", "P-256"), ("ec384", "P-384"), ("rsa2048", "RSA 2048"), ("rsa3072", "RSA 3072")],
    )
    def test_key_types(self, directory: AccountDirectory, key_type: str, text: str) -> None:
        """Each `key-type` makes the key that it names."""
        directory.save_key(generate_key(key_type))
        assert describe_key(directory.load_key()) == text

    @pytest.mark.parametrize(
        "occupy",
        [
            lambda path: path.write_bytes(b"a key"),
            lambda path: path.symlink_to("nowhere"),
        ],
        ids=["file", "dangling link"],
    )
    def test_a_key_is_not_replaced(self, directory: AccountDirectory, occupy: Callable[[Path], None]) -> None:
        """Whatever has the name of the key stays, unless replacing it is asked for."""
        occupy(directory.key_file)
        with pytest.raises(AccountError, match="there is an account key already"):
            directory.save_key(EC_KEY)
        directory.save_key(EC_KEY, force=True)
        assert not directory.key_file.is_symlink()
        assert isinstance(directory.load_key(), JWKEC)

    def test_no_directory(self, tmp_path: Path) -> None:
        """A missing directory is not made: an administrator decides where it lies."""
        with pytest.raises(AccountError, match="does not exist"):
            AccountDirectory(tmp_path / "missing").save_key(EC_KEY)
        assert not (tmp_path / "missing").exists()


class TestRegistration:
    def test_python_acme_reads_what_is_written(self, directory: AccountDirectory) -> None:
        """The file is python-acme's RegistrationResource as JSON, for its owner only."""
        directory.save_registration(REGISTRATION)
        text = directory.registration_file.read_text()
        assert messages.RegistrationResource.json_loads(text) == REGISTRATION
        assert json.loads(text) == {
            "body": {"contact": ["mailto:hostmaster@example.org"], "status": "valid"},
            "uri": ACCOUNT,
            "terms_of_service": "https://ca.example.org/terms",
        }
        assert mode_of(directory.registration_file) == 0o600
        assert directory.load_registration() == REGISTRATION

    def test_what_python_acme_of_2016_wrote(self, directory: AccountDirectory) -> None:
        """The members of the first ACME draft are read: key, agreement, where authorizations were made."""
        old = {
            "body": {
                "agreement": "https://ca.example.org/terms",
                "contact": ["mailto:hostmaster@example.org"],
                "key": JWKRSA(key=RSA_KEY).public_key().to_json(),
            },
            "new_authzr_uri": "https://ca.example.org/acme/new-authz",
            "terms_of_service": "https://ca.example.org/terms",
            "uri": ACCOUNT,
        }
        directory.registration_file.write_text(json.dumps(old))
        loaded = directory.load_registration()
        assert loaded is not None
        assert loaded.uri == ACCOUNT
        assert loaded.body.contact == ("mailto:hostmaster@example.org",)

    def test_none(self, directory: AccountDirectory) -> None:
        """A directory without the file has no registration."""
        assert directory.load_registration() is None
        assert not directory.has_registration()

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"garbage",
            b"\xff\xfe",
            b"[]",
            b"{}",
            b'{"body": {}}',
            b'{"uri": "https://ca.example.org/account/1"}',
            b'"text"',
            b"null",
            b"7",
            b'{"uri": "https://ca.example.org/account/1", "body": null}',
            b'{"uri": "https://ca.example.org/account/1", "body": []}',
            b'{"uri": "https://ca.example.org/account/1", "body": {"contact": "a@example.org"}}',
            b'{"uri": "https://ca.example.org/account/1", "body": {"contact": [7]}}',
            b'{"uri": "https://ca.example.org/account/1", "body": {"key": {"kty": "RSA", "n": 7}}}',
            b'{"uri": null, "body": {}}',
            b'{"uri": 7, "body": {}}',
            b'{"uri": ["https://ca.example.org/account/1"], "body": {}}',
            b'{"uri": "https://ca.example.org/account/1", "body": {}, "terms_of_service": 7}',
            b"[" * 100_000,
        ],
        ids=lambda content: repr(content[:100]),
    )
    def test_what_is_no_registration(self, directory: AccountDirectory, content: bytes) -> None:
        """A broken file is an error that names it."""
        directory.registration_file.write_bytes(content)
        with pytest.raises(AccountError, match=r"registration\.json"):
            directory.load_registration()

    def test_a_directory_in_its_place(self, directory: AccountDirectory) -> None:
        """A directory under the name of the file is an error, for reading and for writing."""
        (directory.registration_file / "in the way").mkdir(parents=True)
        with pytest.raises(AccountError, match="cannot be read"):
            directory.load_registration()
        with pytest.raises(AccountError, match="cannot be written"):
            directory.save_registration(REGISTRATION)


def test_the_digest_is_that_of_a_csr_for_the_same_key(tmp_path: Path) -> None:
    """The digest is the SHA-256 of the SubjectPublicKeyInfo, as openssl computes it."""
    directory = AccountDirectory(tmp_path)
    directory.save_key(EC_KEY)
    spki = run("openssl", "pkey", "-in", directory.key_file, "-pubout", "-outform", "DER")
    digest = run("openssl", "dgst", "-sha256", "-r", stdin=spki).split()[0].decode()
    assert key_digest(directory.load_key()) == digest


def test_the_thumbprint_is_that_of_rfc_7638() -> None:
    """The thumbprint of the RFC's own key is the one that section 3.1 gives."""
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKR"
        "XjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAta"
        "Sqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksI"
        "NHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key = JWK.from_json({"kty": "RSA", "n": modulus, "e": "AQAB"})
    assert isinstance(key, JWK)
    assert thumbprint(key) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
