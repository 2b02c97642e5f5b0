"""What a CA's problem documents mean for a request."""

from __future__ import annotations

import pytest
from tests.fake_ca import NAME, problem

from acmems import exceptions
from acmems.exceptions import AcmeException, CAProblem
from acmems.issuers.acme.problems import translate, translating

CODES = [
    ("accountDoesNotExist", exceptions.AccountError),
    ("externalAccountRequired", exceptions.AccountError),
    ("userActionRequired", exceptions.AccountError),
    ("badCSR", exceptions.PayloadInvalid),
    ("badPublicKey", exceptions.PayloadInvalid),
    ("rejectedIdentifier", exceptions.InvalidDomainName),
    ("unsupportedIdentifier", exceptions.InvalidDomainName),
    ("caa", exceptions.ChallengeFailed),
    ("connection", exceptions.ChallengeFailed),
    ("dns", exceptions.ChallengeFailed),
    ("incorrectResponse", exceptions.ChallengeFailed),
    ("tls", exceptions.ChallengeFailed),
    ("unauthorized", exceptions.ChallengeFailed),
    ("alreadyRevoked", exceptions.CAProblem),
    ("badNonce", exceptions.CAProblem),
    ("badRevocationReason", exceptions.CAProblem),
    ("badSignatureAlgorithm", exceptions.CAProblem),
    ("invalidContact", exceptions.CAProblem),
    ("malformed", exceptions.CAProblem),
    ("orderNotReady", exceptions.CAProblem),
    ("serverInternal", exceptions.CAProblem),
    ("unsupportedContact", exceptions.CAProblem),
    ("compound", exceptions.CAProblem),
]


class TestTranslate:
    """What the codes of RFC 8555 section 6.7 mean for a request."""

    @pytest.mark.parametrize(("code", "meaning"), CODES)
    def test_codes(self, code: str, meaning: type[AcmeException]) -> None:
        """Each code becomes the error that tells its reader what to do, with the CA's words."""
        error = translate(problem(code, "its words"), [NAME])
        assert type(error) is meaning
        assert "its words" in str(error)

    def test_new_terms(self) -> None:
        """New terms are told by their URL, with the page where a person agrees to them (section 7.3.3)."""
        terms, page = "https://ca.example.org/terms-2", "https://ca.example.org/agree"
        error = translate(problem("userActionRequired", "its words", terms=terms, visit=page), [NAME])
        assert isinstance(error, exceptions.NeedToAgreeToTOS)
        assert error.url == terms
        assert str(error) == (
            f"the CA's terms of service must be accepted (its words): read {terms}, accept them at {page}, "
            f"then add 'accept-terms-of-service = {terms}' to [account]"
        )

    @pytest.mark.parametrize("page", ["https://ca.example.org/agree", ""])
    def test_anything_else_that_a_person_must_do(self, page: str) -> None:
        """Where the CA links to no terms its words are not taken for a URL."""
        error = translate(problem("userActionRequired", "its words", visit=page), [NAME])
        assert type(error) is exceptions.AccountError
        assert str(error).endswith(f"(its words): visit {page or 'the website of the CA'}")

    def test_an_unknown_code_stays_a_problem_of_the_ca(self) -> None:
        """A type that is none of ACME's is passed on as it is."""
        given = CAProblem(400, "urn:example:odd", "odd")
        assert translate(given, [NAME]) is given

    @pytest.mark.parametrize("code", [code for code, _ in CODES])
    def test_the_words_of_the_ca_decide_nothing(self, code: str) -> None:
        """What a problem means is in its type: no word in its `detail` makes it another one."""
        plain = translate(problem(code, "its words"), [NAME])
        words = "account unauthorized: CSR dns caa badNonce rate limit terms of service"
        assert type(translate(problem(code, words), [NAME])) is type(plain)

    @pytest.mark.parametrize(
        "code", ["compound", "malformed", "rejectedIdentifier", "unauthorized", "badCSR"]
    )
    def test_subproblems_name_the_names(self, code: str) -> None:
        """Each name is told, with the reason of its own subproblem (section 6.7.1)."""
        rejected, caa = CAProblem.PREFIX + "rejectedIdentifier", CAProblem.PREFIX + "caa"
        subproblems = [
            ("b.example.org", rejected, "policy"),
            ("c.example.org", caa, "not us"),
            ("d.example.org", CAProblem.PREFIX + "serverInternal", "oops"),
        ]
        error = translate(problem(code, "several", subproblems=subproblems), [NAME, "b.example.org"])
        assert isinstance(error, exceptions.InvalidDomainName)
        assert (error.domain, error.detail) == ("b.example.org", "policy")
        assert str(error) == (
            "b.example.org is not accepted: policy; the CA could not validate c.example.org: not us; "
            "d.example.org is not accepted: oops"
        )
        assert [(type(each), each.domain, str(each)) for each in error.each] == [
            (exceptions.InvalidDomainName, "b.example.org", "b.example.org is not accepted: policy"),
            (
                exceptions.ChallengeFailed,
                "c.example.org",
                "the CA could not validate c.example.org: not us",
            ),
            (exceptions.InvalidDomainName, "d.example.org", "d.example.org is not accepted: oops"),
        ]

    def test_a_subproblem_without_a_type_has_that_of_the_whole(self) -> None:
        """A CA that gives only name and words means the same for each name."""
        subproblems = [("b.example.org", "", "policy")]
        error = translate(problem("rejectedIdentifier", "several", subproblems=subproblems), [NAME])
        assert isinstance(error, exceptions.InvalidDomainName)
        assert error.domain == "b.example.org"

    def test_subproblems_that_are_about_no_name(self) -> None:
        """Where all of them pass with time the problem stays the CA's, and its words have them all."""
        subproblems = [
            (NAME, CAProblem.PREFIX + "serverInternal", "oops"),
            ("", CAProblem.PREFIX + "serverInternal", ""),
        ]
        given = problem("compound", "several", subproblems=subproblems)
        assert translate(given, [NAME]) is given
        assert str(given) == f"several ({NAME}: oops; {CAProblem.PREFIX}serverInternal)"

    def test_without_a_subproblem_all_names_are_named(self) -> None:
        """Where the CA does not say which name it means, every name is told."""
        error = translate(problem("rejectedIdentifier"), [NAME, "b.example.org"])
        assert isinstance(error, exceptions.InvalidDomainName)
        assert error.domain == f"{NAME}, b.example.org"

    def test_a_problem_without_words_tells_its_code(self) -> None:
        """Where the CA gives no detail its code stands in."""
        assert "badCSR" in str(translate(problem("badCSR", ""), [NAME]))


class TestTranslating:
    """The same for all that is done in its block."""

    def test_what_has_a_meaning(self) -> None:
        """The error is what the problem means, with the problem as its cause."""
        given = problem("badCSR", "its words")
        with pytest.raises(exceptions.PayloadInvalid, match="its words") as raised, translating([NAME]):
            raise given
        assert raised.value.__cause__ is given

    @pytest.mark.parametrize("error", [problem("malformed"), exceptions.CAUnavailable("down"), KeyError("x")])
    def test_what_has_none(self, error: Exception) -> None:
        """Other problems, and errors that are no problems, are passed on as they are."""
        with pytest.raises(type(error)) as raised, translating([NAME]):
            raise error
        assert raised.value is error
        assert raised.value.__cause__ is None
