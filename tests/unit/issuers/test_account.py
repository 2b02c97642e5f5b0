"""The account on disk: key files in every form, and `registration.json` as python-acme has it."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from acme import messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from josepy.jwk import JWKEC, JWKRSA
from tests.peers import run
from tests.steps import PATIENCE, wait_for

from acmems.exceptions import AccountError
from acmems.issuers.acme.account import Account, AccountDirectory
from acmems.issuers.acme.key import KEY_TYPES, AccountKey

PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
PKCS8 = serialization.PrivateFormat.PKCS8
# What PKCS#1 (RSA) and SEC1 (EC) are called there.
TRADITIONAL = serialization.PrivateFormat.TraditionalOpenSSL
PLAIN = serialization.NoEncryption()
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ACCOUNT = "https://ca.example.org/account/1"
TERMS = "https://ca.example.org/terms"
CONTACTS = ["mailto:hostmaster@example.org", "mailto:ä@example.org"]
REGISTRATION = Account(ACCOUNT, {"contact": CONTACTS[:1], "status": "valid"}, TERMS)


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
            (RSA_KEY, PKCS8, "RSA 2048"),
            (RSA_KEY, TRADITIONAL, "RSA 2048"),
            (EC_KEY, PKCS8, "P-256"),
            (EC_KEY, TRADITIONAL, "P-256"),
            (ec.generate_private_key(ec.SECP384R1()), PKCS8, "P-384"),
        ],
    )
    def test_every_form_of_pem(
        self,
        directory: AccountDirectory,
        key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
        form: serialization.PrivateFormat,
        kind: str,
    ) -> None:
        """RSA, P-256 and P-384 keys are read from PKCS#8, PKCS#1 and SEC1."""
        write(directory, key.private_bytes(PEM, form, PLAIN))
        loaded = directory.load_key()
        assert loaded.kind == kind
        assert loaded.private.private_numbers() == key.private_numbers()

    def test_a_key_of_0_3(self, directory: AccountDirectory) -> None:
        """What 0.3 wrote, an RSA key of 4096 bits as PKCS#8 or PKCS#1, is read."""
        key = AccountKey.generate("rsa4096")
        for form in (PKCS8, TRADITIONAL):
            write(directory, key.private.private_bytes(PEM, form, PLAIN))
            assert directory.load_key().kind == "RSA 4096"

    def test_what_openssl_writes(self, directory: AccountDirectory) -> None:
        """`openssl ecparam -genkey` puts the curve before the key, which does not matter."""
        write(directory, run("openssl", "ecparam", "-name", "prime256v1", "-genkey"))
        assert directory.load_key().kind == "P-256"

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
        key = AccountKey.generate(key_type)
        directory.save_key(key)
        assert directory.key_file.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
        assert mode_of(directory.key_file) == 0o600
        assert directory.load_key().private.private_numbers() == key.private.private_numbers()

    @pytest.mark.parametrize(
        ("key_type", "text"),
        [("ec256", "P-256"), ("ec384", "P-384"), ("rsa2048", "RSA 2048"), ("rsa3072", "RSA 3072")],
    )
    def test_key_types(self, directory: AccountDirectory, key_type: str, text: str) -> None:
        """Each `key-type` makes the key that it names."""
        directory.save_key(AccountKey.generate(key_type))
        assert directory.load_key().kind == text

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
            directory.save_key(AccountKey(EC_KEY))
        directory.save_key(AccountKey(EC_KEY), force=True)
        assert not directory.key_file.is_symlink()
        assert directory.load_key().kind == "P-256"

    def test_no_directory(self, tmp_path: Path) -> None:
        """A missing directory is not made: an administrator decides where it lies."""
        with pytest.raises(AccountError, match="does not exist"):
            AccountDirectory(tmp_path / "missing").save_key(AccountKey(EC_KEY))
        assert not (tmp_path / "missing").exists()


