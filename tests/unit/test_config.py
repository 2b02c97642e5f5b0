"""The configuration as a person writes it, and as the rest of acmems sees it."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path

import pytest

from acmems.challenges import VALIDATORS, DnsUpdate, Http01
from acmems.config import AccountOptions, Configuration, LoggingOptions, MgmtOptions
from acmems.exceptions import ConfigurationError
from acmems.issuers.acme.prechecks.options import PreCheckOptions
from acmems.net.address import Address
from acmems.storages import FileStorage, MemoryStorage, NoStorage
from acmems.x509 import csr

ACCOUNT = "[account]\ndir = /var/lib/acmems\n"
AUTH = '[auth "all"]\nall = yes\ndomain = **\n'

# What a user of 0.3 to 0.5 may have: every section and key that those versions knew.
OF_0_3 = """
[account]
# the staging system, until all works
acme-server = https://acme-staging-v02.api.letsencrypt.org/directory
accept-terms-of-service = yes # or true
; accept-terms-of-service = https://letsencrypt.org/documents/LE-SA-v1.5.pdf
dir = /etc/acmems/account/

[mgmt]
mgmt=192.0.2.13:1313
max-size = 4k
default-verification = http
default-storage = file

[verification "http"]
type = http01
listener=192.0.2.80:1380
listener=198.51.100.80:1380
listener=[fe80::80%eth0]:1380

[verification "dns"]
type = dns01-dnsUpdate
dns-server=192.0.2.53
ttl=5
timeout=30

[storage "none"]
type = none

[storage "file"]
type = file
directory=/etc/acmems/storage
renew-within=14

[auth "office"]
ip=192.0.2.0/24
ip=198.51.100.21
domain=mail.example.org
domain=mail.example.com

[auth "outside"]
ip=198.51.100.128/28
domain=*.test.example.org

