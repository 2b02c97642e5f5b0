"""The sections `[account]`, `[mgmt]` and `[logging]`: what each key means, and what is refused."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from acmems.config import AccountOptions, Configuration, LoggingOptions, MgmtOptions
from acmems.exceptions import ConfigurationError
from acmems.net.address import Address
from acmems.storages import NoStorage
from acmems.text import Secret
from acmems.x509 import csr

ACCOUNT = "[account]\ndir = /var/lib/acmems\n"
AUTH = '[auth "all"]\nall = yes\ndomain = **\n'


def load(text: str = "") -> Configuration:
    """Load what stands beside a minimal account and auth block."""
    return Configuration.from_text(ACCOUNT + AUTH + text, "a.ini")


def account(lines: str) -> AccountOptions:
    return Configuration.from_text(ACCOUNT + lines + "\n" + AUTH).account


def findings(text: str) -> list[str]:
    """Return what is wrong with a text."""
    with pytest.raises(ConfigurationError) as caught:
        Configuration.from_text(text, "a.ini")
    return [str(finding) for finding in caught.value.findings]


def wrong(text: str) -> list[str]:
    """Return what is wrong with a text that stands in front of a minimal account and auth block."""
    return findings(text + "\n" + ACCOUNT + AUTH)


class TestAccount:
    @pytest.mark.parametrize(
        ("lines", "accepted"),
        [
            ("accept-terms-of-service = yes", True),
            ("accept-terms-of-service = true", True),
            ("accept-terms-of-service = no", frozenset()),
            ("accept-terms-of-service = https://a.example/1", frozenset({"https://a.example/1"})),
            ("accept-terms-of-service = data:text/plain,Be%20kind", frozenset({"data:text/plain,Be%20kind"})),
            (
                "accept-terms-of-service = https://a.example/1\naccept-terms-of-service = https://a.example/2",
                frozenset({"https://a.example/1", "https://a.example/2"}),
            ),
            ("accept-terms-of-service = https://a.example/1\naccept-terms-of-service = yes", True),
        ],
    )
    def test_terms(self, lines: str, accepted: bool | frozenset[str]) -> None:
        """Terms are accepted in general, or by their URLs."""
        assert account(lines).accepted_terms == accepted

    def test_every_key_is_read(self) -> None:
        """Each key of the account becomes its field."""
        options = account(
            "acme-server = https://ca.example.org/dir\nemail = a@example.org\nemail = b@example.org\n"
            "key-type = rsa4096\nca-file = /etc/ca.pem\neab-kid = kid-1\neab-hmac-key = c2VjcmV0\n"
            "profile = shortlived"
        )
        assert options == AccountOptions(
            directory_url="https://ca.example.org/dir",
            dir=Path("/var/lib/acmems"),
            accepted_terms=frozenset(),
            emails=("a@example.org", "b@example.org"),
            key_type="rsa4096",
            ca_file=Path("/etc/ca.pem"),
            eab_kid="kid-1",
            eab_hmac_key=Secret("c2VjcmV0"),
            profile="shortlived",
        )
        assert "c2VjcmV0" not in repr(options)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("acme-server = http://ca.example.org/dir", "acme-server: must be an https URL"),
            ("acme-server =", "acme-server: must be an https URL"),
            ("accept-terms-of-service = perhaps", "accept-terms-of-service: 'perhaps' is neither yes nor no"),
            ("accept-terms-of-service = https://a/ # new", "accept-terms-of-service: "),
            ("email = nobody", "email: 'nobody' is not an e-mail address"),
            ("email = mailto:a@example.org", "email: 'mailto:a@example.org' is not an e-mail address"),
            ("email = a@example.org,b@example.org", "email: "),
            ("key-type = rsa1024", "key-type: 'rsa1024' is not one of ec256, ec384"),
            ("ca-file =", "ca-file: must not be empty"),
            ("profile =", "profile: must not be empty"),
            ("eab-kid = kid-1", "eab-kid is given, but no eab-hmac-key"),
            ("eab-hmac-key = c2VjcmV0", "eab-hmac-key is given, but no eab-kid"),
            ("dir = /srv", "'dir' is given twice, first at a.ini:2"),
            ("key-tpye = ec256", "[account] knows no 'key-tpye', did you mean 'key-type'?"),
        ],
    )
    def test_what_is_wrong_is_told(self, line: str, message: str) -> None:
        """A bad value or key is a finding at its line."""
        (finding,) = findings(f"{ACCOUNT}{line}\n{AUTH}")
        assert finding.startswith(f"a.ini:3: {message}")

    @pytest.mark.parametrize("key", ["hunter2!", "hunter2 hunter2", "h", "hunte", "=", "hunter+/"])
    def test_a_bad_mac_key_is_not_quoted(self, key: str) -> None:
        """A finding about a key does not show it."""
        (finding,) = findings(f"{ACCOUNT}eab-kid = kid-1\neab-hmac-key = {key}\n{AUTH}")
        assert finding == "a.ini:4: eab-hmac-key: must be the key in base64url, as the CA shows it"

    def test_dir_is_required(self) -> None:
        """An account needs its directory."""
        assert findings("[mgmt]\n[account]\n" + AUTH) == ["a.ini:2: [account] needs 'dir = …'"]

    def test_the_account_is_required(self) -> None:
        """A configuration without an account is reported at its first line."""
        assert findings("\n\n" + AUTH) == ["a.ini:1: [account] needs 'dir = …'"]


class TestMgmt:
    def test_every_key_is_read(self) -> None:
        """Each key of the management interface becomes its field."""
        config = load(
            "[mgmt]\nlistener = 192.0.2.1:1313\nmgmt = [::1]:0\nmax-size = 16k\nmax-connections = 10\n"
            "request-timeout = 30\ntrusted-proxy = 192.0.2.7\ntrusted-proxy = 2001:db8::/32\n"
            "must-staple = yes\nextra-curve = secp521r1\n"
        )
        assert config.mgmt == MgmtOptions(
            listeners=(Address("192.0.2.1", 1313), Address("::1", 0)),
            max_size=16384,
            max_connections=10,
            request_timeout=30.0,
            trusted_proxies=(ipaddress.ip_network("192.0.2.7"), ipaddress.ip_network("2001:db8::/32")),
            csr_rules=csr.Rules(must_staple=True, extra_curves=frozenset({"secp521r1"})),
            default_verification=None,
            default_storage=None,
        )

    def test_requests_are_judged_by_it(self) -> None:
        """What authenticates requests knows the limits that are configured."""
        config = load("[mgmt]\nmax-size = 1m\ntrusted-proxy = 192.0.2.7\nmust-staple = yes\n")
        assert config.auth.max_size == 1048576
        assert config.auth.rules == csr.Rules(must_staple=True)
        assert config.auth.trusted_proxies == (ipaddress.ip_network("192.0.2.7"),)

    def test_an_empty_listener_is_none(self) -> None:
        """An empty `listener` switches the interface off."""
        assert load("[mgmt]\nlistener =\n").mgmt.listeners == ()

    def test_an_empty_default_verification_is_none(self) -> None:
        """An empty default means that blocks must name their verification."""
        config = load('[mgmt]\ndefault-verification =\n[verification "a"]\ntype = http01\n')
        assert config.default_validator is None
        assert set(config.validators) == {"a"}

    def test_an_empty_default_storage_keeps_nothing(self) -> None:
        """An empty default means that nothing is kept, even where one storage is defined."""
        config = load('[mgmt]\ndefault-storage =\n[storage "a"]\ntype = file\ndirectory = /srv\n')
        assert isinstance(config.default_storage, NoStorage)

    def test_none_is_always_defined(self) -> None:
        """The storage `none` may be named without being defined."""
        config = load('[mgmt]\ndefault-storage = none\n[storage "a"]\ntype = file\ndirectory = /srv\n')
        assert isinstance(config.default_storage, NoStorage)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("listener = 1313", "listener: "),
            ("mgmt = :1313", "mgmt: a host is missing"),
            ("max-size = big", "max-size: 'big' is not a size, such as 4096, 4k or 1m"),
            ("max-connections = 0", "max-connections: '0' is not a whole number above 0"),
            ("request-timeout = soon", "request-timeout: 'soon' is not a number of seconds above 0"),
            ("trusted-proxy = gate", "trusted-proxy: 'gate' is neither an IP address nor a network"),
            ("extra-curve = p521", "extra-curve: 'p521' is not one of "),
            ("must-staple = maybe", "must-staple: 'maybe' is neither yes nor no"),
            ("default-verification = htp", "there is no [verification \"htp\"], did you mean 'http'?"),
            ("default-storage = disc", "there is no [storage \"disc\"], did you mean 'disk'?"),
            ("max-szie = 4k", "[mgmt] knows no 'max-szie', did you mean 'max-size'?"),
        ],
    )
    def test_what_is_wrong_is_told(self, line: str, message: str) -> None:
        """A bad value or key is a finding at its line."""
        rest = '[verification "http"]\ntype = http01\n[storage "disk"]\ntype = file\ndirectory = /srv\n'
        (finding,) = wrong(f"[mgmt]\n{line}\n{rest}")
        assert finding.startswith(f"a.ini:2: {message}")


class TestLogging:
    @pytest.mark.parametrize("destination", ["stderr", "stdout", "syslog", "journal"])
    def test_destinations(self, destination: str) -> None:
        """The log goes to a stream or a system log."""
        config = load(f"[logging]\nlevel = debug\ndestination = {destination}\nformat = json\n")
        assert config.logging == LoggingOptions(level="debug", destination=destination, format="json")

    def test_a_file(self) -> None:
        """A destination with a slash is a file."""
        config = load("[logging]\ndestination = /var/log/acmems.log\n")
        assert config.logging.destination == Path("/var/log/acmems.log")

    @pytest.mark.parametrize(
        "line", ["level = loud", "destination = jurnal", "destination =", "format = xml"]
    )
    def test_what_is_wrong_is_told(self, line: str) -> None:
        """A word that is none of the known ones is a finding at its line."""
        (finding,) = wrong(f"[logging]\n{line}\n")
        assert finding.startswith("a.ini:2: ")
