"""The sections that stand alone: `[account]`, `[mgmt]` and `[logging]`, each as a frozen value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from acmems import csr, ini
from acmems.ini import Address, IPNetwork, Options
from acmems.secret import Secret

LETS_ENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
MGMT_LISTENERS = (Address("127.0.0.1", 1313), Address("::1", 1313))
KEY_TYPES = ("ec256", "ec384", "rsa2048", "rsa3072", "rsa4096")
EXTRA_CURVES = ("secp256k1", "secp521r1", "brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1")


@dataclass(frozen=True, slots=True)
class AccountOptions:
    """`[account]`: the ACME account and its CA.

    Args:
        directory_url: the CA's directory.
        dir: the directory of `account.pem` and `registration.json`.
        accepted_terms: True for any terms of service, else the URLs of those accepted.
        emails: contacts.
        key_type: one of `KEY_TYPES`, for a new account key.
        ca_file: PEM file with extra trust anchors for the CA's own HTTPS.
        eab_kid: key identifier of the external account binding (RFC 8555 section 7.3.4).
        eab_hmac_key: its MAC key, in base64url.
        profile: the ACME profile for orders.
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

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """Read the section; what is wrong becomes findings."""
        terms = options.many(
            "accept-terms-of-service",
            _terms,
            meaning="`yes`, or the URL of terms of service that are accepted; none: no account is made",
        )
        account = cls(
            directory_url=options.one(
                "acme-server",
                ini.https_url,
                LETS_ENCRYPT_STAGING,
                meaning="URL of the CA's ACME directory",
            ),
            dir=options.required(
                "dir", ini.path, meaning="directory of `account.pem` and `registration.json`; must exist"
            )
            or Path(),
            accepted_terms=True if True in terms else frozenset(url for url in terms if isinstance(url, str)),
            emails=options.many("email", _email, meaning="contact address, told to the CA"),
            key_type=options.one(
                "key-type",
                ini.choice(*KEY_TYPES),
                "ec256",
                meaning="type of a new account key: `ec256`, `ec384`, `rsa2048`, `rsa3072` or `rsa4096`",
            ),
            ca_file=options.one(
                "ca-file",
                ini.path,
                None,
                meaning="PEM file with trust anchors for the CA's own HTTPS, beside those of the system",
            ),
            eab_kid=options.one(
                "eab-kid",
                ini.text,
                None,
                meaning="key identifier of the external account binding, where the CA wants one",
            ),
            eab_hmac_key=options.one(
                "eab-hmac-key",
                _mac_key,
                None,
                meaning="MAC key of the external account binding, base64url; together with `eab-kid`",
            ),
            profile=options.one(
                "profile", ini.text, None, meaning="ACME profile to order; none: the CA's own choice"
            ),
        )
        if options.has("eab-kid") != options.has("eab-hmac-key"):
            given, missing = "eab-kid", "eab-hmac-key"
            if options.has(missing):
                given, missing = missing, given
            options.report(f"{given} is given, but no {missing}", given)
        return account


