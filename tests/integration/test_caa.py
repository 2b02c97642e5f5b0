"""CAA records and addresses are looked at before an order, end to end."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.query
import dns.update
import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import NEW_ORDER
from tests.peers import (
    CALM,
    Acmems,
    Bind,
    Pebble,
    Reply,
    Settings,
    curl,
    curl_sign,
    free_port,
    make_key_and_csr,
    run_acmems,
    wait_until,
)

CA = "ca.example"
RECORDS = f"""
closed A 127.0.0.1
*.closed A 127.0.0.1
*.open A 127.0.0.1
other A 127.0.0.1
closed CAA 0 issue "stranger.example"
closed CAA 0 iodef "mailto:caa@example.org"
alias CNAME closed
open CAA 0 issue "{CA}"
bydns CAA 0 issue "{CA}; validationmethods=dns-01"
other CAA 0 issue "{CA}; accounturi=https://127.0.0.1/my-account/nobody"
wild CAA 0 issuewild ";"
text TXT "no address"
"""
BOTH = """
[verification "http"]
type = http01
listener = 127.0.0.1:{challenge_port}

[verification "dns"]
type = dns01-dnsUpdate
dns-server = DNS
"""
AUTH = """
[auth "http"]
all = yes
domain = **
verification = http

[auth "both"]
all = yes
domain = **
domain = *.wild.example.org
verification = http, dns
"""


@dataclass
class Site:
    """A CA that has a name for CAA records, the name server of a site, and acmems between them.

    Args:
        bind: the name server.
        proxy: the way to the CA.
        configuration: of acmems.
        folder: for the keys of clients.
    """

    bind: Bind
    proxy: FaultProxy
    configuration: Settings
    folder: Path

    def sign(self, acmems: Acmems, *names: str) -> Reply:
        _, csr = make_key_and_csr(self.folder, list(names))
        return curl_sign(acmems.sign_url, csr)

    @property
    def orders(self) -> int:
        return self.proxy.count(method="POST", path=NEW_ORDER)

    def change(self, name: str, *records: str) -> None:
        """Replace the CAA records of a name by some with a time to live of one second."""
        update = dns.update.UpdateMessage("example.org")
        update.delete(f"{name}.", "CAA")
        for record in records:
            update.add(f"{name}.", 1, "CAA", record)
        dns.query.tcp(update, "127.0.0.1", timeout=30, port=self.bind.port)


@pytest.fixture
def site(settings: Settings, tmp_path: Path) -> Iterator[Site]:
    """A site that works, with some names that cannot have certificates."""
    with (
        Bind("example.org", records=RECORDS) as bind,
        Pebble(bind.address, env=CALM, options={"caaIdentities": [CA]}) as pebble,
        FaultProxy(pebble) as proxy,
    ):
        configuration = proxy.before(settings)
        configuration.challenge_port = pebble.http_port
        configuration.verification = BOTH.replace("DNS", bind.address)
        configuration.auth = AUTH
        configuration.account += f"\npre-check = all\npre-check-nameserver = {bind.address}"
        yield Site(bind, proxy, configuration, tmp_path)


def test_records_that_do_not_name_the_ca(site: Site) -> None:
    """The answer is 421 with the record to add, and no order; with the record, there is a certificate."""
    site.change("closed.example.org", '0 issue "stranger.example"', '0 iodef "mailto:caa@example.org"')
    with Acmems(site.configuration) as acmems:
        reply = site.sign(acmems, "www.closed.example.org")
        assert reply.status == 421
        assert "the CAA records of closed.example.org do not name the CA (ca.example)" in reply.text
        assert f'add the record closed.example.org. CAA 0 issue "{CA}"' in reply.text
        assert "mailto:caa@example.org" in reply.text
        assert int(reply.headers["Retry-After"]) <= 1
        assert site.sign(acmems, "alias.example.org").status == 421
        assert site.orders == 0
        site.change("closed.example.org", '0 issue "stranger.example"', f'0 issue "{CA}"')
        wait_until(lambda: site.sign(acmems, "www.closed.example.org").status == 200, "the record to be seen")
        assert site.orders == 1


@pytest.mark.parametrize("name", ["text.example.org", "other.example.org"])
def test_what_else_must_fail(site: Site, name: str) -> None:
    """A name without an address, or whose records are for another account, costs no order."""
    with Acmems(site.configuration) as acmems:
        reply = site.sign(acmems, name)
        assert reply.status == 421
        assert ("no address" if name.startswith("text") else "for another account only") in reply.text
        assert site.orders == 0


def test_the_verification_that_is_allowed(site: Site) -> None:
    """Of a block's verifications, one is used that the records allow; another block is told what to add."""
    only_dns = site.configuration
    only_dns.auth = AUTH.partition('[auth "both"]')[0]
    with Acmems(only_dns) as acmems:
        reply = site.sign(acmems, "bydns.example.org")
        assert (reply.status, site.orders) == (421, 0)
        assert "validationmethods=http-01" in reply.text
    only_dns.auth = AUTH[AUTH.index('[auth "both"]') :]
    with Acmems(only_dns) as acmems:
        assert site.sign(acmems, "bydns.example.org", "open.example.org").status == 200
        reply = site.sign(acmems, "*.wild.example.org")
        assert reply.status == 421
        assert f'wild.example.org. CAA 0 issuewild "{CA}"' in reply.text


def test_names_that_nobody_tells_of(site: Site) -> None:
    """Where name servers say nothing definite, the CA is asked; so it is if nothing is to be looked up."""
    with Acmems(site.configuration) as acmems:
        reply = site.sign(acmems, "www.example.net")  # REFUSED by the name server, as Pebble finds out, too
        assert reply.status == 421
        assert site.orders == 1
    site.configuration.account = site.configuration.account.replace("= all", "= none")
    with Acmems(site.configuration) as acmems:
        assert site.sign(acmems, "new.closed.example.org").status != 503
        assert site.orders == 2


