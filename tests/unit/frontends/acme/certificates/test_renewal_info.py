"""When clients are told to renew (RFC 9773), and orders that replace a certificate."""

from __future__ import annotations

import datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.acme_orders import Orderer, Ordering
from tests.chains import make_chain, make_request

from acmems.frontends.acme.certificates.renewal_info import suggested_window
from acmems.issuers.acme.certificates.renewal_info import certificate_id
from acmems.state.chains import ChainRecord
from acmems.state.chains.renewals import RenewalRecord, RenewalRecords
from acmems.state.engines.contract import Database
from acmems.x509 import chain as chains

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def record(days: int = 90) -> ChainRecord:
    """Return a chain that expires in so many days."""
    chain = make_chain(make_request("a.example.org"), days)
    return ChainRecord.of(chain, identity="i", directory="d", profile=None, issued=NOW)


def planned(chain: ChainRecord, *window: datetime.datetime, due: datetime.datetime) -> RenewalRecord:
    """Return the plan of a chain."""
    starts, ends = window or (None, None)
    return RenewalRecord(
        fingerprint=chain.fingerprint,
        directory="d",
        certificate=None,
        ends_at=chain.not_after,
        due=due,
        starts=starts,
        ends=ends,
        explanation="https://ca.example.org/why",
        next_question=NOW,
        next_try=due,
    )


class TestWindows:
    """When a certificate is to be renewed."""

    def test_that_of_the_ca_outside(self) -> None:
        """Where it has told one."""
        chain = record()
        window = suggested_window(chain, planned(chain, NOW + DAY, NOW + 2 * DAY, due=NOW + DAY), NOW)
        assert (window.start, window.end) == (NOW + DAY, NOW + 2 * DAY)

    def test_a_part_of_the_end_of_its_life(self) -> None:
        """Where it has told none: from when renewal is due, with time left for further tries."""
        chain = record(90)
        for plan in (None, planned(chain, due=chain.not_after - 30 * DAY)):
            window = suggested_window(chain, plan, NOW)
            assert chain.not_after - 32 * DAY <= window.start <= chain.not_after - 30 * DAY
            assert window.start + 9 * DAY < window.end < chain.not_after - 19 * DAY

    def test_at_once_where_it_is_revoked(self) -> None:
        """Whatever was planned."""
        chain = record()
        revoked = ChainRecord(
            **{each: getattr(chain, each) for each in chain.__slots__} | {"reason": "superseded"}
        )
        window = suggested_window(revoked, planned(chain, NOW + DAY, NOW + 2 * DAY, due=NOW), NOW)
        assert window.start < window.end < NOW

    def test_a_plan_for_the_last_moment_leaves_a_window(self) -> None:
        """The end is later than the start, always."""
        chain = record()
        window = suggested_window(chain, planned(chain, due=chain.not_after + DAY), NOW)
        assert window.start < window.end <= chain.not_after


class TestAnswers:
    """What clients get."""

    def test_a_window(self, here: Ordering, client: Orderer, state: Database) -> None:
        """By an unsigned GET, with the time to ask again; as the plans say, and the CA's page."""
        name = certificate_id(client.obtain("a.example.org").body)
        url = f"{client.directory['renewalInfo']}/{name}"
        answer = client.get(url)
        assert (answer.status, answer.headers["Retry-After"]) == (200, "21600")
        window = answer.json["suggestedWindow"]
        assert NOW.isoformat()[:10] < window["start"] < window["end"]
        assert "explanationURL" not in answer.json
        [chain] = here.house.storage.chains.values()
        [found] = here.chains.of([chain.fingerprint])
        plan = planned(found, NOW + DAY, NOW + 2 * DAY, due=NOW + DAY)
        RenewalRecords(state).begin([chain.fingerprint], [plan]).result(20)
        assert client.get(url).json == {
            "suggestedWindow": {
                "start": f"{NOW + DAY:%Y-%m-%dT%H:%M:%SZ}",
                "end": f"{NOW + 2 * DAY:%Y-%m-%dT%H:%M:%SZ}",
            },
            "explanationURL": "https://ca.example.org/why",
        }

    @pytest.mark.parametrize("name", ["a", "a.b", "a.", ".b", "a.b.c", "AAAA.AAAA", "AAAA.A", "a" * 199])
    def test_other_names_are_not_known(self, client: Orderer, name: str) -> None:
        """Whatever they are."""
        assert client.get(f"{client.directory['renewalInfo']}/{name}").status == 404


def test_the_newest_one_counts(here: Ordering, client: Orderer, state: Database) -> None:
    """With a key for each certificate: older ones of an account for the same names are not overdue."""
    first, other = client.obtain("a.example.org").body, client.obtain("b.example.org").body
    with here.client() as another:
        theirs = another.obtain("a.example.org").body
    plans = RenewalRecords(state)
    [known] = here.chains.of([chains.parse(first).fingerprint])
    plans.begin([known.fingerprint], [planned(known, due=NOW)]).result(20)
    assert plans.count(NOW + DAY) == 1
    newest = client.obtain("a.example.org").body
    found = {each.pem: each for each in here.chains.all(current_only=False)}
    assert [found[each].is_current for each in (first, other, theirs, newest)] == [False, True, True, True]
    assert plans.count(NOW + DAY) == 0
    assert client.get(f"{client.directory['renewalInfo']}/{certificate_id(first)}").status == 200


class TestReplacing:
    """Orders that say which certificate they replace."""

    def test_it_is_replaced_once(self, here: Ordering, client: Orderer, state: Database) -> None:
        """By an order that is open, or was issued, however long ago; not by one that has failed."""
        name = certificate_id(client.obtain("a.example.org").body)
        failed = client.order("a.example.org", replaces=name)
        assert (failed.status, failed.json["replaces"]) == (201, name)
        again = client.order("a.example.org", replaces=name)
        assert (again.status, again.problem) == (409, "alreadyReplaced")
        client.post(failed.json["authorizations"][0], {"status": "deactivated"})
        assert client.obtain("a.example.org", replaces=name).status == 200
        here.parts.orders.forget(here.parts.now + 10**7)
        state.check().result(20)
        assert client.order("a.example.org", replaces=name).problem == "alreadyReplaced"

    def test_the_same_certificate_replaces_nothing(self, client: Orderer) -> None:
        """A client that keeps its key gets what is stored until that is due; then it replaces it."""
        key = ec.generate_private_key(ec.SECP256R1())
        first = client.obtain("a.example.org", key=key).body
        for _ in range(2):
            assert client.obtain("a.example.org", key=key, replaces=certificate_id(first)).body == first

    def test_only_what_is_its_own(self, here: Ordering, client: Orderer) -> None:
        """And only by an order that has a name in common with it."""
        name = certificate_id(client.obtain("a.example.org").body)
        with here.client() as other:
            assert other.order("a.example.org", replaces=name).problem == "malformed"
        assert client.order("b.example.org", replaces=name).problem == "malformed"
        assert client.order("b.example.org", "a.example.org", replaces=name).status == 201