def theirs(account: Account) -> messages.RegistrationResource:
    """Return an account as python-acme has it."""
    fields = messages.Registration.fields_from_json(account.body)
    if "contact" not in account.body:  # given as none at all, python-acme would write them as an empty list
        del fields["contact"]
    resource: messages.RegistrationResource = messages.RegistrationResource(
        body=messages.Registration(**fields),
        uri=account.url,
        new_authzr_uri=account.new_authzr_uri,
        terms_of_service=account.terms_of_service,
    )
    return resource


class TestRegistration:
    ACCOUNTS = (
        REGISTRATION,
        Account(ACCOUNT),
        Account(ACCOUNT, {"contact": CONTACTS, "status": "deactivated", "termsOfServiceAgreed": True}),
        Account(
            ACCOUNT,
            {
                "key": JWKRSA(key=RSA_KEY).public_key().to_json(),
                "contact": CONTACTS,
                "agreement": TERMS,
                "status": "valid",
            },
            TERMS,
            "https://ca.example.org/acme/new-authz",
        ),
        Account(
            ACCOUNT,
            {"key": JWKEC(key=EC_KEY).public_key().to_json(), "status": "valid"},
            'data:text/plain,"ä"',
        ),
    )

    @pytest.mark.parametrize("account", ACCOUNTS, ids=range(len(ACCOUNTS)))
    def test_python_acme_reads_what_is_written(self, directory: AccountDirectory, account: Account) -> None:
        """The file is python-acme's RegistrationResource, byte for byte, for its owner only."""
        directory.save_registration(account)
        text = directory.registration_file.read_text()
        assert messages.RegistrationResource.json_loads(text) == theirs(account)
        assert text == theirs(account).json_dumps(indent=2)
        assert mode_of(directory.registration_file) == 0o600
        assert directory.load_registration() == account

    @pytest.mark.parametrize("account", ACCOUNTS, ids=range(len(ACCOUNTS)))
    @pytest.mark.parametrize("pretty", [True, False])
    def test_what_python_acme_wrote_is_read(
        self, directory: AccountDirectory, account: Account, pretty: bool
    ) -> None:
        """Whatever python-acme wrote is read, however it was laid out, and is the same when written again."""
        resource = theirs(account)
        directory.registration_file.write_text(
            resource.json_dumps_pretty() if pretty else resource.json_dumps(indent=2)
        )
        loaded = directory.load_registration()
        assert loaded == account
        directory.save_registration(account)
        written = directory.registration_file.read_text()
        assert messages.RegistrationResource.json_loads(written) == resource

    def test_the_file(self, directory: AccountDirectory) -> None:
        """These are the members of the file, and no others."""
        directory.save_registration(REGISTRATION)
        assert json.loads(directory.registration_file.read_text()) == {
            "body": {"contact": ["mailto:hostmaster@example.org"], "status": "valid"},
            "uri": ACCOUNT,
            "terms_of_service": "https://ca.example.org/terms",
        }

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
        assert loaded.url == ACCOUNT
        assert loaded.contacts == ("mailto:hostmaster@example.org",)
        assert loaded.status == "valid"
        assert loaded.to_json() == old

    def test_members_that_are_not_kept(self, directory: AccountDirectory) -> None:
        """Of an account object what is empty, or of no use, is not kept: bindings, lists of orders."""
        empty = {"contact": [], "termsOfServiceAgreed": False, "agreement": "", "key": None}
        others = {"orders": f"{ACCOUNT}/orders", "externalAccountBinding": {"payload": "x"}}
        account = Account.of(ACCOUNT, {"status": "valid", **empty, **others}, None)
        assert account == Account(ACCOUNT, {"status": "valid"})
        assert account.contacts == ()
        directory.save_registration(account)
        assert directory.load_registration() == account

    def test_none(self, directory: AccountDirectory) -> None:
        """A directory without the file has no registration, and tells no URL."""
        assert directory.registered_url is None
        assert directory.load_registration() is None
        assert not directory.has_registration()

    def test_the_url(self, directory: AccountDirectory) -> None:
        """It is known before the CA is asked, to another process as well; a broken file tells none."""
        directory.registration_file.write_text("{")
        assert directory.registered_url is None
        directory.save_registration(REGISTRATION)
        assert directory.registered_url == AccountDirectory(directory.path).registered_url == ACCOUNT

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

    @pytest.mark.parametrize(
        "key",
        [
            {"kty": "RSA"},
            {"kty": "RSA", "n": "AQ"},
            {"kty": "RSA", "n": "AQ", "e": 65537},
            {"kty": "RSA", "n": "a b", "e": "AQAB"},
            {"kty": "RSA", "n": "AQ==", "e": "AQAB"},
            {"kty": "RSA", "n": "", "e": "AQAB"},
            {"kty": "EC", "x": "AQ", "y": "AQ"},
            {"kty": ["RSA"], "n": "AQ", "e": "AQAB"},
            {"kty": "oct", "k": "AQ"},
            {"n": "AQ", "e": "AQAB"},
        ],
        ids=str,
    )
    def test_a_key_that_is_none(self, directory: AccountDirectory, key: object) -> None:
        """What stands in the place of the key, and is none, is neither kept nor taken."""
        document = {"status": "valid", "key": key}
        with pytest.raises(ValueError, match="key"):
            Account.of(ACCOUNT, document, None)
        directory.registration_file.write_text(json.dumps({"uri": ACCOUNT, "body": document}))
        with pytest.raises(AccountError, match=r"registration\.json"):
            directory.load_registration()

    def test_a_directory_in_its_place(self, directory: AccountDirectory) -> None:
        """A directory under the name of the file is an error, for reading and for writing."""
        (directory.registration_file / "in the way").mkdir(parents=True)
        with pytest.raises(AccountError, match="cannot be read"):
            directory.load_registration()
        with pytest.raises(AccountError, match="cannot be written"):
            directory.save_registration(REGISTRATION)


