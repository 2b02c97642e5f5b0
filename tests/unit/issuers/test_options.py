"""The section `[account]`: what each key means, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.sections import ACCOUNT, AUTH, findings

from acmems.config import AccountOptions, Configuration
from acmems.exceptions import AccountError, ConfigurationError
from acmems.issuers.acme.prechecks.options import PreCheckOptions
from acmems.issuers.acme.session.origin import Origin
from acmems.net.address import Address
from acmems.text import Secret


def account(lines: str) -> AccountOptions:
    return Configuration.from_text(ACCOUNT + lines + "\n" + AUTH).account


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
            "profile = shortlived\nacme-host = orders.example.org\nacme-host = [2001:db8::1]:8443\n"
            "subject = copied\npreferred-chain = A Root X1\n"
            "pre-check = addresses\npre-check-nameserver = ns.example.org\npre-check-nameserver = [::1]:5353"
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
            hosts=(Origin("orders.example.org", 443), Origin("2001:db8::1", 8443)),
            preferred_chain="A Root X1",
            subject="copied",
            pre_checks=PreCheckOptions(
                addresses=True, nameservers=(Address("ns.example.org", 53), Address("::1", 5353))
            ),
        )
        assert "c2VjcmV0" not in repr(options)

    @pytest.mark.parametrize(
        ("lines", "caa", "addresses"),
        [
            ("", True, True),
            ("acme-server = https://acme-v02.api.letsencrypt.org/directory", True, True),
            ("acme-server = https://ca.example.org/dir", True, False),
            ("acme-server = https://ca.example.org/dir\npre-check = all", True, True),
            ("pre-check = caa", True, False),
            ("pre-check = addresses", False, True),
            ("pre-check = none", False, False),
        ],
    )
    def test_pre_checks(self, lines: str, caa: bool, addresses: bool) -> None:
        """CAA records are looked at unless that is switched off, addresses for public CAs."""
        assert account(lines).pre_checks == PreCheckOptions(caa, addresses)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("pre-check = everything", "pre-check: 'everything' is not one of caa, addresses, all, none"),
            ("pre-check-nameserver =", "pre-check-nameserver: "),
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
            ("acme-host =", "acme-host: '' is not a host"),
            ("acme-host = https://ca.example.org", "acme-host: 'https://ca.example.org' is not a host"),
            ("acme-host = ca.example.org/dir", "acme-host: 'ca.example.org/dir' is not a host"),
            ("acme-host = *.example.org", "acme-host: '*.example.org' is not a host, such as acme.example"),
            ("acme-host = ca.example.org:0", "acme-host: 'ca.example.org:0' is not a host"),
            ("subject = all", "subject: 'all' is not one of dropped, names, copied, any"),
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


class TestBindingKey:
    """The MAC key of the external account binding, which a file may hold."""

    def options(self, path: object) -> AccountOptions:
        text = f"[account]\ndir = /a\neab-kid = kid-1\neab-hmac-key-file = {path}\n"
        return Configuration.from_text(text).account

    def test_in_a_file(self, tmp_path: Path) -> None:
        """It is read when it is needed, and is shown to nobody."""
        options = self.options(tmp_path / "key")
        (tmp_path / "key").write_text("c2VjcmV0\n")
        key = options.binding_key()
        assert key is not None
        assert key.reveal() == "c2VjcmV0"
        assert "c2VjcmV0" not in repr(key)

    @pytest.mark.parametrize(
        ("content", "words"), [(None, "No such file"), ("no key", "in base64url"), ("\xff", "in base64url")]
    )
    def test_a_file_that_holds_none(self, tmp_path: Path, content: str | None, words: str) -> None:
        """The words name key and file, and quote nothing of it."""
        options = self.options(tmp_path / "key")
        if content is not None:
            (tmp_path / "key").write_text(content)
        with pytest.raises(AccountError, match=f"eab-hmac-key-file: {tmp_path}/key.*{words}"):
            options.binding_key()

    @pytest.mark.parametrize(
        ("lines", "words"),
        [
            ("eab-hmac-key-file = /k", "eab-hmac-key-file is given, but no eab-kid"),
            ("eab-kid = a", "eab-kid is given, but no eab-hmac-key"),
            ("eab-kid = a\neab-hmac-key = c2Vj\neab-hmac-key-file = /k", "both given"),
        ],
    )
    def test_half_of_it(self, lines: str, words: str) -> None:
        """It is an error."""
        with pytest.raises(ConfigurationError, match=words):
            Configuration.from_text(f"[account]\ndir = /a\n{lines}\n")
