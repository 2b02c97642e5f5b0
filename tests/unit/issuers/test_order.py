"""Orders: what a CA may say of one."""

from __future__ import annotations

import json

import pytest
from tests.fake_ca import AUTHORIZATION, CERTIFICATE, FINALIZE, NAME, ORDER, make_request, order

from acmems.exceptions import CAProtocolError
from acmems.issuers.acme.orders.order import parse
from acmems.issuers.acme.session import Headers, Response
from acmems.x509.identifiers import Identifier

CSR = make_request()
ODD_IDENTIFIERS: tuple[object, ...] = ([], None, NAME, {"type": "dns", "value": NAME})
ODD_STATUSES: tuple[object, ...] = ("perhaps", None, 7, "Valid", [], {"valid": 1})


def answer(value: object) -> Response:
    return Response(200, Headers(), json.dumps(value).encode(), ORDER)


class TestParse:
    """An order is acted on only if it can be read whole, and is for what was ordered."""

    def test_a_good_order(self) -> None:
        """An order keeps its URL, state, authorizations and the URL to finalize it."""
        parsed = parse(answer(order("ready", expires="2030-01-01T00:00:00Z")), ORDER, CSR.identifiers)
        assert (parsed.url, parsed.status) == (ORDER, "ready")
        assert list(parsed.authorizations) == [AUTHORIZATION]
        assert parsed.finalize == FINALIZE
        assert (parsed.certificate, parsed.error) == (None, None)

    @pytest.mark.parametrize("status", ["pending", "ready", "processing", "valid", "invalid"])
    def test_every_state_of_rfc_8555(self, status: str) -> None:
        """Each state of section 7.1.6 is known."""
        assert parse(answer(order(status)), ORDER, CSR.identifiers).status == status

    @pytest.mark.threat("ca", "another order, other origins")
    @pytest.mark.parametrize(
        "members",
        [
            *({"status": status} for status in ODD_STATUSES),
            *({"identifiers": identifiers} for identifiers in ODD_IDENTIFIERS),
            {"identifiers": [{"type": "dns", "value": "b.example.org"}]},
            {"identifiers": [{"type": "ip", "value": NAME}]},
            {"identifiers": [{"type": "dns", "value": f"*.{NAME}"}]},
            {"identifiers": [{"type": "dns", "value": NAME}, {"type": "dns", "value": "b.example.org"}]},
            {"identifiers": [{"type": "dns"}]},
            {"identifiers": [{"type": "dns", "value": 7}]},
            {"identifiers": [{"type": [], "value": NAME}]},
            {"identifiers": [{"type": "odd", "value": NAME}]},
            {"identifiers": [NAME]},
            {"identifiers": [[["dns", NAME]]]},
            {"authorizations": []},
            {"authorizations": None},
            {"authorizations": 7},
            {"authorizations": [7]},
            {"authorizations": AUTHORIZATION},
            {"authorizations": {AUTHORIZATION: 1}},
            {"authorizations": [{"url": AUTHORIZATION}]},
            {"finalize": None},
            {"finalize": 7},
            {"finalize": [FINALIZE]},
        ],
        ids=str,
    )
    def test_a_hostile_order(self, members: dict[str, object]) -> None:
        """Unknown states, other names, and URLs that are missing or none, are nonsense of the CA."""
        with pytest.raises(CAProtocolError):
            parse(answer(order() | members), ORDER, CSR.identifiers)

    @pytest.mark.parametrize("missing", ["status", "identifiers", "authorizations", "finalize"])
    def test_what_every_order_has(self, missing: str) -> None:
        """An order without state, names, authorizations or the URL to finalize it is nonsense of the CA."""
        value = {name: member for name, member in order().items() if name != missing}
        with pytest.raises(CAProtocolError):
            parse(answer(value), ORDER, CSR.identifiers)

    @pytest.mark.parametrize("value", [None, [], "text", 7])
    def test_what_is_no_object(self, value: object) -> None:
        """An order that is no JSON object is nonsense of the CA."""
        with pytest.raises(CAProtocolError):
            parse(answer(value), ORDER, CSR.identifiers)

    def test_names_are_compared_without_case_and_order(self) -> None:
        """A CA may answer with names in capitals and in another order."""
        names = [Identifier.dns("a.example.org"), Identifier.dns("b.example.org")]
        value = [{"type": "dns", "value": "B.example.org"}, {"type": "dns", "value": "A.EXAMPLE.ORG"}]
        assert parse(answer(order(identifiers=value)), ORDER, names).url == ORDER

    @pytest.mark.parametrize(
        "members", [{"expires": "tomorrow"}, {"expires": 7}, {"error": 7}, {"error": None}, {"notBefore": []}]
    )
    def test_members_that_nobody_uses(self, members: dict[str, object]) -> None:
        """A member that nothing depends on is not read, so that it cannot be wrong."""
        plain = parse(answer(order("ready")), ORDER, CSR.identifiers)
        assert parse(answer(order("ready") | members), ORDER, CSR.identifiers) == plain

    def test_a_certificate(self) -> None:
        """A valid order says where its certificate is."""
        assert parse(answer(order("valid")), ORDER, CSR.identifiers).certificate == CERTIFICATE

    def test_a_reason(self) -> None:
        """An invalid order may say why; its words are safe to log."""
        kind = "urn:ietf:params:acme:error:caa"
        sub = {"type": kind, "detail": "for\nbidden", "identifier": {"type": "dns", "value": NAME}}
        error = {"type": kind, "detail": "no\r\nway", "subproblems": [sub, 7]}
        found = parse(answer(order("invalid", error=error)), ORDER, CSR.identifiers).error
        assert found is not None
        assert (found.code, found.detail) == ("caa", "no way")
        assert found.subproblems == ((NAME, kind, "for bidden"),)
        odd = {"type": "a\nb", "subproblems": [{"type": "c\nd"}]}
        bare = parse(answer(order("invalid", error=odd)), ORDER, CSR.identifiers).error
        assert str(bare) == "a b (c d)"
