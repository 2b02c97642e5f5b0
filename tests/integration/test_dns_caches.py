"""A real resolver that keeps "no such name", and that the CA shares: acmems must not make it keep that."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import dns.name
import dns.query
import dns.update
import pytest
from tests.peers import Bind

from acmems.challenges import DnsUpdate, Proof
from acmems.challenges.dns_persist01 import DnsPersist
from acmems.challenges.txt import txt_value
from acmems.commands.records.lookup import RecordState, compare
from acmems.commands.records.needed import DnsRecord, Requirement
from acmems.dns.client.aliases import Aliases
from acmems.dns.client.delegations import Delegations
from acmems.dns.client.propagation import Propagation
from acmems.dns.client.records import Records
from acmems.dns.client.resolver import Resolver
from acmems.exceptions import ValidatorUnavailable
from acmems.net.address import Address
from acmems.system.clock import SYSTEM
from acmems.x509.identifiers import Identifier

ACCOUNT = "https://ca.example/acct/1"
PERMISSION = f"ca.example; accounturi={ACCOUNT}"


class Sparse(Bind):
    """A name server without the wildcard of other tests, so that names are missing."""

    def prepare(self) -> None:
        """Write the zone without it."""
        super().prepare()
        file = self.folder / "example.org.zone"
        file.write_text(file.read_text(encoding="utf-8").replace("* A ", "ns A "), encoding="utf-8")


class Caching(Bind):
    """A resolver that asks one name server for example.org, and keeps what it hears."""

    def __init__(self, authority: Bind) -> None:
        super().__init__("resolver.test")
        self.authority = authority

    def prepare(self) -> None:
        """Forward questions."""
        super().prepare()
        file = self.folder / "named.conf"
        text = file.read_text(encoding="utf-8").replace("recursion no", "recursion yes")
        text += (
            '\nzone "example.org" { type forward; forward only; '
            f"forwarders {{ 127.0.0.1 port {self.authority.port}; }}; }};\n"
        )
        file.write_text(text, encoding="utf-8")

    def knows(self, name: str, kind: str) -> bool:
        """Tell whether it has records of a name for the CA, from its cache or not."""
        return bool(self._query(name, kind).answer)


@pytest.fixture(scope="module")
def authority() -> Iterator[Bind]:
    """The name server of example.org, whose "no such name" may be kept for a minute."""
    with Sparse("example.org") as server:
        yield server


@pytest.fixture(scope="module")
def resolver(authority: Bind) -> Iterator[Caching]:
    """What acmems and the CA have for a resolver."""
    with Caching(authority) as server:
        yield server


@pytest.fixture
def asked(resolver: Caching) -> Resolver:
    return Resolver([Address("127.0.0.1", resolver.port)])


@pytest.fixture
def delegations(asked: Resolver, authority: Bind) -> Delegations:
    return Delegations(asked, port=authority.port)


def change(server: Bind, what: object) -> None:
    """Change example.org at its name server, as its administrator would."""
    assert callable(what)
    update = dns.update.UpdateMessage("example.org")
    what(update)
    answer = dns.query.tcp(update, "127.0.0.1", timeout=30, port=server.port)
    assert answer.rcode() == 0


def add(server: Bind, name: str, kind: str, data: str) -> None:
    change(server, lambda update: update.add(f"{name}.", 60, kind, data))


def test_the_resolver_keeps_what_does_not_exist(authority: Bind, resolver: Caching) -> None:
    """The tests below mean something: who asks the resolver too early does not see the record."""
    assert not resolver.knows("early.example.org", "TXT")
    add(authority, "early.example.org", "TXT", "late")
    assert authority.texts("early.example.org") == {"late"}
    assert not resolver.knows("early.example.org", "TXT")


def test_a_permanent_record_that_is_added_late(
    authority: Bind, resolver: Caching, asked: Resolver, delegations: Delegations
) -> None:
    """A record that was missing is seen as soon as it has been created, also where the CA looks."""
    mine = DnsPersist("persist", asked, records=Records(asked, delegations))
    proof = Proof(
        Identifier.dns("www.late.example.org"),
        "",
        "",
        lambda: None,
        account_url=ACCOUNT,
        issuers=("ca.example",),
    )
    with pytest.raises(ValidatorUnavailable, match="DNS lacks the TXT record"):
        mine.present([proof])
    add(authority, "_validation-persist.www.late.example.org", "TXT", f'"{PERMISSION}"')
    mine.present([proof])
    assert resolver.knows("_validation-persist.www.late.example.org", "TXT")
    assert resolver.knows("_validation-persist.www.late.example.org", "TXT")


@pytest.mark.parametrize(
    ("name", "kind", "data"),
    [
        ("_validation-persist.kinds.example.org", "TXT", "value"),
        ("_acme-challenge.kinds.example.org", "CNAME", "kinds.acme.example.org."),
        ("acme.example.org", "NS", "ns.acme.example.org."),
        ("ns.acme.example.org", "A", "127.0.0.1"),
    ],
)
def test_records_that_check_has_listed(
    authority: Bind,
    resolver: Caching,
    asked: Resolver,
    delegations: Delegations,
    name: str,
    kind: str,
    data: str,
) -> None:
    """What `check --records` misses is in place as soon as it has been added, also for the CA."""
    needed = Requirement(DnsRecord(dns.name.from_text(name), kind, data))
    source = Records(asked, delegations)
    assert compare(needed, source).state is RecordState.MISSING
    if kind == "A":
        add(authority, "acme.example.org", "NS", "ns.acme.example.org.")
    add(authority, name, kind, data)
    try:
        assert compare(needed, source).state is RecordState.IN_PLACE
        if kind in {"TXT", "CNAME"}:  # a delegation leads to acmems, which does not run here
            assert resolver.knows(name, kind)
    finally:
        if kind in {"A", "NS"}:
            change(authority, lambda update: update.delete("acme.example.org."))
            change(authority, lambda update: update.delete("ns.acme.example.org."))


@pytest.mark.parametrize("mode", ["authoritative", "recursive"])
def test_a_record_of_a_dynamic_update(authority: Bind, resolver: Caching, mode: str) -> None:
    """From the zone to the wait, nothing that is asked makes the resolver keep that there is no record."""
    address = Address("127.0.0.1", resolver.port)
    seen = Propagation(mode, [address], timeout=60, port=authority.port)
    validator = DnsUpdate("dns", [Address("127.0.0.1", authority.port)], timeout=30, propagation=seen)
    proof = Proof(Identifier.dns(f"{mode}.new.example.org"), "token", "token.thumbprint", lambda: None)
    validator.present([proof])
    validator.wait([proof], SYSTEM.deadline(60), threading.Event())
    record = f"_acme-challenge.{mode}.new.example.org"
    assert resolver.texts(record) == {txt_value("token.thumbprint")}
    validator.withdraw([proof])


def test_where_the_cname_of_a_record_leads(
    authority: Bind, resolver: Caching, delegations: Delegations
) -> None:
    """Looking for CNAMEs, for a program or a provider, the resolver hears neither name nor target."""
    add(authority, "_acme-challenge.alias.example.org", "CNAME", "target.example.org.")
    records = [
        (dns.name.from_text(f"_acme-challenge.{name}.example.org"), "value") for name in ("alias", "plain")
    ]
    ends = Aliases(delegations).take(records)
    assert [ends[record].name.to_text(omit_final_dot=True) for record in records] == [
        "target.example.org",
        "_acme-challenge.plain.example.org",
    ]
    for name in ("target.example.org", "_acme-challenge.plain.example.org"):
        add(authority, name, "TXT", "value")
    assert resolver.texts("_acme-challenge.alias.example.org") == {"value"}
    assert resolver.texts("_acme-challenge.plain.example.org") == {"value"}
