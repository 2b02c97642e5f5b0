"""The CA's directory: what it must offer, and what it says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from acmems.exceptions import CAProtocolError
from acmems.issuers.acme.directory import Directory

CA = "https://ca.example"
RESOURCES = {name: f"{CA}/{name}" for name in ("newNonce", "newAccount", "newOrder")}


def parse(**meta: object) -> Directory:
    return Directory.parse({**RESOURCES, "meta": meta})


class TestResources:
    def test_urls_by_name(self) -> None:
        """Each resource is found by its name; what the CA does not offer is not there."""
        directory = Directory.parse({**RESOURCES, "revokeCert": f"{CA}/revoke"})
        assert directory["newOrder"] == f"{CA}/newOrder"
        assert "revokeCert" in directory
        assert "renewalInfo" not in directory
        with pytest.raises(KeyError):
            directory["renewalInfo"]
        assert set(directory.required) == set(RESOURCES.values())

    @pytest.mark.parametrize("missing", RESOURCES)
    @pytest.mark.parametrize("value", [None, 7, [f"{CA}/x"], {}])
    def test_what_every_ca_offers(self, missing: str, value: object) -> None:
        """A directory without newNonce, newAccount or newOrder is nonsense; the error names what it lacks."""
        with pytest.raises(CAProtocolError, match=missing):
            Directory.parse({**RESOURCES, missing: value})
        with pytest.raises(CAProtocolError, match=missing):
            Directory.parse({name: url for name, url in RESOURCES.items() if name != missing})

    @pytest.mark.parametrize("value", [None, 7, [f"{CA}/x"], {"a": 1}])
    def test_what_is_no_url_is_not_offered(self, value: object) -> None:
        """Members that are no texts, whatever they are for, are no resources."""
        assert "newAuthz" not in Directory.parse({**RESOURCES, "newAuthz": value})


class TestMeta:
    @pytest.mark.parametrize(
        "document",
        [
            {},
            {"meta": {}},
            {
                "meta": dict.fromkeys(
                    ("termsOfService", "externalAccountRequired", "caaIdentities", "profiles")
                )
            },
            {"meta": {"termsOfService": "", "website": 7, "odd": []}},
        ],
        ids=str,
    )
    def test_a_ca_that_says_nothing(self, document: dict[str, Any]) -> None:
        """Everything in `meta` is optional, and so is `meta` (RFC 8555 section 7.1.1)."""
        directory = Directory.parse({**RESOURCES, **document})
        assert directory == Directory(RESOURCES)
        assert (directory.terms_of_service, directory.external_account_required) == (None, False)
        assert (directory.caa_identities, directory.profiles) == ((), {})

    def test_what_it_says_is_kept(self) -> None:
        """Terms, CAA names, profiles and the need for an external account are kept; terms are one line."""
        directory = parse(
            termsOfService=f"{CA}/terms\r\nX: y",
            caaIdentities=["ca.example", "ca.example.org"],
            externalAccountRequired=True,
            profiles={"short": "six days"},
        )
        assert directory.terms_of_service == f"{CA}/terms X: y"
        assert directory.caa_identities == ("ca.example", "ca.example.org")
        assert directory.external_account_required
        assert directory.profiles == {"short": "six days"}

    @pytest.mark.parametrize(
        "meta",
        [
            {"termsOfService": 7},
            {"termsOfService": [f"{CA}/terms"]},
            {"externalAccountRequired": "yes"},
            {"externalAccountRequired": 1},
            {"profiles": ["short"]},
        ],
        ids=str,
    )
    def test_members_of_odd_types(self, meta: dict[str, object]) -> None:
        """What an account or an order depends on is there in its own type, or the directory is nonsense."""
        with pytest.raises(CAProtocolError, match="meta"):
            parse(**meta)

    @pytest.mark.parametrize("meta", [None, 7, "x", [], True])
    def test_a_meta_that_is_none(self, meta: object) -> None:
        """A `meta` that is no object is nonsense."""
        with pytest.raises(CAProtocolError, match="meta"):
            Directory.parse({**RESOURCES, "meta": meta})

    @pytest.mark.parametrize(
        ("value", "identities"), [("ca.example", ()), ({"a": 1}, ()), (["a", 7, None, "b"], ("a", "b"))]
    )
    def test_odd_caa_names(self, value: object, identities: tuple[str, ...]) -> None:
        """Nothing depends on the CA's names in CAA records: those that can be read are kept."""
        assert parse(caaIdentities=value).caa_identities == identities