def test_dns_that_does_not_answer(site: Site) -> None:
    """A name server that is silent delays an order a little, and the next one not at all."""
    with socket.socket(type=socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        site.configuration.account = site.configuration.account.replace(
            site.bind.address, f"127.0.0.1:{port}"
        )
        with Acmems(site.configuration) as acmems:
            for number in range(3):
                assert site.sign(acmems, f"n{number}.open.example.org").status == 200
        silent.setblocking(False)
        asked = 0
        while True:
            try:
                silent.recv(512)
            except BlockingIOError:
                break
            asked += 1
        assert 1 <= asked <= 2


def test_what_is_seen_of_it(site: Site) -> None:
    """Events, pauses and metrics tell of it."""
    port = free_port()
    site.configuration.auth += f"\n[metrics]\nlistener = 127.0.0.1:{port}\n"
    with Acmems(site.configuration) as acmems:
        assert site.sign(acmems, "www.closed.example.org").status == 421
        assert "CAA records of closed.example.org" in acmems.log
        url = f"http://127.0.0.1:{port}/metrics"
        wait_until(lambda: 'outcome="not-asked"' in curl(url).text, "it is counted")

        def is_told() -> bool:
            shown = run_acmems("limits", "--json", acmems.folder / "acmems.ini").stdout
            return any("www.closed.example.org" in json.dumps(each) for each in json.loads(shown)["pauses"])

        wait_until(is_told, "the pause is in the state")


class TestCommands:
    """What the commands say without ordering anything."""

    @pytest.fixture
    def file(self, site: Site) -> Path:
        site.configuration.auth = """
[auth "some"]
all = yes
domain = www.closed.example.org
domain = *.wild.example.org
domain = a.open.example.org
domain = www.example.net
domain = text.example.org
verification = http, dns
"""
        file = site.folder / "commands.ini"
        file.write_text(site.configuration.text(), encoding="utf-8")
        return file

    def test_check_records(self, site: Site, file: Path) -> None:
        """The records that are missing are lines for a zone file; what is not known is a comment."""
        done = run_acmems("check", "--records", file)
        assert done.returncode == 1
        lines = done.stdout.splitlines()
        there = '0 issue "stranger.example", 0 iodef "mailto:caa@example.org"'
        assert f'closed.example.org. CAA 0 issue "{CA}" ; differs: {there}' in lines
        assert f'wild.example.org. CAA 0 issuewild "{CA}" ; differs: 0 issuewild ";"' in lines
        (unknown,) = [line for line in lines if "not known" in line]
        assert unknown.startswith("; not known whether the CA may issue for www.example.net: CAA: no ")
        assert "open" not in done.stdout.partition("\n")[2]
        for name in ("closed", "wild"):
            site.change(f"{name}.example.org")
        again = run_acmems("check", "--records", file)
        assert again.returncode == 0, again.stdout
        assert site.orders == 0

    def test_explain(self, site: Site, file: Path) -> None:
        """With `--dns`, it is told for each name what would become of an order."""
        names = ["www.closed.example.org", "a.open.example.org", "text.example.org", "www.example.net"]
        asked = [part for name in names for part in ("--name", name)]
        done = run_acmems("explain", file, "--address", "192.0.2.7", *asked, "--dns")
        assert done.returncode == 1
        opened, text, closed, unknown = [line for line in done.stdout.splitlines() if line.startswith("dns ")]
        assert closed.startswith("dns www.closed.example.org: refused: the CAA records of closed")
        assert opened == "dns a.open.example.org: allowed"
        assert text == "dns text.example.org: allowed"  # by its other verification
        assert unknown.startswith("dns www.example.net: unknown (addresses: no ")
        good = ("explain", file, "--address", "192.0.2.7", "--name", "a.open.example.org", "--json")
        done = run_acmems(*good, "--dns")
        assert done.returncode == 0
        found = json.loads(done.stdout)
        (told,) = found["dns"]
        assert (told["name"], told["outcome"], told["reason"]) == ("a.open.example.org", "allowed", None)
        assert json.loads(run_acmems(*good).stdout)["dns"] is None
        assert site.orders == 0


FURTHER = """
[account "b"]
acme-server = {server}
ca-file = {ca_file}
dir = {folder}/account-b
accept-terms-of-service = yes
pre-check-nameserver = {dns}
"""


def test_another_ca_that_is_named(site: Site) -> None:
    """Where the records name the second CA of a block, that one is asked, and the first is not."""
    settings = site.configuration
    options = {"caaIdentities": ["stranger.example"]}
    with (
        Pebble(site.bind.address, http_port=settings.challenge_port, env=CALM, options=options) as second,
        FaultProxy(second) as proxy,
    ):
        folder = settings.folder
        (folder / "account-b").mkdir(mode=0o700)
        settings.account += FURTHER.format(
            server=proxy.directory_url, ca_file=proxy.ca_file, folder=folder, dns=site.bind.address
        )
        settings.auth = '[auth "two"]\nall = yes\ndomain = **\nverification = http\nissuer = , b\n'
        with Acmems(settings) as acmems:
            reply = site.sign(acmems, "closed.example.org")
            assert reply.status == 200, reply.text
            assert (site.orders, proxy.count(method="POST", path=NEW_ORDER)) == (0, 1)
            reply = site.sign(acmems, "other.example.org")
            assert reply.status == 421
            assert "[account]: other.example.org: no certificate was ordered" in reply.text
            assert '[account "b"]: other.example.org: no certificate was ordered' in reply.text
