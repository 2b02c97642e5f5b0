"""The http-01 validator, and the table that its listeners answer from."""

from __future__ import annotations

import threading

import pytest

from acmems.challenges import VALIDATORS, ChallengeResponses, Http01, Proof
from acmems.challenges.context import ValidatorContext
from acmems.exceptions import CAProtocolError
from acmems.net.address import Address
from acmems.settings.findings import Finding
from acmems.settings.grammar import read_sections
from acmems.settings.options import Options
from acmems.x509.identifiers import Identifier

HOST = "www.example.org"
CHALLENGE = "token"
PATH = "/.well-known/acme-challenge/token"


def nothing() -> None:
    pass


def proof(name: str = HOST, token: str = CHALLENGE) -> Proof:
    return Proof(Identifier.dns(name), token, f"{token}.thumbprint", nothing)


def from_text(text: str) -> tuple[Http01, list[Finding]]:
    findings: list[Finding] = []
    (section,) = read_sections(text, "a.ini", findings)
    options = Options(section, findings)
    validator = Http01.from_options("web", options, ValidatorContext())
    options.finish()
    return validator, findings


class TestProof:
    @pytest.mark.threat("http", "strangers at the CA's port")
    @pytest.mark.parametrize("token", ["", "a/b", "../x", "a+b", "a=", "a b", "a\n", "ä", "a" * 257])
    def test_a_token_that_is_not_base64url_is_refused(self, token: str) -> None:
        """A token is base64url without padding (RFC 8555 section 8.1), or there is no proof."""
        with pytest.raises(CAProtocolError, match=r"www\.example\.org"):
            proof(token=token)

    def test_a_proof_does_not_show_its_secrets(self) -> None:
        """The repr of a proof holds no key authorization."""
        assert "thumbprint" not in repr(proof())


class TestHttp01:
    def test_http_01_proves_no_wildcards(self) -> None:
        """http-01 is not accepted for wildcard names (RFC 8555 section 8.3)."""
        assert VALIDATORS["http01"] is Http01
        assert Http01.challenge_type == "http-01"
        assert not Http01("web", (), ChallengeResponses()).proves(Identifier.dns("*.example.org"))

    def test_a_presented_proof_is_in_the_table(self) -> None:
        """A proof is answered by exact host and path while it is presented."""
        responses = ChallengeResponses()
        validator = Http01("web", (), responses)
        validator.present([proof()])
        assert responses == {HOST: {PATH: "token.thumbprint"}}
        assert responses.fetch(HOST, PATH) == "token.thumbprint"
        validator.withdraw([proof()])
        assert responses == {}

    def test_withdrawing_leaves_other_proofs(self) -> None:
        """Another proof of the same name stays."""
        responses = ChallengeResponses()
        validator = Http01("web", (), responses)
        validator.present([proof()])
        validator.present([proof(HOST, "other")])
        validator.withdraw([proof()])
        assert responses == {HOST: {"/.well-known/acme-challenge/other": "other.thumbprint"}}

    def test_withdrawing_what_is_gone_is_harmless(self) -> None:
        """Withdrawing twice, or without presenting, raises nothing."""
        validator = Http01("web", (), ChallengeResponses())
        validator.withdraw([proof()])

    def test_an_address_is_its_own_host(self) -> None:
        """An IP identifier is found under its short form, without brackets (RFC 8738)."""
        responses = ChallengeResponses()
        Http01("web", (), responses).present(
            [Proof(Identifier.ip("2001:db8:0::1"), "token", "token.thumbprint", nothing)]
        )
        assert responses.fetch("2001:db8::1", PATH) == "token.thumbprint"

    def test_the_listeners_are_configured(self) -> None:
        """Each `listener` is an address to listen on."""
        validator, findings = from_text("[v]\nlistener = 192.0.2.80:1380\nlistener = [fe80::80%eth0]:1380")
        assert validator.listeners == (Address("192.0.2.80", 1380), Address("fe80::80%eth0", 1380))
        assert not findings

    def test_the_default_is_port_1380_everywhere(self) -> None:
        """Without `listener` it listens on port 1380 of every address."""
        assert [str(address) for address in from_text("[v]")[0].listeners] == ["0.0.0.0:1380", "[::]:1380"]

    def test_an_empty_listener_is_none(self) -> None:
        """An empty `listener` means that others take the requests."""
        assert from_text("[v]\nlistener =")[0].listeners == ()

    def test_a_bad_listener_and_an_unknown_key_are_findings(self) -> None:
        """A broken listener and an unknown key are findings."""
        _, findings = from_text("[v]\nlistener = 1380\nlisten = 1")
        assert [finding.location.line for finding in findings] == [2, 3]