[auth "signed"]
verification = dns
storage = none
ip=198.51.100.21
hmac_type=sha256
hmac_key=an-old-shared-secret
domain=mail?.example.org
"""


def load(text: str = "") -> Configuration:
    """Load what stands beside a minimal account and auth block."""
    return Configuration.from_text(ACCOUNT + AUTH + text, "a.ini")


def findings(text: str) -> list[str]:
    """Return what is wrong with a text."""
    with pytest.raises(ConfigurationError) as caught:
        Configuration.from_text(text, "a.ini")
    return [str(finding) for finding in caught.value.findings]


def wrong(text: str) -> list[str]:
    """Return what is wrong with a text that stands in front of a minimal account and auth block."""
    return findings(text + "\n" + ACCOUNT + AUTH)


class TestExistingFiles:
    def test_a_file_of_0_3_loads(self) -> None:
        """A file with all that 0.3 to 0.5 knew loads without findings."""
        assert Configuration.from_text(OF_0_3).warnings == ()

    def test_account(self) -> None:
        """Its account section means what it meant, the comment behind `yes` included."""
        assert Configuration.from_text(OF_0_3).account == AccountOptions(
            directory_url="https://acme-staging-v02.api.letsencrypt.org/directory",
            dir=Path("/etc/acmems/account"),
            accepted_terms=True,
            emails=(),
            key_type="ec256",
            ca_file=None,
            eab_kid=None,
            eab_hmac_key=None,
            profile=None,
            pre_checks=PreCheckOptions(caa=True, addresses=True),
        )

    def test_mgmt(self) -> None:
        """`mgmt` is the older name of `listener`."""
        mgmt = Configuration.from_text(OF_0_3).mgmt
        assert mgmt.listeners == (Address("192.0.2.13", 1313),)
        assert mgmt.max_size == 4096

    def test_verifications(self) -> None:
        """Its verifications are made as they are described."""
        config = Configuration.from_text(OF_0_3)
        http, dns = config.validators["http"], config.validators["dns"]
        assert isinstance(http, Http01)
        assert [str(address) for address in http.listeners] == [
            "192.0.2.80:1380",
            "198.51.100.80:1380",
            "[fe80::80%eth0]:1380",
        ]
        assert isinstance(dns, DnsUpdate)
        assert ([str(each) for each in dns.servers.addresses], dns.ttl, dns.timeout) == (
            ["192.0.2.53:53"],
            5,
            30,
        )
        assert config.default_validator is http
        assert set(config.validators) == {"http", "dns"}

    def test_storages(self) -> None:
        """With two storages, the one that is chosen is the default."""
        config = Configuration.from_text(OF_0_3)
        file = config.storages["file"]
        assert isinstance(file, FileStorage)
        assert file.directory == Path("/etc/acmems/storage")
        assert file.renew_within == datetime.timedelta(days=14)
        assert isinstance(config.storages["none"], NoStorage)
        assert config.default_storage is file

    def test_auth(self) -> None:
        """Its auth blocks come in order, with the verification and storage that they name."""
        config = Configuration.from_text(OF_0_3)
        office, outside, signed = config.auth.blocks
        assert [block.name for block in config.auth.blocks] == ["office", "outside", "signed"]
        assert [glob.text for glob in office.globs] == ["mail.example.org", "mail.example.com"]
        assert (outside.validator, outside.storage) == (config.validators["http"], config.storages["file"])
        assert (signed.validator, signed.storage) == (config.validators["dns"], config.storages["none"])


class TestDefaults:
    def test_account(self) -> None:
        """Unless told otherwise, the CA is Let's Encrypt's staging system, and no terms are accepted."""
        assert load().account == AccountOptions(
            directory_url="https://acme-staging-v02.api.letsencrypt.org/directory",
            dir=Path("/var/lib/acmems"),
            accepted_terms=frozenset(),
            emails=(),
            key_type="ec256",
            ca_file=None,
            eab_kid=None,
            eab_hmac_key=None,
            profile=None,
            pre_checks=PreCheckOptions(caa=True, addresses=True),
        )

    def test_mgmt(self) -> None:
        """Clients ask on loopback, port 1313, with 16 KiB at most."""
        assert load().mgmt == MgmtOptions(
            listeners=(Address("127.0.0.1", 1313), Address("::1", 1313)),
            max_size=16384,
            max_connections=2000,
            max_orders=256,
            max_waiting=2000,
            request_timeout=120.0,
            trusted_proxies=(),
            csr_rules=csr.Rules(),
            default_verification=None,
            default_storage=None,
            processes=1,
        )

    def test_logging(self) -> None:
        """The log is text, on stderr, from severity info on."""
        assert load().logging == LoggingOptions(level="info", destination="stderr", format="text")

    def test_verification(self) -> None:
        """Without any verification, http01 listens on port 1380."""
        config = load()
        default = config.default_validator
        assert isinstance(default, Http01)
        assert [str(address) for address in default.listeners] == ["0.0.0.0:1380", "[::]:1380"]
        assert default in config.validators.values()
        assert config.auth.blocks[0].validator is default

    def test_the_only_verification_is_the_default(self) -> None:
        """One verification is the default without being chosen."""
        config = load('[verification "dns"]\ntype = dns01-dnsUpdate\n')
        assert config.default_validator is config.validators["dns"]
        assert set(config.validators) == {"dns"}

    def test_without_verifications_the_default_is_http01(self) -> None:
        """Where no verification is defined, http01 listens on 1380."""
        config = load()
        default = config.default_validator
        assert isinstance(default, Http01)
        assert [str(address) for address in default.listeners] == ["0.0.0.0:1380", "[::]:1380"]
        assert config.validators == {"http01": default}

    def test_of_two_verifications_none_is_guessed(self) -> None:
        """With two verifications and no default, a block must say which; no listener opens for it."""
        two = '[verification "a"]\ntype = dns01-dnsUpdate\n[verification "b"]\ntype = http01\nlistener =\n'
        [finding] = wrong(two)
        assert finding.startswith(
            'a.ini:9: [auth "all"] names no verification, and of several none is the default'
        )
        assert "'verification = …' (a or b)" in finding

    def test_blocks_that_name_their_verification_need_no_default(self) -> None:
        """Where each block names one of two verifications, nothing else listens."""
        config = load(
            'verification = b\n[verification "a"]\ntype = dns01-dnsUpdate\n'
            '[verification "b"]\ntype = http01\nlistener = 127.0.0.1:1380\n'
        )
        assert config.default_validator is None
        assert set(config.validators) == {"a", "b"}

    def test_storage(self) -> None:
        """Without any storage, chains are kept in memory, and not ordered anew for each request."""
        config = load()
        assert isinstance(config.default_storage, MemoryStorage)
        assert load().default_storage is config.default_storage  # a reload forgets nothing
        assert config.auth.blocks[0].storage is config.default_storage

    def test_the_only_storage_is_the_default(self) -> None:
        """One storage is the default without being chosen."""
        config = load('[storage "disk"]\ntype = file\ndirectory = /srv\n')
        assert config.default_storage is config.storages["disk"]

    def test_of_two_storages_none_is_guessed(self) -> None:
        """Of two storages none is guessed: the default keeps chains in memory."""
        config = load(
            '[storage "a"]\ntype = file\ndirectory = /a\n[storage "b"]\ntype = file\ndirectory = /b\n'
        )
        assert isinstance(config.default_storage, MemoryStorage)

    def test_a_storage_that_is_called_none_is_a_choice(self) -> None:
        """Of two storages, one that is called `none` is what blocks without a storage have, as in 0.3."""
        config = load('[storage "a"]\ntype = file\ndirectory = /a\n[storage "none"]\ntype = none\n')
        assert config.default_storage is config.storages["none"]
        assert isinstance(config.default_storage, NoStorage)


class TestListeners:
    @pytest.mark.parametrize(
        ("text", "finding"),
        [
            (
                "[mgmt]\nlistener = 192.0.2.1:1\nlistener = 192.0.2.1:1\n",
                "a.ini:3: 192.0.2.1:1 is already a listener of [mgmt], see a.ini:2",
            ),
            (
                '[mgmt]\nlistener = [::1]:1\n[verification "a"]\ntype = http01\nlistener = [0::1]:1\n',
                "a.ini:5: [::1]:1 is already a listener of [mgmt], see a.ini:2",
            ),
            (
                '[verification "a"]\ntype = http01\nlistener = 127.0.0.1:1313\n',
                "a.ini:3: 127.0.0.1:1313 is already a listener of [mgmt], see a.ini:1",
            ),
            (
                "[mgmt]\nlistener = 0.0.0.0:1380\n",
                'a.ini:2: 0.0.0.0:1380 is already a listener of the default [verification "http01"]',
            ),
        ],
    )
    def test_one_address_is_listened_on_once(self, text: str, finding: str) -> None:
        """An address given to two listeners, written or by default, is a finding."""
        assert wrong(text) == [finding]

    def test_port_0_is_a_port_of_its_own_each_time(self) -> None:
        """Port 0 is any free port, so it may be given often."""
        config = load("[mgmt]\nlistener = 127.0.0.1:0\nlistener = 127.0.0.1:0\n")
        assert len(config.mgmt.listeners) == 2


class TestSections:
    @pytest.mark.parametrize(
        ("text", "finding"),
        [
            ("[mgnt]", "a.ini:1: there is no section [mgnt], did you mean 'mgmt'?"),
            ("[Account]", "a.ini:1: there is no section [Account], did you mean 'account'?"),
            ('[mgmt "x"]', "a.ini:1: [mgmt] takes no name"),
            ("[storage]", 'a.ini:1: [storage] needs a name: [storage "NAME"]'),
            ('[auth ""]', 'a.ini:1: [auth] needs a name: [auth "NAME"]'),
            ("[mgmt]\n[mgmt]", "a.ini:2: [mgmt] is given twice, first at a.ini:1"),
            (
                '[storage "a"]\ntype = none\n[storage "a"]',
                'a.ini:3: [storage "a"] is given twice, first at a.ini:1',
            ),
            ('[storage "a"]', "a.ini:1: [storage \"a\"] needs 'type = …'"),
            ('[storage "a"]\ntype = disk', "a.ini:2: type: 'disk' is not one of none, file, sql"),
            (
                '[verification "a"]\ntype = tls',
                f"a.ini:2: type: 'tls' is not one of {', '.join(VALIDATORS)}",
            ),
            (
                '[verification "a"]\nlistener =\ntype = http01',
                "a.ini:3: 'type' must come first in its section",
            ),
            (
                '[storage "a"]\ntype = none\ndirectory = /srv',
                "a.ini:3: [storage \"a\"] knows no 'directory' (known: type)",
            ),
            (
                '[verification "a"]\ntype = http01\nttl = 5',
                "a.ini:3: [verification \"a\"] knows no 'ttl' (known: listener, trusted-proxy, type)",
            ),
            ('[storage "a"]\ntype = file', "a.ini:1: [storage \"a\"] needs 'directory = …'"),
        ],
    )
    def test_a_mistake_in_a_section_is_one_finding_at_its_line(self, text: str, finding: str) -> None:
        """What is wrong with a section is one finding at its line."""
        assert wrong(text) == [finding]

    def test_sections_of_different_kinds_may_share_a_name(self) -> None:
        """A name is unique within its kind."""
        config = load('[storage "a"]\ntype = none\n[verification "a"]\ntype = http01\n')
        assert set(config.storages) == {"a", "none"}

    def test_a_verification_without_type_listens_nowhere(self) -> None:
        """A verification without a good type is no second finding at the listeners of others."""
        found = wrong(
            '[verification "a"]\ntype = tls\n[verification "b"]\ntype = http01\n'
            "[mgmt]\ndefault-verification = b\n"
        )
        assert found == [f"a.ini:2: type: 'tls' is not one of {', '.join(VALIDATORS)}"]

    def test_one_mistake_is_reported_once(self) -> None:
        """A storage without a good type is no second finding where its name is used."""
        found = wrong(
            '[mgmt]\ndefault-storage = a\n[storage "a"]\ntype = disk\n'
            '[auth "x"]\nall = yes\ndomain = a.b\nstorage = a'
        )
        assert found == ["a.ini:4: type: 'disk' is not one of none, file, sql"]


class TestFindings:
    def test_all_come_at_once_in_order(self) -> None:
        """Every problem of a file is reported, sorted by line."""
        lines = 'x\n[auth]\n[mgmt]\nmax-size = y\n[acount]\n[logging]\nlevel = z\n[storage "a"]\ntype = b'
        assert [finding.split(":")[1] for finding in findings(lines)] == [
            "1",
            "1",
            "2",
            "4",
            "5",
            "7",
            "9",
        ]

    def test_warnings_are_shown_along_with_errors(self) -> None:
        """What is only a warning is listed with the errors, and marked."""
        assert findings("[account]\n") == [
            "a.ini:1: [account] needs 'dir = …'",
            "a.ini:1: warning: there is no [auth] section: nobody may ask",
        ]

    def test_a_configuration_without_auth_is_a_warning(self) -> None:
        """Without auth blocks the configuration loads, and says that nobody may ask."""
        config = Configuration.from_text(ACCOUNT, "a.ini")
        assert [str(warning) for warning in config.warnings] == [
            "a.ini:1: warning: there is no [auth] section: nobody may ask"
        ]
        assert config.auth.blocks == ()

    @pytest.mark.parametrize(
        ("lines", "is_told"),
        [
            ("propagation = authoritative\npropagation-timeout = 121", True),
            ("propagation = authoritative\npropagation-timeout = 120", False),
            ("propagation-timeout = 121", False),
        ],
    )
    @pytest.mark.parametrize(
        "section",
        [
            "type = dns01-dnsUpdate",
            "type = dns01-exec\ncommand = /bin/true",
            "type = dns01-provider\nprovider = gandi\noption = auth_token=x",
        ],
    )
    def test_propagation_that_takes_longer_than_clients_wait(
        self, section: str, lines: str, *, is_told: bool
    ) -> None:
        """Where clients will have to ask again is a warning at the line that says so, with both times."""
        text = f'{ACCOUNT}{AUTH}[verification "dns"]\n{section}\n{lines}\n'
        warnings = [str(warning) for warning in Configuration.from_text(text, "a.ini").warnings]
        place = f"a.ini:{len(text.splitlines())}: warning: propagation-timeout (121 s) exceeds"
        assert [warning.startswith(place) for warning in warnings] == [True] * is_told
        assert all("request-timeout (120 s)" in warning for warning in warnings)

    @pytest.mark.parametrize(
        ("section", "line", "words"),
        [
            ("", 4, "chains are kept in memory, which 2 processes do not share"),
            ('[storage "disk"]\ntype = file\ndirectory = /s\n', None, ""),
            ('[storage "none"]\ntype = none\n', None, ""),
        ],
        ids=["memory", "file", "none"],
    )
    def test_what_processes_do_not_share(self, section: str, line: int | None, words: str) -> None:
        """Chains that each process would keep for itself are a warning where the number of them stands."""
        text = '[account]\ndir = /a\n[mgmt]\nprocesses = 2\n[auth "all"]\nall = yes\ndomain = **\n' + section
        warnings = [str(warning) for warning in Configuration.from_text(text, "a.ini").warnings]
        assert [each.startswith(f"a.ini:{line}: warning: {words}") for each in warnings] == [True] * bool(
            line
        )
        assert Configuration.from_text(text.replace("processes = 2", "processes = 1")).warnings == ()

    def test_hmacs_of_several_processes(self) -> None:
        """That each process remembers HMACs by itself is a warning where that is wanted."""
        text = (
            '[account]\ndir = /a\n[mgmt]\nprocesses = 2\n[storage "none"]\ntype = none\n'
            '[auth "one"]\nhmac_key = secret-enough-for-tests\nhmac-fresh = 60\ndomain = **\n'
        )
        (warning,) = Configuration.from_text(text, "a.ini").warnings
        assert str(warning).startswith("a.ini:9: warning: each of 2 processes remembers by itself")

    def test_a_share_of_the_limits(self) -> None:
        """One of several processes goes by its part of all limits, those of blocks as well."""
        config = Configuration.from_text(
            "[account]\ndir = /a\n[mgmt]\nprocesses = 2\nmax-orders = 9\n"
            '[auth "one"]\nall = yes\ndomain = **\nmax-orders = 5\n[auth "other"]\nall = yes\ndomain = *\n'
        )
        config.take_share(1)
        assert config.mgmt.max_orders == 4
        assert [block.max_orders for block in config.auth.blocks] == [2, None]

    def test_problems_of_auth_blocks_are_among_them(self) -> None:
        """What an auth block finds wrong with its options is reported with its line."""
        found = wrong('[auth "x"]\ndomain = a.example.org\nverification = nope\nhmac_tpye = sha256')
        assert [finding.split(" ")[0] for finding in found] == ["a.ini:1:", "a.ini:3:", "a.ini:4:"]

    def test_secrets_are_in_no_finding(self) -> None:
        """However a shared secret is misplaced, no finding shows it."""
        found = wrong(
            '[auth "x"]\nhmac_key = hunter2\nhmac_key = hunter2\nhmac_key: hunter2=\nhmac_key hunter2\n'
            "[mgmt]\nhmac_key = hunter2"
        )
        assert len(found) >= 5
        assert not [finding for finding in found if "hunter2" in finding]


def test_all_http01_verifications_answer_from_one_table() -> None:
    """Every http01, or the implied one, shares the table of the configuration."""
    two = (
        'verification = a\n[verification "a"]\ntype = http01\n[verification "b"]\ntype = http01\nlistener =\n'
    )
    for config, count in ((load(two), 2), (load(), 1)):
        tables = [each.responses for each in config.validators.values() if isinstance(each, Http01)]
        assert len(tables) == count
        assert all(table is config.responses for table in tables)


def test_sections_are_frozen() -> None:
    """The sections are frozen values."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        load().account.profile = "other"  # type: ignore[misc]  # that it is frozen is the point
