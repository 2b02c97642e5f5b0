"""What a CA's responses mean."""

from __future__ import annotations

import datetime
import json

import pytest
from tests.fake_ca import headers_of

from acmems.exceptions import CAProblem, CAProtocolError, RateLimited
from acmems.issuers.acme.session import Headers, Response
from acmems.text import one_line

NOW = datetime.datetime(2026, 11, 24, 12, 0, 0, tzinfo=datetime.UTC)
ACME = "urn:ietf:params:acme:error:"


DEEP = b'{"a":' + b"[" * 200 + b"]" * 200 + b"}"  # Python's parser reads it; what prints it may not


def response(status: int = 200, body: bytes = b"", **headers: str) -> Response:
    fields = headers_of({name.replace("_", "-"): value for name, value in headers.items()})
    return Response(status, fields, body, "https://ca.example/x")


def problem(status: int = 400, **members: object) -> CAProblem | RateLimited:
    return response(status, json.dumps(members).encode()).error(NOW)


class TestJson:
    def test_an_object_is_returned(self) -> None:
        """The body of most answers is a JSON object."""
        assert response(body=b'{"status": "valid"}').json() == {"status": "valid"}

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b"7", b"null", b"\xff", b"<html>", b"[" * 100_000, DEEP]
    )
    def test_anything_else_is_nonsense(self, body: bytes) -> None:
        """What is no JSON object is refused, whatever it is."""
        with pytest.raises(CAProtocolError, match=r"https://ca\.example/x"):
            response(body=body).json()

    def test_a_body_is_not_shown(self) -> None:
        """The repr of an answer does not show what the CA answered."""
        assert "valid" not in repr(response(body=b'{"status": "valid"}'))


class TestRetryAfter:
    @pytest.mark.threat("ca", "Retry-After")
    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            ("0", 0),
            ("120", 120),
            ("000120", 120),
            ("3601", 3600),
            ("1000000000", 3600),
            ("9" * 5000, 3600),
            ("Tue, 24 Nov 2026 12:00:30 GMT", 30),
            ("Tue, 24 Nov 2026 12:00:30", 30),
            ("Tue, 24 Nov 2026 12:00:30 +0000", 30),
            ("Tuesday, 24-Nov-26 12:00:30 GMT", 30),
            ("Tue, 24 Nov 2026 11:59:59 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
        ],
    )
    def test_seconds_and_dates_are_seconds_from_now(self, header: str, seconds: float) -> None:
        """A wait is seconds or a date in UTC, never below zero, never beyond an hour."""
        assert response(503, Retry_After=header).retry_after(NOW) == seconds

    @pytest.mark.parametrize("header", ["", "-1", "1.5", "soon", "1e3", "١٢", "Tue, 99 Foo 2026 12:00 GMT"])
    def test_what_makes_no_sense_says_nothing(self, header: str) -> None:
        """A header that is neither is as good as none."""
        assert response(503, Retry_After=header).retry_after(NOW) is None

    def test_the_limit_can_be_another(self) -> None:
        """Some waits, as between two looks at renewal information, may be longer."""
        assert response(Retry_After="21600").retry_after(NOW, longest=86400) == 21600

    def test_no_header_says_nothing(self) -> None:
        """Most answers name no wait."""
        assert response().retry_after(NOW) is None