class TestChallengeResponses:
    @pytest.mark.parametrize(
        ("host", "path"),
        [
            ("example.org", PATH),
            ("WWW.example.org", PATH),
            ("www.example.org:80", PATH),
            (HOST, PATH + "/"),
            (HOST, PATH + "?x"),
            (HOST, "/.well-known/acme-challenge/"),
            (HOST, "/.well-known/acme-challenge/TOKEN"),
            ("", ""),
        ],
    )
    def test_only_the_exact_place_answers(self, host: str, path: str) -> None:
        """What differs in any character finds nothing, and tells nobody."""
        asked: list[str] = []
        responses = ChallengeResponses()
        responses.put(HOST, PATH, "answer", lambda: asked.append("x"))
        assert responses.fetch(host, path) is None
        assert not asked

    def test_fetching_tells_who_put_it(self) -> None:
        """Each fetch calls back, and the answer outlives it: a CA fetches several times."""
        asked: list[str] = []
        responses = ChallengeResponses()
        responses.put(HOST, PATH, "answer", lambda: asked.append("x"))
        assert [responses.fetch(HOST, PATH) for _ in range(3)] == ["answer"] * 3
        assert asked == ["x"] * 3

    def test_two_who_put_the_same_are_both_told(self) -> None:
        """An answer put twice calls back both, and stays until both have removed it."""
        asked: list[int] = []
        first, second = (lambda: asked.append(1)), (lambda: asked.append(2))
        responses = ChallengeResponses()
        responses.put(HOST, PATH, "answer", first)
        responses.put(HOST, PATH, "answer", second)
        responses.fetch(HOST, PATH)
        assert asked == [1, 2]
        responses.remove(HOST, PATH, first)
        assert responses.fetch(HOST, PATH) == "answer"
        responses.remove(HOST, PATH, second)
        assert responses == {}

    def test_putting_the_same_again(self) -> None:
        """An answer put twice by one order is told of once, and removed at once."""
        asked: list[int] = []

        def told() -> None:
            asked.append(1)

        responses = ChallengeResponses()
        for _ in range(2):
            responses.put(HOST, PATH, "answer", told)
        responses.fetch(HOST, PATH)
        assert asked == [1]
        responses.remove(HOST, PATH, told)
        assert responses == {}

    def test_different_answers_for_one_path(self) -> None:
        """The newest answer is given, and only who put that is told; the one before it comes back."""
        asked: list[int] = []
        first, second = (lambda: asked.append(1)), (lambda: asked.append(2))
        responses = ChallengeResponses()
        responses.put(HOST, PATH, "old", first)
        responses.put(HOST, PATH, "new", second)
        assert (responses.fetch(HOST, PATH), asked) == ("new", [2])
        responses.remove(HOST, PATH, second)
        assert (responses.fetch(HOST, PATH), asked) == ("old", [2, 1])

    def test_removing_what_was_not_put(self) -> None:
        """An answer that a script wrote into the dict stays when somebody removes one of his own."""
        responses = ChallengeResponses()
        responses[HOST] = {PATH: "answer"}
        responses.remove(HOST, PATH, nothing)
        assert responses == {HOST: {PATH: "answer"}}

    def test_removing_without_saying_whose_removes(self) -> None:
        """Without a callback, an answer is removed whoever put it."""
        responses = ChallengeResponses()
        responses.put(HOST, PATH, "answer", nothing)
        responses.remove(HOST, PATH)
        assert responses == {}

    def test_a_script_may_fill_it_as_a_dict(self) -> None:
        """An answer written into the documented dict is delivered like any other."""
        responses = ChallengeResponses()
        responses[HOST] = {PATH: "answer"}
        assert responses.fetch(HOST, PATH) == "answer"

    def test_a_callback_may_use_the_table(self) -> None:
        """Callbacks run outside of the lock."""
        responses = ChallengeResponses()
        responses.put(HOST, PATH, "answer", lambda: responses.remove(HOST, PATH))
        assert responses.fetch(HOST, PATH) == "answer"
        assert responses == {}

    def test_threads_leave_nothing_behind(self) -> None:
        """Proofs presented and withdrawn by many threads are all gone in the end."""
        responses = ChallengeResponses()
        validator = Http01("web", (), responses)
        missing: list[str] = []

        def work(number: int) -> None:
            for turn in range(100):
                mine = proof(token=f"{number}-{turn}")
                validator.present([mine])
                if responses.fetch(HOST, f"/.well-known/acme-challenge/{mine.token}") is None:
                    missing.append(mine.token)
                validator.withdraw([mine])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not missing
        assert responses == {}
