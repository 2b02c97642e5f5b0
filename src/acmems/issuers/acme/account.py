"""The ACME account on disk: its key and its registration (RFC 8555 section 7.1.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from acme import messages
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from josepy.b64 import b64encode
from josepy.jwk import JWK, JWKEC, JWKRSA

from acmems.exceptions import AccountError
from acmems.system import files

# Members of an account that are kept, and their types: its binding python-acme could not write again.
_MEMBERS: Mapping[str, type] = {
    "key": dict,
    "contact": list,
    "agreement": str,
    "status": str,
    "termsOfServiceAgreed": bool,
}
AccountKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_CURVES = {"ec256": ec.SECP256R1, "ec384": ec.SECP384R1}
_RSA_SIZES = {"rsa2048": 2048, "rsa3072": 3072, "rsa4096": 4096}
KEY_TYPES = (*_CURVES, *_RSA_SIZES)
_SMALLEST_RSA = 2048  # bits
_SMALLEST_EXPONENT = 65537


def generate_key(key_type: str) -> AccountKey:
    """Make a new account key.

    Args:
        key_type: one of `KEY_TYPES`.
    """
    if key_type in _CURVES:
        return ec.generate_private_key(_CURVES[key_type]())
    return generate_rsa_key(_RSA_SIZES[key_type])


def generate_rsa_key(key_size: int) -> rsa.RSAPrivateKey:
    """Make a new RSA account key.

    Args:
        key_size: its size in bits.
    """
    return rsa.generate_private_key(public_exponent=65537, key_size=key_size)


class AccountDirectory:
    """The directory that holds `account.pem` and `registration.json`.

    Args:
        path: the directory; it must exist before anything is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.key_file = path / "account.pem"
        self.registration_file = path / "registration.json"

    def exists(self) -> bool:
        """Tell whether the directory is there."""
        return self.path.is_dir()

    def has_key(self) -> bool:
        """Tell whether there is a key."""
        return self.key_file.exists()

    def has_registration(self) -> bool:
        """Tell whether there is a registration."""
        return self.registration_file.exists()

    def load_key(self) -> JWK:
        """Return the account's key.

        Raises:
            AccountError: it is missing, a link, readable by others, no key, or too weak a one.
        """
        if not self.exists():
            raise AccountError(f"the account directory {self.path} does not exist: create it, mode 0700")
        try:
            pem = files.read_private(self.key_file)
        except FileNotFoundError:
            hint = "run 'acmems account register' with this configuration"
            if self.has_registration():
                hint = "a lost account key is never replaced silently: restore it from your backup"
            raise AccountError(f"the account key {self.key_file} does not exist: {hint}") from None
        except OSError as error:
            raise AccountError(
                f"the account key {self.key_file} cannot be used: it {error.strerror or error}"
            ) from error
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise AccountError(f"{self.key_file} holds no private key in PEM without a password") from None
        if isinstance(key, rsa.RSAPrivateKey):
            self._check_rsa(key)
            return JWKRSA(key=key)
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in {"secp256r1", "secp384r1"}:
            return JWKEC(key=key)
        raise AccountError(f"{self.key_file} holds a key that ACME does not use: RSA, P-256 and P-384 are")

    def _check_rsa(self, key: rsa.RSAPrivateKey) -> None:
        """Refuse what CAs refuse (RFC 7518 section 3.3; public CAs take no small exponents either)."""
        if key.key_size < _SMALLEST_RSA:
            weakness = f"an RSA key of {key.key_size} bits, and {_SMALLEST_RSA} are the least that is safe"
        elif key.public_key().public_numbers().e < _SMALLEST_EXPONENT:
            weakness = f"an RSA key whose public exponent is below {_SMALLEST_EXPONENT}, which CAs refuse"
        else:
            return
        raise AccountError(
            f"{self.key_file} holds {weakness}: move {self.both_files} away, and run "
            f"'acmems account register'"
        )

    @property
    def both_files(self) -> str:
        """What is moved away where the key cannot have an account any more (RFC 8555 section 7.3.6)."""
        return f"{self.key_file} and {self.registration_file}"

    def save_key(self, key: AccountKey, *, force: bool = False) -> None:
        """Write a new account key, readable by its owner only.

        Args:
            key: the key.
            force: replace an existing one.

        Raises:
            AccountError: the directory is missing or not writable, or there is a key already.
        """
        if not self.exists():
            raise AccountError(f"the account directory {self.path} does not exist: create it, mode 0700")
        if not force and (self.has_key() or self.key_file.is_symlink()):
            raise AccountError(f"there is an account key already: {self.key_file}")
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._write(self.key_file, pem)

    def load_registration(self) -> messages.RegistrationResource | None:
        """Return the account resource that the CA once answered, None if there is none.

        Raises:
            AccountError: the file cannot be read.
        """
        try:
            text = self.registration_file.read_text()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise AccountError(f"{self.registration_file} cannot be read: {error}") from error
        try:
            return _registration(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise AccountError(
                f"{self.registration_file} holds no registration: remove it, and the next start asks the CA "
                f"for the account that belongs to the key"
            ) from error

    def save_registration(self, registration: messages.RegistrationResource) -> None:
        """Write the account resource, as python-acme serialises it.

        Raises:
            AccountError: the directory is missing or not writable.
        """
        self._write(self.registration_file, registration.json_dumps(indent=2).encode())

    def _write(self, path: Path, data: bytes) -> None:
        try:
            files.write_atomically(path, data)
        except OSError as error:
            raise AccountError(f"{path} cannot be written: {error.strerror or error}") from error


def account_body(document: Mapping[str, Any]) -> messages.Registration:
    """Return an account object (RFC 8555 section 7.1.2) as python-acme has it, without its binding.

    Args:
        document: a JSON object.

    Raises:
        ValueError: a member has another type than it should have.
    """
    # What is empty is left out: python-acme would not write it, and the file would seem to have changed.
    kept = {name: document[name] for name in _MEMBERS if document.get(name)}
    if not all(isinstance(value, _MEMBERS[name]) for name, value in kept.items()):
        raise ValueError("a member of the account has a type that it cannot have")
    if not all(isinstance(contact, str) for contact in kept.get("contact", ())):
        raise ValueError("a contact of the account is no text")
    try:
        body: messages.Registration = messages.Registration.from_json(kept)
    except Exception as error:
        raise ValueError("the account's key cannot be read") from error
    return body


def _registration(document: object) -> messages.RegistrationResource:
    """Return what a registration file holds; ValueError where that is anything else."""
    if not isinstance(document, dict) or not isinstance(document.get("body"), dict):
        raise ValueError("there is no account in it")  # noqa: TRY004 - the file's content is wrong, not a type of ours
    texts = {name: document.get(name) for name in ("uri", "new_authzr_uri", "terms_of_service")}
    if not isinstance(texts["uri"], str) or not all(isinstance(t, str | None) for t in texts.values()):
        raise ValueError("it does not name its account by a URL")
    return messages.RegistrationResource(body=account_body(document["body"]), **texts)


def key_digest(key: JWK) -> str:
    """Return the SHA-256 of the key's public half, as a CSR for that key would show it.

    Args:
        key: an account key.
    """
    public = key.public_key().key
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(spki)
    return digest.finalize().hex()


def describe_key(key: JWK) -> str:
    """Return what kind of key it is, for a person: `P-256`, `RSA 4096`.

    Args:
        key: an account key.
    """
    public = key.public_key().key
    if isinstance(key, JWKRSA):
        return f"RSA {public.key_size}"
    return {"secp256r1": "P-256", "secp384r1": "P-384"}[public.curve.name]


def thumbprint(key: JWK) -> str:
    """Return the key's thumbprint (RFC 7638), base64url.

    Args:
        key: an account key.
    """
    return str(b64encode(key.thumbprint()).decode())