class TestHeaders:
    def test_fields_of_one_name_are_one(self) -> None:
        """Fields of one name are joined by commas, whatever their case (RFC 9110 section 5.3)."""
        headers = Headers([(b"Link", b"<a>;rel=x"), (b"link", b"\t<b>;rel=x "), (b"X", b"")])
        headers.add(b"LINK", b"<c>;rel=x")
        assert headers.field("lInK") == "<a>;rel=x, <b>;rel=x, <c>;rel=x"
        assert (headers.field("x"), headers.field("y")) == ("", None)
        assert Response(200, headers, b"", "https://ca.example/x").links("x") == [
            f"https://ca.example/{name}" for name in "abc"
        ]

    def test_header_names_have_no_case(self) -> None:
        """Header fields are found however the CA writes them."""
        assert response(lOcAtIoN="https://ca.example/1").location == "https://ca.example/1"
        assert response().location is None

    @pytest.mark.parametrize(
        ("header", "found"),
        [
            ('<https://ca.example/2>;rel="alternate"', ["https://ca.example/2"]),
            ("<https://ca.example/2> ; rel=alternate", ["https://ca.example/2"]),
            ('<https://ca.example/2>; title="a, <b>"; rel="next ALTERNATE"', ["https://ca.example/2"]),
            (
                '<a>;rel="alternate", <b>; rel="alternate" ,<c>;rel="index"',
                ["https://ca.example/a", "https://ca.example/b"],
            ),
            ('<a>;rel="index"', []),
            ("<a>", []),
            ("a;rel=alternate", []),
            ("", []),
        ],
    )
    def test_links_are_found_by_relation(self, header: str, found: list[str]) -> None:
        """Alternate chains are named in Link headers (RFC 8555 section 7.4.2, RFC 8288)."""
        assert response(Link=header).links("alternate") == found

    @pytest.mark.timeout(10)
    @pytest.mark.parametrize("part", ["<", "<a>;a" + " " * 60_000, "<a>" + ";a=" * 20_000, "; rel" * 12_000])
    def test_a_hostile_link_costs_no_time(self, part: str) -> None:
        """However long a Link header is, reading it takes no more than a moment."""
        assert response(Link=part * (65_000 // len(part))).links("alternate") == []


class TestError:
    def test_a_problem_keeps_type_detail_and_status(self) -> None:
        """A problem document is an exception with its fields (RFC 9457)."""
        error = problem(403, type=ACME + "unauthorized", detail="no")
        assert isinstance(error, CAProblem)
        assert (error.status, error.code, error.detail) == (403, "unauthorized", "no")

    def test_the_algorithms_that_a_ca_takes(self) -> None:
        """`badSignatureAlgorithm` lists them (RFC 8555 section 6.2); what is no text is left out."""
        error = problem(type=ACME + "badSignatureAlgorithm", algorithms=["ES256", 7, "RS\n256"])
        assert isinstance(error, CAProblem)
        assert error.algorithms == ("ES256", "RS 256")
        odd = problem(type=ACME + "badSignatureAlgorithm", algorithms="ES256")
        assert isinstance(odd, CAProblem)
        assert odd.algorithms == ()

    def test_subproblems_name_their_identifiers(self) -> None:
        """What is wrong with each name is kept (RFC 8555 section 6.7.1)."""
        one = {"type": ACME + "caa", "detail": "not us", "identifier": {"type": "dns", "value": "a.example"}}
        error = problem(type=ACME + "compound", subproblems=[one, {"type": "x"}, 7])
        assert isinstance(error, CAProblem)
        assert error.subproblems == (("a.example", ACME + "caa", "not us"), ("", "x", ""))

    @pytest.mark.parametrize(
        "members",
        [
            {"type": 7, "detail": ["x"], "subproblems": {"a": 1}},
            {"subproblems": [{"identifier": "x"}, {"identifier": {"value": None}}]},
            {},
        ],
    )
    def test_odd_members_do_no_harm(self, members: dict[str, object]) -> None:
        """A problem document with members of other types is still an error answer."""
        error = problem(400, **members)
        assert isinstance(error, CAProblem)
        assert (error.type, error.detail) == (
            "about:blank",
            "HTTP status 400 Bad Request from https://ca.example/x",
        )

    def test_what_a_person_is_to_do_is_kept(self) -> None:
        """The page in `instance` and the terms that the answer links to (RFC 8555 section 7.3.3) are kept."""
        body = json.dumps({"type": ACME + "userActionRequired", "instance": "https://ca.example/agree"})
        error = response(403, body.encode(), Link='<https://ca.example/terms>;rel="terms-of-service"').error(
            NOW
        )
        assert isinstance(error, CAProblem)
        assert (error.visit, error.terms) == ("https://ca.example/agree", "https://ca.example/terms")

    @pytest.mark.parametrize("body", [b"", b"<html>Bad Gateway</html>", b"[]", b"\xff"])
    def test_errors_need_no_problem_document(self, body: bytes) -> None:
        """What a proxy in between answers counts by its status."""
        error = response(502, body).error(NOW)
        assert isinstance(error, CAProblem)
        assert (error.status, error.detail) == (502, "HTTP status 502 Bad Gateway from https://ca.example/x")

    @pytest.mark.parametrize(("status", "code"), [(429, "rateLimited"), (503, "rateLimited"), (429, "x")])
    def test_a_rate_limit_is_known_by_status_and_by_type(self, status: int, code: str) -> None:
        """Both 429 and the type rateLimited mean: later (RFC 8555 section 6.6)."""
        body = json.dumps({"type": ACME + code, "detail": "too many"}).encode()
        error = response(status, body, Retry_After="60").error(NOW)
        assert isinstance(error, RateLimited)
        assert (str(error), error.retry_after) == ("too many", 60)

    @pytest.mark.parametrize(
        ("status", "kind", "is_overall"),
        [
            (429, ACME + "rateLimited", False),
            (403, ACME + "rateLimited", False),
            (503, ACME + "rateLimited", True),
            (429, "about:blank", True),
        ],
    )
    def test_what_a_limit_is_counted_for(self, status: int, kind: str, is_overall: bool) -> None:
        """A limit is one on names, unless it comes with 503 or from what does not speak ACME."""
        named = {"type": kind, "identifier": {"type": "dns", "value": "example.org"}}
        error = problem(status, type=kind, detail="too many", subproblems=[named, {"type": kind}])
        assert isinstance(error, RateLimited)
        assert (error.identifiers, error.is_overall) == (("example.org",), is_overall)

    def test_a_wait_is_kept(self) -> None:
        """The wait that an error answer names is on the exception."""
        assert response(503, Retry_After="60").error(NOW).retry_after == 60

    @pytest.mark.threat("http", "line ends in words of others")
    def test_its_words_are_safe_to_log(self) -> None:
        """No detail, type or identifier of a CA breaks a line or moves a cursor."""
        nasty = "a\r\nb\x1b[2J\x00\u2028c\u202ed\ud800"
        sub = {"type": nasty, "detail": nasty, "identifier": {"type": "dns", "value": nasty}}
        error = problem(type=nasty, detail=nasty, subproblems=[sub])
        assert isinstance(error, CAProblem)
        assert {error.detail, error.type, *error.subproblems[0]} == {"a b [2J c d"}

    def test_the_type_is_that_of_errors_only(self) -> None:
        """A good answer with a member `type` is no problem."""
        body = json.dumps({"type": ACME + "badNonce"}).encode()
        assert response(400, body).problem_type == ACME + "badNonce"
        assert response(200, body).problem_type is None
        assert response(400, b"no").problem_type is None


class TestOneLine:
    def test_letters_of_all_languages_stay(self) -> None:
        """Only what does not print is replaced."""
        assert one_line("  schön \t 証明書\n") == "schön 証明書"

    def test_it_is_bounded(self) -> None:
        """A long text is cut, visibly."""
        assert one_line("ab" * 1000, 10) == "ababababa…"


class TestRelativeUrls:
    """References in the place of URLs: they are relative to what answered (RFC 3986 section 5)."""

    @pytest.mark.parametrize(
        ("reference", "url"),
        [
            ("/acme/order/7", "https://ca.example:14000/acme/order/7"),
            ("order/7", "https://ca.example:14000/acme/order/7"),
            ("../x?y=z", "https://ca.example:14000/x?y=z"),
            ("//other.example/x", "https://other.example/x"),
            ("https://ca.example/x/../y", "https://ca.example/x/../y"),
            ("http://ca.example/x", "http://ca.example/x"),
            ("", ""),
            ("/a b", "/a b"),
            ("/a\r\nX: y", "/a\r\nX: y"),
            ("//[::1", "//[::1"),
        ],
    )
    def test_where_they_lead(self, reference: str, url: str) -> None:
        """References become URLs; URLs, and what is neither, stay as they are and are judged later."""
        body = {
            "newOrder": reference,
            "finalize": reference,
            "authorizations": [reference, reference],
            "challenges": [{"type": reference, "url": reference, "token": reference}],
            "meta": {"termsOfService": reference},
        }
        headers = headers_of({"Location": reference})
        answer = Response(200, headers, json.dumps(body).encode(), "https://ca.example:14000/acme/new-order")
        assert answer.location == url
        assert answer.json() == {
            "newOrder": url,
            "finalize": url,
            "authorizations": [url, url],
            "challenges": [{"type": reference, "url": url, "token": reference}],
            "meta": {"termsOfService": reference},
        }

    def test_links(self) -> None:
        """Alternate chains may be named relative to the chain."""
        headers = headers_of({"Link": '</acme/cert/7/1>;rel="alternate", <7/2>;rel=alternate'})
        answer = Response(200, headers, b"", "https://ca.example/acme/cert/7")
        assert answer.links("alternate") == [
            "https://ca.example/acme/cert/7/1",
            "https://ca.example/acme/cert/7/2",
        ]

    def test_no_location(self) -> None:
        """Where nothing is named nothing is made up."""
        assert response().location is None
