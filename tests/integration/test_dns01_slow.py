"""Propagation that takes longer than a client waits: a hidden primary, and a secondary that follows late."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.query
import pytest
from tests.fault_proxy import FaultProxy
from tests.faults import CHALLENGE, NEW_ORDER
from tests.peers import (
    Acmems,
    Bind,
    Pebble,
    Reply,
    Settings,
    curl_sign,
    make_key_and_csr,
    names_of,
    wait_until,
)

from acmems.challenges.txt import record_name

NAME = "www.example.org"
RECORD = record_name(NAME).to_text(omit_final_dot=True)
DNS = """
[verification "dns"]
type = dns01-dnsUpdate
dns-server = 127.0.0.1:{primary}
nameserver = 127.0.0.1:{secondary}
propagation = authoritative
propagation-timeout = {seconds}
"""


class Secondary(Bind):
    """A secondary whose primary tells it of no change: it follows when the test says so."""

    def follow(self) -> None:
        """Have it fetch the zone now, as the primary's NOTIFY would (RFC 1996)."""
        notify = dns.message.make_query("example.org", "SOA", flags=dns.flags.AA)
        notify.set_opcode(dns.opcode.NOTIFY)
        dns.query.udp(notify, "127.0.0.1", timeout=30, port=self.port)

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Have it follow from now on, on and on."""
        over = threading.Event()

        def follow() -> None:
            while not over.wait(0.05):
                with contextlib.suppress(dns.exception.Timeout):
                    self.follow()

        thread = threading.Thread(target=follow)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.fixture
def primary() -> Iterator[Bind]:
    """The hidden primary."""
    with Bind("example.org") as server:
        yield server


@pytest.fixture
def secondary(primary: Bind) -> Iterator[Secondary]:
    """The only server that the CA, and acmems when it looks for records, can see."""
    with Secondary("example.org", primary=primary.port) as server:
        yield server


@pytest.fixture
def slow(secondary: Secondary) -> Iterator[FaultProxy]:
    """A CA that resolves through the secondary, with a proxy before it that counts."""
    with Pebble(secondary.address) as ca, FaultProxy(ca) as proxy:
        yield proxy


def configured(
    proxy: FaultProxy, settings: Settings, primary: Bind, secondary: Bind, *, patience: float, seconds: float
) -> Acmems:
    """Return a server whose clients wait for so many seconds, and which waits for records for so many."""
    settings.mgmt = f"request-timeout = {patience:g}"
    settings.verification = DNS.format(primary=primary.port, secondary=secondary.port, seconds=f"{seconds:g}")
    return Acmems(proxy.before(settings))


def retry_after(reply: Reply) -> int:
    return int(reply.headers["Retry-After"])


def test_a_certificate_behind_a_504(
    slow: FaultProxy, primary: Bind, secondary: Secondary, settings: Settings, tmp_path: Path
) -> None:
    """Clients get 504 while the secondary is behind, the record stays, and the next one gets the certificate.

    There is one order at the CA, which is not told to look before the secondary has the record.
    """
    with configured(slow, settings, primary, secondary, patience=4, seconds=3000) as acmems:
        _, csr = make_key_and_csr(tmp_path, [NAME])
        for _ in range(2):
            late = curl_sign(acmems.sign_url, csr)
            assert late.status == 504, (late, acmems.log)
            assert retry_after(late) > 0
            assert "the order goes on" in late.text
            wait_until(lambda: len(primary.texts(RECORD)) == 1, "the record is presented")
            assert slow.count(path=CHALLENGE) == 0
        shown = primary.texts(RECORD)
        secondary.follow()
        wait_until(lambda: secondary.texts(RECORD) == shown, "the secondary has the record")
        reply = curl_sign(acmems.sign_url, csr)
        while reply.status == 504:  # on a machine that is busy, the CA may be slow, too
            reply = curl_sign(acmems.sign_url, csr)
        assert reply.status == 200, (reply, acmems.log)
        assert names_of(reply.body) == {NAME}
        assert slow.count(path=NEW_ORDER) == 1
        assert slow.count(path=CHALLENGE) == 1
        wait_until(lambda: primary.texts(RECORD) == set(), "the record is taken away")


def test_records_slower_than_propagation_timeout(
    slow: FaultProxy, primary: Bind, secondary: Secondary, settings: Settings, tmp_path: Path
) -> None:
    """After `propagation-timeout` nothing goes on: 421 says how long was waited, and the record is gone.

    The CA was not told to look, so that nothing has failed there: the next request goes on with the order.
    """
    with configured(slow, settings, primary, secondary, patience=60, seconds=5) as acmems:
        _, csr = make_key_and_csr(tmp_path, [NAME])
        late = curl_sign(acmems.sign_url, csr)
        assert late.status == 421, (late, acmems.log)
        assert retry_after(late) > 0
        assert f"TXT record {RECORD}: name server 127.0.0.1:{secondary.port}" in late.text
        assert re.search(r"waited \d+(\.\d)? s; the record is removed, ask again", late.text)
        assert "raise `propagation-timeout`" in acmems.log
        assert primary.texts(RECORD) == set()
        assert slow.count(path=CHALLENGE) == 0
        with secondary.following():
            reply = curl_sign(acmems.sign_url, csr)
            while reply.status == 421 and slow.count(path=CHALLENGE) == 0:  # name servers may be slow, too
                reply = curl_sign(acmems.sign_url, csr)
        assert reply.status == 200, (reply, acmems.log)
        assert slow.count(path=NEW_ORDER) == 1
        assert slow.count(path=CHALLENGE) == 1
