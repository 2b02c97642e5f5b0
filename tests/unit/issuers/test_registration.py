"""The account at the CA: found, registered, refreshed, refused; never replaced in silence."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from tests.fake_ca import ACCOUNT, CA, NEW_ACCOUNT, Said, problem
from tests.registering import ACCEPT, EMAIL, OLD_CA, TERMS, UNKNOWN, VALID, Desk

from acmems.exceptions import (
    AccountError,
    CAProblem,
    CAProtocolError,
    NeedToAgreeToTOS,
)
from acmems.issuers.acme.account import Account

MAC = base64.urlsafe_b64encode(b"a key of the CA's customer").decode().rstrip("=")


class TestFirst:
    """A key without a registration on disk."""

    def test_an_account_is_found_before_one_is_made(self, tmp_path: Path) -> None:
        """The CA is asked whether it knows the key (RFC 8555 section 7.3.1); its account is kept."""
        desk = Desk(tmp_path, ACCEPT)
        registration = desk.refresh()
        assert registration.url == desk.session.kid == ACCOUNT
        assert desk.payloads == [{"onlyReturnExisting": True}, None]
        assert [post.use_jwk for post in desk.session.posts] == [True, False]
        assert desk.directory.load_registration() == registration

    def test_a_new_account(self, tmp_path: Path) -> None:
        """A key that the CA does not know gets an account with contacts and agreed terms."""
        desk = Desk(tmp_path, ACCEPT, EMAIL, "email = b@example.org", termsOfService=TERMS)
        desk.session.say(NEW_ACCOUNT, UNKNOWN, Said(VALID, {"Location": ACCOUNT}))
        registration = desk.refresh()
        assert desk.payloads[1:] == [
            {
                "termsOfServiceAgreed": True,
                "contact": ["mailto:hostmaster@example.org", "mailto:b@example.org"],
            }
        ]
        assert (registration.url, registration.terms_of_service) == (ACCOUNT, TERMS)
        assert desk.session.kid == ACCOUNT

    def test_without_terms_nothing_is_agreed_to(self, tmp_path: Path) -> None:
        """A CA without terms of service is told of no agreement."""
        desk = Desk(tmp_path)
        desk.session.say(NEW_ACCOUNT, UNKNOWN, Said(VALID, {"Location": ACCOUNT}))
        desk.refresh()
        assert desk.payloads[1] == {"contact": []}

    def test_only_on_request(self, tmp_path: Path) -> None:
        """Without leave to register, an unknown key stays without an account; the hint names the command."""
        desk = Desk(tmp_path, ACCEPT)
        desk.session.say(NEW_ACCOUNT, UNKNOWN)
        with pytest.raises(AccountError, match="acmems account register"):
            desk.refresh(register=False)
        assert desk.payloads == [{"onlyReturnExisting": True}]
        assert not desk.directory.has_registration()

    @pytest.mark.parametrize("headers", [{}, {"Location": OLD_CA}, {"Location": "https://["}], ids=str)
    def test_a_new_account_without_its_url(self, tmp_path: Path, headers: dict[str, str]) -> None:
        """A new account without `Location`, or at another CA, is nonsense, and nothing is written."""
        desk = Desk(tmp_path, ACCEPT)
        desk.session.say(NEW_ACCOUNT, UNKNOWN, Said(VALID, headers))
        with pytest.raises(CAProtocolError, match="URL"):
            desk.refresh()
        assert not desk.directory.has_registration()

    def test_a_ca_that_does_not_say_whether_it_knows_the_key(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Where the CA refuses the question it is registered at once, which finds an account as well."""
        desk = Desk(tmp_path, ACCEPT)
        refusal = problem("malformed", "not today", 400)
        desk.session.say(NEW_ACCOUNT, refusal, Said(VALID, {"Location": ACCOUNT}))
        assert desk.refresh().url == ACCOUNT
        assert desk.payloads == [{"onlyReturnExisting": True}, {"contact": []}]
        assert "not today" in caplog.text

    @pytest.mark.parametrize("known", [True, False], ids=["of another CA", "not to be registered"])
    def test_a_question_that_matters(self, tmp_path: Path, known: bool) -> None:
        """Where nothing would be registered the CA's refusal is passed on."""
        desk = Desk(tmp_path, ACCEPT)
        if known:
            desk.remember(OLD_CA)
        desk.session.say(NEW_ACCOUNT, problem("malformed", "not today", 400))
        with pytest.raises(CAProblem, match="not today"):
            desk.refresh(register=known)
        assert desk.payloads == [{"onlyReturnExisting": True}]

    @pytest.mark.parametrize("headers", [{}, {"Location": OLD_CA}], ids=str)
    def test_an_account_that_is_found_elsewhere(self, tmp_path: Path, headers: dict[str, str]) -> None:
        """A found account without `Location`, or at another CA, is nonsense."""
        desk = Desk(tmp_path, ACCEPT)
        desk.session.say(NEW_ACCOUNT, Said(VALID, headers))
        with pytest.raises(CAProtocolError, match="URL"):
            desk.refresh()
        assert desk.session.kid is None

    def test_a_ca_that_refuses(self, tmp_path: Path) -> None:
        """What the CA has against a new account is passed on."""
        desk = Desk(tmp_path, ACCEPT, EMAIL)
        desk.session.say(NEW_ACCOUNT, UNKNOWN, problem("invalidContact", "no such domain", 400))
        with pytest.raises(CAProblem, match="no such domain"):
            desk.refresh()


