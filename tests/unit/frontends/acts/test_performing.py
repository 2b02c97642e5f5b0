"""What commands ask for is done or refused in words, and either is told to whoever listens."""

from __future__ import annotations

import dataclasses
import datetime
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from tests.auth_blocks import OneOfEach
from tests.chains import make_chain, make_request
from tests.issuing import IDENTITY, House

from acmems.auth import Block
from acmems.auth.processor import Authenticator
from acmems.events import AdministeredEvent, Bus, Event
from acmems.exceptions import ActFailed, CAProblem, CAUnavailable, RateLimited
from acmems.frontends.acts import performing
from acmems.frontends.acts.contract import ActArguments, ActingParts, ActOutcome, Progress
from acmems.frontends.acts.performing import Performer
from acmems.frontends.delivery import SigningPolicy
from acmems.issuers.acme.issuer import AcmeIssuer
from acmems.issuing.issuance import Issuance
from acmems.state.chains import ChainRecord, ChainRecords
from acmems.state.engines.sqlite import SqliteDatabase
from acmems.storages import IssuerIdentity
from acmems.system.clock import SYSTEM, Deadline
from acmems.x509.csr import CertificateRequest

NAME = "www.example.org"
ALL = (("all", "yes"), ("domain", "*.example.org"))


class OrderingAccount(NamedTuple):
    """An account, and what orders with it."""

    name: str
    identity: IssuerIdentity
    issuer: AcmeIssuer
    issuance: Issuance

    def follow(self) -> None:
        pass

    def revoke(self, certificate: bytes, reason: str, deadline: Deadline) -> bool:
        return cast(Authority, self.issuer).revoke()


class Authority:
    """In the place of the account at the CA."""

    account_url = "https://ca.example/account/1"

    def __init__(self) -> None:
        self.asked: Callable[[], None] = lambda: None

    def revoke(self) -> bool:
        """Revoke what is asked for."""
        self.asked()
        return True


class OneAccount:
    """The accounts of a server that has one."""

    def __init__(self, house: House, issuer: AcmeIssuer) -> None:
        self.issuances = house.issuances
        self.first = OrderingAccount("", IDENTITY, issuer, house.issuance)

    def of(self, name: str) -> OrderingAccount | None:
        return None if name else self.first

    party = of

    def at(self, directory: str) -> OrderingAccount | None:
        return self.first if directory == IDENTITY.directory else None


class Desk:
    """A performer of acts, with a policy of blocks, and what it tells."""

    def __init__(self, database: SqliteDatabase) -> None:
        self.house = House()
        self.authority = Authority()
        self.chains = ChainRecords(database)
        self.events: list[Event] = []
        bus = Bus()
        bus.subscribe(self.events.append)
        self.blocks = {"web": ALL}
        self.parts = ActingParts(
            OneAccount(self.house, cast(AcmeIssuer, self.authority)),
            self.policy,
            lambda: [self.house.storage],
            self.chains,
            bus,
            SYSTEM,
        )

    def policy(self) -> SigningPolicy:
        place = OneOfEach()
        place.default_storage = self.house.storage
        blocks = tuple(Block(name, pairs, place) for name, pairs in self.blocks.items())
        return SigningPolicy(Authenticator(blocks), 60.0, "dropped")

    def keep(self, request: CertificateRequest, **known: Any) -> ChainRecord:
        """Have a certificate in the state that was issued for a request."""
        record = ChainRecord.of(
            make_chain(request),
            identity=self.house.issuance.key(request).digest,
            directory=IDENTITY.directory,
            profile=None,
            issued=datetime.datetime.now(datetime.UTC),
            csr=request.pem,
        )
        record = dataclasses.replace(record, **known)
        self.chains.adopt([record]).result()
        return record

    def perform(self, act: str, **arguments: Any) -> Mapping[str, Any]:
        return Performer(self.parts)(act, arguments, "1000 somebody", lambda _: None)

    def refusal(self, act: str, **arguments: Any) -> str:
        with pytest.raises(ActFailed) as raised:
            self.perform(act, **arguments)
        return str(raised.value)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    database = SqliteDatabase.open(tmp_path / "state.sqlite")
    made = Desk(database)
    yield made
    made.house.close()
    database.close()


