"""Several accounts in one configuration, and which of them order for a block."""

from __future__ import annotations

import pytest

from acmems.app.accounts.identities import count_at
from acmems.config import Configuration
from acmems.exceptions import ConfigurationError

TWO = """
[account]
dir = /a
[account "b"]
dir = /b
acme-server = https://b.example.org/directory
limits = few
[limit "few"]
count = 3
per = 1h
counts = orders
[auth "x"]
all = yes
domain = x.example.org
"""


def errors(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        Configuration.from_text(text)
    return [str(finding) for finding in raised.value.findings]


def test_two_accounts() -> None:
    """Each has its keys and its limits; the one without a name is first."""
    config = Configuration.from_text(TWO)
    assert [(name, str(each.dir)) for name, each in config.accounts.items()] == [("", "/a"), ("b", "/b")]
    assert config.accounts["b"].directory_url == "https://b.example.org/directory"
    assert config.account is config.accounts[""]
    assert {name: [limit.name for limit in limits] for name, limits in config.account_limits.items()} == {
        "": [],
        "b": ["few"],
    }
    assert [limit.name for limit in config.limits] == ["few"]
    assert [account.section for account in config.accounts.values()] == ["[account]", '[account "b"]']


@pytest.mark.parametrize(
    ("line", "issuers"),
    [("", ("",)), ("issuer = b", ("b",)), ("issuer = , b", ("", "b")), ("issuer = b,", ("b", ""))],
)
def test_who_orders_for_a_block(line: str, issuers: tuple[str, ...]) -> None:
    """The one without a name, unless the block names others; an empty name is that one."""
    assert Configuration.from_text(TWO + line).auth.blocks[0].issuers == issuers


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "issuer = c",
            'issuer: there is no [account "c"]; there is [account], [account "b"]',
        ),
        ("issuer = b, b", "issuer: 'b, b' names one twice"),
    ],
)
def test_accounts_that_do_not_exist(line: str, words: str) -> None:
    """The message names what there is."""
    [error] = errors(TWO + line)
    assert words in error


def test_one_directory_for_two() -> None:
    """Keys and registrations of two accounts would be the same files."""
    [error] = errors(TWO.replace("dir = /b", "dir = /x/../a"))
    assert error == "<text>:5: dir: /x/../a is that of [account]: each needs one of its own"


def test_the_subject_holds_for_all() -> None:
    """It cannot be told for one of them."""
    [error] = errors(TWO.replace("limits = few", "limits = few\nsubject = any"))
    assert "subject holds for all accounts: write it in [account]" in error


def test_accounts_at_one_ca_share_what_it_takes_from_an_address() -> None:
    """It is known how many there are at each."""
    config = Configuration.from_text(
        f'{TWO}[account "c"]\ndir = /c\nacme-server = https://b.example.org/directory\n'
    )
    assert count_at(config, "https://b.example.org/directory") == 2
    assert count_at(config, config.account.directory_url) == 1