class TestTerms:
    """Terms of service are accepted by a person, in the configuration, or not at all."""

    @pytest.mark.parametrize(
        "lines",
        [[], ["accept-terms-of-service = no"], [f"accept-terms-of-service = {CA}/terms-0"]],
        ids=["nothing", "no", "other terms"],
    )
    def test_terms_that_are_not_accepted(self, tmp_path: Path, lines: list[str]) -> None:
        """The error carries the terms' URL, and the CA is asked for nothing."""
        desk = Desk(tmp_path, *lines, termsOfService=TERMS)
        with pytest.raises(NeedToAgreeToTOS) as raised:
            desk.refresh()
        assert raised.value.url == TERMS
        assert desk.session.posts == []

    @pytest.mark.parametrize("accepted", ["yes", TERMS])
    def test_terms_that_are_accepted(self, tmp_path: Path, accepted: str) -> None:
        """`yes` accepts any terms, a URL those."""
        desk = Desk(tmp_path, f"accept-terms-of-service = {accepted}", termsOfService=TERMS)
        assert desk.refresh().terms_of_service == TERMS

    def test_changed_terms(self, tmp_path: Path) -> None:
        """New terms must be accepted anew, where a URL was accepted; the account stays as it is."""
        desk = Desk(tmp_path, f"accept-terms-of-service = {CA}/terms-0", termsOfService=TERMS)
        desk.remember()
        before = desk.directory.registration_file.read_bytes()
        with pytest.raises(NeedToAgreeToTOS):
            desk.refresh()
        assert desk.directory.registration_file.read_bytes() == before


