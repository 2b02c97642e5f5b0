"""What a CA refuses of an account: what ends its use, and what keeps no order back."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fake_ca import ACCOUNT, NEW_ACCOUNT, Said, problem
from tests.registering import ACCEPT, UNKNOWN, VALID, Desk

from acmems.exceptions import (
    AccountError,
    CAProblem,
    CAUnavailable,
    DeadlinePassed,
    RateLimited,
)
from acmems.issuers.acme.account import Account


class TestRegistered:
    """A registration on disk."""

    @pytest.mark.threat("ca", "new terms, lost accounts")
    @pytest.mark.parametrize("status", ["deactivated", "revoked", "perhaps"])
    def test_an_account_that_is_not_valid(self, tmp_path: Path, status: object) -> None:
        """An account in any other state stops everything; key and registration stay as they are."""
        desk = Desk(tmp_path, ACCEPT)
        desk.remember()
        before = desk.directory.registration_file.read_bytes()
        desk.session.say(ACCOUNT, {**VALID, "status": status})
        with pytest.raises(AccountError, match=f"is {status}: to begin a new one, move"):
            desk.refresh()
        assert desk.directory.registration_file.read_bytes() == before

    def test_an_account_that_the_ca_does_not_know(self, tmp_path: Path) -> None:
        """An account that the CA does not know any more is not replaced; its key can have a new one."""
        desk = Desk(tmp_path, ACCEPT)
        desk.remember()
        desk.session.say(ACCOUNT, UNKNOWN)
        with pytest.raises(AccountError, match=r"with the same key, move \S*registration\.json away"):
            desk.refresh()
        assert desk.session.count(NEW_ACCOUNT) == 0

    @pytest.mark.parametrize("known", [True, False], ids=["with registration", "key only"])
    def test_an_account_that_the_ca_refuses(self, tmp_path: Path, known: bool) -> None:
        """A deactivated account's key is refused for ever (section 7.3.6): a new account takes a new key."""
        desk = Desk(tmp_path, ACCEPT)
        if known:
            desk.remember()
        for url in (ACCOUNT, NEW_ACCOUNT):
            desk.session.say(url, problem("unauthorized", "account deactivated", 401))
        with pytest.raises(
            AccountError, match=r"with a new key, move \S*account\.pem and \S*registration\.json away"
        ):
            desk.refresh()
        assert len(desk.payloads) == (2 if known else 1)

    @pytest.mark.parametrize("answer", [UNKNOWN, Said({**VALID, "status": "revoked"}, {"Location": ACCOUNT})])
    def test_a_refused_account_that_its_key_does_not_save(self, tmp_path: Path, answer: object) -> None:
        """`unauthorized` is the end of an account whose key the CA does not know as that of a valid one."""
        desk = Desk(tmp_path, ACCEPT)
        desk.remember()
        desk.session.say(ACCOUNT, problem("unauthorized", "no", 403))
        desk.session.say(NEW_ACCOUNT, answer)
        with pytest.raises(AccountError, match="with a new key"):
            desk.refresh()

    @pytest.mark.parametrize(
        ("answer", "whose"),
        [
            (UNKNOWN, "no account,"),
            (Said(VALID, {"Location": f"{ACCOUNT}9"}), f"another account, {ACCOUNT}9,"),
        ],
        ids=["nobody's", "another's"],
    )
    def test_a_key_that_is_not_the_accounts(self, tmp_path: Path, answer: object, whose: str) -> None:
        """A key that is none any more, such as one from before the last change, is told with its file."""
        desk = Desk(tmp_path, ACCEPT)
        desk.remember()
        desk.session.say(ACCOUNT, problem("malformed", "JWS verification error", 400))
        desk.session.say(NEW_ACCOUNT, answer)
        with pytest.raises(AccountError, match=f"the key in .*account.pem is that of {whose} and not of"):
            desk.refresh()

    def test_a_key_that_may_be_the_accounts(self, tmp_path: Path) -> None:
        """Where the CA does not say whose the key is, the account is used."""
        desk = Desk(tmp_path, ACCEPT)
        desk.remember()
        for url in (ACCOUNT, NEW_ACCOUNT):
            desk.session.say(url, problem("malformed", "cannot be read here", 400))
        assert desk.refresh().url == ACCOUNT

    @pytest.mark.parametrize(
        "refusal",
        [
            problem("malformed", "cannot be read here", 405),
            problem("unauthorized", "cannot be read here", 403),
            CAProblem(404, "about:blank", "cannot be read here"),
            RateLimited("cannot be read here"),
            CAUnavailable("cannot be read here"),
            b"cannot be read here",
            b"[]",
            {"contact": 7},
        ],
        ids=repr,
    )
    def test_an_account_that_cannot_be_read(
        self, tmp_path: Path, refusal: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A CA that does not show an account is asked for orders nevertheless; the log says so."""
        desk = Desk(tmp_path, ACCEPT)
        desk.remember()
        before = desk.directory.load_registration()
        desk.session.say(ACCOUNT, refusal)
        assert desk.refresh() == before == desk.directory.load_registration()
        assert desk.session.kid == ACCOUNT
        assert "which is used as it was" in caplog.text

    def test_an_ended_account_that_cannot_be_read(self, tmp_path: Path) -> None:
        """What was deactivated stays so, whatever the CA says of it later."""
        desk = Desk(tmp_path, ACCEPT)
        desk.directory.save_registration(Account(ACCOUNT, {"status": "deactivated"}))
        desk.session.say(ACCOUNT, problem("malformed", "no", 400))
        with pytest.raises(AccountError, match="is deactivated"):
            desk.refresh()

    def test_an_account_without_a_status(self, tmp_path: Path) -> None:
        """An account of which the CA does not say that it has ended has not."""
        desk = Desk(tmp_path, ACCEPT)
        desk.remember()
        desk.session.say(ACCOUNT, {**VALID, "status": None})
        assert desk.refresh().status == "valid"

    @pytest.mark.parametrize(
        "refusal",
        [
            problem("invalidContact", "no such domain", 400),
            problem("unsupportedContact", "no such domain", 400),
            problem("unauthorized", "no such domain", 403),
            CAProblem(405, "about:blank", "no such domain"),
            CAUnavailable("no such domain"),
            RateLimited("no such domain"),
        ],
        ids=repr,
    )
    def test_contacts_that_the_ca_refuses(
        self, tmp_path: Path, refusal: Exception, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Contacts that the CA does not take keep no order back; the log says which key to correct."""
        desk = Desk(tmp_path, ACCEPT, "email = new@example.org")
        desk.remember()
        desk.session.say(ACCOUNT, VALID, refusal)
        assert desk.refresh().contacts == ("mailto:hostmaster@example.org",)
        assert "'email' in [account]" in caplog.text
        assert "no such domain" in caplog.text

    def test_new_terms_where_contacts_are_changed(self, tmp_path: Path) -> None:
        """New terms of service are an error wherever the CA tells of them."""
        desk = Desk(tmp_path, ACCEPT, "email = new@example.org")
        desk.remember()
        refusal = problem("userActionRequired", "new terms")
        desk.session.say(ACCOUNT, VALID, refusal)
        with pytest.raises(CAProblem) as raised:
            desk.refresh()
        assert raised.value is refusal

    def test_any_other_refusal(self, tmp_path: Path) -> None:
        """What says nothing about the account is passed on as it is, and nothing is to be moved."""
        desk = Desk(tmp_path, ACCEPT)
        desk.remember()
        refusal = problem("userActionRequired", "new terms")
        desk.session.say(ACCOUNT, refusal)
        with pytest.raises(CAProblem) as raised:
            desk.refresh()
        assert raised.value is refusal

    def test_a_ca_that_does_not_answer_in_time(self, tmp_path: Path) -> None:
        """Where the time is over there is none left for an order either."""
        desk = Desk(tmp_path, ACCEPT)
        desk.remember()
        desk.session.say(ACCOUNT, DeadlinePassed("late"))
        with pytest.raises(DeadlinePassed):
            desk.refresh()


class TestKeyRefused:
    """A kind of key that the CA does not take (sections 6.2, 6.7)."""

    @pytest.mark.parametrize(
        ("algorithms", "advice"),
        [
            (
                ["RS256", "ES384"],
                "it lists RS256, ES384: set 'key-type' in [account] to ec384 or rsa2048 or ",
            ),
            (["EdDSA"], "it lists EdDSA, of which acmems has none"),
            ([], "it does not list what it takes: set another 'key-type'"),
        ],
        ids=["some", "none of ours", "no list"],
    )
    @pytest.mark.parametrize("known", [True, False], ids=["registered", "new"])
    @pytest.mark.parametrize("code", ["badSignatureAlgorithm", "badPublicKey"])
    def test_what_to_do(
        self, tmp_path: Path, algorithms: list[str], advice: str, known: bool, code: str
    ) -> None:
        """The error says which kinds the CA lists, which file to move, and what to run."""
        desk = Desk(tmp_path, ACCEPT)
        if known:
            desk.remember()
        for url in (ACCOUNT, NEW_ACCOUNT):
            desk.session.say(url, problem(code, "not this one", 400, algorithms=algorithms))
        with pytest.raises(AccountError) as raised:
            desk.refresh()
        message = str(raised.value)
        assert advice in message
        assert f"{desk.directory.key_file}, P-256 with ES256 (not this one)" in message
        assert f"move {desk.directory.both_files} away, and run 'acmems account register'" in message
        assert len(desk.payloads) == 1

    def test_a_key_that_is_refused_only_at_the_registration(self, tmp_path: Path) -> None:
        """The same where the CA looks at the key only when it makes an account."""
        desk = Desk(tmp_path, ACCEPT)
        desk.session.say(NEW_ACCOUNT, UNKNOWN, problem("badPublicKey", "too short", 400))
        with pytest.raises(AccountError, match="too short"):
            desk.refresh()
