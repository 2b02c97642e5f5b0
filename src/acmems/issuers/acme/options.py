"""`[account]` and `[account "NAME"]`: ACME accounts and their CAs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, cast, get_args

from acmems.exceptions import AccountError
from acmems.issuers.acme.key import KEY_TYPES
from acmems.issuers.acme.prechecks.options import NO_PRE_CHECKS, PreCheckOptions
from acmems.issuers.acme.session.origin import Origin
from acmems.settings import values
from acmems.settings.options import Options
from acmems.system import files
from acmems.system.permissions import NamedFile
from acmems.text import Secret
from acmems.x509.leaf import SubjectPolicy

_LARGEST_FILE = 4096
LETS_ENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"


@dataclass(frozen=True, slots=True)
class AccountOptions:
    """`[account]` or `[account "NAME"]`: an ACME account and its CA.

    Args:
        directory_url: the CA's directory.
        dir: the directory of `account.pem` and `registration.json`.
        accepted_terms: True for any terms of service, else the URLs of those accepted.
        emails: contacts.
        key_type: one of `KEY_TYPES`, for a new account key.
        ca_file: PEM file with extra trust anchors for the CA's own HTTPS.
        eab_kid: key identifier of the external account binding (RFC 8555 section 7.3.4).
        eab_hmac_key: its MAC key, in base64url.
        eab_hmac_key_file: the file to read that from instead.
        profile: the ACME profile for orders.
        hosts: where the CA is, beside the origin of its directory.
        preferred_chain: common name of the root to end in, where the CA offers several chains.
        subject: what the subject of an issued certificate may hold beside names.
        pre_checks: what is looked up before an order.
        limits: which limits of the CA are counted, by name; none: those that are known of it.
        name: of its section, empty where that has none.
    """

    directory_url: str
    dir: Path
    accepted_terms: Literal[True] | frozenset[str]
    emails: tuple[str, ...]
    key_type: str
    ca_file: Path | None
    eab_kid: str | None
    eab_hmac_key: Secret | None
    profile: str | None
    hosts: tuple[Origin, ...] = ()
    preferred_chain: str | None = None
    subject: SubjectPolicy = "dropped"
    pre_checks: PreCheckOptions = NO_PRE_CHECKS
    limits: tuple[str, ...] = ()
    name: str = ""
    eab_hmac_key_file: Path | None = None

    @property
    def section(self) -> str:
        """Its section, as a configuration has it."""
        return f'[account "{self.name}"]' if self.name else "[account]"

    @property
    def fixed(self) -> Mapping[str, object]:
        """What cannot be changed while orders go on, by its key: whose orders and chains these are."""
        return {
            "acme-server": self.directory_url,
            "dir": self.dir,
            "ca-file": self.ca_file,
            "profile": self.profile,
            "acme-host": self.hosts,
            "preferred-chain": self.preferred_chain,
        }

    def named_files(self) -> Iterable[NamedFile]:
        """Return the files that the section names."""
        yield NamedFile("dir", self.dir, is_secret=True)
        if self.eab_hmac_key_file is not None:
            yield NamedFile("eab-hmac-key-file", self.eab_hmac_key_file, is_secret=True)
        if self.ca_file is not None:
            yield NamedFile("ca-file", self.ca_file)

    def binding_key(self) -> Secret | None:
        """Return the MAC key of the external account binding, None where there is none.

        Raises:
            AccountError: the file that holds it cannot be read, or holds something else.
        """
        path = self.eab_hmac_key_file
        if path is None:
            return self.eab_hmac_key
        try:
            return mac_key(files.read(path, _LARGEST_FILE).decode("ascii").strip())
        except OSError as error:
            raise AccountError(f"eab-hmac-key-file: {path}: {error.strerror or error}") from error
        except ValueError:
            raise AccountError(f"eab-hmac-key-file: {path} does not hold the key in base64url") from None

    def is_of_ca(self, url: str) -> bool:
        """Tell whether a URL is one of this CA: of the origin of its directory, or of an `acme-host`."""
        try:
            return Origin.of(url) in {Origin.of(self.directory_url), *self.hosts}
        except ValueError:
            return False

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """Read the section; what is wrong becomes findings."""
        terms = options.many(
            "accept-terms-of-service",
            _terms,
            meaning="`yes`, or the URL of accepted terms of service; without this, no account is registered",
        )
        directory_url = options.one(
            "acme-server",
            values.https_url,
            LETS_ENCRYPT_STAGING,
            meaning="URL of the CA's ACME directory",
        )
        account = cls(
            directory_url=directory_url,
            dir=options.required(
                "dir", values.path, meaning="directory for `account.pem` and `registration.json`; must exist"
            )
            or Path(),
            accepted_terms=True if True in terms else frozenset(url for url in terms if isinstance(url, str)),
            emails=options.many("email", _email, meaning="contact address for the CA"),
            key_type=options.one(
                "key-type",
                values.choice(*KEY_TYPES),
                "ec256",
                meaning="type of a new account key: `ec256`, `ec384`, `rsa2048`, `rsa3072` or `rsa4096`",
            ),
            ca_file=options.one(
                "ca-file",
                values.path,
                None,
                meaning="PEM file with trust anchors for HTTPS to the CA, in addition to those of the system",
            ),
            eab_kid=options.one(
                "eab-kid",
                values.text,
                None,
                meaning="key identifier for external account binding, if the CA requires it",
            ),
            eab_hmac_key=options.one(
                "eab-hmac-key",
                mac_key,
                None,
                meaning="MAC key for external account binding, in base64url; together with `eab-kid`",
            ),
            eab_hmac_key_file=options.one(
                "eab-hmac-key-file",
                values.path,
                None,
                meaning="file to read `eab-hmac-key` from, instead of writing it here",
            ),
            profile=options.one(
                "profile", values.text, None, meaning="ACME profile to order; without it, the CA chooses"
            ),
            hosts=options.many(
                "acme-host",
                _host,
                meaning="further host of the same CA that signed requests may go to, with `:port` if that is "
                "not 443; without it, they go to host and port of `acme-server` only",
            ),
            preferred_chain=options.one(
                "preferred-chain",
                values.text,
                None,
                meaning="common name of the root that chains should end in, where the CA offers several; "
                "without it, and where none ends there, the CA's first",
            ),
            subject=cast(
                "SubjectPolicy",
                options.one(
                    "subject",
                    values.choice(*get_args(SubjectPolicy)),
                    "dropped",
                    meaning="what the subject of a certificate may hold beside granted names: `dropped`: "
                    "nothing; `names`: nothing, and CSRs with more are refused; `copied`: what the CSR "
                    "holds; `any`: whatever the CA puts there",
                ),
            ),
            pre_checks=PreCheckOptions.from_options(options, directory_url),
            limits=options.many(
                "limits",
                values.text,
                meaning="limits of the CA that are counted, so that none is broken: `letsencrypt`, `none`, "
                'or the name of a `[limit "NAME"]`; without it, those that are known of its CA, '
                "and what it tells of them",
            ),
            name=options.section.name or "",
        )
        if account.name and options.has("subject"):
            options.report("subject holds for all accounts: write it in [account]", "subject")
        _check_binding(options)
        return account


def _check_binding(options: Options) -> None:
    """Report a key identifier without a MAC key, a MAC key without that, or one that is given twice."""
    keys = [key for key in ("eab-hmac-key", "eab-hmac-key-file") if options.has(key)]
    if len(keys) > 1:
        options.report("'eab-hmac-key' and 'eab-hmac-key-file' are both given: remove one of them", keys[1])
    if keys and not options.has("eab-kid"):
        options.report(f"{keys[0]} is given, but no eab-kid", keys[0])
    elif options.has("eab-kid") and not keys:
        options.report("eab-kid is given, but no eab-hmac-key", "eab-kid")


def _terms(value: str) -> bool | str:
    """Parse yes, no, or the URL of terms of service; there are CAs whose terms are a data: URL."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+", value):
        return value
    return values.boolean(value)


def _email(value: str) -> str:
    # RFC 8555 section 7.3: one address a contact, and no header fields.
    if not re.fullmatch(r"[^\s@,?:]+@[^\s@,?]+", value):
        raise ValueError(f"{value!r} is not an e-mail address")
    return value


def _host(value: str) -> Origin:
    wrong = ValueError(f"{value!r} is not a host, such as acme.example.org or acme.example.org:8443")
    if "/" in value:
        raise wrong
    try:
        return Origin.of(f"https://{value}")
    except ValueError:
        raise wrong from None


def mac_key(value: str) -> Secret:
    """Parse a MAC key in base64url, with or without padding.

    Raises:
        ValueError: it is none; the words do not quote it.
    """
    key = value.rstrip("=")
    # Base64 of one to three letters more than a multiple of four: one letter alone is no byte.
    if not re.fullmatch(r"[A-Za-z0-9_-]{2,}", key) or len(key) % 4 == 1:
        raise ValueError("must be the key in base64url, as the CA shows it")
    return Secret(key)
