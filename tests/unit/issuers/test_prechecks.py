"""Names are looked at before an order, side by side, and never for long."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
import pytest
from tests.fake_ca import (
    ACCOUNT,
    AUTHORIZATION,
    CHALLENGE,
    NEW_ORDER,
    ORDER,
    FakeValidator,
    Time,
    authorization,
    challenge,
    order,
)
from tests.ordering import CSR, Desk
from tests.steps import LoopTime, begin, settle, wait_for

from acmems.challenges import Validator
from acmems.dns.authority.statement import AuthoritativeAnswer
from acmems.exceptions import (
    CaaRefusal,
    CAUnavailable,
    NoChallengeMethodsSupported,
    PreCheckFailed,
    ValidatorUnavailable,
)
from acmems.issuers.acme.orders.statements import StatedLimit
from acmems.issuers.acme.prechecks.examination import Outlook, PreChecks
from acmems.issuers.acme.prechecks.options import PreCheckOptions
from acmems.net.address import Address
from acmems.system.clock import Deadline
from acmems.system.steps import OWNER, StepLoop, Steps
from acmems.x509.identifiers import Identifier

ALL = PreCheckOptions(caa=True, addresses=True)
CA = ("ca.example",)
NAME = Identifier.dns("a.example.org")
HTTP, DNS = FakeValidator("http-01"), FakeValidator("dns-01")
SOA = "ns.example.org. hostmaster.example.org. 1 3600 600 86400 60"


class Zone:
    """Has authority for example.org; each name has an address but those that are told to have none.

    Args:
        caa: CAA records by names.
        bare: names without addresses.
    """

    def __init__(self, caa: dict[str, str] | None = None, bare: tuple[str, ...] = ()) -> None:
        self.caa = caa or {}
        self.bare = bare
        self.is_suspended = False
        self.error: Exception | None = None
        self.asked: list[tuple[str, str]] = []
        self.deadlines: list[Deadline] = []
        self.owners: set[object] = set()
        self.gate = threading.Event()
        self.gate.set()

    def ask(
        self, name: dns.name.Name, kind: dns.rdatatype.RdataType, deadline: Deadline
    ) -> AuthoritativeAnswer:
        text, type_ = name.to_text(omit_final_dot=True), dns.rdatatype.to_text(kind)
        self.asked.append((text, type_))
        self.deadlines.append(deadline)
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        answer = dns.message.Message()
        answer.flags |= dns.flags.AA
        if type_ == "CAA" and text in self.caa:
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "CAA", self.caa[text]))
        elif type_ == "A" and text not in self.bare:
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.1"))
        else:
            answer.authority.append(dns.rrset.from_text("example.org.", 60, "IN", "SOA", SOA))
        return AuthoritativeAnswer(answer, dns.name.from_text("example.org"))

    def prechecks(self, loop: StepLoop, options: PreCheckOptions = ALL) -> PreChecks:
        return PreChecks(options, loop, lambda _options, _clock: self)


def look(
    zone: Zone,
    *validators: Validator,
    names: tuple[Identifier, ...] = (NAME,),
    options: PreCheckOptions = ALL,
    issuers: tuple[str, ...] = CA,
) -> Outlook:
    """Return the outlook of an order, without waiting for real."""
    loop = Desk().loop
    prechecks = zone.prechecks(loop, options)
    return loop.run(prechecks.outlook(prechecks.begin(names, validators or (HTTP,), issuers), ACCOUNT))


def desk_for(zone: Zone) -> tuple[Desk, Time]:
    """Return orders at a CA with a name for records, and the time that they go by."""
    time = Time()
    loop = time.loop()
    desk = Desk(loop, prechecks=zone.prechecks(loop))
    desk.session.announce(caaIdentities=["ca.example"])
    return desk, time


class Terms:
    """Takes note of room that is taken."""

    def __init__(self) -> None:
        self.reserved = 0

    def replaces(self) -> Steps[str | None]:
        yield from ()
        return None

    def reserve(self, replaces: str | None) -> Steps[None]:
        yield from ()
        self.reserved += 1

    def reserve_certificate(self) -> Steps[None]:
        yield from ()
        self.reserved += 1

    def limited(self, stated: StatedLimit) -> None:
        pass

    def give_back(self, *, is_placed: bool) -> None:
        pass


class TestWhatIsLookedUp:
    def test_all(self) -> None:
        """CAA records from the name up, and addresses until there is one."""
        zone = Zone()
        assert look(zone) == Outlook()
        assert zone.asked == [
            ("a.example.org", "CAA"),
            ("example.org", "CAA"),
            ("org", "CAA"),
            ("a.example.org", "A"),
        ]

    @pytest.mark.parametrize(
        ("options", "issuers", "types"),
        [
            (PreCheckOptions(), CA, set()),
            (PreCheckOptions(caa=True), CA, {"CAA"}),
            (PreCheckOptions(caa=True), (), set()),
            (PreCheckOptions(addresses=True), (), {"A"}),
            (ALL, (), {"A"}),
        ],
    )
    def test_what_is_wanted(
        self, options: PreCheckOptions, issuers: tuple[str, ...], types: set[str]
    ) -> None:
        """What is not wanted is not looked up, nor CAA records for a CA without names."""
        zone = Zone()
        assert look(zone, options=options, issuers=issuers) == Outlook()
        assert {type_ for _, type_ in zone.asked} == types

    def test_what_is_in_no_dns(self) -> None:
        """IP addresses have no CAA records, and names that nothing proves are not looked at."""

        class Never(FakeValidator):
            def proves(self, identifier: Identifier) -> bool:
                return False

        zone = Zone()
        assert look(zone, Never(), names=(NAME, Identifier.ip("192.0.2.1"))) == Outlook()
        assert look(zone, names=(Identifier.ip("192.0.2.1"),)) == Outlook()
        assert not zone.asked

    def test_a_wildcard(self) -> None:
        """It is looked up at its base."""
        zone = Zone({"a.example.org": '0 issuewild ";"'})
        outlook = look(zone, DNS, names=(Identifier.dns("*.a.example.org"),))
        assert [error.domain for error in outlook.errors] == ["*.a.example.org"]
        assert zone.asked[0] == ("a.example.org", "CAA")


class TestWhatBecomesOfIt:
    def test_each_name_is_told(self) -> None:
        """The error tells of each name that cannot be had, and of none that can."""
        names = tuple(Identifier.dns(f"{each}.example.org") for each in "abc")
        zone = Zone({"a.example.org": '0 issue ";"'}, bare=("c.example.org",))
        with pytest.raises(CaaRefusal) as caught:
            look(zone, names=names).check()
        assert [type(each) for each in caught.value.each] == [CaaRefusal, PreCheckFailed]
        assert "b.example.org" not in str(caught.value)

    def test_what_is_excluded(self) -> None:
        """A verification that the records do not allow is left out for that name only."""
        zone = Zone({"a.example.org": '0 issue "ca.example; validationmethods=dns-01"'})
        outlook = look(zone, HTTP, DNS, names=(NAME, Identifier.dns("b.example.org")))
        assert outlook == Outlook(frozenset({(NAME, "http-01")}))
        outlook.check()

    @pytest.mark.parametrize("error", [ValidatorUnavailable("nobody tells"), ZeroDivisionError()])
    def test_what_is_not_known(self, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
        """Where nobody tells anything definite the CA decides; a bug does not stop orders, but is logged."""
        zone = Zone({"a.example.org": '0 issue ";"'})
        zone.error = error
        caplog.set_level("INFO")
        assert look(zone) == Outlook()
        assert ("a bug" in caplog.text) == isinstance(error, ZeroDivisionError)

    def test_an_order_that_must_fail_is_not_placed(self) -> None:
        """Nothing is asked of the CA, no room is taken there, and the DNS is asked anew next time."""
        zone = Zone({"example.org": '0 issue "ca.invalid"'})
        desk, _ = desk_for(zone)
        terms = Terms()
        for _ in range(2):
            with pytest.raises(CaaRefusal, match="do not name the CA"):
                desk.loop.run(desk.ordering.obtain(CSR, [HTTP], desk.time.within(60.0), "key", terms))
        assert not desk.session.posts
        assert not terms.reserved
        assert zone.asked.count(("example.org", "CAA")) == 2
        zone.caa["example.org"] = '0 issue "ca.example"'
        assert desk.obtain()
        assert desk.obtain(key="another")
        assert zone.asked.count(("example.org", "CAA")) == 3

    def test_an_order_that_is_open_goes_on(self) -> None:
        """What has been ordered already costs nothing more: the CA decides."""
        zone = Zone()
        desk, time = desk_for(zone)
        desk.say(AUTHORIZATION, CAUnavailable("down"))
        with pytest.raises(CAUnavailable):
            desk.obtain()
        time.seconds += 61
        zone.caa["a.example.org"] = '0 issue ";"'
        desk.say(ORDER, order(), order("valid"))
        desk.say(AUTHORIZATION, authorization("valid"))
        assert desk.obtain()
        assert desk.count(NEW_ORDER) == 1
        assert zone.asked.count(("a.example.org", "CAA")) == 2

    def test_the_way_that_is_left_is_taken(self) -> None:
        """Of several verifications, one is used that the records allow, although it is not the first."""
        zone = Zone({"a.example.org": '0 issue "ca.example; validationmethods=dns-01"'})
        desk, _ = desk_for(zone)
        offer = [challenge("http-01"), challenge("dns-01", url=f"{CHALLENGE}/2")]
        desk.say(AUTHORIZATION, authorization(challenges=offer), authorization("valid", challenges=offer))
        desk.say(f"{CHALLENGE}/2", {})
        first, second = FakeValidator("http-01"), FakeValidator("dns-01")
        desk.loop.run(desk.ordering.obtain(CSR, [first, second], desk.time.within(60.0), "key"))
        assert not first.presented
        assert len(second.presented) == 1

    def test_a_way_that_the_ca_does_not_offer(self) -> None:
        """It is told what is lacking where the CA does not offer what the records allow."""
        zone = Zone({"a.example.org": '0 issue "ca.example; validationmethods=dns-01"'})
        desk, _ = desk_for(zone)
        desk.say(AUTHORIZATION, authorization())
        with pytest.raises(NoChallengeMethodsSupported, match="offers no dns-01 challenge for a"):
            desk.loop.run(desk.ordering.obtain(CSR, [HTTP, DNS], desk.time.within(60.0), "key"))


class TestTime:
    @pytest.fixture
    def time(self) -> Iterator[LoopTime]:
        made = LoopTime()
        yield made
        made.loop.close()

    def test_slow_dns(self, time: LoopTime) -> None:
        """An order waits for two seconds at most; what comes later serves the next one."""
        zone = Zone({"a.example.org": '0 issue ";"'})
        zone.gate.clear()
        prechecks = zone.prechecks(time.loop)

        def examine() -> Steps[Outlook]:
            examination = prechecks.begin((NAME,), (HTTP,), CA)
            return (yield from prechecks.outlook(examination, ACCOUNT))

        first = begin(time.loop, examine())
        wait_for(lambda: len(zone.asked) == 2)
        time.move(1.9)
        assert not first.done()
        time.move(0.2)
        assert first.result(30) == Outlook()
        zone.gate.set()
        assert begin(time.loop, examine()).result(30).errors
        assert len(zone.asked) == 2
        assert zone.deadlines[0].at == 1005.0

    def test_no_dns(self, time: LoopTime) -> None:
        """Where nobody answers lately, nobody is asked, and orders do not wait."""
        zone = Zone({"a.example.org": '0 issue ";"'})
        zone.is_suspended = True
        prechecks = zone.prechecks(time.loop)
        examination = prechecks.begin((NAME,), (HTTP,), CA)
        assert examination.ended.is_set()
        assert not zone.asked

    def test_what_is_known_costs_no_thread(self, time: LoopTime) -> None:
        """What is kept is found at once."""
        zone = Zone()
        prechecks = zone.prechecks(time.loop)
        first = prechecks.begin((NAME,), (HTTP,), CA)
        wait_for(first.ended.is_set)
        asked = len(zone.asked)
        second = prechecks.begin((NAME,), (HTTP,), CA)
        assert second.ended.is_set()
        assert second.caa == {NAME: None}
        assert second.addresses[NAME].is_addressed
        assert len(zone.asked) == asked

    def test_names_are_looked_up_side_by_side(self, time: LoopTime) -> None:
        """All names of an order are being looked up before the first answer comes."""
        zone = Zone()
        zone.gate.clear()
        names = tuple(Identifier.dns(f"n{number}.example.org") for number in range(8))
        examination = zone.prechecks(time.loop, PreCheckOptions(caa=True)).begin(names, (HTTP,), CA)
        wait_for(lambda: len(zone.asked) == 8)
        zone.gate.set()
        wait_for(examination.ended.is_set)

    def test_for_whom(self, time: LoopTime) -> None:
        """Threads are shared out among those for whom the orders are."""

        def work() -> object:
            OWNER.set(("block", "client"))
            return zone.prechecks(time.loop).begin((NAME,), (HTTP,), CA).owner

        zone = Zone()
        assert contextvars.copy_context().run(work) == ("block", "client")
        settle(time.loop)


def test_other_options() -> None:
    """Options can change while the server runs; other name servers are asked anew."""
    made: list[PreCheckOptions] = []
    zone = Zone({"a.example.org": '0 issue ";"'})
    loop = Desk().loop

    def authorities(options: PreCheckOptions, _clock: object) -> Zone:
        made.append(options)
        return zone

    prechecks = PreChecks(PreCheckOptions(), loop, authorities)

    def errors() -> int:
        return len(loop.run(prechecks.outlook(prechecks.begin((NAME,), (HTTP,), CA), ACCOUNT)).errors)

    assert errors() == 0
    prechecks.reconfigure(ALL)
    assert errors() == 1
    assert len(made) == 1
    prechecks.reconfigure(PreCheckOptions(caa=True, nameservers=(Address("192.0.2.1", 53),)))
    assert len(made) == 2
