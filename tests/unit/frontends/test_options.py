"""The section `[mgmt]`: what each key means, and what is refused."""

from __future__ import annotations

import ipaddress

import pytest
from tests.sections import ACCOUNT, AUTH, load, wrong

from acmems.config import Configuration, MgmtOptions
from acmems.exceptions import ConfigurationError
from acmems.net.address import Address
from acmems.storages import NoStorage
from acmems.x509 import csr


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
            max_orders=256,
            max_waiting=2000,
            request_timeout=30.0,
            trusted_proxies=(ipaddress.ip_network("192.0.2.7"), ipaddress.ip_network("2001:db8::/32")),
            csr_rules=csr.Rules(must_staple=True, extra_curves=frozenset({"secp521r1"})),
            default_verification=None,
            default_storage=None,
            processes=1,
        )

    @pytest.mark.parametrize("processes", [1, 2, 3, 64])
    def test_processes_share_its_limits(self, processes: int) -> None:
        """The parts of several processes make up what is configured, and differ by 1 at most."""
        mgmt = load(f"[mgmt]\nprocesses = {processes}\nmax-connections = 1000\n").mgmt
        shares = [mgmt.share(position) for position in range(processes)]
        for whole, parts in (
            (1000, [each.max_connections for each in shares]),
            (256, [each.max_orders for each in shares]),
            (2000, [each.max_waiting for each in shares]),
        ):
            assert sum(parts) == whole
            assert max(parts) - min(parts) <= 1

    def test_no_process_is_left_without(self) -> None:
        """Where there is less of something than there are processes, each has one."""
        mgmt = load("[mgmt]\nprocesses = 3\nmax-orders = 2\n").mgmt
        assert [mgmt.share(position).max_orders for position in range(3)] == [1, 1, 1]

    @pytest.mark.parametrize(
        ("given", "words"),
        [("0", "is not a whole number above 0"), ("65", "65 is more than 64"), ("two", "is not a whole")],
    )
    def test_how_many_processes(self, given: str, words: str) -> None:
        """There are 1 to 64 processes."""
        with pytest.raises(ConfigurationError, match=words):
            load(f"[mgmt]\nprocesses = {given}\n")

    def test_requests_are_judged_by_it(self) -> None:
        """What authenticates requests knows the limits that are configured."""
        config = load("[mgmt]\nmax-size = 1m\ntrusted-proxy = 192.0.2.7\nmust-staple = yes\n")
        assert config.auth.max_size == 1048576
        assert config.auth.rules == csr.Rules(must_staple=True)
        assert config.auth.trusted_proxies == (ipaddress.ip_network("192.0.2.7"),)

    @pytest.mark.parametrize("subject", ["dropped", "names", "copied", "any"])
    def test_what_a_subject_may_hold_is_the_account_s_matter(self, subject: str) -> None:
        """CSRs whose subject holds more than names are refused with `subject = names` only."""
        text = ACCOUNT + f"subject = {subject}\n" + AUTH
        rules = Configuration.from_text(text).auth.rules
        assert rules == csr.Rules(subject_names_only=subject == "names")

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

    def test_the_storage_none_needs_no_definition(self) -> None:
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
    def test_bad_values_and_keys_are_findings_at_their_line(self, line: str, message: str) -> None:
        """A bad value or key is a finding at its line."""
        rest = '[verification "http"]\ntype = http01\n[storage "disk"]\ntype = file\ndirectory = /srv\n'
        (finding,) = wrong(f"[mgmt]\n{line}\n{rest}")
        assert finding.startswith(f"a.ini:2: {message}")