class TestFounding:
    """One process makes key and registration, whoever else comes at that moment."""

    def test_others_wait_and_find_what_was_made(
        self, directory: AccountDirectory, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Who comes second gets the lock when the first is done, and says meanwhile what it waits for."""
        caplog.set_level("INFO")
        found: list[bool] = []

        def come_second() -> None:
            with AccountDirectory(directory.path).founding():
                found.append(directory.has_key())

        second = threading.Thread(target=come_second)
        with directory.founding():
            second.start()
            wait_for(lambda: "waiting for it" in caplog.text)
            assert found == []
            directory.save_key(AccountKey(EC_KEY))
        second.join(PATIENCE)
        assert found == [True]

    def test_an_error_lets_go(self, directory: AccountDirectory) -> None:
        """Where the account cannot be made the next one may try."""
        with pytest.raises(KeyError), directory.founding():
            raise KeyError
        with directory.founding():
            assert directory.lock_file.exists()
        assert mode_of(directory.lock_file) == 0o600

    def test_a_complete_directory_is_left_alone(self, directory: AccountDirectory) -> None:
        """Where there is nothing to make nothing is written: the directory may be read-only by then."""
        directory.save_key(AccountKey(EC_KEY))
        directory.save_registration(REGISTRATION)
        with directory.founding():
            assert not directory.lock_file.exists()

    def test_a_lock_that_cannot_be_had(self, directory: AccountDirectory) -> None:
        """A link in the place of the file is not followed, and the error names it."""
        directory.lock_file.symlink_to("elsewhere")
        with pytest.raises(AccountError, match=r"account\.lock cannot be locked"), directory.founding():
            pass

    def test_a_missing_directory(self, tmp_path: Path) -> None:
        """The directory itself is never made."""
        with (
            pytest.raises(AccountError, match="does not exist: create it"),
            AccountDirectory(tmp_path / "missing").founding(),
        ):
            pass