@dataclass(frozen=True, slots=True)
class MgmtOptions:
    """`[mgmt]`: where clients ask, and the limits of what they may ask.

    Args:
        listeners: where requests of clients are taken.
        max_size: largest CSR, in bytes.
        max_connections: most connections at one time.
        request_timeout: from the arrival of a request to its answer, in seconds.
        trusted_proxies: peers whose `X-Forwarded-For` is believed.
        csr_rules: what a CSR may hold.
        default_verification: the name given, empty for none, None if nothing is given.
        default_storage: the same.
    """

    listeners: tuple[Address, ...]
    max_size: int
    max_connections: int
    request_timeout: float
    trusted_proxies: tuple[IPNetwork, ...]
    csr_rules: csr.Rules
    default_verification: str | None
    default_storage: str | None

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """Read the section; what is wrong becomes findings."""
        return cls(
            listeners=options.many(
                ("listener", "mgmt"),
                ini.address,
                MGMT_LISTENERS,
                empty_is_none=True,
                meaning="`host:port` or `[v6]:port` to take clients' requests on; empty: none",
            ),
            max_size=options.one(
                "max-size", ini.size, 4096, meaning="largest CSR, in bytes; `4k` is 4096, `1m` is 1048576"
            ),
            max_connections=options.one(
                "max-connections",
                ini.positive_int,
                2000,
                meaning="most connections of clients at one time; further ones wait",
            ),
            request_timeout=options.one(
                "request-timeout",
                ini.seconds,
                120.0,
                meaning="seconds from a request to its answer, at most; asking again goes on from there",
            ),
            trusted_proxies=options.many(
                "trusted-proxy",
                ini.network,
                meaning="address or network of a proxy whose `X-Forwarded-For` is believed",
            ),
            csr_rules=csr.Rules(
                must_staple=options.one(
                    "must-staple",
                    ini.boolean,
                    default=False,
                    meaning="`yes`: CSRs may ask for must-staple certificates",
                ),
                extra_curves=frozenset(
                    options.many(
                        "extra-curve",
                        ini.choice(*EXTRA_CURVES),
                        meaning="curve to accept beside P-256 and P-384, for private CAs: "
                        "`secp256k1`, `secp521r1`, `brainpoolP256r1`, `brainpoolP384r1` or `brainpoolP512r1`",
                    )
                ),
            ),
            default_verification=options.one(
                "default-verification",
                str,
                None,
                meaning="verification of auth blocks that name none; empty: none. Without this key it is the "
                "only one defined, else an `http01` with its default listeners",
            ),
            default_storage=options.one(
                "default-storage",
                str,
                None,
                meaning="storage of auth blocks that name none; empty: none. Without this key it is the only "
                "one defined, else one of `type = none`",
            ),
        )


@dataclass(frozen=True, slots=True)
class LoggingOptions:
    """`[logging]`: what is logged, where to, and in which form.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        destination: `stderr`, `stdout`, `syslog`, `journal`, or the path of a file.
        format: `text` or `json`.
    """

    level: str
    destination: str | Path
    format: str

    @classmethod
    def from_options(cls, options: Options) -> Self:
        """Read the section; what is wrong becomes findings."""
        return cls(
            level=options.one(
                "level",
                ini.choice("debug", "info", "warning", "error"),
                "info",
                meaning="least severity that is logged: `debug`, `info`, `warning` or `error`",
            ),
            destination=options.one(
                "destination",
                _destination,
                "stderr",
                meaning="`stderr`, `stdout`, `syslog`, `journal`, or the path of a file, with a `/` in it",
            ),
            format=options.one(
                "format", ini.choice("text", "json"), "text", meaning="form of a line: `text` or `json`"
            ),
        )


def _terms(value: str) -> bool | str:
    """Parse yes, no, or the URL of terms of service; there are CAs whose terms are a data: URL."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+", value):
        return value
    return ini.boolean(value)


def _email(value: str) -> str:
    # RFC 8555 section 7.3: one address a contact, and no header fields.
    if not re.fullmatch(r"[^\s@,?:]+@[^\s@,?]+", value):
        raise ValueError(f"{value!r} is not an e-mail address")
    return value


def _mac_key(value: str) -> Secret:
    key = value.rstrip("=")
    # Base64 of one to three letters more than a multiple of four: one letter alone is no byte.
    if not re.fullmatch(r"[A-Za-z0-9_-]{2,}", key) or len(key) % 4 == 1:
        raise ValueError("must be the key in base64url, as the CA shows it")
    return Secret(key)


def _destination(value: str) -> str | Path:
    if value in {"stderr", "stdout", "syslog", "journal"}:
        return value
    if "/" not in value:
        raise ValueError(f"{value!r} is none of stderr, stdout, syslog, journal; a file's path has a '/'")
    return Path(value)
