"""The dns-01 validator against a real BIND."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import dns.name
import pytest
from tests.peers import Acmems, Bind, Key, Pebble, Settings, curl_sign, free_port, make_key_and_csr

from acmems.challenges import DnsUpdate, Proof
from acmems.challenges.txt import txt_value
from acmems.dns.client.propagation import Propagation
from acmems.dns.client.tsig import TsigKey
from acmems.exceptions import ValidatorUnavailable
from acmems.frontends.problems import status_of
from acmems.net.address import Address
from acmems.text import Secret
from acmems.x509.identifiers import Identifier

RECORD = "_acme-challenge.www.example.org"
KEY = Key()
OTHER_SECRET = "b3RoZXIgc2VjcmV0"  # noqa: S105 - no secret at all
CNAMES = """
_acme-challenge.here CNAME elsewhere.example.org.
_acme-challenge.foreign CNAME www.sub.example.org.
_acme-challenge.away CNAME _acme-challenge.away.example.net.
_acme-challenge.circle CNAME round.example.org.
round CNAME and.example.org.
and CNAME _acme-challenge.circle.example.org.
_acme-challenge.long CNAME 1.example.org.
moved DNAME inner.example.org.
*.wild CNAME elsewhere.example.org.
_acme-challenge.own.wild CNAME elsewhere.example.org.
""" + "".join(f"{number} CNAME {number + 1}.example.org.\n" for number in range(1, 10))


@pytest.fixture(scope="module")
def bind() -> Iterator[Bind]:
    """A name server for example.org, and for sub.example.org as a zone of its own."""
    with Bind("example.org", "sub.example.org", records=CNAMES) as server:
        yield server


@pytest.fixture(scope="module")
def keyed() -> Iterator[Bind]:
    """A name server where only a key may change TXT records of challenges."""
    with Bind("example.org", key=KEY) as server:
        yield server


@pytest.fixture
def validator(bind: Bind) -> DnsUpdate:
    return made(bind)


def made(
    *servers: Bind | Address,
    key: TsigKey | None = None,
    zones: Sequence[str] = (),
    timeout: float = 30,
) -> DnsUpdate:
    """Return a validator that has the last server for a resolver too, which knows no other zones."""
    addresses = [each if isinstance(each, Address) else Address("127.0.0.1", each.port) for each in servers]
    return DnsUpdate(
        "dns",
        addresses,
        timeout=timeout,
        key=key,
        zones=[dns.name.from_text(zone) for zone in zones],
        propagation=Propagation(resolvers=addresses[-1:]),
    )


def tsig(
    name: str = KEY.name, secret: str = KEY.secret, algorithm: str | None = None, file: Path | None = None
) -> TsigKey:
    return TsigKey(dns.name.from_text(name), None if file else Secret(secret), file, algorithm)


def proof(name: str, token: str = "token") -> Proof:  # noqa: S107 - it is public
    return Proof(Identifier.dns(name), token, f"{token}.thumbprint", lambda: None)


def values(*tokens: str) -> set[str]:
    return {txt_value(f"{token}.thumbprint") for token in tokens}


def failure(validator: DnsUpdate, name: str = "www.example.org") -> ValidatorUnavailable:
    """Return why a name cannot be presented; it must withdraw in silence, as nothing was added."""
    with pytest.raises(ValidatorUnavailable) as caught:
        validator.present([proof(name)])
    assert f"_acme-challenge.{name}" in str(caught.value)
    assert caught.value.advice
    return caught.value


class TestValues:
    def test_a_base_name_and_its_wildcard_share_a_record(self, bind: Bind, validator: DnsUpdate) -> None:
        """Two values stand beside each other under one name, and withdrawing one leaves the other."""
        base, wildcard = proof("www.example.org", "base"), proof("www.example.org", "wildcard")
        validator.present([base, wildcard])
        assert bind.texts(RECORD) == values("base", "wildcard")
        validator.withdraw([base])
        assert bind.texts(RECORD) == values("wildcard")
        validator.withdraw([wildcard])
        assert bind.texts(RECORD) == set()

    def test_presenting_and_withdrawing_again_is_harmless(self, bind: Bind, validator: DnsUpdate) -> None:
        """What is there already is added once, and what is gone already is no error."""
        mine = [proof("www.example.org", "again")]
        validator.present(mine)
        validator.present(mine)
        assert bind.texts(RECORD) == values("again")
        validator.withdraw(mine)
        validator.withdraw(mine)
        assert bind.texts(RECORD) == set()

    def test_another_process_withdraws(self, bind: Bind, validator: DnsUpdate) -> None:
        """A validator that has not presented a value finds where it is, and takes it away."""
        validator.present([proof("here.example.org")])
        assert bind.texts("elsewhere.example.org") == values("token")
        made(bind).withdraw([proof("here.example.org")])
        assert bind.texts("elsewhere.example.org") == set()

    def test_fifty_names_with_wildcards_are_one_update(self, bind: Bind, validator: DnsUpdate) -> None:
        """A hundred values of one zone come by one message, one step of its serial number, and go by one."""
        proofs = [proof(f"n{number}.example.org", token) for number in range(50) for token in ("a", "b")]
        before = bind.serial("example.org")
        validator.present(proofs)
        assert bind.serial("example.org") == before + 1
        assert bind.texts("_acme-challenge.n49.example.org") == values("a", "b")
        validator.withdraw(proofs)
        assert bind.serial("example.org") == before + 2
        assert bind.texts("_acme-challenge.n49.example.org") == set()

    def test_many_threads_prove_many_values(self, bind: Bind, validator: DnsUpdate) -> None:
        """Values that threads present at the same time are all there, and all gone afterwards."""
        proofs = [proof("www.example.org", f"thread-{number}") for number in range(8)]

        def together(work: object) -> None:
            assert callable(work)
            threads = [threading.Thread(target=work, args=([mine],)) for mine in proofs]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        together(validator.present)
        assert bind.texts(RECORD) == values(*(mine.token for mine in proofs))
        together(validator.withdraw)
        assert bind.texts(RECORD) == set()


class TestZones:
    @pytest.mark.parametrize(
        "name", ["example.org", "a.b.c.example.org", "sub.example.org", "a.sub.example.org"]
    )
    def test_every_depth_finds_its_zone(self, bind: Bind, validator: DnsUpdate, name: str) -> None:
        """Names at the top of a zone, deep in it, and in a zone below it are proved."""
        validator.present([proof(name)])
        assert bind.texts(f"_acme-challenge.{name}") == values("token")
        validator.withdraw([proof(name)])
        assert bind.texts(f"_acme-challenge.{name}") == set()

    def test_a_cname_within_the_zone_is_followed(self, bind: Bind, validator: DnsUpdate) -> None:
        """The value goes where the CNAME leads."""
        validator.present([proof("here.example.org")])
        assert bind.texts("elsewhere.example.org") == values("token")
        validator.withdraw([proof("here.example.org")])
        assert bind.texts("elsewhere.example.org") == set()

    def test_a_dname_is_followed(self, bind: Bind, validator: DnsUpdate) -> None:
        """A name below a DNAME is proved where that leads."""
        validator.present([proof("x.moved.example.org")])
        assert bind.texts("_acme-challenge.x.inner.example.org") == values("token")
        validator.withdraw([proof("x.moved.example.org")])
        assert bind.texts("_acme-challenge.x.inner.example.org") == set()

    @pytest.mark.parametrize("name", ["wild.example.org", "www.wild.example.org", "a.b.wild.example.org"])
    def test_a_wildcard_is_no_delegation(self, bind: Bind, validator: DnsUpdate, name: str) -> None:
        """Where a wildcard record makes the CNAME, the value stands at the name that the CA asks for."""
        validator.present([proof(name)])
        assert bind.texts(f"_acme-challenge.{name}") == values("token")
        assert bind.texts("elsewhere.example.org") == set()
        made(bind).withdraw([proof(name)])
        assert bind.texts(f"_acme-challenge.{name}") == set()

    def test_a_cname_beside_a_wildcard_is_followed(self, bind: Bind, validator: DnsUpdate) -> None:
        """A CNAME of its own is followed, even to where the wildcard beside it leads."""
        validator.present([proof("own.wild.example.org")])
        assert bind.texts("elsewhere.example.org") == values("token")
        validator.withdraw([proof("own.wild.example.org")])
        assert bind.texts("elsewhere.example.org") == set()

    @pytest.mark.threat("proving", "a CNAME in a circle or to others")
    def test_a_foreign_zone_is_refused(self, bind: Bind, validator: DnsUpdate) -> None:
        """A CNAME that leads out of the zone is followed only into a `zone` that is configured."""
        error = failure(validator, "foreign.example.org")
        assert "in the zone sub.example.org that is not its own" in str(error)
        assert "`zone = sub.example.org`" in error.advice
        validator.withdraw([proof("foreign.example.org")])
        allowing = made(bind, zones=["sub.example.org", "example.org"])
        allowing.present([proof("foreign.example.org"), proof("www.example.org")])
        assert bind.texts("www.sub.example.org") == bind.texts(RECORD) == values("token")
        allowing.withdraw([proof("foreign.example.org"), proof("www.example.org")])
        assert bind.texts("www.sub.example.org") == bind.texts(RECORD) == set()

    @pytest.mark.threat("proving", "a CNAME in a circle or to others")
    def test_a_zone_that_is_not_configured_is_refused(self, bind: Bind) -> None:
        """With `zone`, records of no other zone are added."""
        validator = made(bind, zones=["sub.example.org"])
        assert "in none of the zones that may be changed" in str(failure(validator))

    @pytest.mark.threat("proving", "a DNS server that refuses", "a CNAME in a circle or to others")
    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("circle.example.org", "its CNAMEs lead in a circle"),
            ("long.example.org", "more than 8 CNAMEs"),
            ("away.example.org", r"is not authoritative for _acme-challenge.away.example.net"),
            ("www.example.net", r"is not authoritative for _acme-challenge.www.example.net"),
        ],
    )
    def test_no_way_is_told(self, validator: DnsUpdate, name: str, reason: str) -> None:
        """Circles, endless chains, and names that the server has no zone for are errors that say so."""
        error = failure(validator, name)
        assert status_of(error) == 421
        assert reason in str(error)
        validator.withdraw([proof(name)])


class TestKeys:
    def test_a_key_may_change_what_it_is_granted(self, keyed: Bind, tmp_path: Path) -> None:
        """Signed updates are taken: with the secret itself, and with a key file."""
        (tmp_path / "key").write_text(KEY.file(), encoding="utf-8")
        for key in (tsig(), TsigKey(None, file=tmp_path / "key")):
            validator = made(keyed, key=key)
            validator.present([proof("www.example.org")])
            assert keyed.texts(RECORD) == values("token")
            validator.withdraw([proof("www.example.org")])
            assert keyed.texts(RECORD) == set()

    @pytest.mark.parametrize(
        "algorithm", ["hmac-sha1", "hmac-sha224", "hmac-sha384", "hmac-sha512", "hmac-md5"]
    )
    def test_every_algorithm(self, algorithm: str) -> None:
        """BIND takes updates by every algorithm that can be configured."""
        with Bind("example.org", key=Key(algorithm=algorithm)) as server:
            made(server, key=tsig(algorithm=algorithm)).present([proof("www.example.org")])
            assert server.texts(RECORD) == values("token")

    @pytest.mark.threat("proving", "a wrong TSIG key")
    @pytest.mark.parametrize(
        ("key", "reason", "advice"),
        [
            (None, "refused to add it: REFUSED", "update-policy"),
            (tsig("other"), "does not know the TSIG key other (BADKEY)", "tsig-name"),
            (tsig(secret=OTHER_SECRET), "has another secret for the TSIG key acmems (BADSIG)", "tsig-key"),
            (tsig(algorithm="hmac-sha512"), "does not know the TSIG key acmems (BADKEY)", "tsig-algorithm"),
        ],
    )
    def test_a_wrong_key_is_told(self, keyed: Bind, key: TsigKey | None, reason: str, advice: str) -> None:
        """A key that is missing or wrong in any part is an error that says which part; nothing is added."""
        error = failure(made(keyed, key=key))
        assert status_of(error) == 421
        assert f"DNS server 127.0.0.1:{keyed.port} {reason}" in str(error)
        assert advice in error.advice
        assert keyed.texts(RECORD) == set()


class TestHiddenPrimary:
    def test_a_key_that_only_the_primary_knows(self, keyed: Bind) -> None:
        """A secondary without the key answers questions, and forwards updates that are signed by it."""
        with Bind("example.org", primary=keyed.port, forwards=True) as secondary:
            validator = made(secondary, key=tsig())
            validator.present([proof("www.example.org"), proof("deep.www.example.org")])
            assert keyed.texts(RECORD) == values("token")
            validator.withdraw([proof("www.example.org"), proof("deep.www.example.org")])
            assert keyed.texts(RECORD) == set()


class TestServers:
    @pytest.mark.threat("proving", "a DNS server that is dead")
    def test_the_second_server_does(self, bind: Bind) -> None:
        """A server that is dead, and one that is no primary, are passed by."""
        with Bind("example.org", primary=bind.port) as secondary:
            validator = made(Address("127.0.0.1", free_port()), secondary, bind, timeout=5)
            validator.present([proof("www.example.org")])
            assert bind.texts(RECORD) == values("token")
            validator.withdraw([proof("www.example.org")])
            assert bind.texts(RECORD) == set()

    @pytest.mark.threat("proving", "a DNS server that is dead")
    def test_a_server_that_goes_away_is_told(self) -> None:
        """Withdrawing from a server that is gone raises, and does it when the server is back."""
        with Bind() as server:
            validator = made(server, timeout=3)
            validator.present([proof("www.example.org")])
            server.stop()
            with pytest.raises(ValidatorUnavailable, match="did not answer"):
                validator.withdraw([proof("www.example.org")])
            server.start()
            assert server.texts(RECORD) == values("token")
            made(server).withdraw([proof("www.example.org")])  # which may take longer
            assert server.texts(RECORD) == set()


VERIFICATION = """
[verification "dns"]
type = dns01-dnsUpdate
dns-server = 127.0.0.1:{dns_port}
tsig-name = acmems
tsig-key = {secret}
propagation = authoritative
nameserver = 127.0.0.1:{dns_port}
"""


def test_a_ca_that_resolves_through_bind(keyed: Bind, tmp_path: Path) -> None:
    """A name and its wildcard are certified by a CA that asks BIND, and nothing stays there."""
    with Pebble(keyed.address) as pebble:
        settings = Settings.of(pebble, tmp_path)
        settings.verification = VERIFICATION.format(dns_port=keyed.port, secret=KEY.secret)
        settings.auth = '[auth "all"]\nall = yes\ndomain = www.example.org\ndomain = *.www.example.org\n'
        with Acmems(settings) as acmems:
            _, csr = make_key_and_csr(tmp_path, ["www.example.org", "*.www.example.org"])
            reply = curl_sign(acmems.sign_url, csr)
            assert reply.status == 200, (reply, acmems.log)
            assert KEY.secret not in acmems.log
    assert keyed.texts(RECORD) == set()
