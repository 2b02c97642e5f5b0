"""What a reload may change, and what it leaves to a restart."""

from __future__ import annotations

import ipaddress
import time

import pytest

from acmems.app.changes import carry_over, restart_needed
from acmems.auth.freshness import Freshness
from acmems.auth.methods import HmacAuthMethod
from acmems.config import Configuration

BEFORE = """[account]
acme-server = https://ca.example/dir
dir = /account
accept-terms-of-service = https://ca.example/terms

[verification "dns"]
type = dns01-server
zone = acme.example.org
ns = ns.example.org

[auth "all"]
all = yes
domain = **
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("https://ca.example/dir", "https://other.example/dir", 2, "'acme-server' cannot be changed"),
        ("dir = /account", "dir = /other", 3, "'dir' cannot be changed"),
        ("dir = /account", "dir = /account\nprofile = short", 4, "'profile' cannot be changed"),
        ("dir = /account", "dir = /account\nca-file = /ca.pem", 4, "'ca-file' cannot be changed"),
        ("dir = /account", "dir = /account\nacme-host = api.example", 4, "'acme-host' cannot be changed"),
        ("dir = /account", "dir = /account\npreferred-chain = X", 4, "'preferred-chain' cannot be changed"),
        ("zone = acme.example.org", "zone = other.example.org", 8, "'zone' cannot be changed"),
        ("[verification", "[mgmt]\nprocesses = 2\n[verification", 7, "'processes' cannot be changed"),
    ],
)
def test_what_needs_a_restart(old: str, new: str, line: int, words: str) -> None:
    """What cannot change while orders go on is told where it stands."""
    after = Configuration.from_text(BEFORE.replace(old, new), "acmems.ini")
    (finding,) = restart_needed(Configuration.from_text(BEFORE), after)
    assert str(finding).startswith(f"acmems.ini:{line}: {words} by a reload: restart acmems")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("https://ca.example/terms", "yes"),
        ("dir = /account", "dir = /account\nemail = a@example.org\nkey-type = rsa2048\nsubject = names"),
        ("dir = /account", "dir = /account\neab-kid = 1\neab-hmac-key = abcd"),
        ('[verification "dns"]', '[verification "other"]'),
        ("ns = ns.example.org", "ns = ns2.example.org"),
        ("all = yes", "ip = 192.0.2.0/24"),
        ("domain = **", "domain = **\n[state]\nkeep-events = 30"),
        ("domain = **", "domain = **\n[state]\nkeep-chains = 30"),
    ],
)
def test_what_needs_none(old: str, new: str) -> None:
    """All else changes."""
    after = Configuration.from_text(BEFORE.replace(old, new))
    assert restart_needed(Configuration.from_text(BEFORE), after) == []


class TestReplays:
    """HMACs that were used are known after a reload."""

    TEXT = '[account]\ndir = /a\n[auth "{name}"]\nhmac_key = {key}\nhmac-fresh = {seconds}\ndomain = **\n'
    HOUSE, STRANGER = map(ipaddress.ip_address, ("192.0.2.1", "192.0.2.66"))

    def config(
        self, name: str = "a", key: str = "secret-enough-for-tests", seconds: int = 60
    ) -> Configuration:
        return Configuration.from_text(self.TEXT.format(name=name, key=key, seconds=seconds))

    def freshness(self, config: Configuration) -> Freshness:
        (method,) = [each for each in config.auth.blocks[0].methods if isinstance(each, HmacAuthMethod)]
        assert method.freshness is not None
        return method.freshness

    @pytest.mark.parametrize(("name", "seconds"), [("a", 60), ("a", 30), ("another", 60)])
    def test_the_same_secret(self, name: str, seconds: int) -> None:
        """A block with the same secret goes on to refuse what was used, whatever its name and time are."""
        before, after, now = self.config(), self.config(name, seconds=seconds), int(time.time())
        assert self.freshness(before).use("digest", now, self.HOUSE) is None
        carry_over(before, after)
        assert self.freshness(after).use("digest", now, self.STRANGER) is not None
        assert self.freshness(after).seconds == seconds

    def test_another_secret(self) -> None:
        """Another secret makes other HMACs, of which nothing is known."""
        before, after = self.config(), self.config(key="another-secret-for-tests")
        carry_over(before, after)
        assert self.freshness(after) is not self.freshness(before)