class TestPerformer:
    def test_an_act_nobody_knows(self, desk: Desk) -> None:
        """A command of another version is told what there is."""
        assert "the server cannot do 'explode', but rotate-key, deactivate, renew, revoke" in desk.refusal(
            "explode"
        )

    @pytest.mark.parametrize(
        ("act", "arguments", "words"),
        [
            ("rotate-key", {"key_type": "dsa"}, "there is no key type 'dsa'"),
            ("rotate-key", {"key_type": 1}, "'key_type' is no text"),
            ("revoke", {"reason": "boredom"}, "there is no reason 'boredom'"),
            ("revoke", {}, "'name' is missing"),
            ("revoke", {"certificate": "no PEM"}, "this is no certificate in PEM"),
            ("renew", {}, "'name' is missing"),
            ("renew", {"name": ["a"]}, "'name' is no text"),
        ],
        ids=str,
    )
    def test_arguments_that_are_none(
        self, desk: Desk, act: str, arguments: dict[str, Any], words: str
    ) -> None:
        """Whatever a command sends is answered in words."""
        assert words in desk.refusal(act, **arguments)

    def test_a_flag_that_is_none(self, desk: Desk) -> None:
        """A flag is true or false."""
        desk.keep(make_request(NAME))
        assert "'dry_run' is no flag" in desk.refusal("renew", name=NAME, dry_run="yes")

    @pytest.mark.parametrize("error", [None, CAUnavailable("down")], ids=["done", "failed"])
    def test_what_is_told(self, desk: Desk, monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
        """An event says who asked for what, and what came of it."""

        def act(_: ActingParts, __: ActArguments, progress: Progress) -> ActOutcome:
            progress("half way")
            if error is not None:
                raise error
            return ActOutcome({}, (NAME,), "superseded")

        monkeypatch.setattr(performing, "ACTS", {"revoke": act})
        if error is None:
            desk.perform("revoke")
        else:
            with pytest.raises(CAUnavailable):
                desk.perform("revoke")
        [event] = desk.events
        assert isinstance(event, AdministeredEvent)
        assert (event.act, event.who, event.client) == ("revoke", "1000 somebody", "command line")
        assert event.account == desk.house.issuance.issuer.account_url
        told = ("done", "superseded", (NAME,)) if error is None else ("failed", "down", ())
        assert (event.outcome, event.reason, event.names) == told

    def test_without_a_state(self, desk: Desk) -> None:
        """Where another server has the state, what needs it is refused in words."""
        desk.parts = dataclasses.replace(desk.parts, known_chains=None)
        assert "another server uses the state" in desk.refusal("renew", name=NAME)


class TestRenewal:
    def test_a_block_that_is_known(self, desk: Desk) -> None:
        """It is ordered by the block that granted it."""
        desk.blocks["other"] = ALL
        desk.keep(make_request(NAME), block="other")
        document = desk.perform("renew", name=NAME)
        assert (document["block"], document["is_ordered"]) == ("other", True)
        assert len(desk.house.authority.orders) == 1

    def test_a_block_that_is_not(self, desk: Desk) -> None:
        """It is ordered by the only block that grants it, or by the one that is named."""
        desk.keep(make_request(NAME))
        assert desk.perform("renew", name=NAME, dry_run=True)["block"] == "web"
        desk.blocks["other"] = ALL
        assert "these do: 'web', 'other'; name one by --block" in desk.refusal("renew", name=NAME)
        assert desk.perform("renew", name=NAME, dry_run=True, block="other")["block"] == "other"
        desk.blocks = {"none": (("all", "yes"), ("domain", "*.example.net"))}
        assert "none does" in desk.refusal("renew", name=NAME)
        assert desk.house.authority.orders == []

    def test_a_question_is_no_act(self, desk: Desk) -> None:
        """What is noted of a dry run says that it was one."""
        desk.keep(make_request(NAME), block="web")
        for dry_run in (True, False):
            desk.perform("renew", name=NAME, dry_run=dry_run)
        acts = [event.act for event in desk.events if isinstance(event, AdministeredEvent)]
        assert acts == ["renew --dry-run", "renew"]

    def test_a_request_that_is_not_known(self, desk: Desk) -> None:
        """Without its request only the machine itself can renew a certificate."""
        desk.keep(make_request(NAME), csr=None)
        assert "only the machine itself" in desk.refusal("renew", name=NAME)

    def test_a_pause(self, desk: Desk) -> None:
        """A dry run says that the CA is not asked at the moment, and for how long."""
        request = make_request(NAME)
        desk.keep(request, block="web")
        desk.house.authority.error = RateLimited("enough", retry_after=1000.0, is_overall=True)
        for dry_run in (False, True):
            with pytest.raises(RateLimited, match="enough"):
                desk.perform("renew", name=NAME, dry_run=dry_run)

    def test_one_that_is_being_revoked(self, desk: Desk) -> None:
        """Who has a certificate revoked may have it replaced at once."""
        record = desk.keep(make_request(NAME), block="web")
        desk.chains.revoking(record.fingerprint, "superseded").result()
        assert desk.perform("renew", name=NAME)["replaces"]["serial"] == record.serial

    def test_one_that_has_expired(self, desk: Desk) -> None:
        """What has expired is nothing to renew."""
        long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        desk.keep(make_request(NAME), not_after=long_ago)
        assert "there is no certificate to renew" in desk.refusal("renew", name=NAME)


class TestRevocation:
    @pytest.mark.parametrize("is_shared", [False, True], ids=["alone", "shared"])
    def test_other_servers(self, desk: Desk, monkeypatch: pytest.MonkeyPatch, *, is_shared: bool) -> None:
        """Where other servers deliver, too, they have learnt of it before the CA is asked."""
        record = desk.keep(make_request(NAME), block="web")
        monkeypatch.setattr(ChainRecords, "is_shared", is_shared)
        waits = list[float]()

        def wait(_: threading.Event, seconds: float) -> bool:
            assert desk.chains.is_revoked(record.fingerprint)
            assert desk.events == []
            waits.append(seconds)
            return False

        desk.parts = dataclasses.replace(desk.parts, clock=dataclasses.replace(SYSTEM, wait=wait))
        document = desk.perform("revoke", name=NAME, reason="superseded")
        assert document["was_revoked_before"] is False
        assert bool(waits) is is_shared
        [found] = desk.chains.find(record.fingerprint)
        assert (found.reason, found.revoked is not None) == ("superseded", True)

    def test_the_intent_is_durable(self, desk: Desk) -> None:
        """When the CA is asked it is noted already, and it stays noted when the CA refuses."""
        record = desk.keep(make_request(NAME), block="web")

        def refuse() -> None:
            [found] = desk.chains.find(record.fingerprint)
            assert (found.reason, found.revoked) == ("superseded", None)
            raise CAProblem(403, f"{CAProblem.PREFIX}unauthorized", "not yours")

        desk.authority.asked = refuse
        words = desk.refusal("revoke", name=NAME, reason="superseded")
        assert "not yours" in words
        assert record.serial in words
        assert desk.chains.is_revoked(record.fingerprint)

    def test_again(self, desk: Desk) -> None:
        """Who repeats it need not repeat the reason, and hears that it was done before."""
        record = desk.keep(make_request(NAME), block="web")

        def refuse() -> None:
            raise CAProblem(403, f"{CAProblem.PREFIX}unauthorized", "not now")

        desk.authority.asked = refuse
        desk.refusal("revoke", name=NAME, reason="keyCompromise")
        desk.authority.asked = lambda: None
        for was_revoked in (False, True):
            document = desk.perform("revoke", name=record.serial, reason=None)
            assert (document["reason"], document["was_revoked_before"]) == ("keyCompromise", was_revoked)
