"""`[local-ca "NAME"]` in a configuration, and the auth blocks that name one."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from acmems.app.changes import restart_needed
from acmems.config import Configuration
from acmems.exceptions import ConfigurationError
from acmems.x509.identifiers import Identifier, named

LOCAL = """[local-ca "office"]
dir = /ca
permit = internal.example
permit = 10.0.0.0/8
"""
BLOCK = """[auth "machines"]
all = yes
domain = **
address = 10.0.0.0/8
"""
ACCOUNT = """[account]
dir = /account
"""


def findings(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        Configuration.from_text(text)
    return [str(each).removeprefix("<text>:") for each in raised.value.findings]


def refusal(text: str, *names: str) -> str | None:
    (block,) = Configuration.from_text(text).auth.blocks
    return block.refusal([named(name) for name in names], None)


class TestSection:
    """What the section says."""

    def test_defaults(self) -> None:
        """Seven days, a name, and no list of revoked certificates that anybody is told of."""
        office = Configuration.from_text(LOCAL + BLOCK).local_cas["office"]
        assert (office.common_name, office.lifetime, office.crl_url) == (
            "acmems office",
            datetime.timedelta(days=7),
            None,
        )
        assert (office.section, office.directory) == ('[local-ca "office"]', "local:office")

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("dir = /ca\n", "", "1: [local-ca \"office\"] needs 'dir = …'"),
            ("permit = internal.example\npermit = 10.0.0.0/8\n", "", '1: [local-ca "office"] needs \'permit'),
            (
                "= internal.example",
                "= *.a.example",
                "3: permit: '*.a.example': write a.example, which stands",
            ),
            ("dir = /ca", "dir = /ca\nlifetime = 30m", "3: lifetime: '30m' is not between 1h and 398d"),
            ("dir = /ca", "dir = /ca\nlifetime = 399d", "3: lifetime: '399d' is not between 1h and 398d"),
            ("dir = /ca", "dir = /ca\ncrl-url = https://a/b", "3: crl-url: 'https://a/b' is not a URL that"),
            ("dir = /ca", f"dir = /ca\ncommon-name = {'x' * 41}", "3: common-name: must be 1 to 40"),
            (
                '"office"',
                '"our office"',
                "1: [local-ca \"our office\"]: use letters, digits, '.', '_' and '-'",
            ),
            ("dir = /ca", "dri = /ca", "2: [local-ca \"office\"] knows no 'dri', did you mean 'dir'?"),
            (' "office"', "", '1: [local-ca] needs a name: [local-ca "NAME"]'),
        ],
    )
    def test_mistakes(self, old: str, new: str, words: str) -> None:
        """Each is told at its line, with what to write."""
        found = findings(LOCAL.replace(old, new) + BLOCK)
        assert any(each.startswith(words) for each in found), found

    def test_a_name_that_an_account_has(self) -> None:
        """`issuer` could mean either of them."""
        text = ACCOUNT + '[account "office"]\ndir = /other\n' + LOCAL + BLOCK
        assert any("could mean either: give one of them another name" in each for each in findings(text))

    def test_a_directory_that_an_account_has(self) -> None:
        """Each has a directory of its own."""
        text = ACCOUNT.replace("/account", "/x/../ca") + LOCAL + BLOCK
        (found,) = findings(text)
        assert found == "4: dir: /ca is that of [account]: each needs one of its own"


class TestWithoutAccount:
    """A configuration that needs nothing outside."""

    def test_nothing_else_is_needed(self) -> None:
        """There is no account, no verification and no listener for one; the state is where the CA is."""
        config = Configuration.from_text(LOCAL + BLOCK)
        assert (dict(config.accounts), dict(config.validators), config.default_issuers) == (
            {},
            {},
            ("office",),
        )
        assert config.home == Path("/ca")
        (block,) = config.auth.blocks
        assert (block.issuers, block.validators) == (("office",), ())

    def test_with_an_account_that_is_the_default(self) -> None:
        """Where there is an account, blocks that name no issuer order with that."""
        config = Configuration.from_text(ACCOUNT + LOCAL + BLOCK)
        assert config.home == Path("/account")
        (block,) = config.auth.blocks
        assert (block.issuers, [each.name for each in block.validators]) == (("",), ["http01"])

    def test_an_account_that_is_incomplete(self) -> None:
        """Where any account is described, that without a name is needed."""
        found = findings('[account "x"]\ndir = /x\n' + LOCAL + BLOCK)
        assert found == ["1: [account] needs 'dir = …'"]

    def test_an_issuer_that_is_not_there(self) -> None:
        """It is said which there are."""
        assert findings(LOCAL + BLOCK + "issuer = offices\n") == [
            '9: issuer: there is no [account "offices"]; there is [local-ca "office"]'
        ]
        assert findings(LOCAL + BLOCK + "issuer = office,\n") == [
            '9: issuer: there is no [account]; there is [local-ca "office"]'
        ]


class TestBlocks:
    """What blocks grant whose issuers are local CAs."""

    @pytest.mark.parametrize(
        ("names", "words"),
        [
            (["a.internal.example", "10.1.2.3"], None),
            (["*.internal.example"], None),
            (["www.example.com"], "no 'permit' of [local-ca \"office\"] covers www.example.com"),
            (["a.internal.example", "b.example"], "no 'permit' of [local-ca \"office\"] covers b.example"),
            (["192.0.2.1"], "192.0.2.1 matches no address of it"),
            ([], "the request holds no name"),
        ],
    )
    def test_names_that_are_permitted(self, names: list[str], words: str | None) -> None:
        """Block and CA have to cover all names; nothing has to be proved."""
        assert refusal(LOCAL + BLOCK, *names) == words

    def test_a_request_is_not_split(self) -> None:
        """One of several CAs has to permit all names."""
        text = (
            LOCAL + '[local-ca "lab"]\ndir = /lab\npermit = lab.example\n' + BLOCK + "issuer = office, lab\n"
        )
        assert refusal(text, "a.internal.example") is None
        assert refusal(text, "a.lab.example") is None
        words = refusal(text, "a.internal.example", "a.lab.example")
        assert words == "no 'permit' of [local-ca \"office\"] covers a.lab.example"

    def test_beside_an_account(self) -> None:
        """Where an account is among the issuers, names are proved to its CA, and no `permit` limits them."""
        text = ACCOUNT + LOCAL + BLOCK + "issuer = office,\n"
        assert refusal(text, "www.example.com") is None
        assert refusal(text, "*.internal.example") == "*.internal.example needs a verification by DNS"

    def test_a_verification_that_is_not_needed(self) -> None:
        """It is a mistake to name one."""
        text = LOCAL + '[verification "web"]\ntype = http01\nlistener =\n' + BLOCK + "verification = web\n"
        assert findings(text) == [
            "12: verification is given, but nothing is proved to a local CA: remove it",
        ]

    def test_a_glob_that_grants_nothing(self) -> None:
        """It is a warning, since others of the block may grant names."""
        config = Configuration.from_text(LOCAL + BLOCK + "domain = www.example.com\n")
        (warning,) = config.warnings
        assert str(warning).startswith("<text>:7: warning: 'www.example.com' matches no name that [local-ca")

    def test_single_labels(self) -> None:
        """A local CA may certify them, as no public one does."""
        text = LOCAL + "permit = printer\n" + BLOCK.replace("**", "printer")
        (block,) = Configuration.from_text(text).auth.blocks
        assert block.refusal([Identifier.dns("printer")], None) is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("dir = /ca", "dir = /other", "'dir' cannot be changed by a reload: restart acmems"),
        ("permit = 10.0.0.0/8\n", "permit = 10.0.0.0/9\nlifetime = 1d\n", None),
        ('"office"', '"lab"', '[local-ca "lab"] cannot be added by a reload: restart acmems'),
    ],
)
def test_reloads(old: str, new: str, words: str | None) -> None:
    """Whose chains there are cannot change while a server runs; how long they last can."""
    before = Configuration.from_text(LOCAL + BLOCK)
    told = [
        each.message
        for each in restart_needed(before, Configuration.from_text(LOCAL.replace(old, new) + BLOCK))
    ]
    assert (words in told) if words else (told == [])