class TestBinding:
    """External account binding (section 7.3.4)."""

    def test_a_bound_account(self, tmp_path: Path) -> None:
        """The binding is sent with a new account, and not kept on disk."""
        desk = Desk(
            tmp_path, ACCEPT, "eab-kid = kid-1", f"eab-hmac-key = {MAC}", externalAccountRequired=True
        )
        bound = {**VALID, "externalAccountBinding": {"protected": "a", "payload": "b", "signature": "c"}}
        desk.session.say(NEW_ACCOUNT, UNKNOWN, Said(bound, {"Location": ACCOUNT}))
        desk.refresh()
        payload: Any = desk.payloads[1]
        protected = json.loads(
            base64.urlsafe_b64decode(payload["externalAccountBinding"]["protected"] + "==")
        )
        assert protected == {"alg": "HS256", "kid": "kid-1", "url": NEW_ACCOUNT}
        assert "externalAccountBinding" not in desk.directory.registration_file.read_text()

    def test_a_missing_binding(self, tmp_path: Path) -> None:
        """A CA that wants bound accounts is not asked without; the hint names both keys."""
        desk = Desk(tmp_path, ACCEPT, externalAccountRequired=True)
        desk.session.say(NEW_ACCOUNT, UNKNOWN)
        with pytest.raises(AccountError, match=r"eab-kid and eab-hmac-key"):
            desk.refresh()
        assert desk.payloads == [{"onlyReturnExisting": True}]

    def test_a_ca_that_wants_one_to_be_asked(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """A CA that refuses `onlyReturnExisting` without a binding is asked with it."""
        desk = Desk(tmp_path, ACCEPT, "eab-kid = kid-1", f"eab-hmac-key = {MAC}")
        wanted = problem("externalAccountRequired", "bind it", 401)
        desk.session.say(NEW_ACCOUNT, wanted, Said(VALID, {"Location": ACCOUNT}))
        assert desk.refresh(register=False).url == ACCOUNT
        questions: Any = desk.payloads[:2]
        assert [sorted(question) for question in questions] == [
            ["onlyReturnExisting"],
            ["externalAccountBinding", "onlyReturnExisting"],
        ]
        assert "bind it" in caplog.text

    def test_a_new_account_at_a_ca_that_wants_one_to_be_asked(self, tmp_path: Path) -> None:
        """An account that such a CA does not know is registered with the binding."""
        desk = Desk(tmp_path, ACCEPT, "eab-kid = kid-1", f"eab-hmac-key = {MAC}")
        wanted = problem("externalAccountRequired", "bind it", 401)
        desk.session.say(NEW_ACCOUNT, wanted, UNKNOWN, Said(VALID, {"Location": ACCOUNT}))
        assert desk.refresh().url == ACCOUNT
        last: Any = desk.payloads[-1]
        assert sorted(last) == ["contact", "externalAccountBinding"]

    def test_one_that_is_wanted_and_not_configured(self, tmp_path: Path) -> None:
        """Without a configured binding the error says where it goes."""
        desk = Desk(tmp_path, ACCEPT)
        desk.session.say(NEW_ACCOUNT, problem("externalAccountRequired", "bind it", 401))
        with pytest.raises(AccountError, match=r"eab-kid and eab-hmac-key"):
            desk.refresh()
        assert desk.payloads == [{"onlyReturnExisting": True}]

    def test_an_account_that_exists_needs_none(self, tmp_path: Path) -> None:
        """A registered account is used as it is, whatever new accounts need."""
        desk = Desk(tmp_path, ACCEPT, externalAccountRequired=True)
        desk.remember()
        assert desk.refresh().url == ACCOUNT


class TestKnown:
    """A registration on disk."""

    def test_it_is_refreshed(self, tmp_path: Path) -> None:
        """The account is read, as itself, and not looked for."""
        desk = Desk(tmp_path, ACCEPT)
        desk.remember()
        assert desk.refresh().url == ACCOUNT
        assert desk.payloads == [None]
        assert desk.session.kid == ACCOUNT

    def test_it_is_written_only_if_it_changed(self, tmp_path: Path) -> None:
        """A registration that is as it was is not written again."""
        desk = Desk(tmp_path, ACCEPT)
        desk.refresh()
        before = desk.directory.registration_file.stat().st_ino
        desk.refresh()
        assert desk.directory.registration_file.stat().st_ino == before
        desk.session.say(ACCOUNT, {**VALID, "contact": []})
        desk.refresh()
        assert desk.directory.registration_file.stat().st_ino != before

    def test_new_contacts(self, tmp_path: Path) -> None:
        """Contacts that differ from the configuration's are updated (section 7.3.2)."""
        desk = Desk(tmp_path, ACCEPT, "email = new@example.org")
        desk.remember()
        changed = {**VALID, "contact": ["mailto:new@example.org"]}
        desk.session.say(ACCOUNT, VALID, changed)
        assert desk.refresh().contacts == ("mailto:new@example.org",)
        assert desk.payloads == [None, {"contact": ["mailto:new@example.org"]}]

    @pytest.mark.parametrize("lines", [[], [EMAIL]], ids=["none configured", "the same"])
    def test_contacts_that_stay(self, tmp_path: Path, lines: list[str]) -> None:
        """Contacts are left alone where none are configured, or the same."""
        desk = Desk(tmp_path, ACCEPT, *lines)
        desk.remember()
        desk.refresh()
        assert desk.payloads == [None]

    @pytest.mark.threat("disk", "another CA or account than before")
    def test_an_account_of_another_ca(self, tmp_path: Path) -> None:
        """A registration of another CA is not sent there; an unknown key is not registered beside it."""
        desk = Desk(tmp_path, ACCEPT)
        desk.remember(OLD_CA)
        desk.session.say(NEW_ACCOUNT, UNKNOWN)
        with pytest.raises(AccountError, match=r"is of another CA \(https://old\.example\.org\)"):
            desk.refresh()
        assert desk.session.count(OLD_CA) == 0
        assert desk.payloads == [{"onlyReturnExisting": True}]

    def test_a_key_that_moved_with_its_ca(self, tmp_path: Path) -> None:
        """Where the CA moved and knows the key its new account URL is kept: 0.3's had another."""
        desk = Desk(tmp_path, ACCEPT)
        desk.remember(OLD_CA)
        assert desk.refresh().url == ACCOUNT
        kept = desk.directory.load_registration()
        assert kept is not None
        assert kept.url == ACCOUNT

    def test_a_registration_with_an_impossible_url(self, tmp_path: Path) -> None:
        """A registration whose URL no CA can have counts as another CA's."""
        desk = Desk(tmp_path, ACCEPT)
        desk.remember("https://[")
        desk.session.say(NEW_ACCOUNT, UNKNOWN)
        with pytest.raises(AccountError, match="is of another CA"):
            desk.refresh()

    @pytest.mark.parametrize(
        "members", [{"contact": 7}, {"contact": [7]}, {"key": {"kty": "odd"}}, {"agreement": ["x"]}], ids=str
    )
    def test_members_of_odd_types(self, tmp_path: Path, members: dict[str, object]) -> None:
        """Of an account whose members have types that they cannot have only the URL is kept."""
        desk = Desk(tmp_path, ACCEPT)
        odd = {**VALID, **members}
        desk.session.say(NEW_ACCOUNT, Said(odd, {"Location": ACCOUNT}))
        desk.session.say(ACCOUNT, odd)
        assert desk.refresh() == Account(ACCOUNT) == desk.directory.load_registration()

    @pytest.mark.parametrize("value", [b"garbage", b"[]", b"7", b"", b"null"], ids=repr)
    def test_an_answer_that_is_no_account(self, tmp_path: Path, value: bytes) -> None:
        """Where a new account is answered by no JSON object nothing is written; the next start finds it."""
        desk = Desk(tmp_path, ACCEPT)
        desk.session.say(NEW_ACCOUNT, UNKNOWN, Said(value, {"Location": ACCOUNT}))
        with pytest.raises(CAProtocolError):
            desk.refresh()
        assert not desk.directory.has_registration()


class TestDeactivate:
    """The end of an account (section 7.3.6)."""

    def test_it_is_for_good(self, tmp_path: Path) -> None:
        """The CA is told, and what it answers is kept."""
        desk = Desk(tmp_path, ACCEPT)
        desk.refresh()
        desk.session.say(ACCOUNT, {**VALID, "status": "deactivated"})
        ended = desk.deactivate()
        assert (ended.url, ended.status) == (ACCOUNT, "deactivated")
        assert desk.payloads[-1] == {"status": "deactivated"}
        kept = desk.directory.load_registration()
        assert kept is not None
        assert kept.status == "deactivated"

    def test_an_account_that_nobody_asked_for(self, tmp_path: Path) -> None:
        """Without a known account nothing is sent."""
        desk = Desk(tmp_path, ACCEPT)
        with pytest.raises(AccountError, match="connect"):
            desk.deactivate()
        assert desk.session.posts == []
